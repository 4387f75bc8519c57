//! Whether the node's processes wait for CPU, memory or disks: `/proc/pressure`, see
//! <https://docs.kernel.org/accounting/psi.html>.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked at. The kernel averages over ten seconds.
const EVERY: Duration = Duration::from_secs(1);
/// A pause ends after so long in any case: a node that is always busy must be scanned, too, and part of
/// the pressure may be of the scan's own making.
const LONGEST: Duration = Duration::from_secs(30);
/// Then there is none for so long.
const AT_LEAST: Duration = Duration::from_secs(5);

/// Why a pass waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Paused {
    /// Processes wait for a core.
    Cpu,
    /// Processes wait for memory.
    Memory,
    /// Processes wait for disks.
    Io,
}

/// What is looked at: the share of the last ten seconds in which some process waited, in percent, at which a
/// pass pauses, and below which it goes on.
const LIMITS: [(Paused, &str, f64, f64); 3] = [
    (Paused::Memory, "memory", 10.0, 5.0),
    (Paused::Io, "io", 40.0, 20.0),
    (Paused::Cpu, "cpu", 60.0, 40.0),
];

/// Looks from time to time.
#[derive(Debug)]
pub(super) struct Gauge {
    folder: PathBuf,
    looked: Option<Instant>,
    paused: Option<(Paused, Instant)>,
    /// No pause before.
    not_before: Option<Instant>,
}

impl Gauge {
    /// Of `/proc/pressure`, or a folder like it. A kernel without it is never under pressure.
    pub(super) fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            looked: None,
            paused: None,
            not_before: None,
        }
    }

    /// As of the last look.
    pub(super) fn paused(&self) -> Option<Paused> {
        self.paused.map(|(why, _)| why)
    }

    /// Looks again if it is time to.
    pub(super) fn look(&mut self, now: Instant) -> Option<Paused> {
        let due = self.looked.is_none_or(|at| now >= at + EVERY);
        if due {
            self.looked = Some(now);
            self.decide(now);
        }
        self.paused()
    }

    fn decide(&mut self, now: Instant) {
        if let Some((_, since)) = self.paused
            && now >= since + LONGEST
        {
            self.paused = None;
            self.not_before = Some(now + AT_LEAST);
        }
        if self.not_before.is_some_and(|until| now < until) {
            return;
        }
        let before = self.paused();
        let over = LIMITS.iter().find(|(what, name, pause, resume)| {
            let limit = if before == Some(*what) { resume } else { pause };
            self.some(name).is_some_and(|some| some >= *limit)
        });
        self.paused = match (over, self.paused) {
            (Some((what, ..)), Some((_, since))) => Some((*what, since)),
            (Some((what, ..)), None) => Some((*what, now)),
            (None, _) => None,
        };
    }

    fn some(&self, name: &str) -> Option<f64> {
        let text = std::fs::read_to_string(self.folder.join(name)).ok()?;
        let line = text.lines().find(|line| line.starts_with("some "))?;
        let average = line.split(' ').find_map(|it| it.strip_prefix("avg10="))?;
        average.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn say(folder: &std::path::Path, name: &str, percent: f64) {
        let text = format!(
            "some avg10={percent:.2} avg60=99.00 avg300=0.00 total=1\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=1\n"
        );
        std::fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn a_pass_pauses_at_one_limit_and_goes_on_below_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut gauge = Gauge::new(folder.path());
        let mut now = Instant::now();
        let mut look = |gauge: &mut Gauge| {
            now += EVERY;
            gauge.look(now)
        };
        assert_eq!(look(&mut gauge), None, "a kernel without pressure");
        say(folder.path(), "io", 39.0);
        assert_eq!(look(&mut gauge), None);
        say(folder.path(), "io", 41.0);
        assert_eq!(look(&mut gauge), Some(Paused::Io));
        say(folder.path(), "io", 21.0);
        assert_eq!(look(&mut gauge), Some(Paused::Io), "not yet low enough");
        say(folder.path(), "io", 19.0);
        assert_eq!(look(&mut gauge), None);
        say(folder.path(), "io", 21.0);
        assert_eq!(look(&mut gauge), None, "not yet high enough");
        say(folder.path(), "memory", 11.0);
        assert_eq!(look(&mut gauge), Some(Paused::Memory));
        say(folder.path(), "memory", 1.0);
        say(folder.path(), "cpu", 61.0);
        assert_eq!(look(&mut gauge), Some(Paused::Cpu));
    }

    #[test]
    fn no_pause_is_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        say(folder.path(), "cpu", 100.0);
        let mut gauge = Gauge::new(folder.path());
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let paused = (0..70).filter(|n| gauge.look(begun + second * *n).is_some());
        let paused = paused.count();
        assert!((55..=62).contains(&paused), "{paused} of 70 seconds");
    }
}
