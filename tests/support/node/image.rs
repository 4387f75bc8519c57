//! Images made of a folder, without a builder and without a registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::support::sha256;

/// The machine's, as images call it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes the image of `folder/root`, as `docker save` does, and says where.
pub fn save(name: &str, folder: &Path, entrypoint: &[&str]) -> PathBuf {
    let files = folder.join("files");
    fs::create_dir_all(&files).unwrap();
    tar(&folder.join("root"), &files.join("layer.tar"));
    let layer = sha256(&fs::read(files.join("layer.tar")).unwrap());
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let write = |name: &str, value: &Value| fs::write(files.join(name), value.to_string()).unwrap();
    write("config.json", &config);
    write("manifest.json", &manifest);
    let image = folder.join("image.tar");
    tar(&files, &image);
    image
}

fn tar(folder: &Path, file: &Path) {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-C"]);
    let status = tar.arg(folder).arg("-cf").arg(file).arg(".").status();
    assert!(status.unwrap().success());
}

/// Puts a program into `folder/root`, with the libraries that it needs.
pub fn add(folder: &Path, program: &Path, path: &Path) {
    copy(program, &folder.join("root").join(path));
    let found = Command::new("ldd").arg(program).output().unwrap();
    // It says nothing of a static program that begins so.
    for line in String::from_utf8(found.stdout).unwrap().lines() {
        let mut words = line.split_whitespace();
        if let Some(library) = words.find(|word| word.starts_with('/')) {
            let path = library.trim_start_matches('/');
            copy(Path::new(library), &folder.join("root").join(path));
        }
    }
}

/// Puts the machine's public authorities, if it has any, where the image of `deploy/Containerfile` has them.
pub fn add_authorities(folder: &Path) {
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if bundle.exists() {
        let path = bundle.strip_prefix("/").unwrap();
        copy(bundle, &folder.join("root").join(path));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}
