//! `bulkhead enforcement plan`: what would be changed, without a daemon.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::super::run::label;
use super::super::{Failed, OutputFormat, print};
use super::CHANGES;
use crate::daemon::checking::Checker;
use crate::manifest::{self, Document, Manifest};
use crate::role::enforcement::{ChangeReport, ChangeState, DryRun, RuleReport, Verdict};

/// Show what a manifest would change on this node, as a unified diff. Changes nothing.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bulkhead enforcement plan manifests/hardening.yaml\n\nEnds with 0 if there is nothing to change, 2 if there is something, 1 if it cannot be told."
)]
pub(in crate::cli) struct Plan {
    /// A ConfigMap YAML file.
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,
    /// Where the node's root folder is.
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
    /// The file with the node's policy; all is allowed unless given.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A label of the node; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    node_label: Vec<(String, String)>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What is printed of one manifest, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned {
    plugin: String,
    changes: Vec<ChangeReport>,
    rules: Vec<RuleReport>,
}

impl Plan {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failed::new(error.to_string()))?;
        let checker = Checker::below(&self.host_root).map_err(Failed::new)?;
        let labels: BTreeMap<String, String> = self.node_label.iter().cloned().collect();
        let mut planned = Vec::new();
        for manifest in manifests(&self.manifest)? {
            let plugin = manifest.identity.to_string();
            let run = checker.plan(manifest, self.policy.as_deref(), &labels);
            let DryRun { changes, rules } = runtime
                .block_on(run)
                .map_err(|problems| Failed::new(problems.join("\n")))?;
            planned.push(Planned {
                plugin,
                changes,
                rules,
            });
        }
        let off = planned.iter().any(|planned| !planned.changes.is_empty());
        print(&match self.output {
            OutputFormat::Json => serde_json::to_string_pretty(&planned).unwrap_or_default() + "\n",
            OutputFormat::Text => planned.iter().map(page).collect(),
        });
        Ok(ExitCode::from(if off { CHANGES } else { 0 }))
    }
}

fn manifests(path: &Path) -> Result<Vec<Arc<Manifest>>, Failed> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failed::new(format!(
            "{}: cannot be read: {error}: correct the path, or make it readable",
            path.display()
        ))
    })?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for document in manifest::read(&absolute, &bytes) {
        match document {
            Document::Manifest(manifest) => manifests.push(Arc::from(manifest)),
            Document::Refused { errors, .. } => {
                problems.extend(errors.iter().map(ToString::to_string));
            }
            Document::Ignored { hint, .. } => problems.extend(hint.map(|hint| hint.to_string())),
        }
    }
    if problems.is_empty() && manifests.is_empty() {
        problems.push(format!(
            "{}: declares no plugin: write a ConfigMap with the label {}: \"true\"",
            path.display(),
            manifest::LABEL
        ));
    }
    match problems.is_empty() {
        true => Ok(manifests),
        false => Err(Failed::new(problems.join("\n"))),
    }
}

fn page(planned: &Planned) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    for change in &planned.changes {
        let ChangeReport {
            id,
            kind,
            subject,
            reason,
            message,
            diff,
            state,
            ..
        } = change;
        let why = match state {
            ChangeState::Pending => reason,
            _ => message,
        };
        let word = match state {
            ChangeState::Pending => "change",
            _ => "cannot",
        };
        let _ = writeln!(page, "# {word} {kind} {subject} ({id}): {why}");
        page.push_str(diff);
        if !diff.is_empty() && !diff.ends_with('\n') {
            page.push('\n');
        }
    }
    let count = |verdict| {
        planned
            .rules
            .iter()
            .filter(|it| it.verdict == verdict)
            .count()
    };
    for rule in planned
        .rules
        .iter()
        .filter(|it| it.verdict == Verdict::Error)
    {
        let _ = writeln!(page, "# error {}: {}", rule.id, rule.message);
    }
    let able = planned.changes.iter();
    let able = able.filter(|it| it.state == ChangeState::Pending).count();
    let _ = writeln!(
        page,
        "# {}: {able} to change, {} that cannot be; rules: {} pass, {} fail, {} not applicable, {} error",
        planned.plugin,
        planned.changes.len() - able,
        count(Verdict::Pass),
        count(Verdict::Fail),
        count(Verdict::NotApplicable),
        count(Verdict::Error),
    );
    // What a plugin says must not steer the terminal; tabs are part of files.
    page.replace(
        |it: char| it.is_control() && !matches!(it, '\n' | '\t'),
        " ",
    )
}
