//! A node in a temporary folder, and what a subscriber is passed of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::manifest::{Budget, ByteSize, CpuShare, NodeGlob, Period, Schedule, Tree};
use crate::role::scanning::feed::{
    Batch, Feed, File, Interest, Message, PassKind, Subscriber, Subscription, Wanted,
};
use crate::sandbox::NodeFolders;

/// Long enough for a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// What was passed of one file.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    pub(super) file: File,
    pub(super) content: Vec<u8>,
    pub(super) digests: Vec<u8>,
    pub(super) attributes: Vec<u8>,
    /// How often.
    pub(super) times: usize,
}

/// What came between a begin and its end.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) kind: PassKind,
    pub(super) resumed: bool,
    pub(super) complete: bool,
    pub(super) files: BTreeMap<Vec<u8>, Passed>,
}

impl Pass {
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.files.keys();
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    pub(super) fn get(&self, path: &str) -> &Passed {
        let found = self.files.get(path.as_bytes());
        found.unwrap_or_else(|| panic!("{path} was not passed, but {:?}", self.names()))
    }
}

/// A node.
pub(super) struct Node {
    pub(super) feed: Feed,
    folders: Folders,
}

/// What outlives a restart.
pub(super) struct Folders {
    root: PathBuf,
    state: TempDir,
    /// The root, unless somebody else made it.
    _made: Option<TempDir>,
    /// Beside the state.
    private: Option<PathBuf>,
}

impl Node {
    pub(super) fn new() -> Self {
        let made = tempfile::tempdir().unwrap();
        Self::on(Folders {
            root: made.path().to_owned(),
            state: tempfile::tempdir().unwrap(),
            _made: Some(made),
            private: None,
        })
    }

    /// Whose root is there already.
    pub(super) fn at(root: PathBuf) -> Self {
        Self::on(Folders {
            root,
            state: tempfile::tempdir().unwrap(),
            _made: None,
            private: None,
        })
    }

    fn on(folders: Folders) -> Self {
        let mut private = vec![folders.state.path().to_owned()];
        private.extend(folders.private.clone());
        let node = NodeFolders {
            root: folders.root.as_path().into(),
            private: private.into(),
        };
        // Without pressure, whatever this machine is under.
        let calm = folders.state.path().join("no-pressure");
        let begun = Instant::now();
        let feed = loop {
            match Feed::with_pressure(&node, folders.state.path(), &calm) {
                Ok(feed) => break feed,
                // The one before has not ended yet.
                Err(error) => {
                    assert!(begun.elapsed() < DEADLINE, "{error}");
                    std::thread::yield_now();
                }
            }
        };
        Self { feed, folders }
    }

    /// Ends the feed and begins another one with the same state.
    pub(super) fn restarted(self) -> Self {
        let Self { feed, folders } = self;
        drop(feed);
        Self::on(folders)
    }

    /// The same, with something done to the state in between.
    pub(super) fn restarted_after(self, act: impl FnOnce()) -> Self {
        let Self { feed, folders } = self;
        let ended = std::sync::Arc::downgrade(&feed.inner.shared);
        drop(feed);
        until("the feed has ended", || ended.strong_count() == 0);
        act();
        Self::on(folders)
    }

    /// With another folder that nobody is shown.
    pub(super) fn with_private(self, folder: PathBuf) -> Self {
        let Self { feed, mut folders } = self;
        drop(feed);
        folders.private = Some(folder);
        Self::on(folders)
    }

    pub(super) fn path(&self, path: impl AsRef<OsStr>) -> PathBuf {
        let path = path.as_ref().as_bytes();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        self.folders.root.join(OsStr::from_bytes(path))
    }

    pub(super) fn root(&self) -> &Path {
        &self.folders.root
    }

    pub(super) fn state(&self) -> &Path {
        self.folders.state.path()
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Waits until what was written last would be told from what is written next.
    pub(super) fn settle(&self) {
        let probe = self.state().join("probe");
        std::fs::write(&probe, "").unwrap();
        let written = std::fs::metadata(&probe).unwrap().modified().unwrap();
        let begun = Instant::now();
        while written.elapsed().unwrap_or_default() < Duration::from_millis(60) {
            assert!(begun.elapsed() < DEADLINE);
            std::thread::yield_now();
        }
    }

    pub(super) fn subscribe(&self, change: impl FnOnce(&mut Subscription)) -> Plugin {
        let mut subscription = Subscription {
            name: "local/scanner".to_owned(),
            roots: vec![Tree::Root],
            exclude: Vec::new(),
            one_file_system: true,
            interest: Interest {
                content: 64 << 20,
                ..Interest::default()
            },
            rule_set: b"rules".to_vec(),
            schedule: Schedule {
                changed: Period::seconds(3600),
                full: Period::seconds(3600),
                assess: Period::seconds(3600),
                real_time: false,
            },
            budget: Budget {
                read: ByteSize::mebibytes(100_000),
                cpu: CpuShare::cores(64),
                yield_to_pressure: false,
            },
        };
        change(&mut subscription);
        let name = subscription.name.clone();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Plugin {
            subscriber: self.feed.subscribe(subscription).unwrap(),
            name,
            feed: self.feed.clone(),
            runtime: runtime.enable_time().build().unwrap(),
            kept: BTreeMap::new(),
        }
    }
}

/// A subscriber.
pub(super) struct Plugin {
    subscriber: Subscriber,
    name: String,
    feed: Feed,
    runtime: Runtime,
    /// What was passed beside what was waited for.
    kept: BTreeMap<Vec<u8>, Passed>,
}

impl Plugin {
    pub(super) fn next(&mut self) -> Message {
        let next = self.next_within(DEADLINE);
        next.expect("a message before the deadline")
    }

    pub(super) fn next_within(&mut self, time: Duration) -> Option<Message> {
        let next = self.subscriber.next();
        let next = self.runtime.block_on(async {
            let timely = tokio::time::timeout(time, next).await;
            timely.ok()
        });
        next.map(|next| next.expect("the feed goes on"))
    }

    /// Everything of the next pass, judged.
    pub(super) fn pass(&mut self) -> Pass {
        self.pass_with(Batch::judged)
    }

    pub(super) fn pass_with(&mut self, mut answer: impl FnMut(Batch)) -> Pass {
        let mut files = BTreeMap::new();
        let mut begun = None;
        loop {
            match self.next() {
                Message::Begin { kind, resumed } => {
                    assert_eq!(begun, None);
                    begun = Some((kind, resumed));
                }
                Message::Batch(batch) => {
                    take(&batch, &mut files);
                    answer(batch);
                }
                Message::End { kind, complete, .. } => {
                    let (began, resumed) = begun.expect("a begin before the end");
                    assert_eq!(began, kind);
                    return Pass {
                        kind,
                        resumed,
                        complete,
                        files,
                    };
                }
            }
        }
    }

    /// The same for one that is asked for.
    pub(super) fn another(&mut self, kind: PassKind) -> Pass {
        self.feed.request(&self.name, kind);
        self.pass()
    }

    /// What is passed of `path` because of an event; other files are judged on the way, and kept.
    pub(super) fn event_of(&mut self, path: &str) -> Passed {
        let begun = Instant::now();
        loop {
            if let Some(passed) = self.kept.remove(path.as_bytes()) {
                return passed;
            }
            assert!(begun.elapsed() < DEADLINE, "{path} was not passed");
            if let Message::Batch(batch) = self.next() {
                take(&batch, &mut self.kept);
                batch.judged();
            }
        }
    }
}

/// Checks what holds for every batch, and adds its files.
pub(super) fn take(batch: &Batch, files: &mut BTreeMap<Vec<u8>, Passed>) {
    assert!(batch.files.len() <= 512 && !batch.files.is_empty());
    let mut before = 0;
    for (index, file) in batch.files.iter().enumerate() {
        let path = batch.span(file.path).to_vec();
        let pieces = batch.pieces.iter().filter(|it| it.file as usize == index);
        let mut pieces = pieces.peekable();
        let continues = pieces.peek().is_some_and(|piece| piece.position > 0);
        let passed = files.entry(path).or_insert_with(|| Passed {
            file: *file,
            content: Vec::new(),
            digests: Vec::new(),
            attributes: Vec::new(),
            times: 0,
        });
        passed.file = *file;
        passed.digests = batch.span(file.digests).to_vec();
        passed.attributes = batch.span(file.attributes).to_vec();
        if !continues {
            passed.times += 1;
            passed.content.clear();
        }
        for piece in pieces {
            assert!(piece.offset >= before, "in order");
            before = piece.offset + piece.length;
            assert_eq!(
                piece.position,
                passed.content.len() as u64,
                "nothing is left out"
            );
            let bytes = batch.span((piece.offset, piece.length));
            passed.content.extend_from_slice(bytes);
        }
    }
}

pub(super) fn all_digests() -> Wanted {
    Wanted {
        sha256: true,
        sha1: true,
        md5: true,
        blake3: true,
    }
}

pub(super) fn globs(texts: &[&str]) -> Vec<NodeGlob> {
    let globs = texts.iter().map(|text| NodeGlob::parse(text));
    globs.map(Result::unwrap).collect()
}

pub(super) fn trees(texts: &[&str]) -> Vec<Tree> {
    let trees = texts.iter().map(|text| Tree::try_from((*text).to_owned()));
    trees.map(Result::unwrap).collect()
}

/// Runs a shell script in a process of its own: what this process does itself is no event.
pub(super) fn shell(script: &str, folder: &Path) {
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
}

/// Looks until it is so.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

/// Tells the part of a test that runs inside where its node's root is.
const ROOT: &str = "BULKHEAD_TEST_NODE_ROOT";

/// Runs the test `name`, which is ignored otherwise, in a mount namespace of its own, after a script there
/// in the node's root. Needs root, and fails without. `outside` runs meanwhile, with the same folder.
pub(super) fn in_private_mounts(name: &str, script: &str, outside: impl FnOnce(&Path, &mut Child)) {
    let root = tempfile::tempdir().unwrap();
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec"])
        .arg(format!(
            "{script}\nexec \"$1\" --exact \"$2\" --ignored --nocapture"
        ))
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .arg(format!("role::scanning::feed::tests::{name}"))
        .env(ROOT, root.path())
        .current_dir(root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare of util-linux");
    outside(root.path(), &mut child);
    let taken = child.stdout.is_none();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // A name that is not that of a test would pass. Whoever took the output has looked at that.
    assert!(taken || said.contains("1 passed"), "{said}");
}

/// The node of the part that runs inside.
pub(super) fn inside() -> Node {
    let root = std::env::var_os(ROOT).expect("to be run by another test");
    Node::at(root.into())
}
