//! `bulkhead plugin new`: a crate that builds, tests and runs at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{cargo, sdk};
use crate::cli::{Failed, OutputFormat, print};
use crate::manifest::{Identity, LOCAL_NAMESPACE};

/// Begin a plugin: a crate with a test, a manifest and a README, in a folder of its name.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin new hello --role logs\n  bulkhead plugin new load --role metrics --sdk ~/bulkhead"
)]
pub(in crate::cli) struct New {
    /// The plugin's name: lower-case letters, digits and hyphens.
    name: String,
    /// What it does: ship logs, measure, keep the node as it should be, or judge it.
    #[arg(long, value_enum)]
    role: Role,
    /// The folder to make; named as the plugin unless given.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// A checkout of Bulkhead whose SDK is used, instead of a copy of the one in this program.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Logs,
    Metrics,
    Enforcement,
    Scanning,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Enforcement => "enforcement",
            Self::Scanning => "scanning",
        }
    }

    /// `src/lib.rs` and `plugin.yaml`.
    fn template(self) -> (&'static str, &'static str) {
        match self {
            Self::Logs => (
                include_str!("template/logs.rs"),
                include_str!("template/logs.yaml"),
            ),
            Self::Metrics => (
                include_str!("template/metrics.rs"),
                include_str!("template/metrics.yaml"),
            ),
            Self::Enforcement => (
                include_str!("template/enforcement.rs"),
                include_str!("template/enforcement.yaml"),
            ),
            Self::Scanning => (
                include_str!("template/scanning.rs"),
                include_str!("template/scanning.yaml"),
            ),
        }
    }
}

/// What cargo would refuse as a crate's name, or confuse with another crate of the plugin.
const TAKEN: [&str; 13] = [
    "alloc",
    "bulkhead-sdk",
    "build",
    "core",
    "deps",
    "examples",
    "incremental",
    "proc-macro",
    "schemars",
    "serde",
    "std",
    "test",
    "plugin",
];

impl New {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        check_name(&self.name)?;
        let folder = self
            .path
            .clone()
            .unwrap_or_else(|| self.name.clone().into());
        if fs::symlink_metadata(&folder).is_ok() {
            return Err(Failed::new(format!(
                "{}: is there already; choose another name, or another folder with --path",
                folder.display()
            )));
        }
        let checkout = match &self.sdk {
            Some(path) => Some(sdk::of_checkout(path).map_err(Failed::new)?),
            None => None,
        };
        let files = self.files(checkout.as_deref());
        let written = (|| {
            for (name, text) in &files {
                let path = folder.join(name);
                fs::create_dir_all(path.parent().unwrap_or(&folder))?;
                fs::write(path, text)?;
            }
            match checkout {
                Some(_) => Ok(()),
                None => sdk::unpack(&folder),
            }
        })();
        written.map_err(|error: std::io::Error| {
            // Half a crate would be in the way of the next try.
            let _ = fs::remove_dir_all(&folder);
            Failed::new(format!("{}: cannot be written: {error}", folder.display()))
        })?;
        cargo::trim_lock(&folder);
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        print(&match self.output {
            OutputFormat::Json => {
                let path = std::path::absolute(&folder).unwrap_or(folder);
                json!({"name": self.name, "role": self.role.name(), "path": path, "files": names})
                    .to_string()
                    + "\n"
            }
            OutputFormat::Text => format!(
                "{}: a plugin with the role {}; go on with\n  cd {}\n  bulkhead plugin run\n",
                folder.display(),
                self.role.name(),
                folder.display()
            ),
        });
        Ok(ExitCode::SUCCESS)
    }

    fn files(&self, checkout: Option<&Path>) -> Vec<(&'static str, String)> {
        let (library, manifest) = self.role.template();
        let sdk = checkout.map_or(sdk::FOLDER.to_owned(), |path| path.display().to_string());
        let fill = |template: &str| {
            template
                .replace("@NAME@", &self.name)
                .replace("@SNAKE@", &self.name.replace('-', "_"))
                .replace("@TYPE@", &type_name(&self.name))
                .replace("@ROLE@", self.role.name())
                .replace("@SDK@", &sdk.replace('\\', "\\\\").replace('"', "\\\""))
                .replace("@DEPENDENCIES@", sdk::dependencies())
        };
        vec![
            ("Cargo.toml", fill(include_str!("template/Cargo.toml.txt"))),
            ("Cargo.lock", sdk::lock(&self.name)),
            ("src/lib.rs", fill(library)),
            ("plugin.yaml", fill(manifest)),
            ("README.md", fill(include_str!("template/README.md.txt"))),
            (
                ".cargo/config.toml",
                fill(include_str!("template/config.toml.txt")),
            ),
            (".gitignore", "/target\n".to_owned()),
        ]
    }
}

fn check_name(name: &str) -> Result<(), Failed> {
    let wrong = |why: &str| Failed {
        message: format!("{name:?} cannot be a plugin's name: {why}"),
        code: 2,
    };
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) || name.contains('.') {
        return Err(wrong(
            "it begins with a lower-case letter, and goes on with letters, digits and hyphens",
        ));
    }
    Identity::new(LOCAL_NAMESPACE, name).map_err(|error| wrong(&error.to_string()))?;
    if TAKEN.contains(&name) {
        return Err(wrong("cargo or a crate that it needs has it"));
    }
    Ok(())
}

/// `my-plugin` as `MyPlugin`.
fn type_name(name: &str) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let name: String = name.split('-').map(capital).collect();
    // What the template uses itself.
    const USED: [&str; 23] = [
        "Batch",
        "Collector",
        "Context",
        "Enforcement",
        "Err",
        "Families",
        "Findings",
        "Logs",
        "Metrics",
        "NoConfig",
        "None",
        "Ok",
        "Option",
        "Outline",
        "Output",
        "Password",
        "Plan",
        "Plugin",
        "Result",
        "Rule",
        "Scanning",
        "Some",
        "View",
    ];
    match USED.contains(&name.as_str()) {
        true => name + "Plugin",
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_types() {
        assert_eq!(type_name("my-plugin-2"), "MyPlugin2");
        assert_eq!(type_name("logs"), "LogsPlugin");
    }

    #[test]
    fn names_that_fit_nowhere_are_refused() {
        for name in [
            "", "Hello", "1st", "a.b", "a_b", "-a", "serde", "../x", "a/b",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("web-2").is_ok());
    }
}
