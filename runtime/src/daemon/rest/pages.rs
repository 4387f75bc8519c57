//! Pages of files that are mapped and cannot be written to: of the program and of compiled plugins. Libraries are left
//! alone, which others use. What is done to pages changes no content; when is decided by the room above.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::iter;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Advice as Cached;
use rustix::mm::Advice;

use crate::module::COMPILED;

/// The file that runs, whatever lies under its name by now.
const PROGRAM: &str = "/proc/self/exe";

/// Bytes of this process that are in memory: `resident` of proc_pid_statm(5).
pub(super) fn resident() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other(format!("statm says {text:?}")))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Lets go of those that no other process has mapped: they leave memory, and those that nobody uses the page cache as
/// well. For the kernel maps what is there around each page that is touched, up to 64 KiB.
///
/// What is no code is read again page by page, not with all that a disk reads ahead. Code is left to that: Linux reads
/// ahead in it in any case by now (6.18), and would give its pages away first if memory is short.
pub(super) fn let_go() -> io::Result<()> {
    let mappings = mappings()?;
    for mapping in mappings.iter().filter(|it| !it.code) {
        advise(&mapping.range, Advice::Random)?;
    }
    for mapping in &mappings {
        advise(&mapping.range, Advice::LinuxPageOut)?;
    }
    drop_unused()
}

/// What nobody has mapped leaves the page cache: posix_fadvise(2), `POSIX_FADV_DONTNEED`.
pub(super) fn drop_unused() -> io::Result<()> {
    let paths: BTreeSet<PathBuf> = mappings()?.into_iter().map(|it| it.path).collect();
    let program = iter::once(Path::new(PROGRAM));
    // A compiled plugin that was removed since is not found, and another under its name loses nothing.
    for file in program
        .chain(paths.iter().map(PathBuf::as_path))
        .filter_map(|path| File::open(path).ok())
    {
        rustix::fs::fadvise(file, 0, None, Cached::DontNeed)?;
    }
    Ok(())
}

/// One of the two kinds of advice above.
#[allow(unsafe_code, reason = "see SAFETY")]
fn advise(range: &Range<usize>, advice: Advice) -> io::Result<()> {
    let start = std::ptr::without_provenance_mut(range.start);
    // SAFETY: MADV_RANDOM and MADV_PAGEOUT (madvise(2), Linux 5.4) change the content of no page, whatever is mapped
    // there by now: with the second, one with changes of its own is written to swap, if there is any, and one of a file
    // is read from it again.
    match unsafe { rustix::mm::madvise(start, range.len(), advice) } {
        // Nothing is mapped there any more.
        Err(rustix::io::Errno::NOMEM) => Ok(()),
        done => Ok(done?),
    }
}

/// A part of a file in this process's memory.
struct Mapping {
    range: Range<usize>,
    code: bool,
    path: PathBuf,
}

/// Those that can be had from their files again.
fn mappings() -> io::Result<Vec<Mapping>> {
    let program = fs::read_link(PROGRAM)?;
    let mut all = read(&fs::read("/proc/self/smaps")?);
    all.retain(|it| it.path == program || it.path.extension() == Some(COMPILED.as_ref()));
    Ok(all)
}

/// Reads proc_pid_smaps(5).
fn read(smaps: &[u8]) -> Vec<Mapping> {
    let mut all = Vec::new();
    let mut last = None;
    for line in smaps.split(|byte| *byte == b'\n') {
        match line.strip_prefix(b"Anonymous:") {
            // Without pages of its own: pages that were written to, such as those of relocations, stay.
            Some(rest) if rest.trim_ascii() == b"0 kB" => all.extend(last.take()),
            Some(_) => last = None,
            None => last = head(line).or(last),
        }
    }
    all
}

/// `7f00-7f10 r-xp OFFSET DEVICE INODE PATH`, if it is of a file and cannot be written to.
fn head(line: &[u8]) -> Option<Mapping> {
    let at = line.iter().position(|byte| *byte == b'/')?;
    let (fields, path) = line.split_at(at);
    let mut fields = str::from_utf8(fields).ok()?.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let range = usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?;
    let permissions = fields.next()?;
    (!permissions.contains('w')).then(|| Mapping {
        range,
        code: permissions.contains('x'),
        path: OsStr::from_bytes(path).into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finds_what_can_be_had_again() {
        let smaps = b"\
55d0-55e0 r-xp 00001000 fe:00 1310                       /opt/node agents/bulkhead (deleted)
Size:                  4 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
55e0-55f0 r--p 00002000 fe:00 1310                       /usr/bin/bulkhead
Anonymous:             8 kB
55f0-5600 rw-p 00003000 fe:00 1310                       /usr/bin/bulkhead
Anonymous:             0 kB
7f00-7f10 r--p 00000000 00:00 0
Anonymous:             0 kB
7fff-8000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
";
        let found = read(smaps);
        let found = found
            .iter()
            .map(|it| (&it.range, it.path.to_str().unwrap()));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [(&(0x55d0..0x55e0), "/opt/node agents/bulkhead (deleted)")]
        );
    }

    #[test]
    fn finds_its_own_program() {
        let found = mappings().unwrap();
        assert!(
            found
                .iter()
                .any(|it| it.path == fs::read_link(PROGRAM).unwrap())
        );
        assert!(resident().unwrap() > 0);
    }
}
