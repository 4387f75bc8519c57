//! How much of what was written the peer's kernel has not acknowledged.

use std::ffi::c_int;
use std::io;

use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::net::TcpStream;

/// From `asm-generic/ioctls.h`, which holds on every architecture that the sandbox compiles for
/// (x86-64, arm64, riscv64, s390x). No crate has a safe function for it.
const SIOCOUTQ: Opcode = 0x5411;

/// Bytes that were written to `socket` and that the peer's kernel has not acknowledged: tcp(7).
#[allow(unsafe_code, reason = "see SAFETY")]
pub(super) fn unacknowledged(socket: &TcpStream) -> io::Result<usize> {
    // SAFETY: `Getter` asks that the code is valid and that its output is what the kernel writes:
    // for SIOCOUTQ on a socket of TCP that is one `int`; nothing else is read or written. Should the
    // descriptor be anything else, the code is that of TIOCOUTQ, which writes an `int` too.
    let count = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}
