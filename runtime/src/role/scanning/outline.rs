//! What a plugin's `start` answers: its rules, and what it wants to be shown.

use std::sync::Arc;

use super::feed::{Interest, Wanted};
use super::findings::Rules;
use super::snapshot::Wants;
use crate::manifest::{Grants, Manifest};
use crate::module::Digest;
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;
use crate::sandbox::{Cause, Failure, Instance};

/// The most bytes of a digest of rules.
const RULE_SET: usize = 64;
/// The most wants.
const WANTS: usize = 4096;

const START: &str = "scanning.start";

/// Bytes of an instance's memory when it had judged nothing yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh(pub(super) u64);

/// What one instance is about.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) rules: Arc<Rules>,
    /// What of files it is passed; none if it scans none.
    pub(super) files: Option<Interest>,
    pub(super) wants: Arc<Wants>,
    /// A digest of all that decides about a file: of the module, and the plugin's own of its rules.
    pub(super) rule_set: Vec<u8>,
}

/// Asks a fresh instance what it is about, and keeps that with it. The inner error is for who wrote the
/// manifest or the plugin.
pub(super) async fn prepare(
    manifest: &Manifest,
    instance: &mut Instance,
) -> Result<Result<(), String>, Failure> {
    let guest = instance.scanning().ok_or_else(|| {
        let message = "the component does not export bulkhead:plugin/scanning";
        Failure::new(START, Cause::BrokenPromise, message)
    })?;
    let answer = instance
        .call(START, move |store, _| {
            Box::pin(async move { guest.call_start(store).await })
        })
        .await?;
    let module = instance.noted::<Digest>().copied();
    let outline = match answer {
        Ok(outline) => Outline::check(outline, module, &manifest.spec.grants),
        Err(message) => Err(format!("scanning: the plugin does not start: {message}")),
    };
    instance.note(Fresh(instance.memory()));
    Ok(outline.map(|outline| instance.note(Arc::new(outline))))
}

impl Outline {
    fn check(
        outline: wit::Outline,
        module: Option<Digest>,
        grants: &Grants,
    ) -> Result<Self, String> {
        let wants = outline.wants.len();
        if wants > WANTS {
            return Err(format!(
                "module: the plugin has {wants} wants; at most {WANTS} are allowed"
            ));
        }
        if !(1..=RULE_SET).contains(&outline.rule_set.len()) {
            return Err(format!(
                "module: the digest of the plugin's rules has {} bytes; 1 to {RULE_SET} are allowed",
                outline.rule_set.len()
            ));
        }
        let rules = Rules::check(outline.rules).map_err(|broken| format!("module: {broken}"))?;
        let wants = Wants::check(&outline.wants, grants).map_err(|(_, why)| {
            format!("grants: the plugin wants to see what it may not: {why}")
        })?;
        let files = outline.files.map(|interest| Interest {
            content: interest.content,
            digests: Wanted {
                sha256: interest.sha256,
                sha1: interest.sha1,
                md5: interest.md5,
                blake3: interest.blake3,
            },
            attributes: interest.attributes,
            others: interest.others,
        });
        if files.is_some() && grants.scan.files.is_empty() {
            return Err(
                "grants: the plugin scans files, and none are granted; add to the manifest: `grants: {scan: {files: [/]}}`, or the folders that are to be scanned".to_owned(),
            );
        }
        Ok(Self {
            rules: Arc::new(rules),
            files,
            wants: Arc::new(wants),
            rule_set: rule_set(module, &outline.rule_set),
        })
    }
}

/// Another module may judge otherwise by the same rules, whatever it says.
fn rule_set(module: Option<Digest>, rules: &[u8]) -> Vec<u8> {
    let mut all = module
        .map(|Digest(bytes)| bytes.to_vec())
        .unwrap_or_default();
    all.extend_from_slice(rules);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_module_with_the_same_rules_judges_again() {
        let of = |module: &[u8]| rule_set(Some(Digest::of(module)), b"rules");
        assert_eq!(of(b"a"), of(b"a"));
        assert_ne!(of(b"a"), of(b"b"));
        assert_ne!(of(b"a"), rule_set(Some(Digest::of(b"a")), b"others"));
    }
}
