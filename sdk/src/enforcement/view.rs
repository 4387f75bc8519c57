//! How the node is, as views over the packed answer: nothing is copied.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::outline::{Names, WantId};
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;

pub use raw::{KernelModule as Module, Sysctl, Unit};

/// What is at a path.
///
/// ```
/// assert_ne!(bulkhead_sdk::enforcement::Kind::File, bulkhead_sdk::enforcement::Kind::Absent);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing.
    Absent,
    /// A file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a socket or a named pipe.
    Other,
}

/// How the node is, as far as the plugin wants to see it.
///
/// ```
/// use bulkhead_sdk::enforcement::View;
///
/// fn forwards(view: &View) -> bool {
///     view.sysctl("net.ipv4.ip_forward").is_some_and(|it| it.value.as_deref() == Some("1"))
/// }
/// # let _ = forwards;
/// ```
#[derive(Debug)]
pub struct View {
    raw: raw::View,
    names: Rc<Names>,
    by_path: OnceCell<HashMap<Vec<u8>, usize>>,
}

impl View {
    pub(crate) fn new(raw: raw::View, names: Rc<Names>) -> Self {
        let by_path = OnceCell::new();
        Self {
            raw,
            names,
            by_path,
        }
    }

    /// What is at `path`; [`Kind::Absent`] among it. None if the plugin did not want to see it, or
    /// wanted it by a glob and it is not there.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn greets(view: &View) -> bool {
    ///     view.file("/etc/motd").is_some_and(|file| !file.content().is_empty())
    /// }
    /// # let _ = greets;
    /// ```
    pub fn file(&self, path: &str) -> Option<Entry<'_>> {
        // A want without globs has exactly one file.
        if let Some(want) = self.names.files.get(path)
            && let mut files = self.files(WantId(*want))
            && let Some(found) = files.next()
            && found.path_bytes() == path.as_bytes()
        {
            return Some(found);
        }
        let by_path = self.by_path.get_or_init(|| {
            let files = self.raw.files.iter().enumerate();
            files
                .map(|(index, raw)| (Entry { view: self, raw }.path_bytes().to_vec(), index))
                .collect()
        });
        let raw = self.raw.files.get(*by_path.get(path.as_bytes())?)?;
        Some(Entry { view: self, raw })
    }

    /// What there is for one of the plugin's wants, by path.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::{View, WantId};
    /// fn scripts(view: &View, cron: WantId) -> usize {
    ///     view.files(cron).count()
    /// }
    /// # let _ = scripts;
    /// ```
    pub fn files(&self, want: WantId) -> impl Iterator<Item = Entry<'_>> {
        let files = &self.raw.files;
        let from = files.partition_point(|file| file.want < want.0);
        let to = files.partition_point(|file| file.want <= want.0);
        files
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .map(|raw| Entry { view: self, raw })
    }

    /// A kernel setting, by the name that it was wanted by.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn is_kept(view: &View) -> bool {
    ///     view.sysctl("kernel.panic").is_some_and(|it| it.persisted.as_deref() == Some("10"))
    /// }
    /// # let _ = is_kept;
    /// ```
    pub fn sysctl(&self, name: &str) -> Option<&Sysctl> {
        let want = self.names.sysctls.get(name)?;
        by_want(&self.raw.sysctls, *want, |it| it.want)
    }

    /// A kernel module, by its name.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn bridges(view: &View) -> bool {
    ///     view.module("br_netfilter").is_some_and(|module| module.loaded)
    /// }
    /// # let _ = bridges;
    /// ```
    pub fn module(&self, name: &str) -> Option<&Module> {
        let want = self.names.modules.get(name)?;
        by_want(&self.raw.kernel_modules, *want, |it| it.want)
    }

    /// A systemd unit, by its full name.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn runs(view: &View) -> bool {
    ///     view.unit("ssh.service").is_some_and(|unit| unit.active_state == "active")
    /// }
    /// # let _ = runs;
    /// ```
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        let want = self.names.units.get(name)?;
        by_want(&self.raw.units, *want, |it| it.want)
    }

    /// A user's number.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn is_roots(view: &View) -> bool {
    ///     view.file("/etc/motd").map(|file| file.uid()) == view.uid_of("root")
    /// }
    /// # let _ = is_roots;
    /// ```
    pub fn uid_of(&self, user: &str) -> Option<u32> {
        id_of(&self.raw.users, user)
    }

    /// A group's number.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn shadow(view: &View) -> Option<u32> {
    ///     view.gid_of("shadow")
    /// }
    /// # let _ = shadow;
    /// ```
    pub fn gid_of(&self, group: &str) -> Option<u32> {
        id_of(&self.raw.groups, group)
    }

    /// A fact about the node, for example `os.id`, or a label of it, as `labels.NAME`. None without
    /// the grant `nodeFacts`.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn is_debian(view: &View) -> bool {
    ///     view.fact("os.id") == Some("debian")
    /// }
    /// # let _ = is_debian;
    /// ```
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// All facts and labels.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::View;
    /// fn labels(view: &View) -> usize {
    ///     view.facts().filter(|(name, _)| name.starts_with("labels.")).count()
    /// }
    /// # let _ = labels;
    /// ```
    pub fn facts(&self) -> impl Iterator<Item = (&str, &str)> {
        let facts = self.raw.facts.iter();
        facts.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn span(&self, offset: u32, length: u32) -> &[u8] {
        let start = offset as usize;
        self.raw
            .bytes
            .get(start..start.saturating_add(length as usize))
            .unwrap_or_default()
    }
}

fn id_of(accounts: &[raw::Account], name: &str) -> Option<u32> {
    accounts
        .iter()
        .find_map(|account| (account.name == name).then_some(account.id))
}

/// The host answers in the order of the wants; a look at each is the way back if it ever does not.
fn by_want<T>(all: &[T], want: u32, want_of: fn(&T) -> u32) -> Option<&T> {
    match all.binary_search_by_key(&want, want_of) {
        Ok(index) => all.get(index),
        Err(_) => all.iter().find(|each| want_of(each) == want),
    }
}

/// One file, folder, link, or that there is none.
///
/// ```
/// # use bulkhead_sdk::enforcement::{Entry, Kind};
/// fn is_private(file: Entry) -> bool {
///     file.kind() == Kind::File && file.mode() & 0o077 == 0
/// }
/// # let _ = is_private;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    view: &'a View,
    raw: &'a raw::File,
}

impl<'a> Entry<'a> {
    fn path_bytes(&self) -> &'a [u8] {
        self.view.span(self.raw.path_offset, self.raw.path_length)
    }

    /// Its path, as the want spells it. Empty if it is not UTF-8.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn name<'a>(file: Entry<'a>) -> Option<&'a str> {
    ///     file.path().rsplit('/').next()
    /// }
    /// # let _ = name;
    /// ```
    pub fn path(&self) -> &'a str {
        std::str::from_utf8(self.path_bytes()).unwrap_or_default()
    }

    /// What it is.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::{Entry, Kind};
    /// fn is_there(file: Entry) -> bool {
    ///     file.kind() != Kind::Absent
    /// }
    /// # let _ = is_there;
    /// ```
    pub fn kind(&self) -> Kind {
        match self.raw.kind {
            raw::FileKind::Absent => Kind::Absent,
            raw::FileKind::File => Kind::File,
            raw::FileKind::Directory => Kind::Directory,
            raw::FileKind::Symlink => Kind::Symlink,
            raw::FileKind::Other => Kind::Other,
        }
    }

    /// What is in the file; empty if that was not wanted, or could not be read.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn lines(file: Entry) -> usize {
    ///     file.content().split(|&byte| byte == b'\n').count()
    /// }
    /// # let _ = lines;
    /// ```
    pub fn content(&self) -> &'a [u8] {
        match self.raw.kind {
            raw::FileKind::File => self.view.span(self.raw.offset, self.raw.length),
            _ => b"",
        }
    }

    /// What is in the file, if it is a file that could be read as a whole, and UTF-8.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_empty(file: Entry) -> bool {
    ///     file.text() == Some("")
    /// }
    /// # let _ = is_empty;
    /// ```
    pub fn text(&self) -> Option<&'a str> {
        let whole = self.kind() == Kind::File && self.error().is_none() && !self.is_cut();
        whole.then(|| std::str::from_utf8(self.content()).ok())?
    }

    /// Where a symbolic link points to, as it is written into it, if that is UTF-8.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_in_utc(localtime: Entry) -> bool {
    ///     localtime.target() == Some("/usr/share/zoneinfo/Etc/UTC")
    /// }
    /// # let _ = is_in_utc;
    /// ```
    pub fn target(&self) -> Option<&'a str> {
        let target = self.view.span(self.raw.offset, self.raw.length);
        let is_link = self.kind() == Kind::Symlink;
        is_link.then(|| std::str::from_utf8(target).ok())?
    }

    /// Its permission bits, with set-user-id, set-group-id and sticky.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_open_to_all(file: Entry) -> bool {
    ///     file.mode() & 0o002 != 0
    /// }
    /// # let _ = is_open_to_all;
    /// ```
    pub fn mode(&self) -> u32 {
        self.raw.mode
    }

    /// Whose it is.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_roots(file: Entry) -> bool {
    ///     file.uid() == 0
    /// }
    /// # let _ = is_roots;
    /// ```
    pub fn uid(&self) -> u32 {
        self.raw.uid
    }

    /// Its group.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_of_roots_group(file: Entry) -> bool {
    ///     file.gid() == 0
    /// }
    /// # let _ = is_of_roots_group;
    /// ```
    pub fn gid(&self) -> u32 {
        self.raw.gid
    }

    /// Its size, also of a file that is longer than what is passed.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_large(file: Entry) -> bool {
    ///     file.size() > 1 << 20
    /// }
    /// # let _ = is_large;
    /// ```
    pub fn size(&self) -> u64 {
        self.raw.size
    }

    /// When its content was last changed, in nanoseconds since 1970.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_newer(file: Entry, than: Entry) -> bool {
    ///     file.modified() > than.modified()
    /// }
    /// # let _ = is_newer;
    /// ```
    pub fn modified(&self) -> i64 {
        self.raw.modified
    }

    /// The number of the error (`errno`) for which it could not be looked at or read.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// const EACCES: u32 = 13;
    /// fn is_closed(file: Entry) -> bool {
    ///     file.error() == Some(EACCES)
    /// }
    /// # let _ = is_closed;
    /// ```
    pub fn error(&self) -> Option<u32> {
        (self.raw.error != 0).then_some(self.raw.error)
    }

    /// Whether the file is longer than what is passed.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Entry;
    /// fn is_whole(file: Entry) -> bool {
    ///     !file.is_cut()
    /// }
    /// # let _ = is_whole;
    /// ```
    pub fn is_cut(&self) -> bool {
        self.raw.flags & 1 != 0
    }
}
