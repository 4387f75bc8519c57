//! The files of one call, as views over the packed batch: nothing is copied, nothing allocated.

use std::borrow::Cow;

use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;

pub use raw::FileKind;

/// Where in a file's digests each of those is that the plugin wants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Digests {
    sha256: Option<usize>,
    sha1: Option<usize>,
    md5: Option<usize>,
    blake3: Option<usize>,
}

impl Digests {
    pub(crate) fn of(interest: &raw::FileInterest) -> Self {
        let mut end = 0;
        let mut place = |wanted: bool, length: usize| {
            let start = end;
            end += if wanted { length } else { 0 };
            wanted.then_some(start)
        };
        Self {
            sha256: place(interest.sha256, 32),
            sha1: place(interest.sha1, 20),
            md5: place(interest.md5, 16),
            blake3: place(interest.blake3, 32),
        }
    }
}

/// Files with their bytes.
///
/// ```
/// use bulkhead_sdk::scanning::Batch;
///
/// fn largest(batch: &Batch) -> u64 {
///     batch.files().map(|file| file.size()).max().unwrap_or(0)
/// }
/// # let _ = largest;
/// ```
#[derive(Debug)]
pub struct Batch {
    raw: raw::Batch,
    digests: Digests,
}

impl Batch {
    pub(crate) fn new(raw: raw::Batch, digests: Digests) -> Self {
        Self { raw, digests }
    }

    /// The files, in the order in which they were found.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Batch;
    /// fn programs(batch: &Batch) -> usize {
    ///     batch.files().filter(|file| file.mode() & 0o111 != 0).count()
    /// }
    /// # let _ = programs;
    /// ```
    #[inline]
    pub fn files(&self) -> Files<'_> {
        Files {
            batch: self,
            files: self.raw.files.iter().enumerate(),
            pieces: &self.raw.pieces,
        }
    }

    /// How many files there are.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Batch;
    /// fn count(batch: &Batch, sum: &mut usize) {
    ///     *sum += batch.len();
    /// }
    /// # let _ = count;
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.files.len()
    }

    /// Whether there is no file.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Batch;
    /// fn has_work(batch: &Batch) -> bool {
    ///     !batch.is_empty()
    /// }
    /// # let _ = has_work;
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.files.is_empty()
    }

    /// Whether the first file began in the batch before.
    pub(crate) fn goes_on_from_last(&self) -> bool {
        let first = self.raw.pieces.first();
        first.is_some_and(|piece| piece.file == 0 && piece.position > 0)
    }

    /// The file whose last piece is still to come.
    pub(crate) fn unfinished(&self) -> Option<u32> {
        let last = self.raw.pieces.last()?;
        (!last.last).then_some(last.file)
    }

    #[inline]
    fn span(&self, offset: u32, length: u32) -> &[u8] {
        let start = offset as usize;
        self.raw
            .bytes
            .get(start..start.saturating_add(length as usize))
            .unwrap_or_default()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = File<'a>;
    type IntoIter = Files<'a>;

    #[inline]
    fn into_iter(self) -> Files<'a> {
        self.files()
    }
}

/// Iterates over the files of a [`Batch`].
///
/// ```
/// # use bulkhead_sdk::scanning::Batch;
/// fn count(batch: &Batch) -> usize {
///     batch.files().len()
/// }
/// # let _ = count;
/// ```
#[derive(Debug, Clone)]
pub struct Files<'a> {
    batch: &'a Batch,
    files: std::iter::Enumerate<std::slice::Iter<'a, raw::File>>,
    /// Those of the files that are still to come.
    pieces: &'a [raw::Piece],
}

impl<'a> Iterator for Files<'a> {
    type Item = File<'a>;

    #[inline]
    fn next(&mut self) -> Option<File<'a>> {
        let (index, raw) = self.files.next()?;
        let index = index as u32;
        // The host passes the pieces in the order of the files.
        let mine = self.pieces.iter().take_while(|piece| piece.file == index);
        let (pieces, rest) = self.pieces.split_at(mine.count());
        self.pieces = rest;
        Some(File {
            batch: self.batch,
            raw,
            index,
            pieces,
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.files.size_hint()
    }
}

impl ExactSizeIterator for Files<'_> {}

/// One file, or what else there is at a path.
///
/// ```
/// # use bulkhead_sdk::scanning::File;
/// fn is_suid(file: &File) -> bool {
///     file.mode() & 0o4000 != 0 && file.uid() == 0
/// }
/// # let _ = is_suid;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    batch: &'a Batch,
    raw: &'a raw::File,
    index: u32,
    pieces: &'a [raw::Piece],
}

impl<'a> File<'a> {
    /// Its path on the node: any bytes but 0.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_script(file: &File) -> bool {
    ///     file.path().ends_with(b".sh")
    /// }
    /// # let _ = is_script;
    /// ```
    #[inline]
    pub fn path(&self) -> &'a [u8] {
        self.batch.span(self.raw.path_offset, self.raw.path_length)
    }

    /// Its path for people: what is not UTF-8 is replaced.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn about(file: &File) -> String {
    ///     format!("{} is odd", file.path_text())
    /// }
    /// # let _ = about;
    /// ```
    pub fn path_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.path())
    }

    /// What it is.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::{File, FileKind};
    /// fn is_device(file: &File) -> bool {
    ///     matches!(file.kind(), FileKind::BlockDevice | FileKind::CharacterDevice)
    /// }
    /// # let _ = is_device;
    /// ```
    #[inline]
    pub fn kind(&self) -> FileKind {
        self.raw.kind
    }

    /// What this batch has of the file's bytes, in order.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn passed(file: &File) -> usize {
    ///     file.pieces().map(|piece| piece.bytes().len()).sum()
    /// }
    /// # let _ = passed;
    /// ```
    #[inline]
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = Piece<'a>> + use<'a> {
        let batch = self.batch;
        self.pieces.iter().map(move |raw| Piece { batch, raw })
    }

    /// All that is passed of the file's bytes, if it is in one piece. Of a longer file,
    /// [see](Self::is_cut), that is its beginning.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_program(file: &File) -> bool {
    ///     file.whole().is_some_and(|bytes| bytes.starts_with(b"\x7fELF"))
    /// }
    /// # let _ = is_program;
    /// ```
    #[inline]
    pub fn whole(&self) -> Option<&'a [u8]> {
        match self.pieces {
            [piece] if piece.last && piece.position == 0 => {
                Some(self.batch.span(piece.offset, piece.length))
            }
            [] if self.raw.size == 0 && self.raw.error == 0 && self.kind() == FileKind::File => {
                Some(b"")
            }
            _ => None,
        }
    }

    /// Whether this batch has the last of the file, so that it is to be judged now.
    ///
    /// ```
    /// # use bulkhead_sdk::{Findings, scanning::File};
    /// fn judge(file: &File, seen_before: bool, out: &mut Findings) {
    ///     if file.is_last() && seen_before {
    ///         out.file(file, "miner");
    ///     }
    /// }
    /// # let _ = judge;
    /// ```
    #[inline]
    pub fn is_last(&self) -> bool {
        self.pieces.last().is_none_or(|piece| piece.last)
    }

    /// Its SHA-256, if the plugin wants it and the file could be read. As all digests, it comes with the
    /// file's last piece.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_known(file: &File, list: &std::collections::HashSet<[u8; 32]>) -> bool {
    ///     file.sha256().is_some_and(|digest| list.contains(digest))
    /// }
    /// # let _ = is_known;
    /// ```
    #[inline]
    pub fn sha256(&self) -> Option<&'a [u8; 32]> {
        self.digest(self.batch.digests.sha256)
    }

    /// Its SHA-1.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_known(file: &File, list: &std::collections::HashSet<[u8; 20]>) -> bool {
    ///     file.sha1().is_some_and(|digest| list.contains(digest))
    /// }
    /// # let _ = is_known;
    /// ```
    #[inline]
    pub fn sha1(&self) -> Option<&'a [u8; 20]> {
        self.digest(self.batch.digests.sha1)
    }

    /// Its MD5.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_known(file: &File, list: &std::collections::HashSet<[u8; 16]>) -> bool {
    ///     file.md5().is_some_and(|digest| list.contains(digest))
    /// }
    /// # let _ = is_known;
    /// ```
    #[inline]
    pub fn md5(&self) -> Option<&'a [u8; 16]> {
        self.digest(self.batch.digests.md5)
    }

    /// Its BLAKE3.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_as_it_was(file: &File, before: &[u8; 32]) -> bool {
    ///     file.blake3() == Some(before)
    /// }
    /// # let _ = is_as_it_was;
    /// ```
    #[inline]
    pub fn blake3(&self) -> Option<&'a [u8; 32]> {
        self.digest(self.batch.digests.blake3)
    }

    #[inline]
    fn digest<const N: usize>(&self, place: Option<usize>) -> Option<&'a [u8; N]> {
        let all = self
            .batch
            .span(self.raw.digests_offset, self.raw.digests_length);
        all.get(place?..)?.first_chunk()
    }

    /// Its extended attributes; none unless the plugin wants them.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn has_capabilities(file: &File) -> bool {
    ///     file.attributes().any(|(name, _)| name == b"security.capability")
    /// }
    /// # let _ = has_capabilities;
    /// ```
    pub fn attributes(&self) -> Attributes<'a> {
        match self.kind() {
            FileKind::Symlink => Attributes(b""),
            _ => Attributes(self.attribute_bytes()),
        }
    }

    /// Where a symbolic link points to, as it is written into it; none unless the plugin wants
    /// attributes and [others](super::FileInterest::others).
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn leads_to_temporary_files(file: &File) -> bool {
    ///     file.target().is_some_and(|target| target.starts_with(b"/tmp/"))
    /// }
    /// # let _ = leads_to_temporary_files;
    /// ```
    pub fn target(&self) -> Option<&'a [u8]> {
        let target = self.attribute_bytes();
        (self.kind() == FileKind::Symlink && !target.is_empty()).then_some(target)
    }

    fn attribute_bytes(&self) -> &'a [u8] {
        self.batch
            .span(self.raw.attributes_offset, self.raw.attributes_length)
    }

    /// Its size, also if it is longer than what is passed.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_large(file: &File) -> bool {
    ///     file.size() > 1 << 30
    /// }
    /// # let _ = is_large;
    /// ```
    #[inline]
    pub fn size(&self) -> u64 {
        self.raw.size
    }

    /// Its permission bits, with set-user-id, set-group-id and sticky.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_open_to_all(file: &File) -> bool {
    ///     file.mode() & 0o002 != 0
    /// }
    /// # let _ = is_open_to_all;
    /// ```
    #[inline]
    pub fn mode(&self) -> u32 {
        self.raw.mode
    }

    /// Whose it is.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_roots(file: &File) -> bool {
    ///     file.uid() == 0
    /// }
    /// # let _ = is_roots;
    /// ```
    #[inline]
    pub fn uid(&self) -> u32 {
        self.raw.uid
    }

    /// Its group.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_of_roots_group(file: &File) -> bool {
    ///     file.gid() == 0
    /// }
    /// # let _ = is_of_roots_group;
    /// ```
    #[inline]
    pub fn gid(&self) -> u32 {
        self.raw.gid
    }

    /// How many names it has.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn has_other_names(file: &File) -> bool {
    ///     file.links() > 1
    /// }
    /// # let _ = has_other_names;
    /// ```
    #[inline]
    pub fn links(&self) -> u32 {
        self.raw.links
    }

    /// The number of its file system, and its own number in it: what two names of one file share.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn are_one(a: &File, b: &File) -> bool {
    ///     a.identity() == b.identity()
    /// }
    /// # let _ = are_one;
    /// ```
    #[inline]
    pub fn identity(&self) -> (u64, u64) {
        (self.raw.device, self.raw.inode)
    }

    /// When its content was last changed, in nanoseconds since 1970. Anybody who may write the file can
    /// set this time.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_older(file: &File, than: i64) -> bool {
    ///     file.modified() < than
    /// }
    /// # let _ = is_older;
    /// ```
    #[inline]
    pub fn modified(&self) -> i64 {
        self.raw.modified
    }

    /// When anything of it was last changed, in nanoseconds since 1970.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_backdated(file: &File) -> bool {
    ///     file.changed() - file.modified() > 86_400_000_000_000
    /// }
    /// # let _ = is_backdated;
    /// ```
    #[inline]
    pub fn changed(&self) -> i64 {
        self.raw.changed
    }

    /// The number of the error (`errno`) for which it could not be read.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// const EACCES: u32 = 13;
    /// fn is_closed(file: &File) -> bool {
    ///     file.error() == Some(EACCES)
    /// }
    /// # let _ = is_closed;
    /// ```
    #[inline]
    pub fn error(&self) -> Option<u32> {
        (self.raw.error != 0).then_some(self.raw.error)
    }

    /// Whether it is longer than what is passed of it.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_judged_as_a_whole(file: &File) -> bool {
    ///     !file.is_cut()
    /// }
    /// # let _ = is_judged_as_a_whole;
    /// ```
    #[inline]
    pub fn is_cut(&self) -> bool {
        self.raw.flags & 1 != 0
    }

    /// Whether it changed while it was read; it is passed again.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn is_one_version(file: &File) -> bool {
    ///     !file.is_changing()
    /// }
    /// # let _ = is_one_version;
    /// ```
    #[inline]
    pub fn is_changing(&self) -> bool {
        self.raw.flags & 2 != 0
    }

    /// Whether it is passed because something happened to it, not in a pass over all files.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::File;
    /// fn was_just_written(file: &File) -> bool {
    ///     file.is_event()
    /// }
    /// # let _ = was_just_written;
    /// ```
    #[inline]
    pub fn is_event(&self) -> bool {
        self.raw.flags & 4 != 0
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }
}

/// A part of a file's bytes.
///
/// ```
/// # use bulkhead_sdk::scanning::Piece;
/// fn end(piece: &Piece) -> u64 {
///     piece.position() + piece.bytes().len() as u64
/// }
/// # let _ = end;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    batch: &'a Batch,
    raw: &'a raw::Piece,
}

impl<'a> Piece<'a> {
    /// The bytes.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Piece;
    /// fn zeros(piece: &Piece) -> usize {
    ///     piece.bytes().iter().filter(|byte| **byte == 0).count()
    /// }
    /// # let _ = zeros;
    /// ```
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.batch.span(self.raw.offset, self.raw.length)
    }

    /// Where they are in the file.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Piece;
    /// fn is_beginning(piece: &Piece) -> bool {
    ///     piece.position() == 0
    /// }
    /// # let _ = is_beginning;
    /// ```
    #[inline]
    pub fn position(&self) -> u64 {
        self.raw.position
    }

    /// Whether it is the last one of its file.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Piece;
    /// fn goes_on(piece: &Piece) -> bool {
    ///     !piece.is_last()
    /// }
    /// # let _ = goes_on;
    /// ```
    #[inline]
    pub fn is_last(&self) -> bool {
        self.raw.last
    }
}

/// Iterates over the names and values of a file's extended attributes.
///
/// ```
/// # use bulkhead_sdk::scanning::File;
/// fn count(file: &File) -> usize {
///     file.attributes().count()
/// }
/// # let _ = count;
/// ```
#[derive(Debug, Clone)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (name, rest) = self.0.split_at_checked(end)?;
        let (length, rest) = rest.get(1..)?.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some((name, value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_digest_behind_those_before_it() {
        let interest = raw::FileInterest {
            content: 0,
            sha256: false,
            sha1: true,
            md5: false,
            blake3: true,
            attributes: false,
            others: false,
        };
        let digests = Digests::of(&interest);
        assert_eq!((digests.sha256, digests.md5), (None, None));
        assert_eq!((digests.sha1, digests.blake3), (Some(0), Some(20)));
    }

    #[test]
    fn pieces_find_their_files() {
        let file = |size, kind| raw::File {
            device: 1,
            inode: 1,
            size,
            modified: 0,
            changed: 0,
            path_offset: 0,
            path_length: 2,
            digests_offset: 0,
            digests_length: 0,
            attributes_offset: 0,
            attributes_length: 0,
            mode: 0o644,
            uid: 0,
            gid: 0,
            links: 1,
            error: 0,
            kind,
            flags: 0,
        };
        let piece = |file, position, offset, length, last| raw::Piece {
            position,
            file,
            offset,
            length,
            last,
        };
        let raw = raw::Batch {
            bytes: b"/aabcdef".to_vec(),
            files: vec![
                file(6, FileKind::File),
                file(0, FileKind::File),
                file(0, FileKind::Directory),
                file(1, FileKind::File),
                file(9, FileKind::File),
            ],
            pieces: vec![
                piece(0, 2, 2, 2, false),
                piece(0, 4, 4, 2, true),
                piece(3, 0, 6, 1, true),
                // Passes the end of the bytes, which no host does.
                piece(4, 0, 7, 200, false),
            ],
        };
        let batch = Batch::new(raw, Digests::default());
        let files: Vec<_> = batch.files().collect();
        let bytes = |file: &File| file.pieces().map(|it| it.bytes().len()).collect::<Vec<_>>();
        assert_eq!(bytes(&files[0]), [2, 2]);
        assert_eq!((files[0].whole(), files[0].is_last()), (None, true));
        assert_eq!(
            (files[1].whole(), files[1].is_last()),
            (Some(&b""[..]), true)
        );
        assert_eq!((files[2].whole(), files[2].is_last()), (None, true));
        assert_eq!(files[3].whole(), Some(&b"e"[..]));
        assert_eq!((bytes(&files[4]), files[4].is_last()), (vec![0], false));
        assert_eq!(files[4].whole(), None);
        assert!(batch.goes_on_from_last());
        assert_eq!(batch.unfinished(), Some(4));
    }

    #[test]
    fn reads_attributes_and_stops_at_nonsense() {
        let mut bytes = b"user.a\0\x02\0\0\0xyuser.b\0\0\0\0\0".to_vec();
        let both = [
            (b"user.a".as_slice(), b"xy".as_slice()),
            (b"user.b".as_slice(), b"".as_slice()),
        ];
        assert!(Attributes(&bytes).eq(both));
        for end in [1, 7, 10, 12] {
            assert_eq!(Attributes(&bytes[..end]).count(), 0, "{end}");
        }
        bytes.extend_from_slice(b"user.c\0\xff\xff\xff\xffx");
        assert!(Attributes(&bytes).eq(both));
    }
}
