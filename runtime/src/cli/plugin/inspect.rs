//! `bulkhead plugin inspect`: what a module is and wants.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::{Failed, OutputFormat, bytes, print};
use crate::daemon::checking::{Checker, Inspection};
use crate::manifest::Grants;

/// Show a module's roles, imports, configuration schema, size and digest.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin inspect my_plugin.wasm\n  bulkhead plugin inspect log-shipper"
)]
pub(in crate::cli) struct Inspect {
    /// The file of a component, or of a zstd frame that holds one; or the name of a bundled plugin.
    module: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

impl Inspect {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failed::new(error.to_string()))?;
        let checker = Checker::new().map_err(Failed::new)?;
        let Inspection {
            digest,
            size,
            interfaces,
            description,
            grants,
        } = runtime
            .block_on(checker.inspect(&self.module))
            .map_err(|error| Failed::new(format!("{}: {error}", self.module.display())))?;
        let schema: serde_json::Value =
            serde_json::from_str(&description.config_schema).unwrap_or_default();
        if self.output == OutputFormat::Json {
            let report = json!({
                "name": description.name,
                "version": description.version,
                "digest": digest,
                "sizeBytes": size,
                "roles": interfaces.roles,
                "imports": interfaces.imports,
                "grants": grants,
                "configSchema": schema,
            });
            print(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"));
            return Ok(ExitCode::SUCCESS);
        }
        let mut page = String::new();
        let roles: Vec<_> = interfaces.roles.iter().map(|role| role.name()).collect();
        let _ = writeln!(
            page,
            "Name     {} {}",
            description.name, description.version
        );
        let _ = writeln!(page, "Digest   {digest}");
        let _ = writeln!(page, "Size     {}", bytes(size));
        let _ = writeln!(page, "Roles    {}", roles.join(", "));
        let _ = writeln!(page, "Imports");
        for import in &interfaces.imports {
            let _ = writeln!(page, "  {import}");
        }
        let needed = super::check::yaml(&grants, &Grants::default());
        if !needed.is_empty() {
            let _ = write!(page, "Grants that its imports need\n{needed}");
        }
        let schema = serde_json::to_string_pretty(&schema).unwrap_or_default();
        let _ = writeln!(page, "Configuration schema\n{schema}");
        print(&page);
        Ok(ExitCode::SUCCESS)
    }
}
