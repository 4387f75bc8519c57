//! `bulkhead plugin build`: from a crate to a module.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::cargo;
use super::crate_folder::CrateFolder;
use crate::cli::{Failed, OutputFormat, bytes, print};

/// Build a plugin's crate: a component in target/plugin, and its digest.
///
/// Wraps `cargo build --release --target wasm32-wasip2`, adds the target if it is missing, and shortens the
/// names of functions, which backtraces show.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin build\n  bulkhead plugin build ./hello --output json\n  bulkhead plugin build -- --offline"
)]
pub(in crate::cli) struct Build {
    /// The crate's folder.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Given to cargo.
    #[arg(last = true, value_name = "OPTIONS")]
    cargo: Vec<String>,
}

impl Build {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let folder = CrateFolder::open(&self.path)?;
        let options: Vec<&str> = self.cargo.iter().map(String::as_str).collect();
        let built = cargo::build(&folder, "plugin", &options)?;
        print(&match self.output {
            OutputFormat::Json => {
                let digest = built.digest;
                json!({"path": built.path, "sizeBytes": built.size, "digest": digest}).to_string()
                    + "\n"
            }
            OutputFormat::Text => format!(
                "Module   {}\nSize     {}\nDigest   {}\n",
                built.path.display(),
                bytes(built.size),
                built.digest
            ),
        });
        Ok(ExitCode::SUCCESS)
    }
}
