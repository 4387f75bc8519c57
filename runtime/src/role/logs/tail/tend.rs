//! Looking after files that are on their way out: rotated, deleted, or with a line that does not end
//! or waits for others.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::super::batch::FileId;
use super::Item;
use super::engine::Engine;
use super::stats::{GivenUp, shift};

impl Engine {
    /// Does what is due for files and names that wait for something.
    pub(super) fn tend(&mut self) {
        if !self.suspects.is_empty() {
            self.settle_suspects();
        }
        self.outlet.close_late(self.config.deleted_file_wait);
        for id in self.tended.iter().copied().collect::<Vec<_>>() {
            if !self.tend_file(id) {
                self.tended.remove(&id);
            }
        }
    }

    /// Whether the file still needs looking after.
    fn tend_file(&mut self, id: FileId) -> bool {
        let now = Instant::now();
        let blocked = self.blocked();
        let Some(file) = self.files.get_mut(&id) else {
            return false;
        };
        if file.retry.is_some_and(|retry| retry <= now) {
            file.retry = None;
            if file.matched() || !file.names.is_empty() || file.handle.is_some() {
                self.enqueue(id);
                return true;
            }
        }
        let waits = |since: Instant| now.duration_since(since) >= self.config.partial_wait;
        if file.joins.since.is_some_and(waits) && !file.flushing {
            file.flushing = true;
            self.enqueue(id);
            return true;
        }
        let readable = file.handle.is_some() || !file.names.is_empty();
        if readable && !file.queued && file.due(now).is_some() {
            self.enqueue(id);
            return true;
        }
        if file.away.is_none() {
            return file.held().is_some() || file.retry.is_some();
        }
        let nameless = file.names.is_empty();
        let Some(handle) = &file.handle else {
            if nameless {
                // Closed while it was at rest; nobody can open it any more.
                self.lose(id);
                return false;
            }
            return !file.done;
        };
        let Ok(meta) = handle.metadata() else {
            return true;
        };
        use std::os::unix::fs::MetadataExt;
        if nameless && meta.nlink() == 0 && file.deleted.is_none() {
            file.deleted = Some(blocked);
        }
        let deleted = file.deleted;
        self.note(id, &meta);
        let Some(file) = self.files.get_mut(&id) else {
            return false;
        };
        if file.queued {
            // Behind. A deleted file takes disk space until it is closed: the receiver gets a
            // bounded time.
            let late = deleted.is_some_and(|since| blocked - since > self.config.deleted_file_wait);
            if late {
                self.lose(id);
            }
            return !late;
        }
        let quiet = now.duration_since(file.active) >= self.config.grace;
        if !quiet {
            return true;
        }
        let unfinished = file.offset < file.size || file.held().is_some();
        if unfinished && !file.finishing && !file.copy {
            file.finishing = true;
            self.enqueue(id);
            return true;
        }
        if nameless && file.offset < file.size && !file.copy {
            // Reading it fails, and there is no other way to it.
            self.lose(id);
        } else if nameless {
            self.forget(id, true);
        } else {
            file.done = true;
            file.finishing = false;
            self.close(id);
        }
        false
    }

    /// Gives up what is unread of a file, and forgets it.
    pub(super) fn lose(&mut self, id: FileId) {
        if let Some(file) = self.files.get(&id)
            && !file.copy
        {
            let bell = self.bell.clone();
            let lost = self.reader.count(file, move || !bell.stopped());
            if self.bell.stopped() && file.handle.is_some() {
                // Not counted to the end: the file goes to the next tail.
                return;
            }
            if lost.bytes > 0 || lost.lines > 0 {
                self.stats.give_up(GivenUp::DeletedWait, id, lost);
            }
        }
        self.forget(id, false);
    }

    /// Forgets a file that is gone and whose lines were handed on (all of them, if `read`) or given up.
    fn forget(&mut self, id: FileId, read: bool) {
        let Some(mut file) = self.files.remove(&id) else {
            return;
        };
        if file.handle.is_some() {
            self.stats.files_open.fetch_sub(1, Relaxed);
            self.opened.retain(|&opened| opened != id);
        }
        shift(&self.stats.unread_bytes, &mut file.gauged, 0);
        self.stats.files_watched.fetch_sub(1, Relaxed);
        if file.queued {
            let lane = id.lane(self.lanes.len());
            self.lanes[lane].retain(|&queued| queued != id);
            self.parked.retain(|&parked| parked != id);
        }
        for name in &file.names {
            if let Some(folder) = &mut self.folders[name.folder]
                && folder.entries.get(&name.name) == Some(&id)
            {
                folder.entries.remove(&name.name);
            }
        }
        self.tended.remove(&id);
        self.unbase(&file.source.path, id);
        let rest = read.then(|| file.into_nameless()).flatten();
        self.outlet.push(Item::Gone(id, rest));
    }
}
