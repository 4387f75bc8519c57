//! Checking manifests and modules without a daemon, in a state folder that is thrown away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{facts, policy};
use crate::manifest::{
    self, ByteSize, ChangeGrants, Grants, Limits, Manifest, Policy, ScanGrants, StateGrant,
};
use crate::module::{self, Cache, Compiler, Digest};
use crate::plugin::{self, Marks, Rejection};
use crate::role::enforcement::{self, DryRun};
use crate::role::logs::dead_letter::DeadLetters;
use crate::role::logs::destination::Surroundings;
use crate::role::logs::destination::secrets::DaemonSecrets;
use crate::role::logs::tail::Own;
use crate::role::logs::{self, LogsDriver, Queues};
use crate::role::metrics;
use crate::role::scanning;
use crate::sandbox::{
    Description, Driver, Environment, Interfaces, Journal, KeyValue, NodeFolders, Role, Sandbox,
    Tap,
};
use crate::state::{Store, Values};

/// See the module.
pub(crate) struct Checker {
    folder: PathBuf,
    store: Store,
    marks: Marks,
    sandbox: Sandbox,
    cache: Cache,
    policy: Policy,
}

/// What a module is.
pub(crate) struct Inspection {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) interfaces: Interfaces,
    pub(crate) description: Description,
    /// The grants that its imports need.
    pub(crate) grants: Grants,
}

impl Checker {
    /// Makes the folder and the sandbox, for a bare host.
    pub(crate) fn new() -> Result<Self, String> {
        Self::below(Path::new("/"))
    }

    /// As [`Self::new`], with the node's root folder there.
    pub(crate) fn below(root: &Path) -> Result<Self, String> {
        let name = format!(
            "bulkhead-check-{}-{:x}",
            std::process::id(),
            fastrand::u64(..)
        );
        let folder = std::env::temp_dir().join(name);
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let store = Store::open(&folder).map_err(|error| text(&error))?.store;
        let (marks, _) = Marks::open(&folder.join("in-call")).map_err(|error| text(&error))?;
        let sandbox = Sandbox::new(
            facts::read(root, &facts::host_name()),
            NodeFolders {
                root: root.into(),
                private: [folder.clone()].into(),
            },
        )
        .map_err(|error| text(&error))?;
        let cache = Cache::open(folder.join("cache"), sandbox.engine(), Compiler::InProcess)
            .map_err(|error| text(&error))?;
        Ok(Self {
            policy: policy(&folder),
            folder,
            store,
            marks,
            sandbox,
            cache,
        })
    }

    /// As a node would check whose daemon is of this namespace, with the policy in this file.
    pub(crate) fn governed_by(
        mut self,
        namespace: Option<String>,
        file: Option<&Path>,
    ) -> Result<Self, String> {
        if let Some(namespace) = namespace {
            self.policy.home = namespace;
        }
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
            let read = self.policy.with(path, &text);
            self.policy = read.map_err(|errors| {
                let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
                told.join("\n")
            })?;
        }
        Ok(self)
    }

    /// The module's digest, or everything that an update would be refused for.
    pub(crate) async fn check(&self, manifest: Arc<Manifest>) -> Result<String, Vec<String>> {
        let refused = self.refused(&manifest);
        if !refused.is_empty() {
            return Err(refused.iter().map(ToString::to_string).collect());
        }
        self.fits(manifest).await
    }

    /// What the policy refuses.
    pub(crate) fn refused(&self, manifest: &Manifest) -> Vec<manifest::Error> {
        self.policy.check(manifest)
    }

    /// As [`Self::check`], for a node whose policy allows it all.
    pub(crate) async fn fits(&self, manifest: Arc<Manifest>) -> Result<String, Vec<String>> {
        let one = |error: String| vec![error];
        let identity: Arc<str> = manifest.identity.to_string().into();
        let values =
            Values::open(self.store.clone(), &identity).map_err(|error| one(error.to_string()))?;
        let values = Arc::new(values);
        let dead_letters = DeadLetters::new(&self.folder, "check", "check")
            .ok_or_else(|| one("the temporary folder's path is not absolute".into()))?;
        let dead_letters = Arc::new(dead_letters);
        let queues = Queues::new(&self.folder, Path::new("/"), "check", "check")
            .ok_or_else(|| one("its name cannot be that of a folder".into()))?;
        let surroundings = Surroundings {
            node_root: Path::new("/").into(),
            secrets: Arc::new(DaemonSecrets::offline()),
            machine: logs::record_id::Machine::new("check"),
            node_name: facts::host_name().into(),
        };
        let driver = LogsDriver::open(logs::Context {
            identity: identity.clone(),
            store: self.store.clone(),
            values: values.clone(),
            first_seen: SystemTime::now(),
            dead_letters: dead_letters.clone(),
            queues: queues.clone(),
            own: Own::default(),
            surroundings: surroundings.clone(),
            pods: None,
            runtime: tokio::runtime::Handle::current(),
        })
        .map_err(|error| one(error.to_string()))?;
        let remote_write = metrics::RemoteWriteContext {
            identity: identity.clone(),
            queues: queues.clone().for_metrics(),
            surroundings: surroundings.clone(),
        };
        let publish = scanning::PublishContext {
            identity: identity.clone(),
            queues: queues.for_findings(),
            dead_letters,
            surroundings,
        };
        let slot = self
            .marks
            .slot(&identity)
            .map_err(|error| one(error.to_string()))?;
        let state: Arc<dyn KeyValue> = values;
        let checked = plugin::check(
            manifest,
            self.sandbox.clone(),
            self.cache.clone(),
            state,
            vec![
                (Role::Logs, driver.prepare()),
                (Role::Metrics, metrics::prepare(remote_write)),
                (Role::Enforcement, enforcement::prepare()),
                (Role::Scanning, scanning::prepare(publish)),
            ],
            slot,
        )
        .await;
        match checked {
            Ok(revision) => Ok(revision.digest.to_string()),
            Err(Rejection::Refused(message)) => Err(one(message)),
            Err(Rejection::Failed(failure)) => Err(one(failure.to_string())),
        }
    }

    /// What a plugin with the role `enforcement` would change, or everything that it would be refused
    /// for: by the policy in this file, or by none.
    pub(crate) async fn plan(
        &self,
        manifest: Arc<Manifest>,
        policy_file: Option<&Path>,
        labels: &BTreeMap<String, String>,
    ) -> Result<DryRun, Vec<String>> {
        let one = |error: String| vec![error];
        if let Some(path) = policy_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| one(format!("{}: cannot be read: {error}", path.display())))?;
            let told = |errors: Vec<manifest::Error>| -> Vec<String> {
                errors.iter().map(ToString::to_string).collect()
            };
            let policy = policy(&self.folder).with(path, &text).map_err(told)?;
            let refused = policy.check(&manifest);
            if !refused.is_empty() {
                return Err(told(refused));
            }
        }
        let identity: Arc<str> = manifest.identity.to_string().into();
        let failed = |error: &dyn std::fmt::Display| one(error.to_string());
        let values = Values::open(self.store.clone(), &identity).map_err(|it| failed(&it))?;
        let slot = self.marks.slot(&identity).map_err(|it| failed(&it))?;
        let trial = plugin::trial(
            manifest.clone(),
            self.sandbox.clone(),
            self.cache.clone(),
            Arc::new(values),
            vec![(Role::Enforcement, enforcement::prepare())],
            slot,
        );
        let (revision, instance) = trial.await.map_err(|it| failed(&it))?;
        if !revision.roles.contains(&Role::Enforcement) {
            return Err(one(format!(
                "{}: the module has not the role enforcement, so it changes nothing",
                manifest.origin.name().display()
            )));
        }
        let facts = enforcement::facts(&self.sandbox.facts(), labels);
        let dry_run = enforcement::dry_run(
            manifest,
            instance,
            self.sandbox.folders(),
            &self.folder,
            facts,
        );
        dry_run.await.map_err(one)
    }

    /// Reads a module, a file or a bundled one, and asks it what it is.
    pub(crate) async fn inspect(&self, name: &Path) -> Result<Inspection, String> {
        let module = module::named(name).map_err(|error| error.to_string())?;
        let engine = self.sandbox.engine();
        let component = self
            .cache
            .get(engine, &module)
            .map_err(|error| error.to_string())?;
        let interfaces = Interfaces::of(engine, &component).map_err(|error| error.to_string())?;
        let wants = |name: &str| {
            let prefix = format!("bulkhead:plugin/{name}@");
            interfaces
                .imports
                .iter()
                .any(|import| import.starts_with(&prefix))
        };
        let grants = Grants {
            state: wants("state").then_some(StateGrant {
                quota: ByteSize::mebibytes(1),
            }),
            node_facts: wants("node"),
            node_stats: wants("node-stats"),
            files: Vec::new(),
            node_files: Vec::new(),
            changes: ChangeGrants::default(),
            scan: ScanGrants::default(),
        };
        let blueprint = self
            .sandbox
            .link(&component, &grants, &Limits::default())
            .map_err(|error| error.to_string())?;
        let environment = Environment {
            journal: Journal::new("inspect"),
            state: None,
            usage: Arc::default(),
            tap: Tap::default(),
            seed: None,
        };
        let mut instance = blueprint
            .instantiate(&environment)
            .await
            .map_err(|failure| failure.to_string())?;
        let description = instance
            .describe()
            .await
            .map_err(|failure| failure.to_string())?;
        Ok(Inspection {
            digest: module.digest,
            size: module.bytes.len() as u64,
            interfaces,
            description,
            grants,
        })
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
