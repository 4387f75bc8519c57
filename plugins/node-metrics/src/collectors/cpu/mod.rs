//! What processors do and are: `/proc/stat`, `/proc/cpuinfo`, `/sys/devices/system/cpu`.

mod info;
mod throttles;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Pattern;
use crate::sysfs::whole_at;
use crate::text::{pairs, require};

const PATH: &str = "/proc/stat";
const ISOLATED: &str = "/sys/devices/system/cpu/isolated";

/// Of a second (`USER_HZ`, the same on all machines that Linux runs on but Alpha and IA-64).
const TICKS: f64 = 100.0;

/// In the order of the lines `cpuN`; the last two are told as time of guests.
const MODES: [&str; 10] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "user", "nice",
];
const IDLE: usize = 3;
const FIRST_OF_GUESTS: usize = 8;

/// If the idle time falls by so many seconds, the processor was taken away and came back.
const COMEBACK: f64 = 3.0;

/// No kernel has more processors.
const MOST: u32 = 8192;

/// The collector `cpu`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Whether to tell the time that guests (virtual machines) took.
    pub guest: bool,
    /// Whether to tell what the processors are (`node_cpu_info`).
    pub info: bool,
    /// Regular expression of the processors' flags to tell; implies `info`. Empty: none.
    pub flags_include: String,
    /// Regular expression of the processors' bugs to tell; implies `info`. Empty: none.
    pub bugs_include: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            guest: true,
            info: false,
            flags_include: String::new(),
            bugs_include: String::new(),
        }
    }
}

/// Seconds by mode; those that the line lacks are missing.
type Seconds = [Option<f64>; MODES.len()];

pub(crate) struct Cpu {
    guest: bool,
    info: bool,
    flags: Option<Pattern>,
    bugs: Option<Pattern>,
    /// What was told last: counters of the kernel step back at times, and ours must not.
    last: BTreeMap<u32, Seconds>,
}

impl Cpu {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let flags = Pattern::optional(&options.flags_include, "collectors.cpu.flagsInclude")?;
        let bugs = Pattern::optional(&options.bugs_include, "collectors.cpu.bugsInclude")?;
        Ok(Self {
            guest: options.guest,
            info: options.info || flags.is_some() || bugs.is_some(),
            flags,
            bugs,
            last: BTreeMap::new(),
        })
    }

    fn remember(&mut self, now: BTreeMap<u32, Seconds>) {
        if now.len() != self.last.len() {
            self.last.clear();
        }
        let mut last = std::mem::replace(&mut self.last, now);
        for (number, now) in &mut self.last {
            let Some(last) = last.remove(number) else {
                continue;
            };
            let idle = |seconds: &Seconds| seconds[IDLE].unwrap_or_default();
            if idle(&last) - idle(now) >= COMEBACK {
                continue;
            }
            for (now, last) in now.iter_mut().zip(last) {
                *now = now.map(|now| now.max(last.unwrap_or_default()));
            }
        }
    }

    fn tell_seconds(&self, out: &mut Families) {
        let spent = out.counter(
            "node_cpu_seconds_total",
            "Seconds the CPUs spent in each mode.",
        );
        let of_guests = out.counter(
            "node_cpu_guest_seconds_total",
            "Seconds the CPUs spent in guests (VMs) for each mode.",
        );
        for (number, seconds) in &self.last {
            let number = number.to_string();
            for (index, (mode, seconds)) in MODES.iter().zip(seconds).enumerate() {
                let family = match index < FIRST_OF_GUESTS {
                    true => spent,
                    false if self.guest => of_guests,
                    false => continue,
                };
                if let Some(seconds) = seconds {
                    out.add(family, &[("cpu", &number), ("mode", mode)], *seconds);
                }
            }
        }
    }
}

impl Collect for Cpu {
    fn wants(&self) -> Collector {
        let collector = throttles::wants(Collector::new("cpu").content(PATH).content(ISOLATED));
        match self.info {
            true => collector.content(info::PATH),
            false => collector,
        }
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, PATH)?;
        self.remember(pairs(&text).filter_map(processor).collect());
        self.tell_seconds(out);
        if self.info {
            info::tell(&whole_at(view, info::PATH)?, &self.flags, &self.bugs, out);
        }
        if let Ok(text) = view.text(ISOLATED) {
            tell_isolated(text.trim(), out);
        }
        throttles::tell(view, out);
        require(!self.last.is_empty(), PATH)
    }
}

fn processor((name, ticks): (&str, &str)) -> Option<(u32, Seconds)> {
    let number: u32 = name.strip_prefix("cpu")?.parse().ok()?;
    let mut ticks = ticks.split_ascii_whitespace();
    let mut next = |_| Some(ticks.next()?.parse::<u64>().ok()? as f64 / TICKS);
    let seconds: Seconds = std::array::from_fn(&mut next);
    (number < MOST && seconds[0].is_some()).then_some((number, seconds))
}

/// A list of numbers and ranges: `1,3-5`.
fn tell_isolated(list: &str, out: &mut Families) {
    let isolated: BTreeSet<u32> = list
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse::<u32>().ok()?.min(MOST))
        })
        .flatten()
        .take(MOST as usize)
        .collect();
    for number in isolated {
        let help =
            "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.";
        let family = out.gauge("node_cpu_isolated", help);
        out.add(family, &[("cpu", &number.to_string())], 1.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
