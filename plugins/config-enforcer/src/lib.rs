//! `config-enforcer`: keeps files, kernel settings, modules and units of the node as the manifest
//! declares them (see [`Config`]).
//!
//! What can be wrong without a node is refused in `new`: there the configuration becomes a `Model`,
//! with everything compiled. A plan then walks the model's steps once, in order, and compares.

mod compile;
mod config;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod documented;
mod edit;
mod expression;
mod pattern;
mod plan;
mod profile;
mod yaml;

use bulkhead_sdk::enforcement::View;
use bulkhead_sdk::{Enforcement, Outline, Plan, Plugin, Result};

use compile::Model;
pub use config::Config;

/// The plugin.
#[derive(Debug)]
pub struct ConfigEnforcer {
    model: Model,
}

impl Plugin for ConfigEnforcer {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let model = compile::compile(config)?;
        Ok(Self { model })
    }
}

impl Enforcement for ConfigEnforcer {
    fn outline(&mut self) -> Result<Outline> {
        Ok(self.model.outline())
    }

    fn plan(&mut self, view: &View, plan: &mut Plan) -> Result<()> {
        plan::plan(&self.model, view, plan);
        Ok(())
    }
}

bulkhead_sdk::export!(ConfigEnforcer: Enforcement);
