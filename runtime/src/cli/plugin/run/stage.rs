//! The folder that a plugin runs in: its manifest, made from the author's, and the module as it was built last.

use std::fs::DirBuilder;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::cargo;
use super::super::crate_folder::{CrateFolder, SPEC};
use super::super::declared::{Declared, around, name_of};
use super::super::sections::{remove, replace};
use crate::cli::Failed;
use crate::manifest::{self, Document, Manifest, Module, Receives};
use crate::module::{self, Cache, Compiler, Digest};
use crate::sandbox::{Interfaces, Role, Sandbox};

/// The manifest that the daemon reads.
const MANIFEST: &str = "manifests/plugin.yaml";

/// See the module.
pub(super) struct Stage {
    folder: Tidy,
    subject: Subject,
    spec: Option<PathBuf>,
    options: Vec<String>,
    engine: wasmtime::Engine,
    name: String,
    built: Built,
    stamp: u64,
    began: Instant,
    loads: u32,
    /// Nobody listens yet.
    held: bool,
    /// What the daemon was told last.
    declared: Option<Manifest>,
}

/// A module that was built, and compiled to where the daemon finds that.
struct Built {
    digest: Digest,
    /// A module of its own, which does not change while it is read.
    copy: PathBuf,
    roles: Vec<Role>,
}

#[derive(Clone)]
enum Subject {
    Crate(CrateFolder),
    Module(PathBuf),
}

impl Stage {
    /// Builds the crate, if it is one, and writes all that a daemon needs. The plugin is held until it is let go.
    ///
    /// # Errors
    /// If it does not build, or its manifest has faults.
    pub(super) fn set(
        path: &Path,
        manifest: Option<&Path>,
        options: &[String],
    ) -> Result<Self, Failed> {
        let subject = match path.is_file() {
            true => Subject::Module(path.to_owned()),
            false => Subject::Crate(CrateFolder::open(path)?),
        };
        let of_crate = match &subject {
            Subject::Crate(folder) => Some(folder.spec()).filter(|spec| spec.exists()),
            Subject::Module(_) => None,
        };
        let spec = manifest.map(Path::to_owned).or(of_crate);
        let stamp = stamp(&subject, spec.as_deref());
        let began = Instant::now();
        let engine = Sandbox::compiler().map_err(|error| Failed::new(format!("{error:#}")))?;
        let name = format!(
            "bulkhead-run-{}-{:x}",
            std::process::id(),
            fastrand::u64(..)
        );
        let folder = std::env::temp_dir().join(name);
        let name = match (&spec, &subject) {
            (Some(spec), _) => name_of(&std::path::absolute(spec).unwrap_or(spec.clone())),
            (None, Subject::Crate(folder)) => name_of(&folder.spec()),
            (None, Subject::Module(_)) => "plugin".to_owned(),
        };
        // Nobody else reads what the plugin is shown, and nobody has made it before.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(failed(&folder))?;
        let tidy = Tidy(folder.clone());
        let built = build(&subject, options, &engine, &folder)?;
        let mut stage = Self {
            folder: tidy,
            subject,
            spec,
            options: options.to_vec(),
            engine,
            name,
            built,
            stamp,
            began,
            loads: 0,
            held: true,
            declared: None,
        };
        stage.write()?;
        Ok(stage)
    }

    /// The folder, for the daemon.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.0.join("state")
    }

    /// The file that a plugin with the role `logs` reads.
    pub(super) fn input(&self) -> PathBuf {
        self.folder.0.join("input.log")
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn digest(&self) -> String {
        self.built.digest.to_string()
    }

    pub(super) fn roles(&self) -> &[Role] {
        &self.built.roles
    }

    /// When the build of the first module began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// How many modules there were.
    pub(super) fn loads(&self) -> u32 {
        self.loads
    }

    /// A refusal with the author's file instead of the one that was made of it.
    pub(super) fn in_words_of_author(&self, problem: &str) -> String {
        let made = self.folder.0.join(MANIFEST).display().to_string();
        let spec = self.spec.as_deref().unwrap_or(Path::new(SPEC));
        problem.replace(&made, &spec.display().to_string())
    }

    /// Lets the plugin begin.
    ///
    /// # Errors
    /// If its manifest cannot be written.
    pub(super) fn let_go(&mut self) -> Result<(), Failed> {
        self.held = false;
        self.declare()
    }

    /// When a file was found changed, if one was.
    pub(super) fn changed(&mut self) -> Option<Instant> {
        let stamp = stamp(&self.subject, self.spec.as_deref());
        (std::mem::replace(&mut self.stamp, stamp) != stamp).then(Instant::now)
    }

    /// Builds again and declares what came of it. Whether that is anything new.
    ///
    /// # Errors
    /// If it does not build, or its manifest has faults.
    pub(super) async fn build_again(&mut self) -> Result<bool, Failed> {
        let (subject, options) = (self.subject.clone(), self.options.clone());
        let (engine, folder) = (self.engine.clone(), self.folder.0.clone());
        let task = tokio::task::spawn_blocking(move || build(&subject, &options, &engine, &folder));
        self.built = task
            .await
            .map_err(|error| Failed::new(error.to_string()))??;
        let before = self.declared.clone();
        self.write()?;
        Ok(self.declared != before)
    }

    fn write(&mut self) -> Result<(), Failed> {
        let policy = format!(
            "apiVersion: bulkhead.dev/v1alpha1\nkind: Policy\nallowRootEquivalent:\n- {{sha256: {}}}\n",
            self.built.digest
        );
        let path = self.folder.0.join("policy.yaml");
        std::fs::write(&path, policy).map_err(failed(&path))?;
        self.declare()?;
        self.loads += 1;
        Ok(())
    }

    fn declare(&mut self) -> Result<(), Failed> {
        let text = around(&self.name, &self.manifest()?);
        let path = self.folder.0.join(MANIFEST);
        let mut documents = manifest::read(&path, text.as_bytes()).into_iter();
        self.declared = documents.find_map(|document| match document {
            Document::Manifest(manifest) => Some(*manifest),
            Document::Refused { .. } | Document::Ignored { .. } => None,
        });
        let hidden = path.with_file_name(".new");
        std::fs::write(&hidden, text).map_err(failed(&hidden))?;
        std::fs::rename(&hidden, &path).map_err(failed(&path))
    }

    /// The author's manifest with this module, and with sources and destinations of this folder.
    fn manifest(&self) -> Result<String, Failed> {
        let (module, sha256) = (&self.built.copy, self.built.digest.to_string());
        let named = Module::File {
            path: module.clone(),
            sha256: sha256.clone(),
        };
        let declared = match &self.spec {
            Some(path) => {
                let declared = Declared::read(path, named)
                    .map_err(|problems| Failed::new(problems.join("\nerror: ")))?;
                Some(declared)
            }
            None => None,
        };
        let text = declared.as_ref().map_or("", Declared::plugin_text);
        let mut text = replace(
            text,
            "module",
            &format!("module:\n  file: {{path: {module:?}, sha256: {sha256}}}"),
        );
        // On whatever node this is.
        for key in ["nodeSelector", "nodeExpressions"] {
            text = remove(&text, key);
        }
        text = replace(&text, "update", "update: {probation: 1s}");
        text = replace(&text, "suspend", &format!("suspend: {}", self.held));
        if self.built.roles.contains(&Role::Logs) {
            let logs = self.logs(declared.as_ref().map(|declared| &declared.manifest));
            text = replace(&text, "logs", &logs);
        }
        Ok(text)
    }

    fn logs(&self, declared: Option<&Manifest>) -> String {
        let logs = declared.and_then(|manifest| manifest.spec.logs.as_ref());
        let destinations = logs.map_or(&[][..], |logs| &logs.destinations);
        let mut text = format!(
            "logs:\n  startAt: beginning\n  sources:\n  - files: {{include: [{:?}]}}\n  destinations:",
            self.input()
        );
        let named: Vec<(&str, &str)> = destinations
            .iter()
            .map(|destination| {
                let receives = match destination.receives {
                    Receives::All => "all",
                    Receives::Routed => "routed",
                };
                (destination.name.as_str(), receives)
            })
            .collect();
        let named = match named.is_empty() {
            true => vec![("out", "all")],
            false => named,
        };
        for (name, receives) in named {
            let path = self.folder.0.join(format!("out-{name}.jsonl"));
            text.push_str(&format!(
                "\n  - name: {name}\n    receives: {receives}\n    file: {{path: {path:?}}}"
            ));
        }
        text
    }
}

/// A folder that goes with it.
struct Tidy(PathBuf);

impl Drop for Tidy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn failed<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Failed {
    move |error| Failed::new(format!("{}: {error}", path.display()))
}

fn build(
    subject: &Subject,
    options: &[String],
    engine: &wasmtime::Engine,
    folder: &Path,
) -> Result<Built, Failed> {
    let path = match subject {
        Subject::Crate(folder) => {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            cargo::build(folder, "plugin", &options)?.path
        }
        Subject::Module(path) => path.clone(),
    };
    let module = module::named(&path).map_err(failed(&path))?;
    for name in ["manifests", "state"] {
        let path = folder.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(failed(&path))?;
    }
    let cache = Cache::open(folder.join("state/cache"), engine, Compiler::InProcess);
    let cache = cache.map_err(failed(folder))?;
    let component = cache.get(engine, &module).map_err(failed(&path))?;
    let interfaces = Interfaces::of(engine, &component).map_err(failed(&path))?;
    let copy = folder.join(format!("{}.wasm", module.digest));
    std::fs::write(&copy, &module.bytes).map_err(failed(&copy))?;
    Ok(Built {
        digest: module.digest,
        copy,
        roles: interfaces.roles,
    })
}

/// Of the names, times and sizes of all files that the plugin is made of.
fn stamp(subject: &Subject, spec: Option<&Path>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut waiting: Vec<PathBuf> = match subject {
        Subject::Crate(folder) => ["src", "Cargo.toml", "Cargo.lock"]
            .map(|name| folder.0.join(name))
            .into(),
        Subject::Module(path) => vec![path.clone()],
    };
    waiting.extend(spec.map(Path::to_owned));
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        path.hash(&mut hasher);
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            entries.sort();
            waiting.extend(entries);
        } else {
            metadata.modified().ok().hash(&mut hasher);
            metadata.len().hash(&mut hasher);
        }
    }
    hasher.finish()
}
