//! Named places where a test may kill the daemon, as a crash would, and waits that a test may shorten. Compiled to
//! nothing unless the feature `test-faults` is on; never on in a release.

use std::time::Duration;

/// Kills this process with SIGKILL if `BULKHEAD_FAILPOINT` is `NAME` or `NAME:N` and this is the
/// N-th time (from 1) that the place `name` is reached.
#[cfg(feature = "test-faults")]
pub fn hit(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let value = std::env::var("BULKHEAD_FAILPOINT").ok()?;
        match value.rsplit_once(':') {
            Some((name, n)) => Some((name.to_owned(), n.parse().ok()?)),
            None => Some((value, 1)),
        }
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);

    if let Some((armed, n)) = &*ARMED
        && armed == name
        && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *n
    {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Does nothing: the feature `test-faults` is off.
#[cfg(not(feature = "test-faults"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// How long to wait between two looks at the daemon's memory: `BULKHEAD_REST_MILLISECONDS`, or as usual.
#[cfg(feature = "test-faults")]
pub(crate) fn rest(usual: Duration) -> Duration {
    let told = std::env::var("BULKHEAD_REST_MILLISECONDS").ok();
    let told = told.and_then(|it| it.parse().ok()).filter(|it| *it > 0);
    told.map_or(usual, Duration::from_millis)
}

/// As usual: the feature `test-faults` is off.
#[cfg(not(feature = "test-faults"))]
#[inline(always)]
pub(crate) fn rest(usual: Duration) -> Duration {
    usual
}
