//! The files of one call, as views over the packed batch: nothing is copied, nothing allocated.

use std::borrow::Cow;

use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;

/// What is at a path.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn can_run(file: &File) -> bool {
///     file.kind() == FileKind::File && file.mode() & 0o111 != 0
/// }
/// # seen!(Node::new().file("/a", "").mode("/a", 0o755), |file| assert!(can_run(file)));
/// ```
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
#[doc = include_str!("example.txt")]
/// fn largest(batch: &Batch) -> u64 {
///     batch.files().map(|file| file.size()).max().unwrap_or(0)
/// }
/// # scanned!(Node::new().file("/a", "1").file("/b", "123"), |batch, _| assert_eq!(largest(batch), 3));
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
    #[doc = include_str!("example.txt")]
    /// fn programs(batch: &Batch) -> usize {
    ///     batch.files().filter(|file| file.mode() & 0o111 != 0).count()
    /// }
    /// # let node = Node::new().file("/a", "").mode("/a", 0o755).file("/b", "");
    /// # scanned!(node, |batch, _| assert_eq!(programs(batch), 1));
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
    #[doc = include_str!("example.txt")]
    /// fn count(batch: &Batch, sum: &mut usize) {
    ///     *sum += batch.len();
    /// }
    /// # scanned!(Node::new().file("/a", "").file("/b", ""), |batch, _| {
    /// #     let mut sum = 1;
    /// #     count(batch, &mut sum);
    /// #     assert_eq!(sum, 3);
    /// # });
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.files.len()
    }

    /// Whether there is no file.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn has_work(batch: &Batch) -> bool {
    ///     !batch.is_empty()
    /// }
    /// # scanned!(Node::new().file("/a", ""), |batch, _| assert!(has_work(batch)));
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
#[doc = include_str!("example.txt")]
/// fn count(batch: &Batch) -> usize {
///     batch.files().len()
/// }
/// # scanned!(Node::new().file("/a", "").file("/b", ""), |batch, _| assert_eq!(count(batch), 2));
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
#[doc = include_str!("example.txt")]
/// fn is_suid(file: &File) -> bool {
///     file.mode() & 0o4000 != 0 && file.uid() == 0
/// }
/// # seen!(Node::new().file("/a", "").mode("/a", 0o4755), |file| assert!(is_suid(file)));
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
    #[doc = include_str!("example.txt")]
    /// fn is_script(file: &File) -> bool {
    ///     file.path().ends_with(b".sh")
    /// }
    /// # seen!(Node::new().odd_file(b"/\xff.sh", ""), |file| assert!(is_script(file)));
    /// ```
    #[inline]
    pub fn path(&self) -> &'a [u8] {
        self.batch.span(self.raw.path_offset, self.raw.path_length)
    }

    /// Its path for people: what is not UTF-8 is replaced.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn about(file: &File) -> String {
    ///     format!("{} is odd", file.path_text())
    /// }
    /// # seen!(Node::new().odd_file(b"/\xff", ""), |file| assert_eq!(about(file), "/\u{fffd} is odd"));
    /// ```
    pub fn path_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.path())
    }

    /// What it is.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_device(file: &File) -> bool {
    ///     matches!(file.kind(), FileKind::BlockDevice | FileKind::CharacterDevice)
    /// }
    /// # seen!(Node::new().device("/dev/null"), |file| assert!(is_device(file)));
    /// ```
    #[inline]
    pub fn kind(&self) -> FileKind {
        self.raw.kind
    }

    /// What this batch has of the file's bytes, in order.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn passed(file: &File) -> usize {
    ///     file.pieces().map(|piece| piece.bytes().len()).sum()
    /// }
    /// # seen!(Node::new().file("/a", "12345").piece_size(2), |file| assert!((1..=2).contains(&passed(file))));
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
    #[doc = include_str!("example.txt")]
    /// fn is_program(file: &File) -> bool {
    ///     file.whole().is_some_and(|bytes| bytes.starts_with(b"\x7fELF"))
    /// }
    /// # seen!(Node::new().file("/a", b"\x7fELF.."), |file| assert!(is_program(file)));
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
    #[doc = include_str!("example.txt")]
    /// fn judge(file: &File, seen_before: bool, out: &mut Findings) {
    ///     if file.is_last() && seen_before {
    ///         out.file(file, "miner");
    ///     }
    /// }
    /// # let found = scanned!(Node::new().file("/a", "12345").piece_size(2), |batch, out| {
    /// #     batch.files().for_each(|file| judge(&file, true, out));
    /// # });
    /// # assert_eq!(found.subjects("miner"), ["/a"]);
    /// ```
    #[inline]
    pub fn is_last(&self) -> bool {
        self.pieces.last().is_none_or(|piece| piece.last)
    }

    /// Its SHA-256, if the plugin wants it and the file could be read. As all digests, it comes with the
    /// file's last piece.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_known(file: &File, list: &std::collections::HashSet<[u8; 32]>) -> bool {
    ///     file.sha256().is_some_and(|digest| list.contains(digest))
    /// }
    /// # seen!(Node::new().file("/a", ""), |file| {
    /// #     let list = [*file.sha256().unwrap()].into();
    /// #     assert!(file.sha256().unwrap().starts_with(&[0xe3, 0xb0, 0xc4, 0x42]) && is_known(file, &list));
    /// # });
    /// ```
    #[inline]
    pub fn sha256(&self) -> Option<&'a [u8; 32]> {
        self.digest(self.batch.digests.sha256)
    }

    /// Its SHA-1.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_known(file: &File, list: &std::collections::HashSet<[u8; 20]>) -> bool {
    ///     file.sha1().is_some_and(|digest| list.contains(digest))
    /// }
    /// # let node = Node::new().file("/a", "").digest("/a", "sha1", [7; 20]);
    /// # scanned!(node, |outline| { outline.files(FileInterest::entries().sha1()); }, |batch, _| {
    /// #     assert!(is_known(&batch.files().next().unwrap(), &[[7; 20]].into()));
    /// # });
    /// ```
    #[inline]
    pub fn sha1(&self) -> Option<&'a [u8; 20]> {
        self.digest(self.batch.digests.sha1)
    }

    /// Its MD5.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_known(file: &File, list: &std::collections::HashSet<[u8; 16]>) -> bool {
    ///     file.md5().is_some_and(|digest| list.contains(digest))
    /// }
    /// # let node = Node::new().file("/a", "").digest("/a", "md5", [7; 16]);
    /// # scanned!(node, |outline| { outline.files(FileInterest::entries().md5()); }, |batch, _| {
    /// #     assert!(is_known(&batch.files().next().unwrap(), &[[7; 16]].into()));
    /// # });
    /// ```
    #[inline]
    pub fn md5(&self) -> Option<&'a [u8; 16]> {
        self.digest(self.batch.digests.md5)
    }

    /// Its BLAKE3.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_as_it_was(file: &File, before: &[u8; 32]) -> bool {
    ///     file.blake3() == Some(before)
    /// }
    /// # let node = Node::new().file("/a", "").digest("/a", "blake3", [7; 32]);
    /// # scanned!(node, |outline| { outline.files(FileInterest::entries().blake3()); }, |batch, _| {
    /// #     assert!(is_as_it_was(&batch.files().next().unwrap(), &[7; 32]));
    /// # });
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
    #[doc = include_str!("example.txt")]
    /// fn has_capabilities(file: &File) -> bool {
    ///     file.attributes().any(|(name, _)| name == b"security.capability")
    /// }
    /// # let node = Node::new().file("/ping", "").attribute("/ping", "security.capability", [1, 0]);
    /// # seen!(node, |file| assert!(has_capabilities(file)));
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
    #[doc = include_str!("example.txt")]
    /// fn leads_to_temporary_files(file: &File) -> bool {
    ///     file.target().is_some_and(|target| target.starts_with(b"/tmp/"))
    /// }
    /// # seen!(Node::new().link("/a", "/tmp/b"), |file| assert!(leads_to_temporary_files(file)));
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
    #[doc = include_str!("example.txt")]
    /// fn is_large(file: &File) -> bool {
    ///     file.size() > 1 << 20
    /// }
    /// # seen!(Node::new().file("/a", vec![0; 2 << 20]), |file| assert!(is_large(file)));
    /// ```
    #[inline]
    pub fn size(&self) -> u64 {
        self.raw.size
    }

    /// Its permission bits, with set-user-id, set-group-id and sticky.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_open_to_all(file: &File) -> bool {
    ///     file.mode() & 0o002 != 0
    /// }
    /// # seen!(Node::new().file("/a", "").mode("/a", 0o666), |file| assert!(is_open_to_all(file)));
    /// ```
    #[inline]
    pub fn mode(&self) -> u32 {
        self.raw.mode
    }

    /// Whose it is.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_roots(file: &File) -> bool {
    ///     file.uid() == 0
    /// }
    /// # seen!(Node::new().file("/a", "").owner("/a", 1000, 0), |file| assert!(!is_roots(file)));
    /// ```
    #[inline]
    pub fn uid(&self) -> u32 {
        self.raw.uid
    }

    /// Its group.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_of_roots_group(file: &File) -> bool {
    ///     file.gid() == 0
    /// }
    /// # seen!(Node::new().file("/a", "").owner("/a", 1000, 0), |file| assert!(is_of_roots_group(file)));
    /// ```
    #[inline]
    pub fn gid(&self) -> u32 {
        self.raw.gid
    }

    /// How many names it has.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn has_other_names(file: &File) -> bool {
    ///     file.links() > 1
    /// }
    /// # seen!(Node::new().file("/a", ""), |file| assert!(!has_other_names(file)));
    /// ```
    #[inline]
    pub fn links(&self) -> u32 {
        self.raw.links
    }

    /// The number of its file system, and its own number in it: what two names of one file share.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn are_one(a: &File, b: &File) -> bool {
    ///     a.identity() == b.identity()
    /// }
    /// # scanned!(Node::new().file("/a", "").file("/b", ""), |batch, _| {
    /// #     let files: Vec<File> = batch.files().collect();
    /// #     assert!(are_one(&files[0], &files[0]) && !are_one(&files[0], &files[1]));
    /// # });
    /// ```
    #[inline]
    pub fn identity(&self) -> (u64, u64) {
        (self.raw.device, self.raw.inode)
    }

    /// When its content was last changed, in nanoseconds since 1970. Anybody who may write the file can
    /// set this time.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_older(file: &File, than: i64) -> bool {
    ///     file.modified() < than
    /// }
    /// # seen!(Node::new().file("/a", ""), |file| assert!(is_older(file, 1)));
    /// ```
    #[inline]
    pub fn modified(&self) -> i64 {
        self.raw.modified
    }

    /// When anything of it was last changed, in nanoseconds since 1970.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_backdated(file: &File) -> bool {
    ///     file.changed() - file.modified() > 86_400_000_000_000
    /// }
    /// # seen!(Node::new().file("/a", ""), |file| assert!(!is_backdated(file)));
    /// ```
    #[inline]
    pub fn changed(&self) -> i64 {
        self.raw.changed
    }

    /// The number of the error (`errno`) for which it could not be read.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// const EACCES: u32 = 13;
    /// fn is_closed(file: &File) -> bool {
    ///     file.error() == Some(EACCES)
    /// }
    /// # seen!(Node::new().unreadable("/a", 13), |file| assert!(is_closed(file)));
    /// ```
    #[inline]
    pub fn error(&self) -> Option<u32> {
        (self.raw.error != 0).then_some(self.raw.error)
    }

    /// Whether it is longer than what is passed of it.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_judged_as_a_whole(file: &File) -> bool {
    ///     !file.is_cut()
    /// }
    /// # seen!(Node::new().file("/a", ""), |file| assert!(is_judged_as_a_whole(file)));
    /// # seen!(Node::new().file("/a", vec![0; 2 << 20]), |file| assert!(!is_judged_as_a_whole(file)));
    /// ```
    #[inline]
    pub fn is_cut(&self) -> bool {
        self.raw.flags & 1 != 0
    }

    /// Whether it changed while it was read; it is passed again.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_one_version(file: &File) -> bool {
    ///     !file.is_changing()
    /// }
    /// # seen!(Node::new().file("/a", ""), |file| assert!(is_one_version(file)));
    /// ```
    #[inline]
    pub fn is_changing(&self) -> bool {
        self.raw.flags & 2 != 0
    }

    /// Whether it is passed because something happened to it, not in a pass over all files.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn was_just_written(file: &File) -> bool {
    ///     file.is_event()
    /// }
    /// # plugin!(|outline| { outline.files(FileInterest::entries()); }, |batch, out| {
    /// #     batch.files().filter(was_just_written).for_each(|file| _ = out.file(&file, "written"));
    /// # }, |_, _| ());
    /// # let (mut plugin, node) = (Harness::<MyPlugin>::new("{}")?, Node::new().file("/a", ""));
    /// # assert!(plugin.scan(&node)?.is_empty());
    /// # assert_eq!(plugin.scan_event(&node, "/a")?.subjects("written"), ["/a"]);
    /// # bulkhead_sdk::Result::<()>::Ok(())
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
#[doc = include_str!("example.txt")]
/// fn end(piece: &Piece) -> u64 {
///     piece.position() + piece.bytes().len() as u64
/// }
/// # seen!(Node::new().file("/a", "123"), |file| assert_eq!(end(&file.pieces().next().unwrap()), 3));
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
    #[doc = include_str!("example.txt")]
    /// fn zeros(piece: &Piece) -> usize {
    ///     piece.bytes().iter().filter(|byte| **byte == 0).count()
    /// }
    /// # seen!(Node::new().file("/a", "1\0\0"), |file| assert_eq!(zeros(&file.pieces().next().unwrap()), 2));
    /// ```
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.batch.span(self.raw.offset, self.raw.length)
    }

    /// Where they are in the file.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_beginning(piece: &Piece) -> bool {
    ///     piece.position() == 0
    /// }
    /// # seen!(Node::new().file("/a", "123"), |file| assert!(is_beginning(&file.pieces().next().unwrap())));
    /// ```
    #[inline]
    pub fn position(&self) -> u64 {
        self.raw.position
    }

    /// Whether it is the last one of its file.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn goes_on(piece: &Piece) -> bool {
    ///     !piece.is_last()
    /// }
    /// # seen!(Node::new().file("/a", "123").piece_size(2), |file| {
    /// #     let piece = file.pieces().next().unwrap();
    /// #     assert_eq!(goes_on(&piece), piece.position() == 0);
    /// # });
    /// ```
    #[inline]
    pub fn is_last(&self) -> bool {
        self.raw.last
    }
}

/// Iterates over the names and values of a file's extended attributes.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn count(file: &File) -> usize {
///     file.attributes().count()
/// }
/// # let node = Node::new().file("/a", "").attribute("/a", "user.a", "1").attribute("/a", "user.b", "");
/// # seen!(node, |file| assert_eq!(count(file), 2));
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
