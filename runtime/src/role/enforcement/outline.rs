//! What a plugin's `start` answers: the rules that it stands for, and what it wants to see.

use std::collections::HashSet;
use std::sync::Arc;

use super::effects::Wants;
use crate::manifest::{Grants, Manifest};
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;
use crate::sandbox::{Cause, Failure, Instance};

/// The most rules and wants of a plugin.
const RULES: usize = 4096;
const WANTS: usize = 8192;
/// The most bytes of an id, a title and a text.
const ID: usize = 128;
const TITLE: usize = 256;
const TEXT: usize = 2048;

const START: &str = "enforcement.start";

/// What one instance is about.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) rules: Vec<Rule>,
    pub(super) ids: Arc<[Arc<str>]>,
    pub(super) wants: Arc<Wants>,
}

/// One thing that should be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) severity: &'static str,
    pub(super) rationale: String,
    pub(super) remediation: String,
}

/// Asks a fresh instance what it is about, and keeps that with it. The inner error is for who wrote the
/// manifest or the plugin.
pub(super) async fn prepare(
    manifest: &Manifest,
    instance: &mut Instance,
) -> Result<Result<(), String>, Failure> {
    let guest = instance.enforcement().ok_or_else(|| {
        let message = "the component does not export bulkhead:plugin/enforcement";
        Failure::new(START, Cause::BrokenPromise, message)
    })?;
    let answer = instance
        .call(START, move |store, _| {
            Box::pin(async move { guest.call_start(store).await })
        })
        .await?;
    let outline = match answer {
        Ok(outline) => Outline::check(outline, &manifest.spec.grants),
        Err(message) => Err(format!("enforcement: the plugin does not start: {message}")),
    };
    Ok(outline.map(|outline| instance.note(Arc::new(outline))))
}

impl Outline {
    fn check(outline: wit::Outline, grants: &Grants) -> Result<Self, String> {
        let (rules, wants) = (outline.rules.len(), outline.wants.len());
        if rules > RULES || wants > WANTS {
            return Err(format!(
                "module: the plugin has {rules} rules and {wants} wants; at most {RULES} and {WANTS} are allowed"
            ));
        }
        let mut ids = HashSet::new();
        let mut checked = Vec::with_capacity(rules);
        for rule in outline.rules {
            let id = &rule.id;
            let fits = (1..=ID).contains(&id.len()) && !id.chars().any(char::is_control);
            let texts = [&rule.rationale, &rule.remediation];
            if !fits || rule.title.len() > TITLE || texts.iter().any(|text| text.len() > TEXT) {
                return Err(format!(
                    "module: the rule {id:?} is not as the contract has it: an id of 1 to {ID} bytes without control characters, a title of at most {TITLE} bytes, texts of at most {TEXT}"
                ));
            }
            if !ids.insert(id.clone()) {
                return Err(format!("module: two rules have the id {id:?}"));
            }
            checked.push(Rule {
                severity: match rule.severity {
                    wit::Severity::Info => "info",
                    wit::Severity::Low => "low",
                    wit::Severity::Medium => "medium",
                    wit::Severity::High => "high",
                    wit::Severity::Critical => "critical",
                },
                id: rule.id,
                title: rule.title,
                rationale: rule.rationale,
                remediation: rule.remediation,
            });
        }
        let wants = Wants::check(&outline.wants, grants);
        let wants = wants.map_err(|(_, why)| {
            format!("grants: the plugin wants to see what it may not: {why}")
        })?;
        Ok(Self {
            ids: checked.iter().map(|rule| rule.id.as_str().into()).collect(),
            rules: checked,
            wants: Arc::new(wants),
        })
    }
}
