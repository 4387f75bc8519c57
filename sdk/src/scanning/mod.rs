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
    fn outline(&mut self) -> Result<Outline>;

    /// A pass over all files begins.
    fn begin(&mut self, _kind: ScanKind) -> Result<()> {
        Ok(())
    }

    /// Judges files, and nothing but the files of the batch. The findings of a file are all that there are
    /// of it: those from before that are not among them are over. What is found of a file that goes on in
    /// the next batch is held back until its last piece, see [`File::is_last`].
    ///
    /// An error is a failed call: the files are passed again, to a fresh instance. About a file that the
    /// plugin cannot make sense of, say so in a finding, or nothing.
    fn scan(&mut self, _batch: &Batch, _out: &mut Findings) -> Result<()> {
        Ok(())
    }

    /// The pass is over. If it is `complete`, every file was passed or has not changed. The findings are
    /// all that are of the pass as a whole, such as files that are gone.
    fn end(&mut self, _complete: bool, _out: &mut Findings) -> Result<()> {
        Ok(())
    }

    /// Judges the node as it is. The findings are all that there are.
    fn assess(&mut self, _view: &View, _out: &mut Findings) -> Result<()> {
        Ok(())
    }
}
