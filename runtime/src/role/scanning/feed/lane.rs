//! One subscriber's batches being filled.

use std::ops::DerefMut;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc;

use super::account::Account;
use super::batch::{Batch, CUT, EVENT, File, Piece, Receipt, UNATTRIBUTED};
use super::cache::Mark;
use super::digest::Digests;
use super::facts::Facts;
use super::subscription::{Interest, Message};
use super::{Scope, lock};

/// A batch is passed on once it has so many bytes, or so many files.
pub(super) const BATCH_BYTES: usize = 4 << 20;
const BATCH_FILES: usize = 512;

/// What goes to one subscriber.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    /// Its number in the cache.
    pub(super) number: u32,
    pub(super) scope: Scope,
    pub(super) interest: Interest,
    /// All that decides about a file, in 64 bits.
    pub(super) rules: u64,
    pub(super) account: Arc<Account>,
    sender: mpsc::Sender<Message>,
    open: Mutex<Open>,
}

/// What is known of a file by the time that it is passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) facts: &'a Facts,
    pub(super) path: &'a [u8],
    pub(super) digests: &'a Digests,
    pub(super) attributes: &'a [u8],
    pub(super) error: u32,
    pub(super) flags: u32,
}

#[derive(Debug, Default)]
struct Open {
    bytes: Vec<u8>,
    files: Vec<File>,
    pieces: Vec<Piece>,
    marks: Vec<Mark>,
    /// Some of it is of a pass.
    of_pass: bool,
}

impl Lane {
    pub(super) fn new(
        name: String,
        number: u32,
        scope: Scope,
        interest: Interest,
        rules: u64,
        account: Arc<Account>,
        sender: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            name,
            number,
            scope,
            interest,
            rules,
            account,
            sender,
            open: Mutex::default(),
        }
    }

    /// Whether nobody is there any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Says something beside the batches, after all that was passed before. Blocks.
    pub(super) fn say(&self, message: Message) {
        let mut open = lock(&self.open);
        self.send(&mut open, None);
        // Whoever is gone need not know.
        let _ = self.sender.blocking_send(message);
    }

    /// Passes a file whose bytes, if it is about bytes, are all there. May block.
    pub(super) fn add(&self, record: &Record<'_>, content: Option<&[u8]>, mark: Option<Mark>) {
        let limit = usize::try_from(self.interest.content).unwrap_or(usize::MAX);
        let content = content
            .filter(|_| limit > 0)
            .map(|it| it.get(..limit).unwrap_or(it));
        if let Some(content) = content.filter(|it| it.len() > BATCH_BYTES) {
            let mut large = self.large();
            let digests = &Digests::default();
            large.content(&Record { digests, ..*record }, content);
            return large.end(record, mark);
        }
        let mut open = lock(&self.open);
        let length = content.map_or(0, <[u8]>::len) + self.room_for(record);
        if !open.files.is_empty()
            && (open.bytes.len() + length > BATCH_BYTES || open.files.len() >= BATCH_FILES)
        {
            self.send(&mut open, None);
        }
        let file = self.push(&mut open, record);
        if let Some(content) = content {
            open.piece(file, 0, content, true);
        }
        open.marks.extend(mark);
    }

    /// Passes on what is there. May block.
    pub(super) fn flush(&self) {
        self.send(&mut lock(&self.open), None);
    }

    /// Gives buffers back: nothing large is to be expected for now.
    pub(super) fn rest(&self) {
        let mut open = lock(&self.open);
        if open.files.is_empty() {
            *open = Open::default();
        }
        self.account.rest();
    }

    /// Begins a file whose bytes may not fit into one batch. Nothing else is passed until it ends, so that
    /// whoever begins one with several lanes does so in the order of their numbers.
    pub(super) fn large(&self) -> Large<'_> {
        let mut open = lock(&self.open);
        self.send(&mut open, None);
        Large {
            lane: self,
            open,
            spoiled: Arc::default(),
            position: 0,
        }
    }

    fn room_for(&self, record: &Record<'_>) -> usize {
        record.path.len() + record.attributes.len() + 128
    }

    fn push(&self, open: &mut Open, record: &Record<'_>) -> u32 {
        let Facts {
            key,
            kind,
            size,
            modified,
            changed,
            mode,
            uid,
            gid,
            links,
            ..
        } = *record.facts;
        let path = open.append(|bytes| bytes.extend_from_slice(record.path));
        let digests = open.append(|bytes| record.digests.write(self.interest.digests, bytes));
        let attributes = open.append(|bytes| {
            if self.interest.attributes {
                bytes.extend_from_slice(record.attributes);
            }
        });
        let hidden = match self.interest.attributes {
            true => 0,
            false => UNATTRIBUTED,
        };
        let cut = self.interest.content > 0 && size > self.interest.content;
        open.of_pass |= record.flags & EVENT == 0;
        open.files.push(File {
            device: key.device,
            inode: key.inode,
            size,
            modified,
            changed,
            path,
            digests,
            attributes,
            mode,
            uid,
            gid,
            links,
            error: record.error,
            kind,
            flags: record.flags & !hidden | if cut { CUT } else { 0 },
        });
        open.files.len() as u32 - 1
    }

    fn send(&self, open: &mut Open, spoiled: Option<&Arc<AtomicBool>>) {
        if open.files.is_empty() {
            return;
        }
        let of_pass = std::mem::take(&mut open.of_pass);
        let next = self.account.sent(of_pass);
        let batch = Batch {
            bytes: std::mem::replace(&mut open.bytes, next),
            files: std::mem::take(&mut open.files),
            pieces: std::mem::take(&mut open.pieces),
            receipt: Some(Receipt {
                account: self.account.clone(),
                of_pass,
                marks: std::mem::take(&mut open.marks),
                spoiled: spoiled.cloned(),
            }),
        };
        // If nobody is there, it comes back and counts as failed.
        drop(self.sender.blocking_send(Message::Batch(batch)));
    }
}

impl Open {
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> (u32, u32) {
        let offset = self.bytes.len();
        write(&mut self.bytes);
        (offset as u32, (self.bytes.len() - offset) as u32)
    }

    fn piece(&mut self, file: u32, position: u64, content: &[u8], last: bool) {
        let (offset, length) = self.append(|bytes| bytes.extend_from_slice(content));
        if let Some(before) = self.pieces.last_mut()
            && before.file == file
            && !before.last
            && before.offset + before.length == offset
        {
            before.length += length;
            before.last = last;
            return;
        }
        self.pieces.push(Piece {
            position,
            file,
            offset,
            length,
            last,
        });
    }
}

/// A long file on its way to one subscriber.
pub(super) struct Large<'a> {
    lane: &'a Lane,
    open: MutexGuard<'a, Open>,
    spoiled: Arc<AtomicBool>,
    position: u64,
}

impl Large<'_> {
    /// Its next bytes, of which no more are passed than this subscriber wants. May block.
    pub(super) fn content(&mut self, record: &Record<'_>, bytes: &[u8]) {
        let wanted = self.lane.interest.content.saturating_sub(self.position);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut bytes = bytes.get(..wanted).unwrap_or(bytes);
        while !bytes.is_empty() {
            if self.open.bytes.len() >= BATCH_BYTES {
                self.lane.send(&mut self.open, Some(&self.spoiled));
            }
            if self.open.files.is_empty() {
                self.lane.push(&mut self.open, record);
            }
            // A path and attributes alone never fill it.
            let room = BATCH_BYTES.saturating_sub(self.open.bytes.len()).max(1);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.piece(0, self.position, now, false);
            self.position += now.len() as u64;
            bytes = later;
        }
    }

    /// That was all. May block.
    pub(super) fn end(mut self, record: &Record<'_>, mark: Option<Mark>) {
        let open = self.open.deref_mut();
        // What is known now: digests, and how it ended.
        let file = self.lane.push(open, record);
        if file > 0 {
            let last = open.files.pop();
            if let (Some(first), Some(last)) = (open.files.first_mut(), last) {
                *first = last;
            }
        }
        let wants = self.lane.interest.content > 0;
        match open.pieces.last_mut() {
            Some(piece) => piece.last = true,
            None if wants => open.piece(0, self.position, &[], true),
            None => {}
        }
        open.marks.extend(mark);
        self.lane.send(&mut self.open, Some(&self.spoiled));
    }
}
