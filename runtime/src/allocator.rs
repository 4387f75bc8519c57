//! The allocator: glibc's, told to keep memory together, or in a static binary mimalloc, since musl's
//! takes one lock for all threads. Nothing else may be set here.

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// To be called before any thread is started.
///
/// glibc gives threads heaps of their own, up to eight for each core, and what is free in one is of no use
/// to the others. The daemon has many threads of which few are at work at once: they would keep the
/// memory of their busiest moments, all together. So they share two; mallopt(3), `M_ARENA_MAX`.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(crate) fn share_heaps() {
    // SAFETY: the call reads its two numbers and changes settings of the allocator, under its own
    // locks. If it fails nothing has changed, and the daemon takes more memory.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2)
    };
}
