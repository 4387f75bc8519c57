//! How long to wait before a failed instance is made anew.

use std::time::Duration;

/// Doubles from 100 ms to a minute, with jitter; work that succeeds in between earns steps back.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// An instance earns its steps once, however long it works.
    earned: bool,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(60);
    /// As many as a bad line costs that is asked about alone: between good lines it must not slow the
    /// next one down.
    const EARNED: u32 = 3;

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let base = Self::FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.earned = false;
        base.mul_f64(0.8 + 0.4 * fastrand::f64())
    }

    /// Something worked.
    pub(super) fn success(&mut self) {
        if !self.earned {
            self.earned = true;
            self.failures = self.failures.saturating_sub(Self::EARNED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_minute_and_steps_back() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..12).map(|_| backoff.next()).collect();
        assert!(waits[0] <= Duration::from_millis(120));
        assert!(waits[3] >= Duration::from_millis(640));
        assert!(waits[11] >= Duration::from_secs(48) && waits[11] <= Duration::from_secs(72));
        let before = backoff.failures;
        backoff.success();
        backoff.success();
        assert_eq!(backoff.failures, before - Backoff::EARNED);
    }
}
