//! Bounds on one instance: memory summed over everything it owns, and its share of a core.

use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

/// Bytes that one table element costs the host.
const TABLE_ELEMENT: usize = 16;

/// Counts all linear memories and tables of an instance against one ceiling.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    ceiling: usize,
    used: usize,
    refused: bool,
}

impl MemoryLimit {
    pub(super) fn new(ceiling: u64) -> Self {
        Self {
            ceiling: usize::try_from(ceiling).unwrap_or(usize::MAX),
            used: 0,
            refused: false,
        }
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> u64 {
        self.used as u64
    }

    /// Whether the guest asked for more than it may have.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        let more = desired.saturating_sub(current);
        match self.used.checked_add(more) {
            Some(used) if used <= self.ceiling => {
                self.used = used;
                true
            }
            _ => {
                self.refused = true;
                false
            }
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(
            current.saturating_mul(TABLE_ELEMENT),
            desired.saturating_mul(TABLE_ELEMENT),
            None,
        ))
    }
}

/// A token bucket of CPU time: a guest that has used more than its share waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuLimit {
    /// Share of one core, 0 to 1; one instance never runs on two.
    share: f64,
    /// Seconds of CPU that may be used at once; negative when overdrawn.
    credit: f64,
    refilled: Instant,
}

impl CpuLimit {
    /// The most credit that an idle guest saves up, in seconds.
    const BURST: f64 = 0.1;

    pub(super) fn new(millis: u32) -> Self {
        Self {
            share: f64::from(millis) / 1000.0,
            credit: Self::BURST,
            refilled: Instant::now(),
        }
    }

    /// Takes `used` from the credit; says how long to wait before running on, if at all.
    pub(super) fn spend(&mut self, used: Duration) -> Option<Duration> {
        if self.share >= 1.0 {
            return None;
        }
        let now = Instant::now();
        let refill = now.duration_since(self.refilled).as_secs_f64() * self.share;
        self.refilled = now;
        self.credit = (self.credit + refill).min(Self::BURST) - used.as_secs_f64();
        (self.credit < 0.0).then(|| Duration::from_secs_f64(-self.credit / self.share))
    }
}

/// CPU time of the calling thread.
pub(super) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_summed_over_memories_and_tables() {
        let mut limit = MemoryLimit::new(1000);
        assert!(limit.memory_growing(0, 600, None).unwrap());
        assert!(!limit.memory_growing(0, 600, None).unwrap());
        assert!(limit.refused());
        assert!(limit.memory_growing(600, 900, None).unwrap());
        assert!(limit.table_growing(0, 6, None).unwrap());
        assert!(!limit.table_growing(6, 7, None).unwrap());
        assert_eq!(limit.used(), 996);
    }

    #[test]
    fn a_declared_maximum_is_not_an_excess() {
        let mut limit = MemoryLimit::new(1000);
        assert!(!limit.memory_growing(0, 600, Some(500)).unwrap());
        assert!(!limit.refused());
    }

    #[test]
    fn an_overdrawn_share_waits_in_proportion() {
        let mut limit = CpuLimit::new(500);
        assert_eq!(limit.spend(Duration::from_millis(50)), None);
        let wait = limit.spend(Duration::from_millis(150)).unwrap();
        assert!(wait > Duration::from_millis(100) && wait <= Duration::from_millis(200));
        assert_eq!(CpuLimit::new(1000).spend(Duration::from_secs(9)), None);
    }
}
