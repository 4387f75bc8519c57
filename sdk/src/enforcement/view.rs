//! How the node is, as views over the packed answer: nothing is copied.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::outline::{Names, WantId};
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;

/// A kernel module, as it is now and at the node's next start.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn can_be_used(module: &Module) -> bool {
///     module.loaded || module.built_in || (module.available && !module.blacklisted)
/// }
/// # planned!(Node::new().module("br_netfilter", false), |outline| { outline.want_module("br_netfilter"); }, |view, _| {
/// #     assert!(can_be_used(view.module("br_netfilter").unwrap()));
/// # });
/// ```
pub use raw::KernelModule as Module;

/// A kernel setting, as it is now and at the node's next start.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn is(setting: &Sysctl, wanted: &str) -> bool {
///     setting.value.as_deref() == Some(wanted)
/// }
/// # planned!(Node::new().sysctl("kernel.panic", "10"), |outline| { outline.want_sysctl("kernel.panic"); }, |view, _| {
/// #     assert!(is(view.sysctl("kernel.panic").unwrap(), "10"));
/// # });
/// ```
pub use raw::Sysctl;

/// A systemd unit, in systemd's own words.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn has_failed(unit: &Unit) -> bool {
///     unit.active_state == "failed"
/// }
/// # planned!(Node::new().unit("app.service", "enabled", "failed"), |outline| { outline.want_unit("app.service"); }, |view, _| {
/// #     assert!(has_failed(view.unit("app.service").unwrap()));
/// # });
/// ```
pub use raw::Unit;

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
#[doc = include_str!("example.txt")]
/// fn forwards(view: &View) -> bool {
///     view.sysctl("net.ipv4.ip_forward").is_some_and(|it| it.value.as_deref() == Some("1"))
/// }
/// # let node = Node::new().sysctl("net.ipv4.ip_forward", "1");
/// # planned!(node, |outline| { outline.want_sysctl("net.ipv4.ip_forward"); }, |view, _| assert!(forwards(view)));
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
    #[doc = include_str!("example.txt")]
    /// fn greets(view: &View) -> bool {
    ///     view.file("/etc/motd").is_some_and(|file| !file.content().is_empty())
    /// }
    /// # planned!(Node::new().file("/etc/motd", "Hello\n"), |view, _| assert!(greets(view)));
    /// # planned!(Node::new().file("/etc/motd", ""), |view, _| assert!(!greets(view)));
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
    #[doc = include_str!("example.txt")]
    /// fn scripts(view: &View, cron: WantId) -> usize {
    ///     view.files(cron).count()
    /// }
    /// # let node = Node::new().file("/etc/cron.d/a", "").file("/etc/cron.d/b", "").file("/etc/motd", "");
    /// # planned!(node, |outline| {
    /// #     outline.want_file("/etc/motd");
    /// #     let cron = outline.want_entry("/etc/cron.d/*");
    /// # }, move |view, _| assert_eq!(scripts(view, cron), 2));
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
    #[doc = include_str!("example.txt")]
    /// fn is_kept(view: &View) -> bool {
    ///     view.sysctl("kernel.panic").is_some_and(|it| it.persisted.as_deref() == Some("10"))
    /// }
    /// # let mut node = Node::new().sysctl("kernel.panic", "0");
    /// # let planned = planned!(node, |_, plan| _ = plan.set_sysctl("panic", "kernel.panic", "10", true, true));
    /// # node.apply(&planned)?;
    /// # planned!(node, |outline| { outline.want_sysctl("kernel.panic"); }, |view, _| assert!(is_kept(view)));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn sysctl(&self, name: &str) -> Option<&Sysctl> {
        let want = self.names.sysctls.get(name)?;
        by_want(&self.raw.sysctls, *want, |it| it.want)
    }

    /// A kernel module, by its name.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn bridges(view: &View) -> bool {
    ///     view.module("br_netfilter").is_some_and(|module| module.loaded)
    /// }
    /// # let node = Node::new().module("br_netfilter", true);
    /// # planned!(node, |outline| { outline.want_module("br_netfilter"); }, |view, _| assert!(bridges(view)));
    /// ```
    pub fn module(&self, name: &str) -> Option<&Module> {
        let want = self.names.modules.get(name)?;
        by_want(&self.raw.kernel_modules, *want, |it| it.want)
    }

    /// A systemd unit, by its full name.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn runs(view: &View) -> bool {
    ///     view.unit("ssh.service").is_some_and(|unit| unit.active_state == "active")
    /// }
    /// # let node = Node::new().unit("ssh.service", "enabled", "active");
    /// # planned!(node, |outline| { outline.want_unit("ssh.service"); }, |view, _| assert!(runs(view)));
    /// ```
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        let want = self.names.units.get(name)?;
        by_want(&self.raw.units, *want, |it| it.want)
    }

    /// A user's number.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_roots(view: &View) -> bool {
    ///     view.file("/etc/motd").map(|file| file.uid()) == view.uid_of("root")
    /// }
    /// # planned!(Node::new().file("/etc/motd", ""), |view, _| assert!(is_roots(view)));
    /// ```
    pub fn uid_of(&self, user: &str) -> Option<u32> {
        id_of(&self.raw.users, user)
    }

    /// A group's number.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn shadow(view: &View) -> Option<u32> {
    ///     view.gid_of("shadow")
    /// }
    /// # planned!(Node::new().group("shadow", 42), |view, _| assert_eq!(shadow(view), Some(42)));
    /// ```
    pub fn gid_of(&self, group: &str) -> Option<u32> {
        id_of(&self.raw.groups, group)
    }

    /// A fact about the node, for example `os.id`, or a label of it, as `labels.NAME`. None without
    /// the grant `nodeFacts`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_debian(view: &View) -> bool {
    ///     view.fact("os.id") == Some("debian")
    /// }
    /// # planned!(Node::new().fact("os.id", "debian"), |view, _| assert!(is_debian(view)));
    /// ```
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// All facts and labels.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn labels(view: &View) -> usize {
    ///     view.facts().filter(|(name, _)| name.starts_with("labels.")).count()
    /// }
    /// # let node = Node::new().fact("os.id", "debian").fact("labels.zone", "a");
    /// # planned!(node, |view, _| assert_eq!(labels(view), 1));
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
#[doc = include_str!("example.txt")]
/// fn is_private(file: Entry) -> bool {
///     file.kind() == Kind::File && file.mode() & 0o077 == 0
/// }
/// # let node = Node::new().file("/key", "").mode("/key", 0o600);
/// # planned!(node, |view, _| assert!(is_private(view.file("/key").unwrap())));
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
    #[doc = include_str!("example.txt")]
    /// fn name<'a>(file: Entry<'a>) -> Option<&'a str> {
    ///     file.path().rsplit('/').next()
    /// }
    /// # let node = Node::new().file("/etc/motd", "");
    /// # planned!(node, |view, _| assert_eq!(name(view.file("/etc/motd").unwrap()), Some("motd")));
    /// ```
    pub fn path(&self) -> &'a str {
        std::str::from_utf8(self.path_bytes()).unwrap_or_default()
    }

    /// What it is.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_there(file: Entry) -> bool {
    ///     file.kind() != Kind::Absent
    /// }
    /// # planned!(Node::new(), |outline| { outline.want_file("/a"); }, |view, _| {
    /// #     assert!(!is_there(view.file("/a").unwrap()));
    /// # });
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
    #[doc = include_str!("example.txt")]
    /// fn lines(file: Entry) -> usize {
    ///     file.content().split(|&byte| byte == b'\n').count()
    /// }
    /// # planned!(Node::new().file("/a", "one\ntwo"), |view, _| assert_eq!(lines(view.file("/a").unwrap()), 2));
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
    #[doc = include_str!("example.txt")]
    /// fn is_empty(file: Entry) -> bool {
    ///     file.text() == Some("")
    /// }
    /// # planned!(Node::new().file("/a", "").unreadable("/b", 5), |view, _| {
    /// #     assert!(is_empty(view.file("/a").unwrap()) && !is_empty(view.file("/b").unwrap()));
    /// # });
    /// ```
    pub fn text(&self) -> Option<&'a str> {
        let whole = self.kind() == Kind::File && self.error().is_none() && !self.is_cut();
        whole.then(|| std::str::from_utf8(self.content()).ok())?
    }

    /// Where a symbolic link points to, as it is written into it, if that is UTF-8.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_in_utc(localtime: Entry) -> bool {
    ///     localtime.target() == Some("/usr/share/zoneinfo/Etc/UTC")
    /// }
    /// # let node = Node::new().link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
    /// # planned!(node, |view, _| assert!(is_in_utc(view.file("/etc/localtime").unwrap())));
    /// ```
    pub fn target(&self) -> Option<&'a str> {
        let target = self.view.span(self.raw.offset, self.raw.length);
        let is_link = self.kind() == Kind::Symlink;
        is_link.then(|| std::str::from_utf8(target).ok())?
    }

    /// Its permission bits, with set-user-id, set-group-id and sticky.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_open_to_all(file: Entry) -> bool {
    ///     file.mode() & 0o002 != 0
    /// }
    /// # let node = Node::new().file("/a", "").mode("/a", 0o666);
    /// # planned!(node, |view, _| assert!(is_open_to_all(view.file("/a").unwrap())));
    /// ```
    pub fn mode(&self) -> u32 {
        self.raw.mode
    }

    /// Whose it is.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_roots(file: Entry) -> bool {
    ///     file.uid() == 0
    /// }
    /// # let node = Node::new().file("/a", "").owner("/a", 1000, 0);
    /// # planned!(node, |view, _| assert!(!is_roots(view.file("/a").unwrap())));
    /// ```
    pub fn uid(&self) -> u32 {
        self.raw.uid
    }

    /// Its group.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_of_roots_group(file: Entry) -> bool {
    ///     file.gid() == 0
    /// }
    /// # let node = Node::new().file("/a", "").owner("/a", 1000, 0);
    /// # planned!(node, |view, _| assert!(is_of_roots_group(view.file("/a").unwrap())));
    /// ```
    pub fn gid(&self) -> u32 {
        self.raw.gid
    }

    /// Its size, also of a file that is longer than what is passed.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_large(file: Entry) -> bool {
    ///     file.size() > 1 << 20
    /// }
    /// # let node = Node::new().file("/a", vec![0; 2 << 20]);
    /// # planned!(node, |view, _| assert!(is_large(view.file("/a").unwrap())));
    /// ```
    pub fn size(&self) -> u64 {
        self.raw.size
    }

    /// When its content was last changed, in nanoseconds since 1970.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_newer(file: Entry, than: Entry) -> bool {
    ///     file.modified() > than.modified()
    /// }
    /// # let node = Node::new().file("/a", "").file("/b", "");
    /// # planned!(node, |view, _| assert!(!is_newer(view.file("/a").unwrap(), view.file("/b").unwrap())));
    /// ```
    pub fn modified(&self) -> i64 {
        self.raw.modified
    }

    /// The number of the error (`errno`) for which it could not be looked at or read.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// const EACCES: u32 = 13;
    /// fn is_closed(file: Entry) -> bool {
    ///     file.error() == Some(EACCES)
    /// }
    /// # planned!(Node::new().unreadable("/a", 13), |view, _| assert!(is_closed(view.file("/a").unwrap())));
    /// ```
    pub fn error(&self) -> Option<u32> {
        (self.raw.error != 0).then_some(self.raw.error)
    }

    /// Whether the file is longer than what is passed.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_whole(file: Entry) -> bool {
    ///     !file.is_cut()
    /// }
    /// # let node = Node::new().file("/a", "").file("/b", vec![0; 5 << 20]);
    /// # planned!(node, |view, _| {
    /// #     assert!(is_whole(view.file("/a").unwrap()) && !is_whole(view.file("/b").unwrap()));
    /// # });
    /// ```
    pub fn is_cut(&self) -> bool {
        self.raw.flags & 1 != 0
    }
}
