//! How fast: bytes a second, a share of the CPU, and pauses while the node is under pressure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::lock;
use super::pressure::{Gauge, Paused};
use crate::manifest::Budget;

/// Nobody sleeps longer before looking whether it is to stop.
const NAP: Duration = Duration::from_millis(100);

/// So much a second of something, and at most a tenth of it at once.
#[derive(Debug)]
pub(super) struct Bucket(Mutex<Level>);

#[derive(Debug)]
struct Level {
    rate: f64,
    /// Below zero: taken in advance.
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(rate: f64) -> Self {
        Self(Mutex::new(Level {
            rate,
            left: rate / 10.0,
            at: Instant::now(),
        }))
    }

    /// Another rate from now on.
    fn set(&self, rate: f64) {
        let mut level = lock(&self.0);
        level.fill(Instant::now());
        level.rate = rate;
        level.left = level.left.min(rate / 10.0);
    }

    /// Takes `amount`, whether it is there or not.
    pub(super) fn take(&self, amount: f64) {
        let mut level = lock(&self.0);
        level.fill(Instant::now());
        level.left -= amount;
    }

    /// How long until nothing is owed.
    pub(super) fn owed(&self) -> Duration {
        let mut level = lock(&self.0);
        level.fill(Instant::now());
        match level.left < 0.0 && level.rate > 0.0 {
            // No pass is to wait for ever for what a very long read took.
            true => Duration::from_secs_f64((-level.left / level.rate).min(3600.0)),
            false => Duration::ZERO,
        }
    }
}

impl Level {
    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + seconds * self.rate).min(self.rate / 10.0);
        self.at = now;
    }
}

/// What all threads that read share.
#[derive(Debug)]
pub(super) struct Pace {
    bytes: Bucket,
    /// In seconds of CPU time.
    cpu: Bucket,
    pressure: Mutex<Option<Gauge>>,
    stop: AtomicBool,
}

/// The CPU time of one thread, as it was last taken from the budget.
pub(super) struct Clock(Duration);

impl Clock {
    /// Of this thread.
    pub(super) fn start() -> Self {
        Self(thread_time())
    }
}

impl Pace {
    /// Nobody waits until there is a budget.
    pub(super) fn new() -> Self {
        Self {
            bytes: Bucket::new(f64::INFINITY),
            cpu: Bucket::new(f64::INFINITY),
            pressure: Mutex::new(None),
            stop: AtomicBool::new(false),
        }
    }

    /// From now on. No gauge: pressure does not matter.
    fn set(&self, bytes: f64, cores: f64, gauge: Option<Gauge>) {
        self.bytes.set(bytes);
        self.cpu.set(cores);
        *lock(&self.pressure) = gauge;
    }

    /// The strictest of these, from now on.
    pub(super) fn set_to_strictest<'a>(
        &self,
        budgets: impl Iterator<Item = &'a Budget>,
        gauge: Option<Gauge>,
    ) {
        let unlimited = (f64::INFINITY, f64::INFINITY);
        let (bytes, cores) = budgets.fold(unlimited, |(bytes, cores), budget| {
            let theirs = f64::from(budget.cpu.millis) / 1000.0;
            (bytes.min(budget.read.0 as f64), cores.min(theirs))
        });
        self.set(bytes, cores, gauge);
    }

    /// Everybody is to stop as soon as possible, for good.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// What a pass waits for right now, beyond its budget.
    pub(super) fn paused(&self) -> Option<Paused> {
        lock(&self.pressure).as_ref().and_then(Gauge::paused)
    }

    /// Waits for the budget, then takes `bytes`. Whether to go on.
    pub(super) fn read(&self, bytes: usize, clock: &mut Clock) -> bool {
        self.spent(clock);
        while !self.stopped() {
            let paused = match lock(&self.pressure).as_mut() {
                Some(gauge) => gauge.look(Instant::now()).is_some(),
                None => false,
            };
            let owed = self.bytes.owed().max(self.cpu.owed());
            if !paused && owed.is_zero() {
                self.bytes.take(bytes as f64);
                return true;
            }
            std::thread::sleep(if paused { NAP } else { owed.min(NAP) });
        }
        false
    }

    /// Takes `bytes` without waiting, unless more than a second's worth is owed: for what happens now.
    /// Whether to go on.
    pub(super) fn read_now(&self, bytes: usize, clock: &mut Clock) -> bool {
        self.spent(clock);
        while !self.stopped() {
            let owed = self.bytes.owed().max(self.cpu.owed());
            let Some(wait) = owed.checked_sub(Duration::from_secs(1)) else {
                self.bytes.take(bytes as f64);
                return true;
            };
            std::thread::sleep(wait.min(NAP));
        }
        false
    }

    /// Takes the CPU time that this thread has had since.
    fn spent(&self, clock: &mut Clock) {
        let now = thread_time();
        self.cpu.take(now.saturating_sub(clock.0).as_secs_f64());
        clock.0 = now;
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_in_advance_is_owed() {
        let bucket = Bucket::new(1000.0);
        bucket.take(50.0);
        assert_eq!(bucket.owed(), Duration::ZERO);
        bucket.take(2050.0);
        let owed = bucket.owed();
        assert!(owed > Duration::from_millis(1500), "{owed:?}");
        assert!(owed <= Duration::from_millis(2000), "{owed:?}");
    }

    #[test]
    fn a_slower_rate_holds_at_once() {
        let bucket = Bucket::new(f64::INFINITY);
        bucket.take(1e12);
        assert_eq!(bucket.owed(), Duration::ZERO);
        bucket.set(10.0);
        bucket.take(11.0);
        assert!(bucket.owed() > Duration::from_millis(900));
    }

    /// Only less than allowed could be wrong here: a busy machine may make it slower, never faster.
    #[test]
    fn no_more_is_read_than_the_budget_allows() {
        let pace = Pace::new();
        pace.set(1e6, f64::INFINITY, None);
        let begun = Instant::now();
        let mut clock = Clock::start();
        for _ in 0..40 {
            assert!(pace.read(10_000, &mut clock));
        }
        // 400 kB, of which a tenth of a second's worth, and one read, may be in advance.
        assert!(
            begun.elapsed() >= Duration::from_millis(280),
            "{:?}",
            begun.elapsed()
        );
    }

    #[test]
    fn cpu_time_is_taken_from_the_budget() {
        let pace = Pace::new();
        pace.set(f64::INFINITY, 0.1, None);
        let mut clock = Clock::start();
        while thread_time() < clock.0 + Duration::from_millis(60) {
            std::hint::black_box(0);
        }
        let begun = Instant::now();
        assert!(pace.read(1, &mut clock));
        // 60 ms of a tenth of a core are 600 ms; 100 ms may be in advance.
        assert!(
            begun.elapsed() >= Duration::from_millis(400),
            "{:?}",
            begun.elapsed()
        );
    }

    #[test]
    fn whoever_waits_is_stopped() {
        let pace = Pace::new();
        pace.set(1.0, 1.0, None);
        let mut clock = Clock::start();
        assert!(pace.read(1 << 20, &mut clock));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| pace.read(1, &mut Clock::start()));
            pace.stop();
            assert!(!waits.join().unwrap_or(true));
        });
    }
}
