//! How the node is, as views over the packed answer: nothing is copied.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::batch::FileKind;
use super::outline::{Names, WantId};
use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;

/// A module of the kernel.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn is_foreign(module: &KernelModule) -> bool {
///     module.out_of_tree || module.unsigned
/// }
/// # assessed!(Node::new().foreign_module("rootkit"), |view, _| assert!(is_foreign(&view.kernel_modules()[0])));
/// ```
pub use raw::KernelModule;

/// What is known of a user's password, which is not it.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn is_open(user: &User) -> bool {
///     user.password == Password::Empty
/// }
/// # let node = Node::new().account("mallory", 1000, Password::Empty);
/// # assessed!(node, |view, _| assert!(is_open(view.users().last().unwrap())));
/// ```
pub use raw::Password;

/// A process.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn is_gone(process: &Process) -> bool {
///     process.executable_deleted || process.executable.starts_with("/tmp/")
/// }
/// # assessed!(Node::new().process(4711, "/tmp/x"), |view, _| assert!(is_gone(&view.processes()[0])));
/// ```
pub use raw::Process;

/// An open socket.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn is_open_to_all(socket: &Socket) -> bool {
///     socket.listening && matches!(socket.address.as_str(), "0.0.0.0" | "::")
/// }
/// # let node = Node::new().listener("tcp", "0.0.0.0", 22, None);
/// # assessed!(node, |view, _| assert!(is_open_to_all(&view.sockets()[0])));
/// ```
pub use raw::Socket;

/// A user.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn is_root(user: &User) -> bool {
///     user.uid == 0
/// }
/// # assessed!(Node::new(), |view, _| assert!(is_root(&view.users()[0])));
/// ```
pub use raw::User;

/// How the node is, as far as the plugin wants to see it.
///
/// ```
/// use bulkhead_sdk::scanning::View;
#[doc = include_str!("example.txt")]
/// fn is_randomized(view: &View) -> bool {
///     view.sysctl("kernel.randomize_va_space") == Some("2")
/// }
/// # let node = Node::new().sysctl("kernel.randomize_va_space", "2");
/// # assessed!(node, |outline| { outline.want_sysctl("kernel.randomize_va_space"); }, |view, _| {
/// #     assert!(is_randomized(view));
/// # });
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

    /// The processes, by number.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn runs_what_is_gone(view: &View) -> bool {
    ///     view.processes().iter().any(|process| process.executable_deleted)
    /// }
    /// # assessed!(Node::new().process(1, "/sbin/init"), |view, _| assert!(!runs_what_is_gone(view)));
    /// ```
    pub fn processes(&self) -> &[Process] {
        &self.raw.processes
    }

    /// The process with a number.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn owner<'a>(view: &'a View, socket: &Socket) -> Option<&'a str> {
    ///     Some(view.process(socket.pid?)?.name.as_str())
    /// }
    /// # let node = Node::new().process(812, "/usr/sbin/sshd").listener("tcp", "0.0.0.0", 22, Some(812));
    /// # assessed!(node, |view, _| assert_eq!(owner(view, &view.sockets()[0]), Some("sshd")));
    /// ```
    pub fn process(&self, pid: u32) -> Option<&Process> {
        let processes = &self.raw.processes;
        let index = processes.binary_search_by_key(&pid, |it| it.pid).ok()?;
        processes.get(index)
    }

    /// The open sockets.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn listens(view: &View, port: u16) -> bool {
    ///     view.sockets().iter().any(|socket| socket.listening && socket.port == port)
    /// }
    /// # let node = Node::new().listener("tcp", "0.0.0.0", 22, None);
    /// # assessed!(node, |view, _| assert!(listens(view, 22) && !listens(view, 23)));
    /// ```
    pub fn sockets(&self) -> &[Socket] {
        &self.raw.sockets
    }

    /// The users.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn roots(view: &View) -> usize {
    ///     view.users().iter().filter(|user| user.uid == 0).count()
    /// }
    /// # assessed!(Node::new().account("mallory", 0, Password::Set), |view, _| assert_eq!(roots(view), 2));
    /// ```
    pub fn users(&self) -> &[User] {
        &self.raw.users
    }

    /// The kernel's modules, loaded or built in.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_tainted(view: &View) -> bool {
    ///     view.kernel_modules().iter().any(|module| module.out_of_tree || module.unsigned)
    /// }
    /// # assessed!(Node::new().foreign_module("rootkit"), |view, _| assert!(is_tainted(view)));
    /// ```
    pub fn kernel_modules(&self) -> &[KernelModule] {
        &self.raw.kernel_modules
    }

    /// A kernel setting, by the name that it was wanted by. None if there is no such setting, or it was
    /// not wanted.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn forwards(view: &View) -> bool {
    ///     view.sysctl("net.ipv4.ip_forward") == Some("1")
    /// }
    /// # let node = Node::new().sysctl("net.ipv4.ip_forward", "1");
    /// # assessed!(node, |outline| { outline.want_sysctl("net.ipv4.ip_forward"); }, |view, _| assert!(forwards(view)));
    /// ```
    pub fn sysctl(&self, name: &str) -> Option<&str> {
        let sysctl = self.raw.sysctls.iter().find(|it| it.name == name)?;
        sysctl.value.as_deref()
    }

    /// What is at `path`; that nothing is there among it. None if the plugin did not want to see it, or
    /// wanted it by a glob and it is not there.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn exposes_its_runtime(view: &View) -> bool {
    ///     let socket = view.file("/run/containerd/containerd.sock");
    ///     socket.is_some_and(|socket| socket.mode() & 0o006 != 0)
    /// }
    /// # let path = "/run/containerd/containerd.sock";
    /// # let node = Node::new().special(path, FileKind::Socket).mode(path, 0o666);
    /// # assessed!(node, |view, _| assert!(exposes_its_runtime(view)));
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
    /// fn open_to_all(view: &View, configuration: WantId) -> usize {
    ///     view.files(configuration).filter(|file| file.mode() & 0o002 != 0).count()
    /// }
    /// # let node = Node::new().file("/etc/a.conf", "").file("/etc/b.conf", "").mode("/etc/b.conf", 0o666);
    /// # assessed!(node, |outline| { let configuration = outline.want_entry("/etc/*.conf"); }, move |view, _| {
    /// #     assert_eq!(open_to_all(view, configuration), 1);
    /// # });
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

    /// A fact about the node, for example `os.id`, or a label of it, as `labels.NAME`. None without
    /// the grant `nodeFacts`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_debian(view: &View) -> bool {
    ///     view.fact("os.id") == Some("debian")
    /// }
    /// # assessed!(Node::new().fact("os.id", "debian"), |view, _| assert!(is_debian(view)));
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
    /// # assessed!(node, |view, _| assert_eq!(labels(view), 1));
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

/// One file, folder, link, or that there is none.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn is_private(file: Entry) -> bool {
///     file.kind() == Some(FileKind::File) && file.mode() & 0o077 == 0
/// }
/// # let node = Node::new().file("/key", "").mode("/key", 0o600);
/// # assessed!(node, |view, _| assert!(is_private(view.file("/key").unwrap())));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    view: &'a View,
    raw: &'a raw::Entry,
}

impl<'a> Entry<'a> {
    /// Its path: any bytes but 0.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_hidden(file: Entry) -> bool {
    ///     file.path_bytes().rsplit(|&byte| byte == b'/').next().is_some_and(|name| name.starts_with(b"."))
    /// }
    /// # assessed!(Node::new().file("/tmp/.x", ""), |view, _| assert!(is_hidden(view.file("/tmp/.x").unwrap())));
    /// ```
    pub fn path_bytes(&self) -> &'a [u8] {
        self.view.span(self.raw.path_offset, self.raw.path_length)
    }

    /// Its path for people: what is not UTF-8 is replaced.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn report(file: Entry, out: &mut Findings) {
    ///     out.path(file.path(), "mode").message("everybody may write it");
    /// }
    /// # let found = assessed!(Node::new().file("/a", ""), |view, out| report(view.file("/a").unwrap(), out));
    /// # assert_eq!(found.subjects("mode"), ["/a"]);
    /// ```
    pub fn path(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.path_bytes())
    }

    /// What it is; none if nothing is there.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_there(file: Entry) -> bool {
    ///     file.kind().is_some()
    /// }
    /// # assessed!(Node::new(), |outline| { outline.want_entry("/a"); }, |view, _| {
    /// #     assert!(!is_there(view.file("/a").unwrap()));
    /// # });
    /// ```
    pub fn kind(&self) -> Option<FileKind> {
        self.raw.kind
    }

    /// What is in the file; empty if that was not wanted, or could not be read.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn lines(file: Entry) -> usize {
    ///     file.content().split(|&byte| byte == b'\n').count()
    /// }
    /// # assessed!(Node::new().file("/a", "one\ntwo"), |view, _| assert_eq!(lines(view.file("/a").unwrap()), 2));
    /// ```
    pub fn content(&self) -> &'a [u8] {
        match self.raw.kind {
            Some(FileKind::File) => self.view.span(self.raw.offset, self.raw.length),
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
    /// # assessed!(Node::new().file("/a", "").unreadable("/b", 5), |view, _| {
    /// #     assert!(is_empty(view.file("/a").unwrap()) && !is_empty(view.file("/b").unwrap()));
    /// # });
    /// ```
    pub fn text(&self) -> Option<&'a str> {
        let whole = self.kind() == Some(FileKind::File) && self.error().is_none() && !self.is_cut();
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
    /// # assessed!(node, |view, _| assert!(is_in_utc(view.file("/etc/localtime").unwrap())));
    /// ```
    pub fn target(&self) -> Option<&'a str> {
        let target = self.view.span(self.raw.offset, self.raw.length);
        let is_link = self.kind() == Some(FileKind::Symlink);
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
    /// # assessed!(node, |view, _| assert!(is_open_to_all(view.file("/a").unwrap())));
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
    /// # assessed!(node, |view, _| assert!(!is_roots(view.file("/a").unwrap())));
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
    /// # assessed!(node, |view, _| assert!(is_of_roots_group(view.file("/a").unwrap())));
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
    /// # assessed!(node, |view, _| assert!(is_large(view.file("/a").unwrap())));
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
    /// # assessed!(node, |view, _| assert!(!is_newer(view.file("/a").unwrap(), view.file("/b").unwrap())));
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
    /// # assessed!(Node::new().unreadable("/a", 13), |view, _| assert!(is_closed(view.file("/a").unwrap())));
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
    /// # assessed!(node, |view, _| {
    /// #     assert!(is_whole(view.file("/a").unwrap()) && !is_whole(view.file("/b").unwrap()));
    /// # });
    /// ```
    pub fn is_cut(&self) -> bool {
        self.raw.flags & 1 != 0
    }
}
