//! One look at a folder of manifests: which files are there, what they declare, and what that means
//! given what they declared before. Reads only files that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use super::directory::Rules;
use super::policy_file::PolicyFile;
use super::{Accepted, Declared, Desired, ModuleFile};
use crate::manifest::{self, Document, Identity, MAX_FILE_BYTES, Manifest, Origin, Policy, Reason};

/// More files than this are not looked at.
const MAX_FILES: usize = 4096;
/// A module's file may be this long.
const MAX_MODULE_BYTES: u64 = 512 << 20;
/// A file that changed this recently may change again without its time moving on.
const SETTLED: Duration = Duration::from_millis(100);

/// Tells a file's content from an earlier one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What was read, and the stamp that vouches for it; none if the file had changed just before.
struct Cached<T> {
    stamp: Option<Stamp>,
    value: T,
}

impl<T> Cached<T> {
    fn new(metadata: &Metadata, value: T) -> Self {
        let age = metadata
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Self {
            stamp: age
                .is_some_and(|age| age >= SETTLED)
                .then(|| Stamp::of(metadata)),
            value,
        }
    }

    fn vouches(&self, metadata: &Metadata) -> bool {
        self.stamp == Some(Stamp::of(metadata))
    }
}

/// What a manifest's file says.
#[derive(Default)]
struct Content {
    manifests: Vec<Arc<Manifest>>,
    /// Refused documents whose identity could be read.
    refused: Vec<(Identity, Vec<manifest::Error>)>,
    /// Errors of which nobody knows whose they are.
    anonymous: Vec<manifest::Error>,
    hints: Vec<manifest::Error>,
    /// Whether a document says that it is no plugin any more.
    dismissed: bool,
}

struct Known {
    cached: Cached<Content>,
    /// Of its bytes, if they were read, and the policy is still the one that decided what they mean.
    read: Option<u128>,
    /// Whom this file declared when it was last whole.
    identities: BTreeSet<Identity>,
}

/// Looks at one folder again and again.
pub(super) struct Scanner {
    folder: PathBuf,
    policy: Arc<Policy>,
    policy_file: Option<PolicyFile>,
    labels: Arc<BTreeMap<String, String>>,
    files: BTreeMap<PathBuf, Known>,
    modules: BTreeMap<PathBuf, Cached<Result<[u8; 32], String>>>,
    /// Whether something was found that a watch on the folder does not see change.
    pub(super) needs_polling: bool,
}

impl Scanner {
    pub(super) fn new(folder: PathBuf, rules: Rules) -> Self {
        let base = rules.policy.clone();
        let policy_file = rules.policy_file;
        Self {
            folder,
            policy: rules.policy.into(),
            policy_file: policy_file.map(|path| PolicyFile::new(path, base)),
            labels: rules.labels.into(),
            files: BTreeMap::new(),
            modules: BTreeMap::new(),
            needs_polling: false,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Files outside of the folder to watch for: modules, and the policy.
    pub(super) fn other_files(&self) -> impl Iterator<Item = &Path> {
        let policy = self.policy_file.iter().map(PolicyFile::path);
        self.modules.keys().map(PathBuf::as_path).chain(policy)
    }

    /// Reads everything anew at the next look, whatever the files' stamps say.
    pub(super) fn forget_stamps(&mut self) {
        for known in self.files.values_mut() {
            known.cached.stamp = None;
        }
        for module in self.modules.values_mut() {
            module.stamp = None;
        }
    }

    /// What is declared now. A folder that cannot be read leaves all that is known as it is.
    pub(super) fn look(&mut self) -> Desired {
        let mut problems = Vec::new();
        if let Some(policy) = self.policy_file.as_mut().and_then(PolicyFile::look) {
            self.policy = policy.into();
            self.files.values_mut().for_each(|known| known.read = None);
            self.forget_stamps();
        }
        let policy = self.policy_file.iter().flat_map(PolicyFile::errors);
        problems.extend(policy.cloned());
        match self.list() {
            Ok(paths) => {
                if paths.len() > MAX_FILES {
                    problems.push(self.problem(
                        format!("holds {} manifest files", paths.len()),
                        format!("keep at most {MAX_FILES}; the rest is not looked at"),
                    ));
                }
                let paths: BTreeSet<PathBuf> = paths.into_iter().take(MAX_FILES).collect();
                self.files.retain(|path, _| paths.contains(path));
                for path in paths {
                    self.look_at(path);
                }
            }
            Err(error) => problems.push(self.problem(
                format!("cannot be read: {error}"),
                "make it readable again; until then everything stays as it was".to_owned(),
            )),
        }
        self.desired(problems)
    }

    fn problem(&self, problem: String, remedy: String) -> manifest::Error {
        manifest::Error {
            file: self.folder.clone(),
            position: None,
            reason: Reason::Unreadable,
            field: String::new(),
            problem,
            remedy,
        }
    }

    /// The folder's manifest files, sorted.
    fn list(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let mut links = false;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if is_manifest_name(&entry.file_name()) {
                links |= entry.file_type().is_ok_and(|kind| kind.is_symlink());
                paths.push(entry.path());
            }
        }
        self.needs_polling = links;
        paths.sort();
        Ok(paths)
    }

    fn look_at(&mut self, path: PathBuf) {
        let (mut cached, read) = match open(&path) {
            Ok((_, metadata)) if !metadata.is_file() => {
                // Folders and devices with such a name are nobody's manifest.
                self.files.remove(&path);
                return;
            }
            Ok((file, metadata)) => {
                if let Some(known) = self.files.get(&path)
                    && known.cached.vouches(&metadata)
                {
                    return;
                }
                match read(file) {
                    Ok(bytes) => {
                        let hash = Some(xxh3_128(&bytes));
                        // What is the same stays as it is: others hold what it declares, and it may be large.
                        if let Some(known) = self.files.get_mut(&path)
                            && known.read == hash
                        {
                            known.cached.stamp = Cached::new(&metadata, ()).stamp;
                            return;
                        }
                        let content = understand(&path, &bytes, &self.policy);
                        (Cached::new(&metadata, content), hash)
                    }
                    Err(error) => (Cached::new(&metadata, unreadable(&path, &error)), None),
                }
            }
            Err(error) => {
                let value = unreadable(&path, &error);
                (Cached { stamp: None, value }, None)
            }
        };
        let content = &mut cached.value;
        // The beginning of a manifest may be a sound document of another kind.
        let whose = self.files.get(&path).map(|known| &known.identities);
        if let Some(whose) = whose.and_then(|whose| whose.first())
            && content.manifests.is_empty()
            && content.refused.is_empty()
            && content.anonymous.is_empty()
            && !content.dismissed
        {
            content.anonymous.push(manifest::Error {
                file: path.clone(),
                position: None,
                reason: Reason::Syntax,
                field: String::new(),
                problem: format!("declared {whose} before and holds no plugin now, as if cut off"),
                remedy: format!(
                    "write it anew, or to unload the plugin delete the file or set its label {} to \"false\"",
                    manifest::LABEL
                ),
            });
            // This error says it better.
            content.hints.clear();
        }
        let mut identities: BTreeSet<Identity> = content
            .manifests
            .iter()
            .map(|manifest| manifest.identity.clone())
            .chain(content.refused.iter().map(|(identity, _)| identity.clone()))
            .collect();
        if !content.anonymous.is_empty()
            && let Some(known) = self.files.get_mut(&path)
        {
            // Broken: it still stands for whom it declared when it was whole.
            identities.append(&mut known.identities);
        }
        let known = Known {
            cached,
            read,
            identities,
        };
        self.files.insert(path, known);
    }

    /// Puts together what the files say.
    fn desired(&mut self, mut problems: Vec<manifest::Error>) -> Desired {
        let mut declared: BTreeMap<Identity, Vec<Declared>> = BTreeMap::new();
        let mut origins: BTreeMap<Identity, Vec<(PathBuf, usize)>> = BTreeMap::new();
        let mut modules = BTreeMap::new();
        for (path, known) in &self.files {
            let content = &known.cached.value;
            problems.extend(content.hints.iter().cloned());
            for manifest in &content.manifests {
                let accepted = accept(manifest, &mut self.modules, &mut modules);
                let document = match manifest.origin {
                    Origin::File { document, .. } => document,
                    Origin::ConfigMap { .. } => 0,
                };
                let origin = (path.clone(), document);
                origins
                    .entry(manifest.identity.clone())
                    .or_default()
                    .push(origin);
                declared
                    .entry(manifest.identity.clone())
                    .or_default()
                    .push(accepted);
            }
            for (identity, errors) in &content.refused {
                let refused = Declared::refused(errors.clone());
                origins
                    .entry(identity.clone())
                    .or_default()
                    .push((path.clone(), 0));
                declared.entry(identity.clone()).or_default().push(refused);
            }
        }
        // Broken files stand for those that nobody else declares.
        for known in self.files.values() {
            let errors = &known.cached.value.anonymous;
            if errors.is_empty() {
                continue;
            }
            let mut spoken_for = false;
            for identity in &known.identities {
                if !origins.contains_key(identity) {
                    spoken_for = true;
                    let refused = Declared::refused(errors.clone());
                    declared.insert(identity.clone(), vec![refused]);
                }
            }
            if !spoken_for {
                problems.extend(errors.iter().cloned());
            }
        }
        self.modules = modules;
        let mut elsewhere = BTreeSet::new();
        let plugins = declared
            .into_iter()
            .filter_map(|(identity, mut entries)| {
                let declared = match entries.len() {
                    0 => return None,
                    1 => entries.remove(0),
                    _ => {
                        let origins = origins.remove(&identity).unwrap_or_default();
                        Declared::refused(doubled(&identity, &origins, entries))
                    }
                };
                if let Declared::Accepted(accepted) = &declared
                    && !accepted.manifest.spec.is_for(&self.labels)
                {
                    elsewhere.insert(identity);
                    return None;
                }
                Some((identity, declared))
            })
            .collect();
        Desired {
            plugins,
            elsewhere,
            problems,
            policy: self.policy.clone(),
            labels: self.labels.clone(),
            ..Desired::default()
        }
    }
}

/// Whether a file of this name is read. Hidden files are editors' and kubelet's.
pub(super) fn is_manifest_name(name: &OsStr) -> bool {
    let path = Path::new(name);
    !name.as_encoded_bytes().starts_with(b".")
        && path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

/// Opens without waiting: a FIFO must not stop the source.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn unreadable(path: &Path, error: &io::Error) -> Content {
    Content {
        anonymous: vec![manifest::Error {
            file: path.to_owned(),
            position: None,
            reason: Reason::Unreadable,
            field: String::new(),
            problem: format!("cannot be read: {error}"),
            remedy: "make it readable, or delete it".to_owned(),
        }],
        ..Content::default()
    }
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn understand(path: &Path, bytes: &[u8], policy: &Policy) -> Content {
    // Whatever a file holds, it must not end the source of all others.
    let Ok(documents) = std::panic::catch_unwind(|| manifest::read(path, bytes)) else {
        let error = io::Error::other("it made the parser fail, which is a fault of the daemon");
        return unreadable(path, &error);
    };
    let mut content = Content::default();
    for document in documents {
        match document {
            Document::Manifest(manifest) => {
                let refusals = policy.check(&manifest);
                if refusals.is_empty() {
                    content.manifests.push(Arc::new(*manifest));
                } else {
                    content.refused.push((manifest.identity, refusals));
                }
            }
            Document::Refused {
                identity: Some(identity),
                errors,
            } => content.refused.push((identity, errors)),
            Document::Refused {
                identity: None,
                errors,
            } => content.anonymous.extend(errors),
            Document::Ignored {
                note,
                hint,
                dismissed,
            } => {
                content.dismissed |= dismissed;
                tracing::debug!(file = %path.display(), note, "document ignored");
                content.hints.extend(hint);
            }
        }
    }
    content
}

/// Adds the module's file. `before` are the modules of the last look, `now` those of this one.
fn accept(
    manifest: &Arc<Manifest>,
    before: &mut BTreeMap<PathBuf, Cached<Result<[u8; 32], String>>>,
    now: &mut BTreeMap<PathBuf, Cached<Result<[u8; 32], String>>>,
) -> Declared {
    let Some(path) = manifest.module_file() else {
        return Declared::Accepted(Accepted {
            manifest: Arc::clone(manifest),
            module_file: None,
            suspended: None,
        });
    };
    let module = now
        .entry(path.clone())
        .or_insert_with(|| hash_module(&path, before.remove(&path)));
    match &module.value {
        Ok(content) => Declared::Accepted(Accepted {
            manifest: Arc::clone(manifest),
            module_file: Some(ModuleFile {
                path,
                content: *content,
            }),
            suspended: None,
        }),
        Err(problem) => Declared::refused(vec![manifest.refuse(
            Reason::Unreadable,
            "module.file.path",
            format!("{} {problem}", path.display()),
            "put the module there; an earlier revision keeps running",
        )]),
    }
}

type Hashed = Cached<Result<[u8; 32], String>>;

fn hash_module(path: &Path, before: Option<Hashed>) -> Hashed {
    let failed = |problem: String| Cached {
        stamp: None,
        value: Err(problem),
    };
    let (file, metadata) = match open(path) {
        Ok(opened) => opened,
        Err(error) => return failed(format!("cannot be read: {error}")),
    };
    if !metadata.is_file() {
        return failed("is not a plain file".to_owned());
    }
    if let Some(before) = before
        && before.vouches(&metadata)
    {
        return before;
    }
    if metadata.len() > MAX_MODULE_BYTES {
        return failed(format!("is longer than {MAX_MODULE_BYTES} bytes"));
    }
    let mut hash = Sha256::new();
    match io::copy(&mut file.take(MAX_MODULE_BYTES), &mut HashWriter(&mut hash)) {
        Ok(_) => Cached::new(&metadata, Ok(hash.finalize().into())),
        Err(error) => failed(format!("cannot be read: {error}")),
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One error for each place that declares `identity`, naming another one; then what else is wrong.
///
/// None of them wins: which one would, after a restart, would hang on the files' names.
fn doubled(
    identity: &Identity,
    origins: &[(PathBuf, usize)],
    entries: Vec<Declared>,
) -> Vec<manifest::Error> {
    let mut errors: Vec<manifest::Error> = origins
        .iter()
        .enumerate()
        .filter_map(|(i, (file, _))| {
            let (other, document) = origins.get(usize::from(i == 0))?;
            let other = if other == file {
                format!("this file once more (document {})", document + 1)
            } else {
                other.display().to_string()
            };
            Some(manifest::Error {
                file: file.clone(),
                position: None,
                reason: Reason::DuplicateIdentity,
                field: "metadata.name".to_owned(),
                problem: format!("{identity} is also declared by {other}"),
                remedy: "rename or delete one of them".to_owned(),
            })
        })
        .collect();
    for entry in entries {
        if let Declared::Refused { errors: more, .. } = entry {
            errors.extend(more);
        }
    }
    errors
}
