//! Taking files on: where reading begins in each, and which of one log's files comes first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::batch::FileId;
use super::discover::Found;
use super::engine::Engine;
use super::file::{self, File, file_id};
use super::meta::Meta;
use super::select::Matched;
use super::stats::GivenUp;
use super::suspects::Suspect;
use super::{Item, Known, Nameless, start};
use crate::failpoint;

/// The kernel stamps births with a coarse clock that may be this much late.
const CLOCK_SLACK: Duration = Duration::from_millis(20);

impl Engine {
    /// A file whose checkpoint we have, under another name than its log's.
    pub(super) fn resume_rotated(&mut self, found: &Found<'_>) {
        let id = file_id(&found.meta);
        let Some(known) = self.known.get(&id) else {
            return;
        };
        let base = known.path.clone();
        let (fingerprint, offset) = (known.fingerprint, known.offset);
        // One that is too short may have been cut by a power cut, and then begins as it did.
        let short = found.meta.len() < offset && fingerprint.length == 0;
        if base.parent() != found.path.parent() || short {
            return;
        }
        let ours = file::open(&found.path)
            .and_then(|(handle, _)| file::head(&handle, fingerprint))
            .is_ok_and(|head| head.is_some());
        if let Some(matched) = self.selector.find(&base).filter(|_| ours) {
            self.adopt(found, base, matched, false);
        }
    }

    /// Starts to follow a file. `base` is the path of the log that it is or was.
    pub(super) fn adopt(
        &mut self,
        found: &Found<'_>,
        base: PathBuf,
        matched: Matched,
        active: bool,
    ) -> Option<FileId> {
        let mut id = file_id(&found.meta);
        self.make_room(id);
        let (handle, meta) = match file::open(&found.path) {
            Ok((handle, meta)) => (Some(handle), meta),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.stats.failed("open", &found.path, &error);
                let old = !found.created && !self.is_young(&found.meta);
                if old && !self.known.contains_key(&id) {
                    // Where to start cannot be told without reading.
                    self.suspect(Suspect::new(found, None));
                    return None;
                }
                (None, found.meta.clone())
            }
        };
        if file_id(&meta) != id {
            // Renamed between the two looks.
            id = file_id(&meta);
            if self.files.contains_key(&id) {
                self.attach(found.folder, found.name, id, active);
                return Some(id);
            }
        }
        let mut file = File::new(&meta, &base, matched);
        file.handle = handle;
        let young = found.created || self.is_young(&meta);
        if let Err(error) = self.place(&mut file, young, &meta) {
            self.stats.failed("read", &found.path, &error);
            return None;
        }
        failpoint::hit("tail.opened");
        if file.handle.is_some() {
            self.note_opened(id);
        }
        if !active {
            file.away = Some(Instant::now());
            self.tended.insert(id);
        }
        file.gauge(&self.stats);
        self.stats.files_watched.fetch_add(1, Relaxed);
        let wanted = file.unread() > 0 || file.position_due || file.size < file.offset;
        self.files.insert(id, file);
        self.by_base.entry(base.clone()).or_default().push(id);
        self.attach(found.folder, found.name, id, active);
        if wanted || !active {
            self.enqueue(id);
        }
        self.order(&base);
        Some(id)
    }

    /// Goes on with a file that the tail before this one left open, if it is still ours and has not
    /// been found by a name.
    pub(super) fn adopt_nameless(&mut self, nameless: Nameless) {
        let (id, base) = (nameless.file(), nameless.known.path.clone());
        if self.files.contains_key(&id) {
            return;
        }
        let Some(matched) = self.selector.find(&base) else {
            return;
        };
        self.known.entry(id).or_insert(nameless.known);
        let placed = Meta::of_file(&nameless.handle).and_then(|meta| {
            let mut file = File::new(&meta, &base, matched);
            file.handle = Some(nameless.handle);
            self.place(&mut file, false, &meta)?;
            Ok(file)
        });
        let mut file = match placed {
            Ok(file) => file,
            Err(error) => {
                let path = base.display();
                self.stats
                    .error(format!("could not read {path}, which was deleted: {error}"));
                if let Some(known) = self.known.remove(&id) {
                    self.give_up_known(GivenUp::DeletedWait, &known);
                }
                self.outlet.push(Item::Gone(id, None));
                return;
            }
        };
        file.away = Some(Instant::now());
        file.gauge(&self.stats);
        self.note_opened(id);
        self.stats.files_watched.fetch_add(1, Relaxed);
        self.files.insert(id, file);
        self.by_base.entry(base.clone()).or_default().push(id);
        self.tended.insert(id);
        self.enqueue(id);
        self.order(&base);
    }

    /// Counts what was read of a file before, and not settled, as lost: it is not there any more.
    pub(super) fn give_up_known(&self, reason: GivenUp, known: &Known) {
        let lost = known.taken_back;
        if lost.lines > 0 || lost.bytes > 0 {
            self.stats.give_up(reason, known.file, lost);
        }
    }

    pub(super) fn is_young(&self, meta: &Meta) -> bool {
        match meta.born() {
            Some(born) => born + CLOCK_SLACK >= self.config.first_seen,
            None => self.stats.scanned.load(Relaxed),
        }
    }

    /// Decides where reading starts. After an error nothing has changed.
    fn place(&mut self, file: &mut File, young: bool, meta: &Meta) -> io::Result<()> {
        if let Some(known) = self.known.get(&file.id) {
            let head = match &file.handle {
                Some(handle) => file::head(handle, known.fingerprint)?,
                // Not to be opened now; the first turn checks.
                None => Some(known.fingerprint),
            };
            file.footprints.clone_from(&known.footprints);
            let ours = file.size >= known.offset && file.check_footprints()?;
            let fresh = std::mem::replace(&mut file.generation, known.generation);
            let same_file = known.fingerprint.length > 0 && fresh <= known.generation;
            match head {
                Some(fingerprint) if ours => {
                    file.fingerprint = fingerprint;
                    file.seek(known.offset);
                    file.taken_back = known.taken_back;
                }
                // As a power cut leaves it. Its lines are known by the same ids, should they come again.
                Some(fingerprint) if same_file => {
                    tracing::warn!(path = %known.path.display(), offset = known.offset, size = file.size,
                        "the log begins as it did and does not hold all that was read of it: it is read once more");
                    file.fingerprint = fingerprint;
                    file.begin_again();
                    self.give_up_known(GivenUp::Truncated, known);
                }
                _ => {
                    file.fingerprint = known.fingerprint;
                    file.renew();
                    // Perhaps the inode was given to another file; then its birth tells.
                    let other = fresh > file.generation;
                    file.generation = file.generation.max(fresh);
                    let reason = match other {
                        true => GivenUp::DeletedWait,
                        false => GivenUp::Truncated,
                    };
                    self.give_up_known(reason, known);
                }
            }
            self.known.remove(&file.id);
            return Ok(());
        }
        if young {
            return Ok(());
        }
        if let Some(handle) = &file.handle {
            let written = meta.modified().unwrap_or(std::time::UNIX_EPOCH);
            let at = start::position(
                handle,
                meta.len(),
                written,
                file.format,
                self.config.start_at,
            )?;
            file.check_head()?;
            file.seek(at);
            file.position_due = true;
        }
        Ok(())
    }

    /// Makes the files of one log wait for older ones that still have something to read.
    pub(super) fn order(&mut self, base: &Path) {
        let Some(list) = self.by_base.get_mut(base).filter(|list| list.len() > 1) else {
            return;
        };
        let files = &mut self.files;
        list.sort_by_key(|id| files.get(id).map(|file| (file.away.is_none(), file.born)));
        let mut older: Vec<FileId> = Vec::new();
        for id in list.iter() {
            if let Some(file) = files.get_mut(id) {
                file.after.clone_from(&older);
                if file.queued {
                    older.push(*id);
                }
            }
        }
    }

    /// Takes the better of two sources of one file: a path below `pods` tells more.
    pub(super) fn prefer(&mut self, id: FileId, path: &Path, matched: Matched) {
        if let Some(file) = self.files.get_mut(&id)
            && matched.attributes.len() > file.attributes_of_path()
        {
            let old = file.source.path.to_path_buf();
            file.lies_at(path, matched.attributes, matched.metadata);
            self.unbase(&old, id);
            self.by_base.entry(path.to_owned()).or_default().push(id);
        }
    }

    pub(super) fn unbase(&mut self, base: &Path, id: FileId) {
        if let Some(list) = self.by_base.get_mut(base) {
            list.retain(|&file| file != id);
            if list.is_empty() {
                self.by_base.remove(base);
            }
        }
    }
}
