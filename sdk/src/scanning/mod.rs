//! The role `scanning`: what there is on the node in, findings out.

mod batch;
mod findings;
mod outline;
mod view;

pub use crate::enforcement::Severity;
pub use batch::{Attributes, Batch, File, FileKind, Files, Piece};
pub use findings::{Finding, Findings};
pub(crate) use outline::Names;
pub use outline::{FileInterest, Outline, Rule, WantId};
pub use view::{Entry, KernelModule, Password, Process, Socket, User, View};

use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;
use crate::error::Result;
use crate::plugin::Plugin;

/// Which pass it is, as [`Scanning::begin`] is told.
///
/// ```
/// use bulkhead_sdk::scanning::ScanKind;
/// # use bulkhead_sdk::scanning::Outline;
/// use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning, testing::{Harness, Node}};
///
/// struct Watchman {
///     pass: Option<ScanKind>,
/// }
/// # impl Plugin for Watchman {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self> { Ok(Watchman { pass: None }) }
/// # }
/// impl Scanning for Watchman {
/// #   fn outline(&mut self) -> Result<Outline> { Ok(Outline::new()) }
///     fn begin(&mut self, kind: ScanKind) -> Result<()> {
///         self.pass = Some(kind);
///         Ok(())
///     }
///     fn end(&mut self, complete: bool, out: &mut Findings) -> Result<()> {
///         if complete && self.pass == Some(ScanKind::Full) {
///             out.other("pass", "all-files-judged");
///         }
///         Ok(())
///     }
/// }
///
/// // The harness makes full passes.
/// let found = Harness::<Watchman>::new("{}")?.scan(&Node::new())?;
/// assert_eq!(found.subjects("all-files-judged"), ["pass"]);
/// # Result::<()>::Ok(())
/// ```
pub use raw::ScanKind;

/// A plugin that judges what there is on the node.
///
/// The host walks the node's files, watches them, and passes their bytes and what is known of them; it
/// shows processes, sockets, users and settings. The plugin opens nothing itself. Implement what it uses:
/// [`Self::scan`] for files, [`Self::assess`] for the node as it is.
///
/// ```
/// use bulkhead_sdk::scanning::{Batch, FileInterest, Outline, Password, Rule, Severity, View};
/// use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning};
///
/// struct Watchman;
///
/// impl Plugin for Watchman {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Watchman)
///     }
/// }
///
/// impl Scanning for Watchman {
///     fn outline(&mut self) -> Result<Outline> {
///         let mut outline = Outline::new();
///         outline.rule(Rule::new("miner", "A file is a miner").severity(Severity::Critical));
///         outline.rule(Rule::new("open-door", "A user has an empty password"));
///         outline.files(FileInterest::content(1 << 20));
///         outline.rule_set("stratum+tcp://");
///         outline.want_users();
///         Ok(outline)
///     }
///
///     fn scan(&mut self, batch: &Batch, out: &mut Findings) -> Result<()> {
///         for file in batch {
///             for piece in file.pieces() {
///                 let mut windows = piece.bytes().windows(14);
///                 if let Some(at) = windows.position(|window| window == b"stratum+tcp://") {
///                     out.file(&file, "miner")
///                         .message("names a pool of miners")
///                         .evidence("offset", piece.position() + at as u64);
///                 }
///             }
///         }
///         Ok(())
///     }
///
///     fn assess(&mut self, view: &View, out: &mut Findings) -> Result<()> {
///         for user in view.users().iter().filter(|user| user.password == Password::Empty) {
///             out.other(format!("user/{}", user.name), "open-door")
///                 .message(format!("{} logs in without a password", user.name));
///         }
///         Ok(())
///     }
/// }
/// bulkhead_sdk::export!(Watchman: Scanning);
///
/// use bulkhead_sdk::testing::{Harness, Node};
/// let node = Node::new()
///     .file("/tmp/x", "pool=stratum+tcp://pool:3333")
///     .account("mallory", 1000, Password::Empty);
/// let mut plugin = Harness::<Watchman>::new("{}")?;
/// let found = plugin.scan(&node)?;
/// assert_eq!(found.subjects("miner"), ["/tmp/x"]);
/// assert_eq!(found.all()[0].evidence["offset"], 5);
/// assert_eq!(plugin.assess(&node)?.subjects("open-door"), ["user/mallory"]);
/// # Result::<()>::Ok(())
/// ```
pub trait Scanning: Plugin {
    /// The rules that the plugin stands for, and what it wants to see. Asked once, before all else.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::{Outline, Rule, Severity};
    /// use bulkhead_sdk::{NoConfig, Plugin, Result, Scanning, testing::{Harness, Node}};
    /// # use bulkhead_sdk::{Findings, scanning::View};
    ///
    /// struct Doors;
    /// # impl Plugin for Doors {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Doors) }
    /// # }
    /// impl Scanning for Doors {
    ///     fn outline(&mut self) -> Result<Outline> {
    ///         let mut outline = Outline::new();
    ///         outline.rule(Rule::new("telnet", "Telnet is open").severity(Severity::High));
    ///         outline.want_sockets();
    ///         Ok(outline)
    ///     }
    /// #   fn assess(&mut self, view: &View, out: &mut Findings) -> Result<()> {
    /// #       for socket in view.sockets().iter().filter(|socket| socket.port == 23) {
    /// #           out.other(format!("socket/{}", socket.port), "telnet");
    /// #       }
    /// #       Ok(())
    /// #   }
    /// }
    ///
    /// let node = Node::new().listener("tcp", "0.0.0.0", 23, None);
    /// let found = Harness::<Doors>::new("{}")?.assess(&node)?;
    /// assert_eq!(found.all()[0].severity, Severity::High);
    /// # Result::<()>::Ok(())
    /// ```
    fn outline(&mut self) -> Result<Outline>;

    /// A pass over all files begins.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::{Batch, ScanKind};
    /// # use bulkhead_sdk::scanning::{FileInterest, Outline};
    /// use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning, testing::{Harness, Node}};
    ///
    /// #[derive(Default)]
    /// struct Counter {
    ///     files: usize,
    /// }
    /// # impl Plugin for Counter {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Counter::default()) }
    /// # }
    /// impl Scanning for Counter {
    ///     fn begin(&mut self, _: ScanKind) -> Result<()> {
    ///         self.files = 0;
    ///         Ok(())
    ///     }
    /// #   fn outline(&mut self) -> Result<Outline> {
    /// #       let mut outline = Outline::new();
    /// #       outline.files(FileInterest::entries());
    /// #       outline.rule_set("1");
    /// #       Ok(outline)
    /// #   }
    ///     fn scan(&mut self, batch: &Batch, _: &mut Findings) -> Result<()> {
    ///         self.files += batch.len();
    ///         Ok(())
    ///     }
    ///     fn end(&mut self, _: bool, out: &mut Findings) -> Result<()> {
    ///         out.other("pass", "files").evidence("files", self.files);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Node::new().file("/a", "").file("/b", "");
    /// let mut plugin = Harness::<Counter>::new("{}")?;
    /// plugin.scan(&node)?;
    /// assert_eq!(plugin.scan(&node)?.all()[0].evidence["files"], 2);
    /// # Result::<()>::Ok(())
    /// ```
    fn begin(&mut self, _kind: ScanKind) -> Result<()> {
        Ok(())
    }

    /// Judges files, and nothing but the files of the batch. The findings of a file are all that there are
    /// of it: those from before that are not among them are over. What is found of a file that goes on in
    /// the next batch is held back until its last piece, see [`File::is_last`].
    ///
    /// An error is a failed call: the files are passed again, to a fresh instance. About a file that the
    /// plugin cannot make sense of, say so in a finding, or nothing.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::Batch;
    /// # use bulkhead_sdk::scanning::{FileInterest, Outline};
    /// use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning, testing::{Harness, Node}};
    ///
    /// struct Suid;
    /// # impl Plugin for Suid {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Suid) }
    /// # }
    /// impl Scanning for Suid {
    /// #   fn outline(&mut self) -> Result<Outline> {
    /// #       let mut outline = Outline::new();
    /// #       outline.files(FileInterest::entries());
    /// #       outline.rule_set("1");
    /// #       Ok(outline)
    /// #   }
    ///     fn scan(&mut self, batch: &Batch, out: &mut Findings) -> Result<()> {
    ///         for file in batch.files().filter(|file| file.mode() & 0o4000 != 0) {
    ///             out.file(&file, "suid").message("runs as its owner");
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Node::new().file("/usr/bin/su", "").mode("/usr/bin/su", 0o4755).file("/usr/bin/ls", "");
    /// let found = Harness::<Suid>::new("{}")?.scan(&node)?;
    /// assert_eq!(found.subjects("suid"), ["/usr/bin/su"]);
    /// # Result::<()>::Ok(())
    /// ```
    fn scan(&mut self, _batch: &Batch, _out: &mut Findings) -> Result<()> {
        Ok(())
    }

    /// The pass is over. If it is `complete`, every file was passed or has not changed. The findings are
    /// all that are of the pass as a whole, such as files that are gone.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::Batch;
    /// # use bulkhead_sdk::scanning::{FileInterest, Outline};
    /// use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning, testing::{Harness, Node}};
    ///
    /// #[derive(Default)]
    /// struct Sudo {
    ///     seen: bool,
    /// }
    /// # impl Plugin for Sudo {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Sudo::default()) }
    /// # }
    /// impl Scanning for Sudo {
    /// #   fn outline(&mut self) -> Result<Outline> {
    /// #       let mut outline = Outline::new();
    /// #       outline.files(FileInterest::entries());
    /// #       outline.rule_set("1");
    /// #       Ok(outline)
    /// #   }
    ///     fn scan(&mut self, batch: &Batch, _: &mut Findings) -> Result<()> {
    ///         self.seen |= batch.files().any(|file| file.path() == b"/usr/bin/sudo");
    ///         Ok(())
    ///     }
    ///     fn end(&mut self, complete: bool, out: &mut Findings) -> Result<()> {
    ///         if complete && !self.seen {
    ///             out.path("/usr/bin/sudo", "gone");
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let found = Harness::<Sudo>::new("{}")?.scan(&Node::new().file("/usr/bin/ls", ""))?;
    /// assert_eq!(found.subjects("gone"), ["/usr/bin/sudo"]);
    /// # assert!(Harness::<Sudo>::new("{}")?.scan(&Node::new().file("/usr/bin/sudo", ""))?.is_empty());
    /// # Result::<()>::Ok(())
    /// ```
    fn end(&mut self, _complete: bool, _out: &mut Findings) -> Result<()> {
        Ok(())
    }

    /// Judges the node as it is. The findings are all that there are.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::{Password, View};
    /// # use bulkhead_sdk::scanning::Outline;
    /// use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning, testing::{Harness, Node}};
    ///
    /// struct Roots;
    /// # impl Plugin for Roots {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Roots) }
    /// # }
    /// impl Scanning for Roots {
    /// #   fn outline(&mut self) -> Result<Outline> {
    /// #       let mut outline = Outline::new();
    /// #       outline.rule_set("1");
    /// #       outline.want_users();
    /// #       Ok(outline)
    /// #   }
    ///     fn assess(&mut self, view: &View, out: &mut Findings) -> Result<()> {
    ///         for user in view.users().iter().filter(|user| user.uid == 0 && user.name != "root") {
    ///             out.other(format!("user/{}", user.name), "uid-0");
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Node::new().account("mallory", 0, Password::Set);
    /// let found = Harness::<Roots>::new("{}")?.assess(&node)?;
    /// assert_eq!(found.subjects("uid-0"), ["user/mallory"]);
    /// # Result::<()>::Ok(())
    /// ```
    fn assess(&mut self, _view: &View, _out: &mut Findings) -> Result<()> {
        Ok(())
    }
}
