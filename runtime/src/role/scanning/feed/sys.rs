//! Calls of the kernel for which no crate that the daemon has offers a safe function.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Makes a queue of events that names folders and files by handles, so that it can be told where the file
/// is: fanotify_init(2).
#[allow(unsafe_code, reason = "see SAFETY")]
pub(super) fn fanotify_init() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF
        | libc::FAN_CLOEXEC
        | libc::FAN_NONBLOCK
        | libc::FAN_REPORT_DIR_FID
        | libc::FAN_REPORT_NAME;
    let event_flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE;
    // SAFETY: it takes two numbers, and what it returns, if not negative, is a new descriptor that nobody
    // else has.
    unsafe {
        let queue = libc::fanotify_init(flags, event_flags as libc::c_uint);
        if queue < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(queue))
    }
}

/// Adds the whole file system in which `folder` is: fanotify_mark(2). Not with an `O_PATH` descriptor.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(super) fn fanotify_mark(queue: BorrowedFd<'_>, folder: impl AsFd, mask: u64) -> io::Result<()> {
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
    let folder = folder.as_fd().as_raw_fd();
    // SAFETY: both descriptors are open for the time of the call, and a null path stands for the folder
    // itself.
    let done =
        unsafe { libc::fanotify_mark(queue.as_raw_fd(), flags, mask, folder, std::ptr::null()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The longest handle that any file system makes: `MAX_HANDLE_SZ`.
const HANDLE_BYTES: usize = 128;

/// `struct file_handle` with room for the longest.
#[repr(C)]
struct Handle {
    header: libc::file_handle,
    bytes: [u8; HANDLE_BYTES],
}

/// Opens the folder that a handle of an event stands for, in the mount of `mount`, as a place:
/// open_by_handle_at(2).
#[allow(unsafe_code, reason = "see SAFETY")]
pub(super) fn open_by_handle(
    mount: BorrowedFd<'_>,
    kind: i32,
    handle: &[u8],
) -> io::Result<OwnedFd> {
    // SAFETY: all of its fields are numbers, for which zero is a value.
    let mut packed: Handle = unsafe { std::mem::zeroed() };
    let Some(room) = packed.bytes.get_mut(..handle.len()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    room.copy_from_slice(handle);
    packed.header.handle_bytes = handle.len() as u32;
    packed.header.handle_type = kind;
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let pointer = std::ptr::from_mut(&mut packed).cast::<libc::file_handle>();
    // SAFETY: the pointer is to a header and, right behind it, as many bytes as the header says; both live
    // until the call returns. What is returned, if not negative, is a new descriptor.
    unsafe {
        let opened = libc::open_by_handle_at(mount.as_raw_fd(), pointer, flags);
        if opened < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(opened))
    }
}

/// Lets this thread's reads wait behind those of everybody else: ioprio_set(2), the lowest of the class
/// "best effort". Not "idle", with which a busy disk would never be scanned.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(super) fn low_io_priority() -> io::Result<()> {
    const PROCESS: libc::c_int = 1;
    const THIS_THREAD: libc::c_int = 0;
    const BEST_EFFORT_LOWEST: libc::c_int = (2 << 13) | 7;
    // SAFETY: it takes three numbers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            PROCESS,
            THIS_THREAD,
            BEST_EFFORT_LOWEST,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_handle_is_as_the_kernel_lays_it_out() {
        assert_eq!(std::mem::offset_of!(Handle, bytes), 8);
        assert_eq!(std::mem::size_of::<libc::file_handle>(), 8);
    }

    #[test]
    fn a_handle_that_is_too_long_is_refused() {
        let root = std::fs::File::open("/").unwrap();
        let error = open_by_handle(root.as_fd(), 1, &[0; 129]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_priority_is_of_this_thread_alone() {
        let of_this_thread = || {
            // SAFETY: it takes two numbers.
            #[allow(unsafe_code)]
            unsafe {
                libc::syscall(libc::SYS_ioprio_get, 1, 0)
            }
        };
        let before = of_this_thread();
        let inside = std::thread::spawn(move || {
            low_io_priority().unwrap();
            of_this_thread()
        });
        assert_eq!(inside.join().unwrap(), (2 << 13) | 7);
        assert_eq!(of_this_thread(), before);
    }
}
