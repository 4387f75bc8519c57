//! `bulkhead plugin test`: a crate's tests, natively and inside the sandbox.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use clap::Args;

use super::answer_calls::cache;
use super::cargo::{self, tell};
use super::crate_folder::CrateFolder;
use super::puppet::Puppet;
use crate::cli::Failed;
use crate::sandbox::Answers;

/// Run a crate's tests twice: natively, and with the built component inside the real sandbox.
///
/// In the sandbox, the SDK's `testing::Harness` calls the component in a process of its own; what the plugin
/// imports is answered by the same fakes.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin test\n  bulkhead plugin test --only sandbox\n  bulkhead plugin test -- greets\n\nEnds with 1 if a test fails in either."
)]
pub(in crate::cli) struct Test {
    /// The crate's folder.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Run them in one of the two.
    #[arg(long, value_enum, value_name = "WHERE")]
    only: Option<Where>,
    /// Given to `cargo test`.
    #[arg(last = true, value_name = "OPTIONS")]
    cargo: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Where {
    Native,
    Sandbox,
}

impl Test {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let folder = CrateFolder::open(&self.path)?;
        let mut failed = Vec::new();
        if self.only != Some(Where::Sandbox) {
            tell("tests, natively");
            if !self.run(&folder, |_| {})? {
                failed.push("natively");
            }
        }
        if self.only != Some(Where::Native) {
            let built = cargo::build(&folder, "test", &for_build(&self.cargo))?;
            // Compiled here once, not by each test.
            Puppet::open(&built.path, cache(&built.path).as_deref(), Arc::new(Nobody))?;
            let program = std::env::current_exe()
                .map_err(|error| Failed::new(format!("cannot find this program: {error}")))?;
            tell("tests, inside the sandbox");
            let inside = |command: &mut Command| {
                command
                    .env("BULKHEAD_TEST_PROGRAM", &program)
                    .env("BULKHEAD_TEST_MODULE", &built.path);
            };
            if !self.run(&folder, inside)? {
                failed.push("inside the sandbox");
            }
        }
        match failed.is_empty() {
            true => Ok(ExitCode::SUCCESS),
            false => Err(Failed::new(format!(
                "tests failed {}",
                failed.join(" and ")
            ))),
        }
    }

    fn run(&self, folder: &CrateFolder, set: impl FnOnce(&mut Command)) -> Result<bool, Failed> {
        let mut command = cargo::cargo();
        command
            .current_dir(&folder.0)
            .args(["test", "--lib"])
            .args(&self.cargo)
            .env_remove("BULKHEAD_TEST_PROGRAM")
            .env_remove("BULKHEAD_TEST_MODULE");
        set(&mut command);
        let status = command.status().map_err(cargo::no_cargo)?;
        Ok(status.success())
    }
}

/// Of the options for `cargo test`, those that say what is built.
fn for_build(options: &[String]) -> Vec<&str> {
    const ALONE: [&str; 5] = [
        "--offline",
        "--locked",
        "--frozen",
        "--all-features",
        "--no-default-features",
    ];
    const WITH_VALUE: [&str; 3] = ["--features", "-F", "--config"];
    let mut kept = Vec::new();
    // After a second `--` come the test program's own.
    let mut options = options
        .iter()
        .map(String::as_str)
        .take_while(|it| *it != "--");
    while let Some(option) = options.next() {
        let (name, value) = option.split_once('=').unzip();
        if ALONE.contains(&option) || name.is_some_and(|name| WITH_VALUE.contains(&name)) {
            kept.push(option);
        } else if value.is_none() && WITH_VALUE.contains(&option) {
            kept.push(option);
            kept.extend(options.next());
        }
    }
    kept
}

/// For a component that is compiled and not called.
struct Nobody;

impl Answers for Nobody {
    fn answer(&self, _: &str, _: Vec<serde_json::Value>) -> Result<serde_json::Value, String> {
        Err("nobody answers".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_told_cargo_in_both_runs() {
        let options =
            "--offline greets --features a,b --features=c --nocapture -F d -- --features e";
        let options: Vec<String> = options.split(' ').map(str::to_owned).collect();
        let expected = "--offline --features a,b --features=c -F d";
        assert_eq!(for_build(&options), expected.split(' ').collect::<Vec<_>>());
    }
}
