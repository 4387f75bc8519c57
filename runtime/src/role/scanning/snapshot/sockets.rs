//! Open sockets of the node's network, and who has them.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::procfs::Procfs;
use super::seen::{Socket, Troubles};

/// The most sockets of one kind. The kernel lists those that listen first.
const SOCKETS: usize = 1 << 15;
/// The most open files that are looked at to tell whose the sockets are.
const OPEN_FILES: usize = 1 << 20;
/// The longest line: that of a socket with a path.
const LINE_BYTES: u64 = 1024;

/// A socket and its number, by which its owner is found.
type Numbered = (Socket, u64);

/// Looks at all of them.
pub(super) fn look(
    procfs: &Procfs,
    pids: &[u32],
    until: Instant,
    troubles: &mut Troubles,
) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for (protocol, read) in [
        (
            "tcp",
            internet as fn(&[u8], &'static str) -> Option<Numbered>,
        ),
        ("tcp6", internet),
        ("udp", internet),
        ("udp6", internet),
        ("unix", unix),
    ] {
        list(procfs, protocol, read, &mut sockets, troubles);
    }
    let twice = twice(&sockets);
    if !twice.is_empty() {
        troubles.note(|| "several unix sockets of one number: a path forges some".to_owned());
    }
    let owners = owners(procfs, pids, &sockets, until, troubles);
    let sockets = sockets.into_iter().map(|(mut socket, number)| {
        socket.pid = match twice.contains(&number) {
            true => None,
            false => owners.get(&number).copied().flatten(),
        };
        socket
    });
    sockets.collect()
}

fn list(
    procfs: &Procfs,
    protocol: &'static str,
    read: fn(&[u8], &'static str) -> Option<Numbered>,
    sockets: &mut Vec<Numbered>,
    troubles: &mut Troubles,
) {
    let file = match procfs.file(&format!("1/net/{protocol}")) {
        Ok(file) => file,
        // A kernel without IPv6 has no such file.
        Err(rustix::io::Errno::NOENT) if protocol.ends_with('6') => return,
        Err(errno) => return troubles.note(|| format!("cannot list {protocol} sockets: {errno}")),
    };
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut line = Vec::new();
    let mut shown = 0;
    for number in 0_u64.. {
        line.clear();
        let read_line = std::io::Read::take(&mut reader, LINE_BYTES).read_until(b'\n', &mut line);
        match read_line {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                return troubles.note(|| format!("cannot list {protocol} sockets: {error}"));
            }
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        // The first one is the heading.
        if number == 0 {
            continue;
        }
        if shown == SOCKETS {
            return troubles.note(|| format!("more than {SOCKETS} {protocol} sockets"));
        }
        match read(line, protocol) {
            // Without a path, and nobody can call it: the two ends of a pair.
            Some((socket, _)) if protocol == "unix" && socket.address.is_empty() => {}
            Some(socket) => {
                sockets.push(socket);
                shown += 1;
            }
            None => troubles.note(|| format!("a {protocol} socket that makes no sense")),
        }
    }
}

/// A line of `/proc/net/tcp` and its like.
fn internet(line: &[u8], protocol: &'static str) -> Option<Numbered> {
    const TCP_LISTEN: &str = "0A";
    /// A UDP socket that is connected to nobody: it takes what comes.
    const UDP_OPEN: &str = "07";
    let text = std::str::from_utf8(line).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let uid = fields.nth(3)?.parse().ok()?;
    let number = fields.nth(1)?.parse().ok()?;
    let listens = if protocol.starts_with("tcp") {
        TCP_LISTEN
    } else {
        UDP_OPEN
    };
    let socket = Socket {
        protocol,
        address: ip_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        listening: state == listens,
        uid,
        pid: None,
    };
    Some((socket, number))
}

/// Words of four bytes in the order of the machine's, each as a number.
fn ip_address(text: &str) -> Option<String> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).to_string()),
        32 => {
            let mut bytes = [0; 16];
            for (part, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                part.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).to_string())
        }
        _ => None,
    }
}

/// Numbers that several unix sockets have. A path may hold a line feed and all of a forged line, and which
/// one is true cannot be told: all are shown, and nobody is said to have them. Sockets that were not
/// accepted yet have the number 0.
fn twice(sockets: &[Numbered]) -> HashSet<u64> {
    let mut seen = HashSet::new();
    let unix = sockets.iter().filter(|(it, _)| it.protocol == "unix");
    unix.map(|(_, number)| *number)
        .filter(|number| *number != 0 && !seen.insert(*number))
        .collect()
}

/// A line of `/proc/net/unix`: seven columns of known widths (`%pK: %08X %08X %08X %04X %02X %5lu`), and a
/// path if there is one. It may hold anything; what is behind a line feed in it looks like a line of its
/// own, which mostly makes no sense.
fn unix(line: &[u8], protocol: &'static str) -> Option<Numbered> {
    /// It accepts connections (`__SO_ACCEPTCON`).
    const ACCEPTS: u32 = 1 << 16;
    let (_, rest) = hex(line, 2 * size_of::<usize>(), b": ")?;
    let (_, rest) = hex(rest, 8, b" ")?;
    let (_, rest) = hex(rest, 8, b" ")?;
    let (flags, rest) = hex(rest, 8, b" ")?;
    let (_, rest) = hex(rest, 4, b" ")?;
    let (_, rest) = hex(rest, 2, b" ")?;
    let flags = u32::from_str_radix(flags, 16).ok()?;
    // Padded to a width on the left.
    let digits = rest.trim_ascii_start();
    let end = digits.iter().position(|byte| *byte == b' ');
    let (number, path) = digits.split_at(end.unwrap_or(digits.len()));
    let padding = rest.len() - digits.len();
    if padding + number.len() < 5 || (padding > 0 && padding + number.len() > 5) {
        return None;
    }
    let number = std::str::from_utf8(number).ok()?;
    let path = path.strip_prefix(b" ").unwrap_or_default();
    let socket = Socket {
        protocol,
        address: String::from_utf8_lossy(path).into_owned(),
        port: 0,
        listening: flags & ACCEPTS != 0,
        uid: u32::MAX,
        pid: None,
    };
    Some((socket, number.parse().ok()?))
}

/// A number of so many hexadecimal digits, and what is behind it and its end.
fn hex<'a>(text: &'a [u8], width: usize, end: &[u8]) -> Option<(&'a str, &'a [u8])> {
    let (digits, rest) = text.split_at_checked(width)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((digits, rest.strip_prefix(end).filter(|_| is_hex)?))
}

/// Who has the sockets open: one process for each. Nothing for those that nobody has.
fn owners(
    procfs: &Procfs,
    pids: &[u32],
    sockets: &[Numbered],
    until: Instant,
    troubles: &mut Troubles,
) -> HashMap<u64, Option<u32>> {
    let mut owners: HashMap<u64, Option<u32>> =
        sockets.iter().map(|(_, number)| (*number, None)).collect();
    let mut missing = owners.len();
    let mut files = 0;
    for pid in pids {
        // It vanished, or is the kernel's.
        let Ok(open) = procfs.numbers(&format!("{pid}/fd")) else {
            continue;
        };
        for file in open {
            if missing == 0 {
                return owners;
            }
            files += 1;
            if files > OPEN_FILES || (files % 256 == 0 && Instant::now() >= until) {
                troubles.note(|| "too many open files to tell whose all sockets are".to_owned());
                return owners;
            }
            let Ok(target) = procfs.link(&format!("{pid}/fd/{file}")) else {
                continue;
            };
            if let Some(number) = socket_number(&target)
                && let Some(owner @ None) = owners.get_mut(&number)
            {
                *owner = Some(*pid);
                missing -= 1;
            }
        }
    }
    owners
}

/// `socket:[4026]`.
fn socket_number(target: &[u8]) -> Option<u64> {
    let number = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        let line = b"   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 54321 1 0000000000000000 100 0 0 10 0";
        let (socket, number) = internet(line, "tcp").unwrap();
        assert_eq!((socket.address.as_str(), socket.port), ("127.0.0.1", 8080));
        assert_eq!((socket.listening, socket.uid, number), (true, 1000, 54321));
        let line = b"  77: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 99 2 0000000000000000 0";
        let (socket, _) = internet(line, "udp").unwrap();
        assert_eq!((socket.port, socket.listening), (53, true));
        assert!(!internet(line, "tcp").unwrap().0.listening);
        let six = "B80D01200000000067452301EFCDAB89";
        assert_eq!(ip_address(six).unwrap(), "2001:db8::123:4567:89ab:cdef");
        assert_eq!(
            ip_address("00000000000000000000000001000000").unwrap(),
            "::1"
        );
        for odd in ["", "0100007", "0100007G", "0100007F00"] {
            assert_eq!(ip_address(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_forged_line_blames_nobody_and_hides_nothing() {
        let line = b"0000000012345678: 00000002 00000000 00010000 0001 01 98765 /run/a";
        let forged = b"0000000012345678: 00000002 00000000 00010000 0001 01 98765 /run/b";
        let open = b"0000000012345678: 00000002 00000000 00010000 0001 01     0 /run/a";
        let sockets = [&line[..], forged, open, open].map(|it| unix(it, "unix").unwrap());
        assert_eq!(twice(&sockets), HashSet::from([98765]));
    }

    #[test]
    fn paths_of_sockets_may_hold_anything() {
        let line = b"0000000012345678: 00000002 00000000 00010000 0001 01 98765 /run/a b\xff";
        let (socket, number) = unix(line, "unix").unwrap();
        assert_eq!((socket.listening, number), (true, 98765));
        assert_eq!(socket.address, "/run/a b\u{fffd}");
        let line = b"0000000012345678: 00000003 00000000 00000000 0001 03   777";
        let (socket, number) = unix(line, "unix").unwrap();
        assert_eq!(
            (socket.address.as_str(), socket.listening, number),
            ("", false, 777)
        );
        // What is behind a line feed in a path.
        for odd in [
            "",
            "x",
            "b c d e f g h",
            "0: 1 2 zz 4 5 6 /a",
            "0: 00000002 00000000 00010000 0001 01 98765 /a",
            "0000000012345678: 2 00000000 00010000 0001 01 98765 /a",
            "0000000012345678: 00000002 00000000 00010000 0001 01 765 /a",
            "0000000012345678: 00000002 00000000 00010000 0001 01  98765 /a",
            "0000000012345678: 00000002 00000000 00010000 0001 01 x8765 /a",
            "0000000012345678: 00000002 00000000 0001000z 0001 01 98765 /a",
        ] {
            assert!(unix(odd.as_bytes(), "unix").is_none(), "{odd}");
        }
    }
}
