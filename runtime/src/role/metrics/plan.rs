//! What a plugin's `start` asks for, checked against the manifest's grants.

use std::collections::HashSet;
use std::sync::Arc;

use crate::manifest::Manifest;
use crate::node_files::{Look, Want};
use crate::sandbox::bindings::metrics::exports::bulkhead::plugin::metrics as wit;
use crate::sandbox::{Cause, Failure, Instance};

/// The most collectors of a plugin.
const COLLECTORS: usize = 256;
/// The most wants of all its collectors.
const WANTS: usize = 4096;

/// The collectors of one instance.
pub(super) struct Plan {
    pub(super) collectors: Vec<Collector>,
}

/// One collector, with what may be read for it.
pub(super) struct Collector {
    pub(super) name: Arc<str>,
    pub(super) wants: Arc<[Want]>,
}

/// How many refusals are told at once.
const REFUSALS: usize = 16;

const START: &str = "metrics.start";

/// Asks a fresh instance for its collectors, and keeps them with it. The inner error is for who wrote the
/// manifest or the plugin.
pub(super) async fn prepare(
    manifest: &Manifest,
    instance: &mut Instance,
) -> Result<Result<(), String>, Failure> {
    let guest = instance.metrics().ok_or_else(|| {
        let message = "the component does not export bulkhead:plugin/metrics";
        Failure::new(START, Cause::BrokenPromise, message)
    })?;
    let answer = instance
        .call(START, move |store, _| {
            Box::pin(async move { guest.call_start(store).await })
        })
        .await?;
    let planned = match answer {
        Ok(collectors) => Plan::check(collectors, manifest),
        Err(message) => Err(format!("metrics: the plugin does not start: {message}")),
    };
    Ok(planned.map(|plan| instance.note(Arc::new(plan))))
}

impl Plan {
    fn check(collectors: Vec<wit::Collector>, manifest: &Manifest) -> Result<Self, String> {
        let count = collectors.len();
        let wants: usize = collectors.iter().map(|each| each.wants.len()).sum();
        if count > COLLECTORS || wants > WANTS {
            return Err(format!(
                "module: the plugin has {count} collectors with {wants} wants; at most {COLLECTORS} with {WANTS} are allowed"
            ));
        }
        let granted = &manifest.spec.grants.node_files;
        let mut names = HashSet::new();
        let mut planned = Vec::with_capacity(count);
        // All of them, so that a manifest is put right in one go.
        let mut refusals = Vec::new();
        for wit::Collector { name, wants } in collectors {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
                return Err(format!(
                    "module: {name:?} is no name of a collector: 1 to 64 letters, digits and underscores"
                ));
            }
            if !names.insert(name.clone()) {
                return Err(format!("module: two collectors are called {name}"));
            }
            let checked = wants.into_iter().map(|want| {
                let look = match want.look {
                    wit::Look::Content => Look::Content,
                    wit::Look::Name => Look::Name,
                    wit::Look::Target => Look::Target,
                };
                Want::check(&want.glob, look, granted)
                    .map_err(|refusal| format!("grants.nodeFiles: collector {name}: {refusal}"))
            });
            let (wanted, refused): (Vec<_>, Vec<_>) = checked.partition(Result::is_ok);
            refusals.extend(refused.into_iter().filter_map(Result::err));
            let wants = wanted.into_iter().flatten().collect();
            planned.push(Collector {
                name: name.into(),
                wants,
            });
        }
        if !refusals.is_empty() {
            refusals.truncate(REFUSALS);
            return Err(refusals.join("\n"));
        }
        Ok(Self {
            collectors: planned,
        })
    }
}
