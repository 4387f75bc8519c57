//! From a compiled component and its grants to something that can be instantiated at once.
//!
//! Every import is checked by name before anything is linked, so that a missing grant is refused
//! with the YAML that would add it, not with a linker's error.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::bindings;
use super::engine::Clock;
use super::failure::{Cause, Failure};
use super::folder::{Folder, FolderError, NodeFolders};
use super::host::{Facts, Granted, Host, KeyValue};
use super::instance::{AsyncInstantiate, BlueprintId, Call, CallLimits, Exports, Instance, Usage};
use super::journal::Journal;
use super::kernel::Kernel;
use super::limits::{CpuLimit, MemoryLimit};
use super::puppet::{self, Answers, Functions};
use super::refuse;
use super::stdio::Output;
use super::tap::{Listening, Tap};
use crate::manifest::{FileGrant, Grants, Limits};

/// Random bytes that are made of a seed.
const RANDOM: usize = 1 << 20;
/// The contract's package.
pub(super) const PACKAGE: &str = "bulkhead:plugin/";
/// The versions of the contract that this daemon speaks.
const CONTRACT: &str = "0.1";

/// Whether a version is of [`CONTRACT`]: any patch of it.
fn is_spoken(version: &str) -> bool {
    let patch = version.strip_prefix(CONTRACT);
    patch.is_some_and(|patch| patch.starts_with('.'))
}

/// A role that a plugin may have: an exported interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// `bulkhead:plugin/logs`
    Logs,
    /// `bulkhead:plugin/metrics`
    Metrics,
    /// `bulkhead:plugin/enforcement`
    Enforcement,
    /// `bulkhead:plugin/scanning`
    Scanning,
}

impl Role {
    /// All roles that this daemon knows.
    pub const ALL: [Self; 4] = [Self::Logs, Self::Metrics, Self::Enforcement, Self::Scanning];

    /// The interface's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Enforcement => "enforcement",
            Self::Scanning => "scanning",
        }
    }
}

/// Why a component cannot be a plugin, or not with these grants.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It does not export the lifecycle.
    #[error(
        "module: the component does not export bulkhead:plugin/lifecycle@{CONTRACT}; build it with bulkhead-sdk's export!, or against a world such as bulkhead:plugin/logs-plugin"
    )]
    NoLifecycle,
    /// It exports the lifecycle and no role.
    #[error(
        "module: the component exports no role; export one of those that this daemon knows: {}",
        known_roles()
    )]
    NoRole,
    /// It exports a role that this daemon does not know.
    #[error(
        "module: the component exports the unknown role {role:?}; update the daemon, or use a module with the roles that this one knows: {}",
        known_roles()
    )]
    UnknownRole {
        /// The exported interface.
        role: String,
    },
    /// It speaks another version of the contract.
    #[error(
        "module: the component exports {interface}, and this daemon speaks version {CONTRACT} of the contract; rebuild the plugin against bulkhead-sdk {CONTRACT} or update the daemon"
    )]
    Version {
        /// The exported interface.
        interface: String,
    },
    /// It imports what the manifest does not grant.
    #[error(
        "grants: the module imports what is not granted: {imports}; to grant it, add to the manifest:\ngrants:\n{yaml}"
    )]
    NotGranted {
        /// All such interfaces.
        imports: String,
        /// What to add below `grants`.
        yaml: String,
    },
    /// It imports what no daemon of this version has.
    #[error(
        "module: the component imports {import}, which this daemon does not have; build it without, or update the daemon"
    )]
    UnknownImport {
        /// The interface.
        import: String,
    },
    /// A folder cannot be granted.
    #[error("grants.files[{index}].host: {source}")]
    Folder {
        /// Which of `grants.files`.
        index: usize,
        /// Why.
        source: FolderError,
    },
    /// Something else does not fit, for example a function's type.
    #[error(
        "module: the component does not fit the contract: {0}; rebuild it against version {CONTRACT} of the contract, as bulkhead-sdk or sdk/wit has it"
    )]
    Mismatch(String),
}

fn known_roles() -> String {
    Role::ALL.map(Role::name).join(", ")
}

/// What a component exports and wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interfaces {
    /// The roles that it exports.
    pub roles: Vec<Role>,
    /// The interfaces that it imports, by full name.
    pub imports: Vec<String>,
}

impl Interfaces {
    /// Reads them off a component.
    ///
    /// # Errors
    /// If it exports no lifecycle, no role, an unknown role, or another version of the contract.
    pub fn of(engine: &Engine, component: &Component) -> Result<Self, LinkError> {
        let ty = component.component_type();
        let imports = ty
            .imports(engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut lifecycle = false;
        let mut roles = Vec::new();
        for (name, export) in ty.exports(engine) {
            let Some(interface) = name.strip_prefix(PACKAGE) else {
                continue;
            };
            if !matches!(export.ty, ComponentItem::ComponentInstance(_)) {
                continue;
            }
            let (short, version) = interface.split_once('@').unwrap_or((interface, ""));
            let known = Role::ALL.into_iter().find(|role| role.name() == short);
            if known.is_none() && short != "lifecycle" {
                return Err(LinkError::UnknownRole {
                    role: short.to_owned(),
                });
            }
            if !is_spoken(version) {
                return Err(LinkError::Version {
                    interface: name.to_owned(),
                });
            }
            match known {
                Some(role) => roles.push(role),
                None => lifecycle = true,
            }
        }
        if !lifecycle {
            return Err(LinkError::NoLifecycle);
        }
        if roles.is_empty() {
            return Err(LinkError::NoRole);
        }
        roles.sort();
        Ok(Self { roles, imports })
    }
}

/// What an instance is given beside its module.
#[derive(Clone)]
pub struct Environment {
    /// Takes what the plugin says.
    pub journal: Journal,
    /// The plugin's durable state, if granted.
    pub state: Option<Arc<dyn KeyValue>>,
    /// Counts what its instances use.
    pub usage: Arc<Usage>,
    /// Where somebody may listen to its instances.
    pub tap: Tap,
    /// What their random numbers come from, if these shall be the same again.
    pub seed: Option<[u8; 32]>,
}

/// A component linked with its grants: instances of it start in microseconds.
#[derive(Clone)]
pub struct Blueprint {
    id: BlueprintId,
    pre: InstancePre<Host>,
    lifecycle: bindings::plugin::exports::bulkhead::plugin::lifecycle::GuestIndices,
    logs: Option<bindings::logs::exports::bulkhead::plugin::logs::GuestIndices>,
    metrics: Option<bindings::metrics::exports::bulkhead::plugin::metrics::GuestIndices>,
    enforcement:
        Option<bindings::enforcement::exports::bulkhead::plugin::enforcement::GuestIndices>,
    scanning: Option<bindings::scanning::exports::bulkhead::plugin::scanning::GuestIndices>,
    functions: Functions,
    interfaces: Interfaces,
    files: Vec<FileGrant>,
    quota: u64,
    memory: u64,
    cpu: u32,
    limits: CallLimits,
    clock: Clock,
    node: Node,
}

/// What there is of the node; clones share it.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) facts: Arc<Facts>,
    pub(super) kernel: Kernel,
    pub(super) folders: NodeFolders,
}

impl Blueprint {
    pub(super) fn new(
        engine: &Engine,
        clock: Clock,
        node: Node,
        component: &Component,
        grants: &Grants,
        limits: &Limits,
        answers: Option<&Arc<dyn Answers>>,
    ) -> Result<Self, LinkError> {
        let interfaces = Interfaces::of(engine, component)?;
        let mut missing = Vec::new();
        for import in &interfaces.imports {
            if let Some(yaml) = missing_grant(import, grants)? {
                missing.push((import.as_str(), yaml));
            }
        }
        if !missing.is_empty() {
            let (imports, yaml): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
            return Err(LinkError::NotGranted {
                imports: imports.join(", "),
                yaml: yaml.join("\n"),
            });
        }
        for (index, grant) in grants.files.iter().enumerate() {
            Folder::open(&grant.host, &node.folders)
                .map_err(|source| LinkError::Folder { index, source })?;
        }
        let mismatch = |error: wasmtime::Error| LinkError::Mismatch(format!("{error:#}"));
        let mut linker = Linker::new(engine);
        let granted = Granted {
            state: grants.state.is_some(),
            node_facts: grants.node_facts,
            node_stats: grants.node_stats,
        };
        match answers {
            Some(answers) => {
                super::host::link_wasi(&mut linker).map_err(mismatch)?;
                puppet::link(engine, component, &mut linker, answers).map_err(mismatch)?;
            }
            None => super::host::link(&mut linker, granted).map_err(mismatch)?,
        }
        refuse::link(&mut linker, engine, component).map_err(mismatch)?;
        let pre = linker.instantiate_pre(component).map_err(mismatch)?;
        let lifecycle =
            bindings::plugin::exports::bulkhead::plugin::lifecycle::GuestIndices::new(&pre)
                .map_err(mismatch)?;
        let logs = interfaces
            .roles
            .contains(&Role::Logs)
            .then(|| bindings::logs::exports::bulkhead::plugin::logs::GuestIndices::new(&pre))
            .transpose()
            .map_err(mismatch)?;
        let metrics = interfaces
            .roles
            .contains(&Role::Metrics)
            .then(|| bindings::metrics::exports::bulkhead::plugin::metrics::GuestIndices::new(&pre))
            .transpose()
            .map_err(mismatch)?;
        let enforcement = interfaces
            .roles
            .contains(&Role::Enforcement)
            .then(|| {
                bindings::enforcement::exports::bulkhead::plugin::enforcement::GuestIndices::new(
                    &pre,
                )
            })
            .transpose()
            .map_err(mismatch)?;
        let scanning = interfaces
            .roles
            .contains(&Role::Scanning)
            .then(|| {
                bindings::scanning::exports::bulkhead::plugin::scanning::GuestIndices::new(&pre)
            })
            .transpose()
            .map_err(mismatch)?;
        Ok(Self {
            id: BlueprintId::next(),
            pre,
            lifecycle,
            logs,
            metrics,
            enforcement,
            scanning,
            functions: Functions::of(engine, component),
            interfaces,
            files: grants.files.clone(),
            quota: grants.state.as_ref().map_or(0, |state| state.quota.0),
            memory: limits.memory.0,
            cpu: limits.cpu.millis,
            limits: CallLimits {
                deadline: limits.deadline.0,
                output: usize::try_from(limits.output.0).unwrap_or(usize::MAX),
            },
            clock,
            node,
        })
    }

    /// What the component exports and wants.
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// The longest that one call may take.
    pub fn deadline(&self) -> Duration {
        self.limits.deadline
    }

    /// Makes a fresh instance. No function of the plugin has been called yet.
    ///
    /// # Errors
    /// If the component's own start-up code fails or passes a limit.
    pub async fn instantiate(&self, environment: &Environment) -> Result<Instance, Failure> {
        let stderr = Output::new("stderr", environment.journal.clone());
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(Output::new("stdout", environment.journal.clone()))
            .stderr(stderr.clone());
        for (index, grant) in self.files.iter().enumerate() {
            let perms = if grant.writable {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            let failed = |error: String| {
                let message = format!("grants.files[{index}].host: {error}");
                Failure::new("instantiate", Cause::Trap, message)
            };
            let folder = Folder::open(&grant.host, &self.node.folders)
                .map_err(|error| failed(error.to_string()))?;
            wasi.preopened_dir(folder.path(), &grant.guest, perms)
                .map_err(|error| failed(format!("{}: {error}", grant.host.display())))?;
        }
        let (listening, seed) = Listening::begin(environment.tap.clone());
        wasi.wall_clock(listening.clock());
        if let Some(seed) = seed.or(environment.seed) {
            let (start, _) = seed.as_chunks::<16>();
            // It begins anew at the end, which should be far away.
            let mut random = vec![0; RANDOM];
            let mut generator = blake3::Hasher::new();
            generator.update(&seed).finalize_xof().fill(&mut random);
            wasi.secure_random(Deterministic::new(random.clone()))
                .insecure_random(Deterministic::new(random))
                .insecure_random_seed(u128::from_le_bytes(start[0]));
        }
        let store = Store::new(
            self.pre.engine(),
            Host {
                wasi: wasi.build(),
                table: wasmtime::component::ResourceTable::new(),
                memory: MemoryLimit::new(self.memory),
                cpu: CpuLimit::new(self.cpu),
                stderr,
                journal: environment.journal.clone(),
                state: environment.state.clone(),
                quota: self.quota,
                facts: self.node.facts.clone(),
                kernel: self.node.kernel.clone(),
                listening,
            },
        );
        Instance::new(
            self.id,
            store,
            self,
            self.limits,
            self.clock.clone(),
            environment.usage.clone(),
        )
        .await
    }
}

impl AsyncInstantiate for &Blueprint {
    fn instantiate<'a>(self, store: &'a mut Store<Host>) -> Call<'a, Exports> {
        let blueprint = self.clone();
        Box::pin(async move {
            let instance = blueprint.pre.instantiate_async(&mut *store).await?;
            Ok(Exports {
                raw: instance,
                functions: blueprint.functions.clone(),
                lifecycle: blueprint.lifecycle.load(&mut *store, &instance)?,
                logs: match &blueprint.logs {
                    Some(indices) => Some(indices.load(&mut *store, &instance)?),
                    None => None,
                },
                metrics: match &blueprint.metrics {
                    Some(indices) => Some(indices.load(&mut *store, &instance)?),
                    None => None,
                },
                enforcement: match &blueprint.enforcement {
                    Some(indices) => Some(indices.load(&mut *store, &instance)?),
                    None => None,
                },
                scanning: match &blueprint.scanning {
                    Some(indices) => Some(indices.load(&mut *store, &instance)?),
                    None => None,
                },
            })
        })
    }
}

/// Checks one import by name: the YAML of the grant that it lacks, if it does.
fn missing_grant(import: &str, grants: &Grants) -> Result<Option<&'static str>, LinkError> {
    if let Some(interface) = import.strip_prefix(PACKAGE) {
        let (short, version) = interface.split_once('@').unwrap_or((interface, ""));
        let unknown = || LinkError::UnknownImport {
            import: import.to_owned(),
        };
        if !is_spoken(version) {
            return Err(unknown());
        }
        let (granted, yaml) = match short {
            "log" => (true, ""),
            "state" => (grants.state.is_some(), "  state:\n    quota: 1Mi"),
            "node" => (grants.node_facts, "  nodeFacts: true"),
            "node-stats" => (grants.node_stats, "  nodeStats: true"),
            _ => return Err(unknown()),
        };
        return Ok((!granted).then_some(yaml));
    }
    const WASI: [&str; 6] = [
        "wasi:cli/",
        "wasi:clocks/",
        "wasi:filesystem/",
        "wasi:io/",
        "wasi:random/",
        "wasi:sockets/",
    ];
    let test_only = cfg!(feature = "test-faults") && import.starts_with("bulkhead:test/");
    let known = refuse::is_refused(import) || WASI.iter().any(|prefix| import.starts_with(prefix));
    if test_only || known {
        Ok(None)
    } else {
        Err(LinkError::UnknownImport {
            import: import.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_of_the_contract_is_spoken_and_nothing_else() {
        for version in ["0.1.0", "0.1.1", "0.1.10"] {
            assert!(is_spoken(version), "{version}");
        }
        for version in ["", "0.1", "0.10.0", "0.2.0", "1.0.0", "0.0.1"] {
            assert!(!is_spoken(version), "{version}");
        }
    }
}
