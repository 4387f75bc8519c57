//! `bulkhead plugin check`: whether a module and its manifest fit together.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::declared::{Declared, module_of};
use crate::cli::{Failed, OutputFormat, bytes, print};
use crate::daemon::checking::{Checker, Inspection};
use crate::manifest::Grants;
use crate::plugin::check_config;

/// Check a module, alone or with its manifest: imports against grants, the configuration against the schema,
/// and all that an update would check.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin check target/plugin/hello.wasm\n  bulkhead plugin check target/plugin/hello.wasm --manifest plugin.yaml\n\nEnds with 1 if the module would be refused."
)]
pub(in crate::cli) struct Check {
    /// The file of a component, or of a zstd frame that holds one; or the name of a bundled plugin.
    module: PathBuf,
    /// A ConfigMap, or what stands under its key plugin.yaml; its module is not looked at.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    module: PathBuf,
    digest: String,
    size_bytes: u64,
    roles: Vec<&'static str>,
    /// The grants to add to the manifest, as YAML; with none given, all that the imports need.
    #[serde(skip_serializing_if = "String::is_empty")]
    grants_to_add: String,
    problems: Vec<String>,
    /// What a node refuses unless its policy allows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policy: Vec<String>,
}

impl Check {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failed::new(error.to_string()))?;
        let checker = Checker::new().map_err(Failed::new)?;
        let inspection = runtime
            .block_on(checker.inspect(&self.module))
            .map_err(|error| Failed::new(format!("{}: {error}", self.module.display())))?;
        let mut report = Report {
            module: self.module.clone(),
            digest: inspection.digest.to_string(),
            size_bytes: inspection.size,
            roles: inspection
                .interfaces
                .roles
                .iter()
                .map(|it| it.name())
                .collect(),
            grants_to_add: String::new(),
            problems: Vec::new(),
            policy: Vec::new(),
        };
        match &self.manifest {
            None => report.grants_to_add = yaml(&inspection.grants, &Grants::default()),
            Some(path) => {
                let module = module_of(&self.module, inspection.digest)?;
                match Declared::read(path, module) {
                    Err(problems) => report.problems = problems,
                    Ok(declared) => {
                        runtime.block_on(compare(&checker, &inspection, declared, &mut report));
                    }
                }
            }
        }
        let is_wrong = !report.problems.is_empty();
        print(&match self.output {
            OutputFormat::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
            OutputFormat::Text => page(&report, self.manifest.is_some()),
        });
        Ok(ExitCode::from(u8::from(is_wrong)))
    }
}

async fn compare(
    checker: &Checker,
    inspection: &Inspection,
    declared: Declared,
    report: &mut Report,
) {
    let spec = &declared.manifest.spec;
    report.grants_to_add = yaml(&inspection.grants, &spec.grants);
    if !report.grants_to_add.is_empty() {
        let place = declared.place("grants");
        report.problems.push(format!(
            "{place}: grants: the module imports what is not granted"
        ));
    }
    if let Err(problems) = check_config(&inspection.description.config_schema, &spec.config.value())
    {
        for problem in problems.lines() {
            let field = problem.split(": ").next().unwrap_or("config");
            let place = declared.place(field);
            report.problems.push(format!("{place}: {problem}"));
        }
    }
    let refused = checker.refused(&declared.manifest).into_iter();
    report.policy = refused.map(|error| declared.tell(error)).collect();
    if report.problems.is_empty()
        && let Err(problems) = checker.fits(Arc::new(declared.manifest)).await
    {
        report.problems = problems;
    }
}

/// The grants that are needed and not there, as they stand in a manifest.
pub(super) fn yaml(needed: &Grants, given: &Grants) -> String {
    let mut yaml = String::new();
    if let (Some(state), None) = (&needed.state, &given.state) {
        // Writing to a string does not fail.
        let _ = writeln!(yaml, "  state:\n    quota: {}", state.quota);
    }
    if needed.node_facts && !given.node_facts {
        yaml.push_str("  nodeFacts: true\n");
    }
    if needed.node_stats && !given.node_stats {
        yaml.push_str("  nodeStats: true\n");
    }
    match yaml.is_empty() {
        true => yaml,
        false => format!("grants:\n{yaml}"),
    }
}

fn page(report: &Report, with_manifest: bool) -> String {
    let mut page = String::new();
    let module = report.module.display();
    for problem in &report.problems {
        let _ = writeln!(page, "refused  {problem}");
    }
    if report.problems.is_empty() {
        let _ = writeln!(
            page,
            "ok       {module}: {}, {}, {}",
            report.roles.join(" and "),
            bytes(report.size_bytes),
            report.digest
        );
    }
    if !report.grants_to_add.is_empty() {
        let why = match with_manifest {
            true => "Add to the manifest",
            false => "Its imports need these grants",
        };
        let _ = writeln!(page, "{why}:\n{}", report.grants_to_add.trim_end());
    }
    for needs in &report.policy {
        let _ = writeln!(page, "policy   {needs}");
    }
    page
}
