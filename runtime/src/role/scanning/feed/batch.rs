//! What a subscriber is handed: files, packed as the contract has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::account::Account;
use super::cache::Mark;
use super::facts::Kind;

/// It is longer than what is passed of it.
pub const CUT: u32 = 1;
/// It changed while it was read; it is passed again.
pub const CHANGED: u32 = 1 << 1;
/// It is passed because something happened to it.
pub const EVENT: u32 = 1 << 2;
/// Its extended attributes could not be read, or are too many: none are passed.
pub const UNATTRIBUTED: u32 = 1 << 3;

/// One file. Spans (offset and length) are of [`Batch::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Device and inode; 0 if it is gone.
    pub device: u64,
    /// See there.
    pub inode: u64,
    /// How long it is.
    pub size: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub modified: i64,
    /// When anything of it was.
    pub changed: i64,
    /// Its path on the node.
    pub path: (u32, u32),
    /// The digests that were asked for, one after the other; empty before the last piece.
    pub digests: (u32, u32),
    /// Extended attributes; for a link, where it points to.
    pub attributes: (u32, u32),
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// 0, or the number of the error for which it could not be read. `ENOENT`: it is gone, and if it was a
    /// folder, so is all below it.
    pub error: u32,
    /// What it is.
    pub kind: Kind,
    /// [`CUT`], [`CHANGED`], [`EVENT`], [`UNATTRIBUTED`].
    pub flags: u32,
}

/// A part of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the file.
    pub position: u64,
    /// Index into [`Batch::files`].
    pub file: u32,
    /// Where it is in [`Batch::bytes`].
    pub offset: u32,
    /// How long it is; 0 for an empty file, or where reading came to an end early.
    pub length: u32,
    /// Whether it is the last one of its file.
    pub last: bool,
}

/// Files with their bytes, for one subscriber. Dropped, it counts as failed.
#[derive(Debug)]
pub struct Batch {
    /// Paths, digests, attributes and contents.
    pub bytes: Vec<u8>,
    /// The files, each with pieces, without, or to be continued.
    pub files: Vec<File>,
    /// In the order in which they lie in their files.
    pub pieces: Vec<Piece>,
    pub(super) receipt: Option<Receipt>,
}

/// What comes of a batch once it is judged.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) account: Arc<Account>,
    /// Whether a pass waits for it.
    pub(super) of_pass: bool,
    /// Files that will count as judged.
    pub(super) marks: Vec<Mark>,
    /// Set if an earlier part of the batch's file was not judged.
    pub(super) spoiled: Option<Arc<AtomicBool>>,
}

impl Batch {
    /// Its files are judged: they are passed again only once they have changed.
    pub fn judged(mut self) {
        if let Some(receipt) = self.receipt.take() {
            let spoiled = receipt.spoiled.as_deref();
            let whole = !spoiled.is_some_and(|it| it.load(Ordering::Acquire));
            let marks = if whole { receipt.marks } else { Vec::new() };
            let bytes = std::mem::take(&mut self.bytes);
            let of_pass = receipt.of_pass;
            receipt.account.settle(of_pass, whole, marks, bytes);
        }
    }

    /// They could not be judged: they are passed again in the next pass.
    pub fn failed(self) {
        drop(self);
    }

    /// A span of [`Self::bytes`].
    pub fn span(&self, (offset, length): (u32, u32)) -> &[u8] {
        let end = offset.saturating_add(length) as usize;
        self.bytes.get(offset as usize..end).unwrap_or_default()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            if let Some(spoiled) = &receipt.spoiled {
                spoiled.store(true, Ordering::Release);
            }
            let bytes = std::mem::take(&mut self.bytes);
            let of_pass = receipt.of_pass;
            receipt.account.settle(of_pass, false, Vec::new(), bytes);
        }
    }
}
