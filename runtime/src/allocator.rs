//! The C library's allocator, told to keep memory together. Nothing else may be set here.

/// Heaps that all threads share; mallopt(3), `M_ARENA_MAX`.
///
/// glibc gives threads heaps of their own, up to eight for each core, and what is free in one is of no use
/// to the others. The daemon has many threads of which few are at work at once: they would keep the
/// memory of their busiest moments, all together.
const HEAPS: i32 = 2;

/// To be called before any thread is started.
pub(crate) fn share_heaps() {
    #[cfg(target_env = "gnu")]
    set();
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "see SAFETY")]
fn set() {
    // SAFETY: the call reads its two numbers and changes settings of the allocator, under its own
    // locks. It may fail, and then nothing has changed.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    debug_assert_eq!(set, 1, "M_ARENA_MAX takes any positive number");
}
