//! `bulkhead check`: everything that an update would check, offline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::{Failed, OutputFormat, print};
use crate::daemon::checking::Checker;
use crate::manifest::{self, Document};

/// Check manifests as the daemon would before an update, without one.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bulkhead check manifests/*.yaml\n  bulkhead check --namespace bulkhead-system deploy/examples/log-shipper.yaml\n\nEnds with 1 if anything would be refused."
)]
pub(super) struct Check {
    /// ConfigMap YAML files.
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// The namespace of the daemon, which may declare plugins without a policy; that of a folder unless given.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The file with the node's policy; without it, that of a node without one.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What came of one document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    problems: Vec<String>,
}

impl Check {
    pub(super) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failed::new(error.to_string()))?;
        let checker = Checker::new()
            .and_then(|checker| checker.governed_by(self.namespace, self.policy.as_deref()))
            .map_err(Failed::new)?;
        let mut results = Vec::new();
        for path in &self.manifests {
            runtime.block_on(check_file(&checker, path, &mut results));
        }
        refuse_doubles(&mut results);
        let bad = results.iter().any(|checked| !checked.problems.is_empty());
        match self.output {
            OutputFormat::Json => {
                let page = serde_json::to_string_pretty(&results).unwrap_or_default();
                print(&(page + "\n"));
            }
            OutputFormat::Text => {
                print(&page(&results));
            }
        }
        Ok(ExitCode::from(u8::from(bad)))
    }
}

async fn check_file(checker: &Checker, path: &Path, results: &mut Vec<Checked>) {
    let checked = |plugin, digest, problems| Checked {
        file: path.to_owned(),
        plugin,
        digest,
        problems,
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let remedy = if path.is_dir() {
                format!("name its files, for example {}/*.yaml", path.display())
            } else {
                "correct the path, or make it readable".to_owned()
            };
            let problem = format!("{}: cannot be read: {error}: {remedy}", path.display());
            return results.push(checked(None, None, vec![problem]));
        }
    };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let before = results.len();
    for document in manifest::read(&absolute, &bytes) {
        match document {
            Document::Manifest(manifest) => {
                let plugin = Some(manifest.identity.to_string());
                match checker.check(Arc::from(manifest)).await {
                    Ok(digest) => results.push(checked(plugin, Some(digest), vec![])),
                    Err(problems) => results.push(checked(plugin, None, problems)),
                }
            }
            Document::Refused { identity, errors } => {
                let plugin = identity.map(|identity| identity.to_string());
                let problems = errors.iter().map(ToString::to_string).collect();
                results.push(checked(plugin, None, problems));
            }
            Document::Ignored {
                hint: Some(hint), ..
            } => {
                results.push(checked(None, None, vec![hint.to_string()]));
            }
            Document::Ignored { .. } => {}
        }
    }
    if results.len() == before {
        let problem = format!(
            "{}: declares no plugin: write a ConfigMap with the label {}: \"true\"",
            path.display(),
            manifest::LABEL
        );
        results.push(checked(None, None, vec![problem]));
    }
}

/// The daemon runs none of several manifests that declare one plugin.
fn refuse_doubles(results: &mut [Checked]) {
    let mut declared: BTreeMap<String, PathBuf> = BTreeMap::new();
    for checked in results {
        let Some(plugin) = &checked.plugin else {
            continue;
        };
        if let Some(other) = declared.insert(plugin.clone(), checked.file.clone()) {
            checked.problems.push(format!(
                "{}: metadata.name: {plugin} is also declared by {}: rename or delete one of them",
                checked.file.display(),
                other.display()
            ));
        }
    }
}

fn page(results: &[Checked]) -> String {
    let mut page = String::new();
    for checked in results {
        let plugin = checked.plugin.as_deref().unwrap_or("-");
        if checked.problems.is_empty() {
            let digest = checked.digest.as_deref().unwrap_or("-");
            let _ = writeln!(
                page,
                "ok       {} {plugin} {digest}",
                checked.file.display()
            );
        }
        for problem in &checked.problems {
            let _ = writeln!(page, "refused  {problem}");
        }
    }
    page
}
