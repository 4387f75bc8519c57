//! Builds the bundled plugins for the sandbox and writes the list that `module::bundled` includes.
//! With the feature `test-faults` it builds the tests' plugins as well. And it embeds the SDK.

#[path = "build/sdk.rs"]
mod sdk;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "guest";

/// Package names; a bundled plugin goes by the name of its package.
const BUNDLED: &[&str] = &[
    "config-enforcer",
    "log-shipper",
    "node-metrics",
    "security-scanner",
];
const FIXTURES: &[&str] = &[
    "fixture-enforcement",
    "fixture-grants",
    "fixture-killer",
    "fixture-logs",
    "fixture-metrics",
    "fixture-minimal",
    "fixture-network",
    "tutorial-load",
    "tutorial-motd",
    "tutorial-watchman",
];

/// Those of the fixtures that want features of the SDK which others shall not get: what is built at once gets the
/// features of all.
const ALONE: &[&str] = &["fixture-facades"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let fixtures = std::env::var_os("CARGO_FEATURE_TEST_FAULTS").is_some();
    for path in [
        ".cargo/config.toml",
        "Cargo.toml",
        "Cargo.lock",
        "sdk",
        "plugins",
        "tests/plugins",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    // A folder of its own: the outer cargo holds the lock of the usual one. Beside it, so that all
    // profiles and features share one build of the plugins.
    let target_dir = out
        .ancestors()
        .find(|folder| folder.join(".rustc_info.json").exists())
        .unwrap_or(&out)
        .join("guests");
    let mut packages = BUNDLED.to_vec();
    if fixtures {
        packages.extend(FIXTURES);
    }
    sdk::embed(&root, &out)?;
    build(&root, &target_dir, &packages)?;
    if fixtures {
        build(&root, &target_dir, ALONE)?;
    }
    let modules = target_dir.join(TARGET).join(PROFILE);
    let mut list = "static BUNDLED: &[Bundled] = &[\n".to_owned();
    for package in BUNDLED {
        let path = out.join(format!("{package}.wasm"));
        let bytes = std::fs::read(modules.join(format!("{}.wasm", package.replace('-', "_"))))?;
        std::fs::write(&path, &bytes)?;
        let digest = <[u8; 32]>::from(Sha256::digest(&bytes));
        writeln!(
            list,
            "    Bundled {{ name: {package:?}, digest: Digest({digest:?}), bytes: include_bytes!({path:?}) }},"
        )?;
    }
    list.push_str("];\n");
    std::fs::write(out.join("bundled.rs"), list)?;
    if fixtures {
        println!("cargo::rustc-env=BULKHEAD_FIXTURES={}", modules.display());
    }
    Ok(())
}

fn build(
    root: &Path,
    target_dir: &Path,
    packages: &[&str],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut cargo = Command::new(std::env::var("CARGO")?);
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--target",
            TARGET,
            "--profile",
            PROFILE,
        ])
        .arg("--target-dir")
        .arg(target_dir);
    for package in packages {
        cargo.args(["--package", package]);
    }
    // What the outer cargo (or clippy) set is for the host.
    for (name, _) in std::env::vars() {
        let of_outer = name.starts_with("CARGO_FEATURE_")
            || name.starts_with("CARGO_CFG_")
            || matches!(
                name.as_str(),
                "CARGO_ENCODED_RUSTFLAGS"
                    | "RUSTFLAGS"
                    | "RUSTC_WRAPPER"
                    | "RUSTC_WORKSPACE_WRAPPER"
                    | "CLIPPY_ARGS"
                    | "CARGO_TARGET_DIR"
                    | "RUSTDOCFLAGS"
                    | "CARGO_MAKEFLAGS"
                    | "MAKEFLAGS"
            );
        if of_outer {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!(
            "building the plugins for {TARGET} failed ({status}); if the target is missing, run: rustup target add {TARGET}"
        )
        .into());
    }
    Ok(())
}
