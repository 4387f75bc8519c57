//! Cargo, asked to build a plugin.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::crate_folder::CrateFolder;
use super::names;
use crate::cli::Failed;
use crate::module::{self, Digest};

const TARGET: &str = "wasm32-wasip2";

/// A module that was built.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Builds the crate's component, into a folder of the target folder. What cargo says goes to stderr.
///
/// # Errors
/// If it does not build, or is no component.
pub(super) fn build(folder: &CrateFolder, into: &str, options: &[&str]) -> Result<Built, Failed> {
    ensure_target(folder)?;
    let artifact = compile(folder, options)?;
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        Failed::new(format!("{}: {error}", path.display()))
    };
    let component = module::named(&artifact).map_err(|error| wrong(&artifact, &error))?;
    let small = names::shorten(&component.bytes);
    // target/wasm32-wasip2/release/x.wasm
    let target = artifact.ancestors().nth(3).unwrap_or(&folder.0);
    let path = target.join(into);
    std::fs::create_dir_all(&path).map_err(|error| wrong(&path, &error))?;
    let path = path.join(
        artifact
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replace('_', "-"),
    );
    // Others may be reading the one before.
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&beside, &small)
        .and_then(|()| std::fs::rename(&beside, &path))
        .map_err(|error| wrong(&path, &error))?;
    Ok(Built {
        digest: Digest::of(&small),
        size: small.len() as u64,
        path,
    })
}

/// The file that cargo made.
fn compile(folder: &CrateFolder, options: &[&str]) -> Result<PathBuf, Failed> {
    let mut command = cargo();
    command
        .current_dir(&folder.0)
        .args(["build", "--lib", "--release", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(no_cargo)?;
    let mut artifact = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let message: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let manifest = message["manifest_path"].as_str().map(Path::new);
            if message["reason"] == "compiler-artifact"
                && manifest == Some(&folder.0.join("Cargo.toml"))
            {
                let files = message["filenames"].as_array().into_iter().flatten();
                let files = files.filter_map(|file| file.as_str());
                artifact = files
                    .filter(|file| file.ends_with(".wasm"))
                    .map(PathBuf::from)
                    .next()
                    .or(artifact);
            }
        }
    }
    let status = child.wait().map_err(no_cargo)?;
    if !status.success() {
        return Err(Failed::new(
            "the plugin does not build; what cargo said is above",
        ));
    }
    artifact.ok_or_else(|| {
        Failed::new(format!(
            "{}: makes no component: write crate-type = [\"cdylib\", \"rlib\"] under [lib]",
            folder.0.join("Cargo.toml").display()
        ))
    })
}

/// As the environment names it.
pub(super) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

pub(super) fn no_cargo(error: std::io::Error) -> Failed {
    Failed::new(format!(
        "cargo cannot be started: {error}; plugins are built with Rust: install it from https://rustup.rs"
    ))
}

/// Leaves out of a fresh Cargo.lock what the crate does not need, which takes no network. Without cargo, or
/// without the packages, the first build does it.
pub(super) fn trim_lock(folder: &Path) {
    let _ = cargo()
        .current_dir(folder)
        .args(["metadata", "--offline", "--format-version", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Adds the target, if rustup knows that it is missing. Without rustup cargo says what is.
fn ensure_target(folder: &CrateFolder) -> Result<(), Failed> {
    // The crate may name a toolchain of its own.
    let rustup = || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(&folder.0);
        rustup
    };
    let listed = rustup()
        .args(["target", "list", "--installed"])
        .stderr(Stdio::null())
        .output();
    let Ok(listed) = listed else {
        return Ok(());
    };
    let installed = String::from_utf8_lossy(&listed.stdout);
    if !listed.status.success() || installed.lines().any(|line| line == TARGET) {
        return Ok(());
    }
    tell(&format!("the target {TARGET} is missing; rustup adds it"));
    let added = rustup()
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failed::new(format!(
            "the target {TARGET} is missing and could not be added; run: rustup target add {TARGET}"
        ))),
    }
}

/// To stderr, where cargo's own words go.
pub(super) fn tell(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
