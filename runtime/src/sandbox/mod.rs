//! Instances of plugins: the engine, limits and deadlines, grants turned into imports, and calls.
//! Nothing here knows where modules come from, or what a role does with an answer.

pub mod bindings;
mod engine;
mod failure;
mod folder;
mod host;
mod instance;
mod journal;
mod kernel;
mod limits;
mod link;
mod puppet;
mod refuse;
mod role;
mod stdio;
mod tap;

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Component;

pub use engine::TICK;
pub use failure::{Cause, Failure};
pub use folder::{FolderError, NodeFolders};
pub use host::{Facts, Host, KeyValue, KeyValueError};
pub use instance::{BlueprintId, Call, Description, Instance, Refusal, Scope, SnapshotData, Usage};
pub use journal::{Entry, Journal};
pub use link::{Blueprint, Environment, Interfaces, LinkError, Role};
pub use puppet::Answers;
pub use role::{Driver, Prepare, Task, Work, WorkSender};
pub use tap::{Calls, Imported, Tap, Told};

use crate::manifest::{Grants, Limits};

/// The engine with its clock, and what is the same for all plugins; clones share it.
#[derive(Clone)]
pub struct Sandbox {
    engine: Engine,
    clock: engine::Clock,
    node: link::Node,
}

impl Sandbox {
    /// Starts the engine. Grants are of `folders`.
    ///
    /// # Errors
    /// If this CPU is not supported or the clock's thread cannot start.
    pub fn new(facts: Facts, folders: NodeFolders) -> wasmtime::Result<Self> {
        let engine = engine::new()?;
        let clock = engine::Clock::start(&engine)?;
        Ok(Self {
            engine,
            clock,
            node: link::Node {
                facts: Arc::new(facts),
                kernel: kernel::Kernel::of(folders.root.clone()),
                folders,
            },
        })
    }

    /// An equal engine alone: what it compiles runs in every sandbox of this build and CPU.
    ///
    /// # Errors
    /// If this CPU is not supported.
    pub fn compiler() -> wasmtime::Result<Engine> {
        engine::new()
    }

    /// The engine, to compile with.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What is known of the node, by name.
    pub fn facts(&self) -> Arc<Facts> {
        self.node.facts.clone()
    }

    /// The node's folders.
    pub fn folders(&self) -> &NodeFolders {
        &self.node.folders
    }

    /// Links a component with its grants. Opens granted folders, so not for async code.
    ///
    /// # Errors
    /// If the component does not fit the contract or the grants.
    pub fn link(
        &self,
        component: &Component,
        grants: &Grants,
        limits: &Limits,
    ) -> Result<Blueprint, LinkError> {
        Blueprint::new(
            &self.engine,
            self.clock.clone(),
            self.node.clone(),
            component,
            grants,
            limits,
            None,
        )
    }

    /// As [`Self::link`], with somebody who answers what the component asks the host, instead of the node.
    ///
    /// # Errors
    /// If the component does not fit the contract or the grants.
    pub fn link_to(
        &self,
        component: &Component,
        grants: &Grants,
        limits: &Limits,
        answers: &Arc<dyn Answers>,
    ) -> Result<Blueprint, LinkError> {
        Blueprint::new(
            &self.engine,
            self.clock.clone(),
            self.node.clone(),
            component,
            grants,
            limits,
            Some(answers),
        )
    }
}
