//! From a manifest to an instance that is ready to serve: fetch, verify, compile, link, instantiate,
//! describe, check the configuration, init, set up and probe. The revision at work is not touched.

use std::sync::Arc;

use jiff::Timestamp;
use wasmtime::component::Component;

use super::actor::Declaration;
use super::marks::Slot;
use super::schema::{self, Checked, check_config};
use super::status::Revision;
use crate::child::Ended;
use crate::manifest::{Manifest, Module as ManifestModule};
use crate::module::{
    self, Cache, CacheError, CompileError, Compiler, Digest, FetchError, Module, Parts,
};
use crate::sandbox::{Blueprint, Cause, Environment, Failure, Instance, Prepare, Role, Sandbox};

/// Why a revision does not come to work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Rejection {
    /// The manifest or the module must change before another try makes sense.
    #[error("{0}")]
    Refused(String),
    /// The plugin failed; another try may succeed.
    #[error("{0}")]
    Failed(Failure),
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A revision with a live instance.
pub(super) struct Prepared {
    pub(super) manifest: Arc<Manifest>,
    pub(super) blueprint: Blueprint,
    pub(super) instance: Instance,
    pub(super) revision: Revision,
}

/// What preparing needs from the daemon; cheap to clone.
#[derive(Clone)]
pub(super) struct Preparer {
    pub(super) sandbox: Sandbox,
    pub(super) cache: Cache,
    pub(super) environment: Environment,
    pub(super) roles: Vec<(Role, Prepare)>,
    pub(super) slot: Slot,
    pub(super) checked: Checked,
    /// Who has the parts of modules; nobody without a cluster.
    pub(super) parts: Option<Arc<dyn Parts>>,
}

/// What preparing tells of, while it goes on.
pub(super) trait Progress: Send + Sync {
    /// The module's digest is known.
    fn found(&self, digest: Digest);
    /// The module is not there yet, for this reason; it is asked for again.
    fn waits(&self, why: String);
}

/// Nobody listens.
impl Progress for () {
    fn found(&self, _: Digest) {}
    fn waits(&self, _: String) {}
}

impl Preparer {
    /// Prepares a revision from its manifest.
    pub(super) async fn candidate(
        &self,
        declared: Declaration,
        progress: &dyn Progress,
    ) -> Result<Prepared, Rejection> {
        let file = declared.manifest.origin.name().to_owned();
        self.unplaced(declared, progress)
            .await
            .map_err(|rejection| match rejection {
                Rejection::Refused(message) => {
                    Rejection::Refused(format!("{}: {message}", file.display()))
                }
                failed => failed,
            })
    }

    /// As [`Self::candidate`], with refusals that do not name the manifest's file.
    async fn unplaced(
        &self,
        declared: Declaration,
        progress: &dyn Progress,
    ) -> Result<Prepared, Rejection> {
        let manifest = declared.manifest.clone();
        let module = match &manifest.spec.module {
            ManifestModule::ConfigMapParts { names, sha256 } => {
                self.parts(&manifest, names, sha256, progress).await?
            }
            _ => None,
        };
        let this = self.clone();
        let task = tokio::task::spawn_blocking(move || this.compile(&manifest, module));
        let (digest, blueprint) = task
            .await
            .map_err(|error| Rejection::Refused(format!("module: compiling failed: {error}")))??;
        progress.found(digest);
        crate::failpoint::hit("update.compiled");
        self.instantiate(declared, blueprint, digest).await
    }

    /// The parts of a module, unless its compiled form is here.
    async fn parts(
        &self,
        manifest: &Manifest,
        names: &[String],
        sha256: &str,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<u8>>, Rejection> {
        let refused = |message: String| Rejection::Refused(message);
        if let Some(digest) = Digest::parse(sha256) {
            let (cache, engine) = (self.cache.clone(), self.sandbox.engine().clone());
            let found = move || cache.find(&engine, digest).is_some();
            let found = tokio::task::spawn_blocking(found).await;
            if found.map_err(|error| refused(error.to_string()))? {
                return Ok(None);
            }
        }
        let Some(parts) = &self.parts else {
            return Err(refused(FetchError::NoCluster.to_string()));
        };
        let namespace = manifest.identity.namespace();
        let failed = |error: &module::PartError| progress.waits(error.to_string());
        let bytes = module::gather(&**parts, namespace, names, failed).await;
        bytes.map(Some).map_err(|error| refused(error.to_string()))
    }

    /// `parts` are the module's bytes if they came from elsewhere.
    fn compile(
        &self,
        manifest: &Manifest,
        parts: Option<Vec<u8>>,
    ) -> Result<(Digest, Blueprint), Rejection> {
        let refused = |error: &dyn std::error::Error| Rejection::Refused(error.to_string());
        let engine = self.sandbox.engine();
        let (digest, component) = match (&manifest.spec.module, parts) {
            (ManifestModule::ConfigMapParts { sha256, .. }, None) => {
                let known = Digest::parse(sha256);
                let found =
                    known.and_then(|digest| Some((digest, self.cache.find(engine, digest)?)));
                // Looked at just now: it can only have been thrown away since, as broken.
                found.ok_or_else(|| {
                    let why = "module: its compiled form was lost just now".to_owned();
                    Rejection::Failed(Failure::new("compile", Cause::Interrupted, why))
                })?
            }
            (ManifestModule::ConfigMapParts { sha256, .. }, Some(parts)) => {
                let module = module::assemble(parts, sha256).map_err(|error| refused(&error))?;
                (module.digest, self.compiled(&module)?)
            }
            _ => {
                let module = module::fetch(manifest).map_err(|error| refused(&error))?;
                (module.digest, self.compiled(&module)?)
            }
        };
        let spec = &manifest.spec;
        let blueprint = self
            .sandbox
            .link(&component, &spec.grants, &spec.limits)
            .map_err(|error| refused(&error))?;
        Ok((digest, blueprint))
    }

    fn compiled(&self, module: &Module) -> Result<Component, Rejection> {
        let compiled = self.cache.get(self.sandbox.engine(), module);
        compiled.map_err(|error| match &error {
            CacheError::Compile {
                reason: CompileError::Interrupted(_),
                ..
            } => Rejection::Failed(Failure::new(
                "compile",
                Cause::Interrupted,
                error.to_string(),
            )),
            _ => Rejection::Refused(error.to_string()),
        })
    }

    /// Makes an instance of a revision ready to serve.
    pub(super) async fn instantiate(
        &self,
        declared: Declaration,
        blueprint: Blueprint,
        digest: Digest,
    ) -> Result<Prepared, Rejection> {
        let Declaration { manifest, hash } = declared;
        let in_call = self.slot.enter();
        let mut environment = self.environment.clone();
        environment.journal = environment.journal.from_level(manifest.spec.log_level);
        if manifest.spec.grants.state.is_none() {
            environment.state = None;
        }
        let mut instance = blueprint.instantiate(&environment).await?;
        let description = instance.describe().await?;
        if description.name.len() > 128 || description.version.len() > 64 {
            return Err(Rejection::Refused(
                "module: describe returned a name over 128 or a version over 64 bytes".into(),
            ));
        }
        // Meanwhile the plugin does nothing that the daemon could die of.
        drop(in_call);
        self.check_config(description.config_schema, &manifest)
            .await?;
        let _in_call = self.slot.enter();
        let config = manifest.spec.config.json().to_owned();
        if let Err(refusal) = instance.init(config).await? {
            return Err(Rejection::Refused(schema::in_config(
                &refusal.field,
                &refusal.message,
            )));
        }
        let roles = blueprint.interfaces().roles.clone();
        let spec = &manifest.spec;
        for (role, given) in [
            (Role::Logs, spec.logs.is_some()),
            (Role::Metrics, spec.metrics.is_some()),
            (Role::Enforcement, spec.enforcement.is_some()),
            (Role::Scanning, spec.scanning.is_some()),
        ] {
            if given && !roles.contains(&role) {
                let name = role.name();
                return Err(Rejection::Refused(format!(
                    "{name}: the module has not the role {name}; remove `{name}:`, or name another module"
                )));
            }
        }
        // Roles may remember what this module did.
        instance.note(digest);
        for (role, prepare) in &self.roles {
            if roles.contains(role)
                && let Err(message) = prepare(&manifest, &mut instance).await?
            {
                return Err(Rejection::Refused(message));
            }
        }
        crate::failpoint::hit("update.prepared");
        let revision = Revision {
            digest,
            manifest: hash,
            name: description.name,
            version: description.version,
            roles,
            since: Timestamp::now(),
        };
        Ok(Prepared {
            manifest,
            blueprint,
            instance,
            revision,
        })
    }

    async fn check_config(
        &self,
        schema: String,
        manifest: &Arc<Manifest>,
    ) -> Result<(), Rejection> {
        let (checked, manifest) = (self.checked.clone(), manifest.clone());
        let compiler = self.cache.compiler();
        let check = move || match compiler {
            Compiler::Child => checked.check(&schema, manifest.spec.config.json()),
            Compiler::InProcess => {
                check_config(&schema, &manifest.spec.config.value()).map_err(Ended::Invalid)
            }
        };
        let task = tokio::task::spawn_blocking(check);
        let ended = task
            .await
            .unwrap_or_else(|error| Err(Ended::Failed(error.to_string())));
        ended.map_err(|ended| match ended {
            Ended::Invalid(problems) => Rejection::Refused(problems),
            Ended::Failed(why) => Rejection::Refused(format!("module: {why}")),
            Ended::Interrupted(why) => {
                Rejection::Failed(Failure::new("check", Cause::Interrupted, why))
            }
        })
    }
}
