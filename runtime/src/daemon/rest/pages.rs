//! Pages of files that are mapped and cannot be written to: of the program and of compiled plugins. Libraries are left
//! alone, which others use. What is done to pages changes no content; when is decided by the room above.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use rustix::fs::Advice as Cached;
use rustix::mm::Advice;

use crate::module::COMPILED;

/// Bytes of this process that are in memory: `resident` of proc_pid_statm(5).
pub(super) fn resident() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other(format!("statm says {text:?}")))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Unmaps them all. Those that only this process had mapped leave the page cache as well, and are read again when they
/// are touched.
pub(super) fn let_go() -> io::Result<()> {
    for mapping in mappings()? {
        page_out(mapping.range)?;
    }
    Ok(())
}

/// What nobody has mapped leaves the page cache: posix_fadvise(2), `POSIX_FADV_DONTNEED`.
pub(super) fn drop_unused() -> io::Result<()> {
    let paths: BTreeSet<PathBuf> = mappings()?.into_iter().map(|it| it.path).collect();
    // A file that was replaced or removed since is not found, and another under its name loses nothing.
    for file in paths.iter().filter_map(|path| File::open(path).ok()) {
        rustix::fs::fadvise(file, 0, None, Cached::DontNeed)?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "see SAFETY")]
fn page_out(range: Range<usize>) -> io::Result<()> {
    let start = std::ptr::without_provenance_mut(range.start);
    // SAFETY: MADV_PAGEOUT (madvise(2), Linux 5.4) changes the content of no page, whatever is mapped there by now: one
    // with changes of its own is written to swap, if there is any, and one of a file is read from it again.
    match unsafe { rustix::mm::madvise(start, range.len(), Advice::LinuxPageOut) } {
        // Nothing is mapped there any more.
        Err(rustix::io::Errno::NOMEM) => Ok(()),
        done => Ok(done?),
    }
}

/// A part of a file in this process's memory.
struct Mapping {
    range: Range<usize>,
    path: PathBuf,
}

/// Those that can be had from their files again.
fn mappings() -> io::Result<Vec<Mapping>> {
    let program = fs::read_link("/proc/self/exe")?;
    let mut all = read(&fs::read_to_string("/proc/self/smaps")?);
    all.retain(|it| it.path == program || it.path.extension() == Some(COMPILED.as_ref()));
    Ok(all)
}

/// Reads proc_pid_smaps(5).
fn read(smaps: &str) -> Vec<Mapping> {
    let mut all = Vec::new();
    let mut last = None;
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (fields.next(), fields.next()) else {
            continue;
        };
        match first.strip_suffix(':') {
            None => last = head(first, second, fields),
            // Without pages of its own: pages that were written to, such as those of relocations, stay.
            Some("Anonymous") if second == "0" => all.extend(last.take()),
            Some(_) => {}
        }
    }
    all
}

/// `7f00-7f10 r-xp OFFSET DEVICE INODE PATH`, if it is of a file and cannot be written to.
fn head<'a>(
    range: &str,
    permissions: &str,
    mut others: impl Iterator<Item = &'a str>,
) -> Option<Mapping> {
    let (from, to) = range.split_once('-')?;
    let range = usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?;
    let path = others.nth(3).filter(|path| path.starts_with('/'))?;
    (!permissions.contains('w')).then(|| Mapping {
        range,
        path: path.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finds_what_can_be_had_again() {
        let smaps = "\
55d0-55e0 r-xp 00001000 fe:00 1310 /usr/bin/bulkhead
Size:                  4 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
55e0-55f0 r--p 00002000 fe:00 1310 /usr/bin/bulkhead
Anonymous:             8 kB
55f0-5600 rw-p 00003000 fe:00 1310 /usr/bin/bulkhead
Anonymous:             0 kB
7f00-7f10 r--p 00000000 00:00 0
Anonymous:             0 kB
7fff-8000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        let found = read(smaps);
        let found = found
            .iter()
            .map(|it| (&it.range, it.path.to_str().unwrap()));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [(&(0x55d0..0x55e0), "/usr/bin/bulkhead")]
        );
    }

    #[test]
    fn what_is_let_go_is_read_again() {
        let paths = |of: Vec<Mapping>| of.into_iter().map(|it| it.path).collect::<BTreeSet<_>>();
        assert!(paths(mappings().unwrap()).contains(&fs::read_link("/proc/self/exe").unwrap()));
        assert!(resident().unwrap() > 0);
        let_go().unwrap();
        drop_unused().unwrap();
    }
}
