//! A module whose functions are called by name, outside of any daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::Failed;
use crate::manifest::{ByteSize, Grants, Limits, StateGrant};
use crate::module::{self, Cache, Compiler, Digest};
use crate::sandbox::{
    Answers, Blueprint, Environment, Failure, Instance, Journal, NodeFolders, Sandbox, Tap,
};

/// See the module.
pub(super) struct Puppet {
    pub(super) digest: Digest,
    blueprint: Blueprint,
    /// A folder of compiled code that goes with this.
    _own: Option<Own>,
}

struct Own(PathBuf);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Puppet {
    /// Compiles a module, a file or a bundled one; with the folder for its compiled code, if that shall stay.
    ///
    /// # Errors
    /// If it is no plugin.
    pub(super) fn open(
        path: &Path,
        cache: Option<&Path>,
        answers: Arc<dyn Answers>,
    ) -> Result<Self, Failed> {
        let failed =
            |error: &dyn std::fmt::Display| Failed::new(format!("{}: {error}", path.display()));
        let module = module::named(path).map_err(|error| failed(&error))?;
        let sandbox = Sandbox::new(Vec::new(), NodeFolders::bare(Vec::new()))
            .map_err(|error| failed(&error))?;
        let own = cache.is_none().then(|| {
            let name = format!(
                "bulkhead-code-{}-{:x}",
                std::process::id(),
                fastrand::u64(..)
            );
            Own(std::env::temp_dir().join(name))
        });
        let folder = match (&own, cache) {
            (Some(own), _) => own.0.clone(),
            (None, cache) => cache.unwrap_or(Path::new(".")).to_owned(),
        };
        let cache = Cache::open(folder, sandbox.engine(), Compiler::InProcess)
            .map_err(|error| failed(&error))?;
        let component = cache
            .get(sandbox.engine(), &module)
            .map_err(|error| failed(&error))?;
        // Whoever answers says what there is.
        let grants = Grants {
            state: Some(StateGrant {
                quota: ByteSize::mebibytes(1),
            }),
            node_facts: true,
            node_stats: true,
            ..Grants::default()
        };
        let blueprint = sandbox
            .link_to(&component, &grants, &Limits::default(), &answers)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            digest: module.digest,
            blueprint,
            _own: own,
        })
    }

    /// A fresh instance, with random numbers from a seed if there is one.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) async fn instance(&self, seed: Option<[u8; 32]>) -> Result<Instance, Failure> {
        let environment = Environment {
            journal: Journal::new("local/test"),
            state: None,
            usage: Arc::default(),
            tap: Tap::default(),
            seed,
        };
        self.blueprint.instantiate(&environment).await
    }
}
