//! How the node is, as views over the packed answer: nothing is copied.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::batch::FileKind;
use super::outline::{Names, WantId};
use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;

pub use raw::{KernelModule, Password, Process, Socket, User};

/// How the node is, as far as the plugin wants to see it.
///
/// ```
/// use bulkhead_sdk::scanning::View;
///
/// fn is_randomized(view: &View) -> bool {
///     view.sysctl("kernel.randomize_va_space") == Some("2")
/// }
/// # let _ = is_randomized;
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
    /// # use bulkhead_sdk::scanning::View;
    /// fn runs_what_is_gone(view: &View) -> bool {
    ///     view.processes().iter().any(|process| process.executable_deleted)
    /// }
    /// # let _ = runs_what_is_gone;
    /// ```
    pub fn processes(&self) -> &[Process] {
        &self.raw.processes
    }

    /// The process with a number.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::{Socket, View};
    /// fn owner<'a>(view: &'a View, socket: &Socket) -> Option<&'a str> {
    ///     Some(view.process(socket.pid?)?.name.as_str())
    /// }
    /// # let _ = owner;
    /// ```
    pub fn process(&self, pid: u32) -> Option<&Process> {
        let processes = &self.raw.processes;
        let index = processes.binary_search_by_key(&pid, |it| it.pid).ok()?;
        processes.get(index)
    }

    /// The open sockets.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::View;
    /// fn listens(view: &View, port: u16) -> bool {
    ///     view.sockets().iter().any(|socket| socket.listening && socket.port == port)
    /// }
    /// # let _ = listens;
    /// ```
    pub fn sockets(&self) -> &[Socket] {
        &self.raw.sockets
    }

    /// The users.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::View;
    /// fn roots(view: &View) -> usize {
    ///     view.users().iter().filter(|user| user.uid == 0).count()
    /// }
    /// # let _ = roots;
    /// ```
    pub fn users(&self) -> &[User] {
        &self.raw.users
    }

    /// The kernel's modules, loaded or built in.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::View;
    /// fn is_tainted(view: &View) -> bool {
    ///     view.kernel_modules().iter().any(|module| module.out_of_tree || module.unsigned)
    /// }
    /// # let _ = is_tainted;
    /// ```
    pub fn kernel_modules(&self) -> &[KernelModule] {
        &self.raw.kernel_modules
    }

    /// A kernel setting, by the name that it was wanted by. None if there is no such setting, or it was
    /// not wanted.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::View;
    /// fn forwards(view: &View) -> bool {
    ///     view.sysctl("net.ipv4.ip_forward") == Some("1")
    /// }
    /// # let _ = forwards;
    /// ```
    pub fn sysctl(&self, name: &str) -> Option<&str> {
        let sysctl = self.raw.sysctls.iter().find(|it| it.name == name)?;
        sysctl.value.as_deref()
    }

    /// What is at `path`; that nothing is there among it. None if the plugin did not want to see it, or
    /// wanted it by a glob and it is not there.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::View;
    /// fn exposes_its_runtime(view: &View) -> bool {
    ///     let socket = view.file("/run/containerd/containerd.sock");
    ///     socket.is_some_and(|socket| socket.mode() & 0o006 != 0)
    /// }
    /// # let _ = exposes_its_runtime;
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
    /// # use bulkhead_sdk::scanning::{View, WantId};
    /// fn open_to_all(view: &View, configuration: WantId) -> usize {
    ///     view.files(configuration).filter(|file| file.mode() & 0o002 != 0).count()
    /// }
    /// # let _ = open_to_all;
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
    /// # use bulkhead_sdk::scanning::View;
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
    /// # use bulkhead_sdk::scanning::View;
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

/// One file, folder, link, or that there is none.
///
/// ```
/// # use bulkhead_sdk::scanning::{Entry, FileKind};
/// fn is_private(file: Entry) -> bool {
///     file.kind() == Some(FileKind::File) && file.mode() & 0o077 == 0
/// }
/// # let _ = is_private;
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
    /// # use bulkhead_sdk::scanning::Entry;
    /// fn is_hidden(file: Entry) -> bool {
    ///     file.path_bytes().rsplit(|&byte| byte == b'/').next().is_some_and(|name| name.starts_with(b"."))
    /// }
    /// # let _ = is_hidden;
    /// ```
    pub fn path_bytes(&self) -> &'a [u8] {
        self.view.span(self.raw.path_offset, self.raw.path_length)
    }

    /// Its path for people: what is not UTF-8 is replaced.
    ///
    /// ```
    /// # use bulkhead_sdk::{Findings, scanning::Entry};
    /// fn report(file: Entry, out: &mut Findings) {
    ///     out.path(file.path(), "mode").message("everybody may write it");
    /// }
    /// # let _ = report;
    /// ```
    pub fn path(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.path_bytes())
    }

    /// What it is; none if nothing is there.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Entry;
    /// fn is_there(file: Entry) -> bool {
    ///     file.kind().is_some()
    /// }
    /// # let _ = is_there;
    /// ```
    pub fn kind(&self) -> Option<FileKind> {
        self.raw.kind
    }

    /// What is in the file; empty if that was not wanted, or could not be read.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Entry;
    /// fn lines(file: Entry) -> usize {
    ///     file.content().split(|&byte| byte == b'\n').count()
    /// }
    /// # let _ = lines;
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
    /// # use bulkhead_sdk::scanning::Entry;
    /// fn is_empty(file: Entry) -> bool {
    ///     file.text() == Some("")
    /// }
    /// # let _ = is_empty;
    /// ```
    pub fn text(&self) -> Option<&'a str> {
        let whole = self.kind() == Some(FileKind::File) && self.error().is_none() && !self.is_cut();
        whole.then(|| std::str::from_utf8(self.content()).ok())?
    }

    /// Where a symbolic link points to, as it is written into it, if that is UTF-8.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Entry;
    /// fn is_in_utc(localtime: Entry) -> bool {
    ///     localtime.target() == Some("/usr/share/zoneinfo/Etc/UTC")
    /// }
    /// # let _ = is_in_utc;
    /// ```
    pub fn target(&self) -> Option<&'a str> {
        let target = self.view.span(self.raw.offset, self.raw.length);
        let is_link = self.kind() == Some(FileKind::Symlink);
        is_link.then(|| std::str::from_utf8(target).ok())?
    }

    /// Its permission bits, with set-user-id, set-group-id and sticky.
    ///
    /// ```
    /// # use bulkhead_sdk::scanning::Entry;
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
    /// # use bulkhead_sdk::scanning::Entry;
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
    /// # use bulkhead_sdk::scanning::Entry;
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
    /// # use bulkhead_sdk::scanning::Entry;
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
    /// # use bulkhead_sdk::scanning::Entry;
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
    /// # use bulkhead_sdk::scanning::Entry;
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
    /// # use bulkhead_sdk::scanning::Entry;
    /// fn is_whole(file: Entry) -> bool {
    ///     !file.is_cut()
    /// }
    /// # let _ = is_whole;
    /// ```
    pub fn is_cut(&self) -> bool {
        self.raw.flags & 1 != 0
    }
}
