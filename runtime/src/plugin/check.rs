//! All that an update would check about a manifest, without a daemon: for the command line.

use std::sync::Arc;

use super::actor::Declaration;
use super::marks::Slot;
use super::prepare::{Preparer, Rejection};
use super::schema::Checked;
use super::status::Revision;
use crate::manifest::Manifest;
use crate::module::Cache;
use crate::sandbox::{Environment, Instance, Journal, KeyValue, Prepare, Role, Sandbox, Tap};

/// Fetches, verifies, compiles and links the module, asks it about its configuration and sets it up
/// in the sandbox; then throws it away.
///
/// # Errors
/// What an update to this manifest would be rejected for.
pub async fn check(
    manifest: Arc<Manifest>,
    sandbox: Sandbox,
    cache: Cache,
    state: Arc<dyn KeyValue>,
    roles: Vec<(Role, Prepare)>,
    slot: Slot,
) -> Result<Revision, Rejection> {
    let trial = trial(manifest, sandbox, cache, state, roles, slot).await?;
    Ok(trial.0)
}

/// As [`check`], with the instance that is ready to serve.
///
/// # Errors
/// What an update to this manifest would be rejected for.
pub async fn trial(
    manifest: Arc<Manifest>,
    sandbox: Sandbox,
    cache: Cache,
    state: Arc<dyn KeyValue>,
    roles: Vec<(Role, Prepare)>,
    slot: Slot,
) -> Result<(Revision, Instance), Rejection> {
    let preparer = Preparer {
        sandbox,
        cache,
        environment: Environment {
            journal: Journal::new(&manifest.identity.to_string()),
            state: Some(state),
            usage: Arc::default(),
            tap: Tap::default(),
            seed: None,
        },
        roles,
        slot,
        checked: Checked::default(),
        parts: None,
    };
    let hash = manifest.digest_hex();
    let prepared = preparer
        .candidate(Declaration { manifest, hash }, &())
        .await?;
    Ok((prepared.revision, prepared.instance))
}
