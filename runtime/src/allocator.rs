//! The allocator: jemalloc, told to keep little (docs/decisions/0014-jemalloc.md). Nothing else may be here.

use std::ffi::{c_char, c_int};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The environment variable that goes before what is set here; jemalloc(3), "TUNING".
pub(crate) const SETTINGS: &str = "_RJEM_MALLOC_CONF";
/// For a child that works with all threads and is gone soon: they have the usual caches, and what is free again is unmapped,
/// so that it does not count towards the child's limit.
pub(crate) const OF_A_CHILD: &str = "tcache_max:32768,tcache_nslots_small_max:200,retain:false";

/// What jemalloc reads when it starts, a C string.
#[repr(transparent)]
struct Settings(*const c_char);

// SAFETY: it points to a constant.
#[allow(unsafe_code, reason = "see SAFETY")]
unsafe impl Sync for Settings {}

/// The daemon has many threads of which few are at work at once: with heaps and large caches of their own they would keep
/// the memory of their busiest moments, all together. So they share one heap, and each keeps eight of every small size.
// SAFETY: name and type are those of jemalloc's own `malloc_conf`, which is weak and gives way; it only reads it.
#[allow(unsafe_code, reason = "see SAFETY")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static OF_THE_DAEMON: Settings = Settings(
    c"narenas:1,tcache_max:256,tcache_nslots_small_max:8,dirty_decay_ms:1000,muzzy_decay_ms:0"
        .as_ptr(),
);

/// To be called first. Where huge pages are given without being asked for, each first touch of 2 MiB takes all of them:
/// those that jemalloc sets aside for what it knows, above all. Children inherit it.
pub(crate) fn keep_pages_small() {
    // Where the kernel does not know it, there are no huge pages.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// What is free goes back to the kernel. jemalloc does that by itself only while it is asked for memory.
pub(crate) fn give_back() {
    // Had it failed, nothing would have changed.
    let _ = purge();
}

#[allow(unsafe_code, reason = "see SAFETY")]
fn purge() -> c_int {
    let nothing = std::ptr::null_mut();
    // SAFETY: the call reads its name, a C string, and nothing else, since it is given neither a value nor room for one;
    // it purges all arenas (4096 is MALLCTL_ARENAS_ALL) under their locks.
    unsafe {
        tikv_jemalloc_sys::mallctl(
            c"arena.4096.purge".as_ptr(),
            nothing,
            std::ptr::null_mut(),
            nothing,
            0,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, unsafe_code)]
    use std::ffi::CStr;

    use super::*;

    fn read<T: Default>(name: &CStr) -> T {
        let (mut value, mut size) = (T::default(), size_of::<T>());
        // SAFETY: `name` is a C string, and there is room for as many bytes as `size` says.
        let error = unsafe {
            let value = std::ptr::from_mut(&mut value).cast();
            tikv_jemalloc_sys::mallctl(name.as_ptr(), value, &mut size, std::ptr::null_mut(), 0)
        };
        assert_eq!((error, size), (0, size_of::<T>()), "{name:?}");
        value
    }

    /// An upgrade may rename them, and a feature of the crate the symbol: jemalloc would say nothing.
    #[test]
    fn jemalloc_has_read_the_settings() {
        assert_eq!(read::<u32>(c"opt.narenas"), 1);
        assert_eq!(read::<usize>(c"opt.tcache_max"), 256);
        assert_eq!(read::<u32>(c"opt.tcache_nslots_small_max"), 8);
        assert_eq!(read::<isize>(c"opt.dirty_decay_ms"), 1000);
        assert_eq!(read::<isize>(c"opt.muzzy_decay_ms"), 0);
    }

    #[test]
    fn what_is_free_is_given_back() {
        drop(vec![1_u8; 4 << 20]);
        assert_eq!(purge(), 0);
    }
}
