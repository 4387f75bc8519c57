//! The allocator: glibc's, told to keep memory together, or in a static binary mimalloc, since musl's
//! takes one lock for all threads. Nothing else may be here.

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// To be called before any thread is started.
///
/// glibc gives threads heaps of their own, up to eight for each core, and what is free in one is of no use
/// to the others. The daemon has many threads of which few are at work at once: they would keep the
/// memory of their busiest moments, all together. So they share two; mallopt(3), `M_ARENA_MAX`.
///
/// What is large (batches of files that are scanned) is mapped by itself and given back when it is free.
/// Without being told so, glibc would move that limit up to 32 MiB as soon as something is given back, and
/// keep twice as much; `M_MMAP_THRESHOLD`, `M_TRIM_THRESHOLD`.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(crate) fn share_heaps() {
    // SAFETY: the calls read their two numbers and change settings of the allocator, under its own
    // locks. If one fails nothing has changed, and the daemon takes more memory.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 2 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 << 20);
    };
}

/// What is free goes back to the kernel.
///
/// glibc gives back by itself only what lies at the end of a heap, and one thing in use there keeps all before it;
/// malloc_trim(3) gives back what is free between, and holds each heap's lock meanwhile. mimalloc gives back by itself.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(crate) fn give_back() {
    // SAFETY: the call reads its number and gives back pages of which nothing is in use, under the allocator's
    // own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    };
}
