//! Processes: what they are called, whose they are, what they run. Never what is in them.

use rustix::io::Errno;

use super::procfs::Procfs;
use super::seen::{Process, Troubles};
use crate::manifest::SubjectGlob;

/// Of `/proc/PID/stat` and `status`.
const STATUS_BYTES: u64 = 16 << 10;
/// The most of a process' arguments.
const ARGUMENT_BYTES: u64 = 32 << 10;
/// The most arguments of a process.
const ARGUMENTS: usize = 256;
/// The most of all processes' arguments.
const ALL_ARGUMENT_BYTES: usize = 1 << 20;
/// What the kernel appends to the path of a file that is no more at it.
const DELETED: &[u8] = b" (deleted)";
/// Linux tells programs times in hundredths of a second, whatever it counts in (time(7), USER_HZ).
const NANOS_A_TICK: i64 = 10_000_000;

/// Looks at all of them. Those that vanish meanwhile are left out.
pub(super) fn look(
    procfs: &Procfs,
    pids: &[u32],
    arguments_of: &[SubjectGlob],
    troubles: &mut Troubles,
) -> Vec<Process> {
    let booted = procfs
        .read("stat", 1 << 20)
        .ok()
        .and_then(|stat| boot_time(&stat));
    if booted.is_none() {
        troubles.note(|| "cannot tell when the node was started".to_owned());
    }
    let mut processes = Vec::with_capacity(pids.len());
    let mut left = ALL_ARGUMENT_BYTES;
    for pid in pids {
        let booted = booted.unwrap_or_default();
        match process(procfs, *pid, booted, arguments_of, &mut left) {
            Ok(Some((process, is_whole))) => {
                if !is_whole {
                    troubles.note(|| format!("process {pid} has more arguments than are shown"));
                }
                processes.push(process);
            }
            Ok(None) => troubles.note(|| format!("what /proc/{pid} says makes no sense")),
            Err(Errno::NOENT | Errno::SRCH) => {}
            Err(errno) => troubles.note(|| format!("cannot look at process {pid}: {errno}")),
        }
    }
    processes
}

fn process(
    procfs: &Procfs,
    pid: u32,
    booted: i64,
    arguments_of: &[SubjectGlob],
    left: &mut usize,
) -> Result<Option<(Process, bool)>, Errno> {
    let stat = procfs.read(&format!("{pid}/stat"), STATUS_BYTES)?;
    let status = procfs.read(&format!("{pid}/status"), STATUS_BYTES)?;
    let Some(stat) = Stat::read(&stat) else {
        return Ok(None);
    };
    let (Some(uid), Some(gid)) = (effective(&status, b"Uid:"), effective(&status, b"Gid:")) else {
        return Ok(None);
    };
    // The kernel's own threads run no file.
    let executable = procfs.link(&format!("{pid}/exe")).unwrap_or_default();
    let (path, executable_deleted) = match executable.strip_suffix(DELETED) {
        Some(path) => (path, true),
        None => (executable.as_slice(), false),
    };
    let executable = String::from_utf8_lossy(path).into_owned();
    let file_name = executable.rsplit('/').next().unwrap_or_default();
    let (mut arguments, mut is_whole) = (Vec::new(), true);
    if !file_name.is_empty() && arguments_of.iter().any(|glob| glob.matches(file_name)) {
        let line = procfs.read(&format!("{pid}/cmdline"), ARGUMENT_BYTES + 1)?;
        (arguments, is_whole) = take_arguments(&line, left);
    }
    let process = Process {
        pid,
        parent: stat.parent,
        uid,
        gid,
        started: booted.saturating_add(stat.started.saturating_mul(NANOS_A_TICK)),
        name: stat.name,
        executable,
        executable_deleted,
        arguments,
    };
    Ok(Some((process, is_whole)))
}

/// The first arguments of a process that are not too much, in which `left` bytes are left for all, and
/// whether these are all. What is no UTF-8 takes more room than it had.
fn take_arguments(line: &[u8], left: &mut usize) -> (Vec<String>, bool) {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    let mut arguments = Vec::new();
    if line.is_empty() {
        return (arguments, true);
    }
    let mut mine = ARGUMENT_BYTES as usize;
    for argument in line.split(|byte| *byte == 0) {
        let argument = String::from_utf8_lossy(argument);
        let cost = argument.len() + 1;
        if arguments.len() == ARGUMENTS || cost > mine.min(*left) {
            return (arguments, false);
        }
        mine -= cost;
        *left -= cost;
        arguments.push(argument.into_owned());
    }
    (arguments, true)
}

/// What matters of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    /// In ticks since the node was started.
    started: i64,
}

impl Stat {
    /// The name is in brackets and may hold brackets, spaces and line feeds: the last one is its end.
    fn read(text: &[u8]) -> Option<Self> {
        let begin = text.iter().position(|byte| *byte == b'(')?;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let name = text.get(begin + 1..end)?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        // The third field is the state, the fourth the parent, the 22nd the start.
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self {
            name: String::from_utf8_lossy(name).into_owned(),
            parent,
            started,
        })
    }
}

/// The second number of `Uid:` and `Gid:` in `/proc/PID/status`: as whom it acts. The name comes before
/// them, and the kernel escapes line feeds in it.
fn effective(status: &[u8], field: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let ids = lines.find_map(|line| line.strip_prefix(field))?;
    let ids = std::str::from_utf8(ids).ok()?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// When the node was started, in nanoseconds since 1970.
fn boot_time(stat: &[u8]) -> Option<i64> {
    let mut lines = stat.split(|byte| *byte == b'\n');
    let seconds = lines.find_map(|line| line.strip_prefix(b"btime "))?;
    let seconds: i64 = std::str::from_utf8(seconds).ok()?.trim().parse().ok()?;
    seconds.checked_mul(1_000_000_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REST: &str = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 1";

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["sh", "a) S 1 (b", "(\n)", " ", ""] {
            let stat = Stat::read(format!("42 ({name}) {REST}\n").as_bytes()).unwrap();
            assert_eq!(
                (stat.name.as_str(), stat.parent, stat.started),
                (name, 7, 12345)
            );
        }
        assert_eq!(Stat::read(b"42 (\xff) S 7 1").map(|it| it.name), None);
        for odd in [
            "",
            "42",
            "42 (sh",
            "42 sh)",
            ")(",
            "42 (sh) S",
            "42 (sh) S x 1",
        ] {
            assert_eq!(Stat::read(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn arguments_are_bounded() {
        let mut left = ALL_ARGUMENT_BYTES;
        let (arguments, is_whole) = take_arguments(b"sh\0-c\0\0", &mut left);
        assert_eq!(
            (arguments.as_slice(), is_whole),
            (["sh", "-c", ""].map(str::to_owned).as_slice(), true)
        );
        assert_eq!(left, ALL_ARGUMENT_BYTES - 7);
        assert_eq!(take_arguments(b"", &mut left), (Vec::new(), true));
        let (arguments, is_whole) = take_arguments(&[0; 1000], &mut left);
        assert_eq!((arguments.len(), is_whole), (ARGUMENTS, false));
        // Each byte becomes three.
        let odd = [&[b'a'; 10][..], &[0], &[0xff; 20_000]].concat();
        let (arguments, is_whole) = take_arguments(&odd, &mut left);
        assert_eq!((arguments.len(), is_whole), (1, false));
        let mut left = 3;
        let (arguments, is_whole) = take_arguments(b"ab\0cd", &mut left);
        assert_eq!((arguments.len(), is_whole, left), (1, false, 0));
    }

    #[test]
    fn ids_are_those_that_count() {
        let status = b"Name:\tUid:\\n\nUmask:\t0022\nUid:\t1000\t0\t1000\t1000\nGid:\t5\t6\t5\t5\n";
        assert_eq!(effective(status, b"Uid:"), Some(0));
        assert_eq!(effective(status, b"Gid:"), Some(6));
        assert_eq!(effective(b"Uid:\tx\n", b"Uid:"), None);
    }
}
