//! Finding files: folders are followed along the patterns, and each name in them is judged by what
//! the disk says now. An event, a scan and a poll all end in [`Engine::refresh`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustix::fs::inotify::ReadFlags;

use super::super::batch::FileId;
use super::Item;
use super::engine::Engine;
use super::file::{Folder, Name, file_id};
use super::meta::Meta;
use super::select::{Matched, State};
use super::stats::GivenUp;
use super::suspects::Suspect;
use crate::failpoint;

/// A path that was found to be a regular file.
pub(super) struct Found<'a> {
    pub(super) folder: usize,
    pub(super) name: &'a OsStr,
    pub(super) path: PathBuf,
    /// The path behind it, if it is a symbolic link.
    pub(super) target: Option<PathBuf>,
    pub(super) meta: Meta,
    /// Whether we saw it being created.
    pub(super) created: bool,
    /// The log that it was until it was renamed, if we saw that.
    pub(super) moved_from: Option<PathBuf>,
}

impl Engine {
    /// Looks at everything.
    pub(super) fn rescan(&mut self) {
        for state in self.selector.roots() {
            self.enter(Path::new("/"), vec![state]);
        }
        for at in 0..self.folders.len() {
            self.watch_folder(at);
            self.list(at);
        }
        self.settle_suspects();
        for nameless in std::mem::take(&mut self.nameless) {
            self.adopt_nameless(nameless);
        }
        if self.patience == 0 {
            for (id, known) in std::mem::take(&mut self.known) {
                self.give_up_known(GivenUp::DeletedWait, &known);
                self.outlet.push(Item::Gone(id, None));
            }
        }
        self.patience = self.patience.saturating_sub(1);
        self.stats.scanned.store(true, Relaxed);
    }

    /// Looks at the folders that the kernel does not watch for us.
    pub(super) fn poll_folders(&mut self) {
        for at in 0..self.folders.len() {
            if matches!(&self.folders[at], Some(folder) if folder.wd.is_none()) {
                self.list(at);
            }
        }
        self.settle_suspects();
    }

    /// Follows what `path` holds for `states`; literal steps are taken without watching them.
    fn enter(&mut self, path: &Path, states: Vec<State>) {
        let mut here = Vec::new();
        for state in states {
            let step = self.selector.is_step(state);
            let child = step.then(|| self.selector.literal(state)).flatten();
            match child.map(|name| (name.to_owned(), path.join(name))) {
                Some((name, child)) if child.is_dir() => {
                    let mut inner = Vec::new();
                    self.selector.descend(state, &name, false, &mut inner);
                    self.enter(&child, inner);
                }
                _ => here.push(state),
            }
        }
        if !here.is_empty() {
            self.follow(path, here);
        }
    }

    /// Follows one folder in further states, looking at it if they are new.
    fn follow(&mut self, path: &Path, states: Vec<State>) -> usize {
        let at = match self.by_path.get(path) {
            Some(&at) => at,
            None => {
                let folder = Folder {
                    path: path.to_owned(),
                    states: Vec::new(),
                    entries: HashMap::new(),
                    links: HashMap::new(),
                    wd: None,
                };
                let at = self.folders.iter().position(Option::is_none);
                let at = at.unwrap_or(self.folders.len());
                if at == self.folders.len() {
                    self.folders.push(None);
                }
                self.folders[at] = Some(folder);
                self.by_path.insert(path.to_owned(), at);
                self.stats.folders_polled.fetch_add(1, Relaxed);
                // Before it is listed, so that nothing can come between.
                self.watch_folder(at);
                at
            }
        };
        let mut news = false;
        if let Some(folder) = &mut self.folders[at] {
            for state in states {
                if !folder.states.contains(&state) {
                    folder.states.push(state);
                    news = true;
                }
            }
        }
        if news {
            self.list(at);
        }
        at
    }

    /// Has the kernel watch a folder, or leaves it to be polled.
    fn watch_folder(&mut self, at: usize) {
        let (Some(watch), Some(folder)) = (&self.watch, &mut self.folders[at]) else {
            return;
        };
        let wd = match watch.add(&folder.path) {
            Ok(wd) => Some(wd),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.stats.error(format!(
                        "{} is polled, because the kernel does not watch it ({error}): raise \
                         fs.inotify.max_user_watches",
                        folder.path.display()
                    ));
                }
                None
            }
        };
        let old = std::mem::replace(&mut folder.wd, wd);
        if old == wd {
            return;
        }
        self.forget_watch(at, old);
        if let Some(wd) = wd {
            self.by_wd.entry(wd).or_default().push(at);
            self.stats.folders_watched.fetch_add(1, Relaxed);
            self.stats.folders_polled.fetch_sub(1, Relaxed);
        }
    }

    /// Takes a folder's old watch away; the folder counts as polled then.
    fn forget_watch(&mut self, at: usize, wd: Option<i32>) {
        let Some(wd) = wd else { return };
        self.stats.folders_watched.fetch_sub(1, Relaxed);
        self.stats.folders_polled.fetch_add(1, Relaxed);
        if let Some(list) = self.by_wd.get_mut(&wd) {
            list.retain(|&folder| folder != at);
            if list.is_empty() {
                self.by_wd.remove(&wd);
                if let Some(watch) = &self.watch {
                    watch.remove(wd);
                }
            }
        }
    }

    /// The kernel says that a watched folder was deleted, renamed or unmounted.
    pub(super) fn lose_watch(&mut self, wd: i32, flags: ReadFlags) {
        let Some(list) = self.by_wd.get(&wd).cloned() else {
            return;
        };
        if flags.contains(ReadFlags::DELETE_SELF) {
            // `IGNORED` follows.
            return;
        }
        for at in list {
            let old = self.folders[at].as_mut().and_then(|f| f.wd.take());
            self.forget_watch(at, old);
            self.watch_folder(at);
            self.list(at);
        }
        // What is missing now may come back anywhere along its pattern.
        for state in self.selector.roots() {
            self.enter(Path::new("/"), vec![state]);
        }
    }

    /// Stops following a folder that is gone.
    fn drop_folder(&mut self, at: usize) {
        let names: Vec<OsString> = match &self.folders[at] {
            Some(folder) => folder.entries.keys().cloned().collect(),
            None => return,
        };
        for name in names {
            self.detach(at, &name);
        }
        if let Some(folder) = self.folders[at].take() {
            self.by_path.remove(&folder.path);
            self.forget_watch(at, folder.wd);
            self.stats.folders_polled.fetch_sub(1, Relaxed);
            for (link, name) in folder.links.into_values().flatten() {
                self.refresh(link, &name, false, None);
            }
        }
    }

    /// Looks at every name in a folder that may concern us.
    fn list(&mut self, at: usize) {
        let Some(folder) = &self.folders[at] else {
            return;
        };
        let listing = match fs::read_dir(&folder.path) {
            Ok(listing) => listing,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return self.drop_folder(at);
            }
            Err(error) => {
                return self.stats.failed("list", &folder.path, &error);
            }
        };
        let mut missing: std::collections::HashSet<OsString> =
            folder.entries.keys().cloned().collect();
        let mut names = Vec::new();
        for entry in listing.flatten() {
            let name = entry.file_name();
            let known = missing.remove(&name);
            if known || self.concerns(folder, &name) || self.is_known_inode(entry.ino()) {
                names.push(name);
            }
        }
        for name in missing.into_iter().chain(names) {
            self.refresh(at, &name, false, None);
        }
    }

    fn concerns(&self, folder: &Folder, name: &OsStr) -> bool {
        let mut inner = Vec::new();
        folder.links.contains_key(name)
            || folder.states.iter().any(|&state| {
                self.selector.descend(state, name, false, &mut inner);
                !inner.is_empty() || self.selector.matches(state, name).is_some()
            })
            || self.selector.rotated_from(&folder.states, name).is_some()
    }

    fn is_known_inode(&self, inode: u64) -> bool {
        !self.known.is_empty() && self.known.keys().any(|id| id.inode == inode)
    }

    /// Judges one name in a folder by what it is now.
    pub(super) fn refresh(
        &mut self,
        at: usize,
        name: &OsStr,
        created: bool,
        moved_from: Option<PathBuf>,
    ) {
        let Some(folder) = &self.folders[at] else {
            return;
        };
        let path = folder.path.join(name);
        let links = folder.links.get(name).cloned().unwrap_or_default();
        match Meta::of_link(&path) {
            Ok(meta) if meta.is_symlink() => match resolve(&path) {
                Ok((target, meta)) if meta.is_file() => self.found(Found {
                    folder: at,
                    name,
                    path,
                    target: Some(target),
                    meta,
                    created: false,
                    moved_from: None,
                }),
                Ok((_, meta)) if meta.is_dir() => self.found_folder(at, name, &path, true),
                _ => self.detach(at, name),
            },
            Ok(meta) if meta.is_file() => self.found(Found {
                folder: at,
                name,
                path,
                target: None,
                meta,
                created,
                moved_from,
            }),
            Ok(meta) if meta.is_dir() => self.found_folder(at, name, &path, false),
            Ok(_) => self.detach(at, name),
            Err(error) => {
                self.detach(at, name);
                if error.kind() != io::ErrorKind::NotFound {
                    let path = path.display();
                    self.stats
                        .error(format!("could not look at {path}: {error}"));
                }
            }
        }
        for (folder, name) in links {
            self.refresh(folder, &name, false, None);
        }
    }

    fn found_folder(&mut self, at: usize, name: &OsStr, path: &Path, link: bool) {
        self.detach(at, name);
        let Some(folder) = &self.folders[at] else {
            return;
        };
        let mut inner = Vec::new();
        for &state in &folder.states {
            self.selector.descend(state, name, link, &mut inner);
        }
        if !inner.is_empty() {
            self.enter(path, inner);
        }
    }

    /// What the patterns say about a name in a folder.
    pub(super) fn judge(
        &self,
        at: usize,
        name: &OsStr,
        path: &Path,
        target: Option<&Path>,
    ) -> Option<Matched> {
        let folder = self.folders[at].as_ref()?;
        folder
            .states
            .iter()
            .filter_map(|&state| self.selector.matches(state, name))
            .find_map(|source| self.selector.accept(source, path, target))
    }

    /// The path of the log that `name` is in a folder, if a pattern matches it.
    pub(super) fn base_of(&self, at: usize, name: &OsStr) -> Option<PathBuf> {
        let folder = self.folders[at].as_ref()?;
        let path = folder.path.join(name);
        if let Some(file) = folder.entries.get(name).and_then(|id| self.files.get(id)) {
            return Some(file.source.path.to_path_buf());
        }
        self.judge(at, name, &path, None).map(|_| path)
    }

    fn found(&mut self, found: Found<'_>) {
        let (at, name) = (found.folder, found.name);
        let id = file_id(&found.meta);
        let same = self.files.get(&id).is_some_and(|file| file.is(&found.meta));
        let Some(folder) = &self.folders[at] else {
            return;
        };
        match folder.entries.get(name) {
            Some(&known) if known == id && same => return self.note(id, &found.meta),
            Some(_) => self.detach(at, name),
            None => {}
        }
        if !same && self.files.contains_key(&id) {
            // The inode has been given to another file.
            self.lose(id);
        }
        let matched = self.judge(at, name, &found.path, found.target.as_deref());
        let target = found.target.clone();
        if same {
            self.attach(at, name, id, matched.is_some());
            if let Some(matched) = matched {
                self.prefer(id, &found.path, matched);
            }
            self.note(id, &found.meta);
        } else if self.is_excluded(&found) {
            return;
        } else if let Some(matched) = matched {
            let rotated = self.folders[at]
                .as_ref()
                .is_some_and(|folder| self.selector.rotated_from(&folder.states, name).is_some());
            if rotated && found.moved_from.is_none() && !self.known.contains_key(&id) {
                // Perhaps a copy of a log that is about to be truncated.
                return self.suspect(Suspect::new(&found, None));
            }
            let base = match &target {
                Some(target) if self.selector.in_pods(target) => target.clone(),
                _ => found.path.clone(),
            };
            self.adopt(&found, base, matched, true);
        } else if self.known.contains_key(&id) {
            self.resume_rotated(&found);
        } else {
            let base = found.moved_from.clone();
            self.suspect(Suspect::new(&found, base));
        }
        // A link's target may be rotated in its own folder.
        if let Some(target) = target
            && let (Some(parent), Some(real)) = (target.parent(), target.file_name())
            && self.files.contains_key(&id)
        {
            let real_at = self.follow(parent, Vec::new());
            if let Some(folder) = &mut self.folders[real_at] {
                let links = folder.links.entry(real.to_owned()).or_default();
                if !links.contains(&(at, name.to_owned())) {
                    links.push((at, name.to_owned()));
                }
            }
            self.attach(real_at, real, id, false);
        }
    }

    fn is_excluded(&self, found: &Found<'_>) -> bool {
        let own = &self.config.own;
        let target = found.target.as_deref();
        own.holds(&found.path)
            || target.is_some_and(|target| own.holds(target))
            || own.files.iter().any(|path| {
                fs::metadata(path).is_ok_and(|meta| file_id(&meta) == file_id(&found.meta))
            })
    }

    /// Notes what a look at the file told: if anything changed it is read.
    pub(super) fn note(&mut self, id: FileId, meta: &Metadata) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        let written = meta.modified().ok();
        let changed = meta.len() != file.size || written != file.written;
        // Shrinking is found out by reading, which then knows what was lost.
        file.size = file.size.max(meta.len());
        file.gauge(&self.stats);
        if changed {
            self.enqueue(id);
        }
    }

    /// Notes that a name leads to a file.
    pub(super) fn attach(&mut self, at: usize, name: &OsStr, id: FileId, matched: bool) {
        let (Some(folder), Some(file)) = (&mut self.folders[at], self.files.get_mut(&id)) else {
            return;
        };
        if folder.entries.get(name).is_some_and(|&other| other != id) {
            self.detach(at, name);
            return self.attach(at, name, id, matched);
        }
        folder.entries.insert(name.to_owned(), id);
        let known = file
            .names
            .iter_mut()
            .find(|known| known.folder == at && known.name == name);
        match known {
            Some(known) => known.matched |= matched,
            None => file.names.push(Name {
                folder: at,
                name: name.to_owned(),
                matched,
            }),
        }
        if matched {
            file.away = None;
            file.finishing = false;
        }
    }

    /// Notes that a name leads to its file no more.
    pub(super) fn detach(&mut self, at: usize, name: &OsStr) {
        let Some(folder) = &mut self.folders[at] else {
            return;
        };
        let Some(id) = folder.entries.remove(name) else {
            return;
        };
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        file.names
            .retain(|known| known.folder != at || known.name != name);
        if file.matched() {
            return;
        }
        if file.away.is_none() {
            failpoint::hit("tail.rotated");
            self.stats.rotations.fetch_add(1, Relaxed);
            file.away = Some(Instant::now());
            file.active = Instant::now();
        }
        self.tended.insert(id);
        self.enqueue(id);
    }
}

/// The path behind a link, without links in it, and what is there.
fn resolve(path: &Path) -> io::Result<(PathBuf, Meta)> {
    let target = fs::canonicalize(path)?;
    let meta = Meta::of_link(&target)?;
    Ok((target, meta))
}
