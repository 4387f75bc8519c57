//! What a plugin would change, without a daemon: for the command line.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::driver::Context;
use super::effects::Audit;
use super::flapping::Flapping;
use super::report::{ChangeReport, RuleReport};
use super::round::{Detail, Rounds};
use crate::manifest::Manifest;
use crate::sandbox::{Instance, NodeFolders, Work};

/// What would be done.
#[derive(Debug)]
pub struct DryRun {
    /// What would be changed, or cannot be.
    pub changes: Vec<ChangeReport>,
    /// The rules, and what was found.
    pub rules: Vec<RuleReport>,
}

/// Asks an instance that is ready to serve.
///
/// # Errors
/// Why it has no plan.
pub async fn dry_run(
    manifest: Arc<Manifest>,
    mut instance: Instance,
    folders: &NodeFolders,
    state: &Path,
    facts: Vec<(String, String)>,
) -> Result<DryRun, String> {
    let context = Context {
        plugin: manifest.identity.clone(),
        folders: folders.clone(),
        state: state.to_owned(),
        audit: Arc::new(Audit::open(state).map_err(|error| error.to_string())?),
        audit_only: true,
        facts: Arc::new(move || facts.clone()),
        runtime: Handle::current(),
    };
    let opened = context.open(&manifest);
    let (effects, memory) = opened.map_err(|error| error.to_string())?;
    let (work, mut queue) = mpsc::channel::<Box<dyn Work>>(1);
    let serving = tokio::spawn(async move {
        while let Some(work) = queue.recv().await {
            if let Err(failure) = work.run(&mut instance).await {
                return Some(failure.to_string());
            }
        }
        None
    });
    let mut rounds = Rounds {
        memory,
        effects,
        revision: manifest.digest_hex(),
        manifest,
        work,
        audit_only: true,
        facts: context.facts.clone(),
        detail: Detail {
            changes: usize::MAX,
            diffs: usize::MAX,
        },
        flapping: Flapping::default(),
        cancel: CancellationToken::new(),
    };
    let round = rounds.round().await;
    drop(rounds);
    let failure = AbortOnDropHandle::new(serving).await;
    match round {
        Ok(round) => Ok(DryRun {
            changes: round.outstanding,
            rules: round.rules,
        }),
        // What ended the plugin says more.
        Err(why) => Err(failure.ok().flatten().unwrap_or(why)),
    }
}
