//! Compiled code on disk, so that a module is compiled once on a node.
//!
//! Compiled code is trusted: it runs outside the sandbox. So it comes from this daemon's compiler
//! only, lies in a folder that only this user can write, and is checked against a checksum before
//! it is mapped, because a torn write or a bad disk must not become machine code.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use wasmtime::Engine;
use wasmtime::component::Component;
use xxhash_rust::xxh3::Xxh3Default;

use super::compile::{CompileError, Compiler};
use super::fetch::{Digest, Module};

/// Entries kept; the least recently used go first.
const ENTRIES: usize = 64;
/// How files of compiled code are called.
pub(crate) const SUFFIX: &str = "cwasm";

/// Why a module has no compiled form.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Not a valid component, or the compiler failed.
    #[error("module: the component with SHA-256 {digest} does not compile: {reason}")]
    Compile {
        /// Of the module.
        digest: Digest,
        /// What the compiler said.
        reason: CompileError,
    },
    /// The cache folder can be written by others.
    #[error(
        "the cache folder {} belongs to another user or can be written by others; compiled code in it would run as this user: make it yours with mode 0700",
        path.display()
    )]
    Exposed {
        /// The folder.
        path: PathBuf,
    },
    /// The cache folder cannot be made.
    #[error("cannot use the cache folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The cache of one engine.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    /// Of the engine: its version, its settings and the CPU's features.
    compatibility: u64,
    compiler: Compiler,
    /// Held by who compiles: one compilation takes every core, and a manifest that changes faster
    /// than its module compiles must not pile up more and more of them.
    compiling: Arc<Mutex<()>>,
}

impl Cache {
    /// Opens the cache in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be used, or others can write it.
    pub fn open(folder: PathBuf, engine: &Engine, compiler: Compiler) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Folder {
            path: folder.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed)?;
        let metadata = fs::metadata(&folder).map_err(failed)?;
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user || metadata.mode() & 0o022 != 0 {
            return Err(CacheError::Exposed { path: folder });
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            folder,
            compatibility: hasher.finish(),
            compiler,
            compiling: Arc::default(),
        })
    }

    /// Where modules are compiled.
    pub(crate) fn compiler(&self) -> Compiler {
        self.compiler
    }

    /// The compiled form of `module`: from the cache, or compiled now and kept.
    /// Takes about a millisecond per KiB of module if it compiles, so not for async code.
    ///
    /// # Errors
    /// If the module is not a valid component. A cache that cannot be written only costs time.
    pub fn get(&self, engine: &Engine, module: &Module) -> Result<Component, CacheError> {
        let prefix = self.prefix(module.digest);
        if let Some(component) = self.load(engine, &prefix) {
            return Ok(component);
        }
        let _one_at_a_time = self
            .compiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Whoever was first may have made what we want.
        if let Some(component) = self.load(engine, &prefix) {
            return Ok(component);
        }
        let failed = |reason| CacheError::Compile {
            digest: module.digest,
            reason,
        };
        // What is compiled is kept under its digest for ever, and bundled modules were not looked at before.
        if Digest::of(&module.bytes) != module.digest {
            let why = "its bytes are not those any more that they were: a disk or the memory fails";
            return Err(failed(CompileError::Interrupted(why.to_owned())));
        }
        let code = self
            .compiler
            .compile(engine, &module.bytes)
            .map_err(failed)?;
        if let Err(error) = self.store(&prefix, &code) {
            tracing::warn!(
                folder = %self.folder.display(),
                "cannot keep compiled code, it will be compiled again at the next start: {error}"
            );
        }
        // Mapped from the file, code is shared with the page cache and costs a plugin a fraction.
        if let Some(component) = self.load(engine, &prefix) {
            return Ok(component);
        }
        from_memory(engine, &code)
            .map_err(|error| failed(CompileError::Failed(format!("{error:#}"))))
    }

    /// The compiled form of the module with this digest, if it is here.
    pub fn find(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        self.load(engine, &self.prefix(digest))
    }

    fn prefix(&self, digest: Digest) -> String {
        format!("{digest}-{:016x}-", self.compatibility)
    }

    /// Finds an entry by its name's start; whatever is broken is removed.
    fn load(&self, engine: &Engine, prefix: &str) -> Option<Component> {
        for entry in fs::read_dir(&self.folder).ok()?.flatten() {
            let name = entry.file_name();
            let Some(checksum) = name
                .to_str()
                .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(SUFFIX))
                .and_then(|hex| u128::from_str_radix(hex.trim_end_matches('.'), 16).ok())
            else {
                continue;
            };
            let path = entry.path();
            if checksum_of(&path).ok() == Some(checksum)
                && let Some(component) = deserialize(engine, &path)
            {
                let now = SystemTime::now();
                let _ = File::open(&path).and_then(|file| file.set_modified(now));
                return Some(component);
            }
            tracing::warn!(entry = %path.display(), "threw away a broken entry of the code cache");
            let _ = fs::remove_file(&path);
        }
        None
    }

    fn store(&self, prefix: &str, code: &[u8]) -> io::Result<()> {
        let mut hasher = Xxh3Default::new();
        hasher.update(code);
        let name = format!("{prefix}{:032x}.{SUFFIX}", hasher.digest128());
        let temporary = self.folder.join(format!(
            ".{name}.{}.{:x}",
            std::process::id(),
            fastrand::u64(..)
        ));
        let written = (|| {
            let mut file = File::create_new(&temporary)?;
            file.write_all(code)?;
            file.sync_all()?;
            crate::failpoint::hit("cache.before-rename");
            fs::rename(&temporary, self.folder.join(&name))?;
            File::open(&self.folder)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        self.evict();
        written
    }

    /// Removes the least recently used entries, and what a crash left half-written.
    fn evict(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut kept: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .filter(|(modified, path)| {
                let finished = path.extension() == Some(OsStr::new(SUFFIX));
                let old = modified.elapsed().is_ok_and(|age| age.as_secs() > 3600);
                if !finished && old {
                    let _ = fs::remove_file(path);
                }
                finished
            })
            .collect();
        kept.sort();
        let excess = kept.len().saturating_sub(ENTRIES);
        for (_, path) in kept.drain(..excess) {
            let _ = fs::remove_file(path);
        }
    }
}

fn checksum_of(path: &Path) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.digest128());
        }
        hasher.update(&buffer[..count]);
    }
}

#[allow(
    unsafe_code,
    reason = "see SAFETY; with `from_memory` the only place in the daemon that takes compiled code"
)]
fn deserialize(engine: &Engine, path: &Path) -> Option<Component> {
    // SAFETY: the bytes must be what the compiler made, and must not change while mapped. They lie
    // in a folder that `Cache::open` found writable by this user alone; their checksum, in the
    // file's name, was verified just now; and entries are only ever renamed into place and removed,
    // never written again.
    unsafe { Component::deserialize_file(engine, path) }.ok()
}

#[allow(unsafe_code, reason = "see SAFETY")]
fn from_memory(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must be what the compiler made: they came from it just now, through its
    // return value or a pipe that only this process and its child hold.
    unsafe { Component::deserialize(engine, code) }
}
