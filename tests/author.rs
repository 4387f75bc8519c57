//! The author's command line, through the real binary and without a network: a plugin from its first line to one
//! that is recorded on a node and run again elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use support::author::{bulkhead, command, fails, json_lines, text, works};
use support::{PATIENCE, fixture_module};

/// A crate of its own name, since crates share a target folder.
fn new_crate(name: &str, role: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), &["plugin", "new", name, "--role", role]);
    let path = folder.path().join(name);
    (folder, path)
}

/// `bulkhead plugin COMMAND` of a module with the manifest in the folder.
fn with_manifest<'a>(command: &'a str, module: &'a str) -> [&'a str; 5] {
    ["plugin", command, module, "--manifest", "plugin.yaml"]
}

/// Of the plugin itself: what is neither blank nor comment, and no test.
fn own_lines(source: &str) -> usize {
    let (own, _) = source.split_once("#[cfg(test)]").unwrap();
    let lines = own.lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    // What every plugin begins and ends with.
    code.filter(|line| !line.starts_with("use ") && !line.starts_with("bulkhead_sdk::export!"))
        .count()
}

fn a_new_plugin_works_at_once(role: &str) {
    let name = format!("new-{role}");
    let (_folder, path) = new_crate(&name, role);
    for file in ["Cargo.lock", ".gitignore", "README.md", "plugin.yaml"] {
        assert!(path.join(file).is_file(), "{file}");
    }
    let source = fs::read_to_string(path.join("src/lib.rs")).unwrap();
    assert!(own_lines(&source) <= 20, "{}: {source}", own_lines(&source));
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    assert!(readme.lines().count() <= 10);

    let tested = bulkhead(&path, &["plugin", "test"]);
    let told = text(&tested.stdout) + &text(&tested.stderr);
    assert!(tested.status.success(), "{told}");
    assert_eq!(
        told.matches("test result: ok. 1 passed").count(),
        2,
        "{told}"
    );

    let built = works(
        &path,
        &["plugin", "build", "--output", "json", "--", "--locked"],
    );
    let built: Value = serde_json::from_str(&built).unwrap();
    let module = built["path"].as_str().unwrap();
    let bytes = fs::read(module).unwrap();
    assert_eq!(built["digest"], support::sha256(&bytes));
    assert!(bytes.len() <= 150 << 10, "{} bytes", bytes.len());
    let checked = works(&path, &with_manifest("check", module));
    assert!(checked.starts_with("ok "), "{checked}");
    assert!(checked.contains(role), "{checked}");

    let packed = works(
        &path,
        &[
            "plugin",
            "pack",
            module,
            "--name",
            &name,
            "--spec",
            "plugin.yaml",
            "--inline",
        ],
    );
    assert!(packed.contains("module.wasm.zst"), "{packed}");

    let shown = works(&path, &["plugin", "run", "--once"]);
    let expected = match role {
        "logs" => "~ hello, world\n  hello, world  {\"greeting\":\"hello\"}\n- \n",
        "metrics" => "gauge  new_metrics_load ",
        "enforcement" => "WriteFile /etc/motd",
        _ => "no findings\n",
    };
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn a_new_plugin_for_logs_works_at_once() {
    a_new_plugin_works_at_once("logs");
}

#[test]
fn a_new_plugin_for_metrics_works_at_once() {
    a_new_plugin_works_at_once("metrics");
}

#[test]
fn a_new_plugin_for_enforcement_works_at_once() {
    a_new_plugin_works_at_once("enforcement");
}

#[test]
fn a_new_plugin_for_scanning_works_at_once() {
    a_new_plugin_works_at_once("scanning");
}

#[test]
fn names_and_folders_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["Hello", "a_b", "serde", "../a"] {
        fails(
            folder,
            &["plugin", "new", name, "--role", "logs"],
            2,
            &["cannot be a plugin's name"],
        );
    }
    fs::create_dir(folder.join("there")).unwrap();
    let parts = ["is there already", "--path"];
    fails(
        folder,
        &["plugin", "new", "there", "--role", "logs"],
        1,
        &parts,
    );
    let parts = ["there is no crate bulkhead-sdk"];
    let checkout = ["plugin", "new", "a", "--role", "logs", "--sdk", "there"];
    fails(folder, &checkout, 1, &parts);
    assert!(!folder.join("a").exists());
    let parts = ["has no Cargo.toml", "bulkhead plugin new"];
    fails(folder, &["plugin", "build", "there"], 1, &parts);
    let parts = ["is no folder"];
    fails(folder, &["plugin", "test", "nowhere"], 1, &parts);
}

#[test]
fn a_checkout_can_be_used_instead_of_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let checkout = checkout.to_str().unwrap();
    let new = ["plugin", "new", "a", "--role", "logs", "--sdk", checkout];
    works(folder.path(), &new);
    let manifest = fs::read_to_string(folder.path().join("a/Cargo.toml")).unwrap();
    let sdk = fs::canonicalize(Path::new(checkout).join("sdk")).unwrap();
    assert!(manifest.contains(&format!("path = {sdk:?}")), "{manifest}");
    assert!(!folder.path().join("a/vendor").exists());
}

#[test]
fn check_says_which_grants_to_add_and_where_the_configuration_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (module, _) = fixture_module("fixture-grants");
    let module = module.to_str().unwrap();
    let logs = "logs:\n  sources: [{files: {include: [/var/log/a]}}]\n  destinations: [{name: a, stdout: {}}]\n";
    fs::write(folder.join("plugin.yaml"), logs).unwrap();
    let grants = "grants:\n  state:\n    quota: 1Mi\n  nodeFacts: true\n";
    fails(
        folder,
        &with_manifest("check", module),
        1,
        &[
            "plugin.yaml",
            "not granted",
            &format!("Add to the manifest:\n{grants}"),
        ],
    );
    let alone = works(folder, &["plugin", "check", module]);
    assert!(alone.contains(grants), "{alone}");
    fs::write(folder.join("plugin.yaml"), format!("{grants}{logs}")).unwrap();
    works(folder, &with_manifest("check", module));

    let (module, _) = fixture_module("fixture-minimal");
    let module = module.to_str().unwrap();
    let spec = format!("{logs}config:\n  contains: [1]\n");
    fs::write(folder.join("plugin.yaml"), spec).unwrap();
    fails(
        folder,
        &with_manifest("check", module),
        1,
        &[
            "plugin.yaml:5:13: config.contains: ",
            "is not of type \"string\"",
        ],
    );
    fs::write(folder.join("plugin.yaml"), "limits: {memory: much}\n").unwrap();
    let output = fails(
        folder,
        &[&with_manifest("check", module)[..], &["--output", "json"]].concat(),
        1,
        &[],
    );
    let report: Value = serde_json::from_str(&output).unwrap();
    let problem = report["problems"][0].as_str().unwrap();
    assert!(
        problem.starts_with("plugin.yaml:1:18: limits.memory: "),
        "{problem}"
    );
    fails(
        folder,
        &["plugin", "check", "nowhere.wasm"],
        1,
        &["nowhere.wasm", "cannot be read"],
    );
}

/// Uses every import that there is a fake of.
const CURIOUS: &str = include_str!("fixtures/curious.rs");

#[test]
fn tests_in_the_sandbox_see_the_same_fakes_and_the_real_component() {
    let (_folder, path) = new_crate("curious", "logs");
    fs::write(path.join("src/lib.rs"), CURIOUS).unwrap();
    let output = bulkhead(&path, &["plugin", "test"]);
    let told = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("3 passed; 0 failed"), "{told}");
    assert!(told.contains("2 passed; 1 failed"), "{told}");
    assert!(
        told.contains("only_one_of_both_is_native ... FAILED"),
        "{told}"
    );
    assert!(told.contains("tests failed inside the sandbox"), "{told}");
    let only = ["plugin", "test", "--only", "native"];
    works(&path, &only);
}

#[test]
fn lines_of_files_and_of_stdin_are_run_and_printed_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (module, digest) = fixture_module("fixture-minimal");
    let module = module.to_str().unwrap();
    // Whatever nodes it is for, it runs here.
    let spec = "nodeSelector: {arch: other}\nconfig: {contains: wanted}\n";
    fs::write(folder.join("plugin.yaml"), spec).unwrap();
    fs::write(folder.join("a.log"), "wanted 1\nother\n").unwrap();
    let run = [&with_manifest("run", module)[..], &["--once"]].concat();
    let shown = works(folder, &[&run[..], &["--input", "a.log"]].concat());
    assert_eq!(shown, "= wanted 1\n- other\n");

    let mut piped = command(
        folder,
        &[
            &run[..],
            &["--input", "a.log", "--input", "-", "--output", "json"],
        ]
        .concat(),
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::inherit())
    .spawn()
    .unwrap();
    let mut stdin = piped.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"wanted 2\n").unwrap();
    drop(stdin);
    let output = piped.wait_with_output().unwrap();
    assert!(output.status.success());
    let told = json_lines(&text(&output.stdout));
    assert_eq!(told[0]["running"]["module"], digest.as_str());
    let calls = told
        .iter()
        .filter(|line| line["call"]["call"] == "logs.process");
    let bytes: String = calls
        .filter_map(|line| {
            line["call"]["arguments"][0]["bytes"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    for line in ["wanted 1", "wanted 2"] {
        assert!(bytes.contains(line), "{line}: {bytes}");
    }
    let parts = ["refused", "config.contains"];
    fs::write(folder.join("plugin.yaml"), "config: {contains: [1]}\n").unwrap();
    fails(folder, &run, 1, &parts);
}

#[test]
fn more_lines_than_can_be_shown_at_once_are_all_shown() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (module, _) = fixture_module("fixture-minimal");
    let module = module.to_str().unwrap();
    let lines: String = (0..150_000).map(|n| format!("{n}\n")).collect();
    fs::write(folder.join("a.log"), &lines).unwrap();
    fs::write(folder.join("plugin.yaml"), "config: {contains: \"\"}\n").unwrap();
    let run = with_manifest("run", module);
    let shown = works(
        folder,
        &[&run[..], &["--once", "--input", "a.log"]].concat(),
    );
    let shown = shown.lines().map(|line| line.strip_prefix("= ").unwrap());
    assert!(shown.eq(lines.lines()));
}

#[test]
fn changes_that_are_not_granted_are_told_and_how_to_grant_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (module, _) = fixture_module("fixture-enforcement");
    let module = module.to_str().unwrap();
    let path = folder.join("kept");
    let config = format!("config: {{keep: [{{path: {path:?}, content: a}}]}}\n");
    let write = |grants: &str| fs::write(folder.join("plugin.yaml"), config.clone() + grants);
    let check = with_manifest("check", module);
    let run = [&with_manifest("run", module)[..], &["--once"]].concat();
    let (changes, look) = (
        format!("grants:\n  changes:\n    files:\n    - {}", path.display()),
        format!("grants:\n  nodeFiles:\n  - {}", path.display()),
    );
    write("").unwrap();
    fails(folder, &check, 1, &[&changes, &look]);
    // It may look, and wants to do more.
    write(&look).unwrap();
    let parts = ["write-file", "would not be made: it is not granted"];
    fails(folder, &run, 1, &parts);
    write(&changes).unwrap();
    works(folder, &check);
    let shown = works(folder, &run);
    assert!(shown.contains("WriteFile"), "{shown}");
    assert!(!path.exists());
}

/// Stands for rustup on a machine that has not the target, and may be let add it.
#[test]
fn a_missing_target_is_added() {
    let (folder, path) = new_crate("targeted", "logs");
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let rustup = bin.join("rustup");
    fs::write(
        &rustup,
        "#!/bin/sh\necho \"$PWD: $*\" >> ../said\n[ \"$2\" = list ] || [ -e ../may ]\n",
    )
    .unwrap();
    fs::set_permissions(&rustup, fs::Permissions::from_mode(0o755)).unwrap();
    let before = std::env::var("PATH").unwrap();
    let build = || {
        let mut build = command(folder.path(), &["plugin", "build", "targeted"]);
        build.env("PATH", format!("{}:{before}", bin.display()));
        let output = build.output().unwrap();
        (output.status.success(), text(&output.stderr))
    };
    let (built, told) = build();
    assert!(!built);
    let expected = "could not be added; run: rustup target add wasm32-wasip2";
    assert!(told.contains(expected), "{told}");
    fs::write(folder.path().join("may"), "").unwrap();
    let (built, told) = build();
    assert!(built, "{told}");
    assert!(told.contains("rustup adds it"), "{told}");
    let said = fs::read_to_string(folder.path().join("said")).unwrap();
    let expected = format!(
        "{}: target add wasm32-wasip2\n",
        fs::canonicalize(&path).unwrap().display()
    );
    assert_eq!(said.matches(&expected).count(), 2, "{said}");
}

#[test]
fn what_no_config_map_holds_is_not_packed_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (module, _) = fixture_module("fixture-minimal");
    let mut bytes = fs::read(module).unwrap();
    // A custom section that does not compress: its length in 4 bytes of LEB128, an empty name.
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(1 << 20)
        .collect();
    let length = noise.len() + 1;
    bytes.push(0);
    bytes.extend([0, 7, 14, 21].map(|shift| {
        let more = if shift < 21 { 0x80 } else { 0 };
        (length >> shift) as u8 & 0x7f | more
    }));
    bytes.push(0);
    bytes.extend(noise);
    fs::write(folder.join("large.wasm"), bytes).unwrap();
    let pack = ["plugin", "pack", "large.wasm", "--name", "a"];
    let inline = [&pack[..], &["--inline"]].concat();
    let parts = [
        "large.wasm",
        "a ConfigMap holds 1 MiB",
        "leave out --inline",
    ];
    fails(folder, &inline, 1, &parts);
    let packed = works(folder, &pack);
    assert_eq!(packed.matches("immutable: true").count(), 2);
}

#[test]
fn a_manifest_with_faults_is_not_packed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (module, _) = fixture_module("fixture-minimal");
    let pack = [
        "plugin",
        "pack",
        module.to_str().unwrap(),
        "--name",
        "a",
        "--spec",
        "plugin.yaml",
    ];
    let logs = "logs:\n  sources: [{files: {include: [/var/log/a]}}]\n  destinations: [{name: a, stdout: {}}]\n";
    let spec = format!("limits: {{memory: much}}\n# -----\nconfig: {{contains: a}}\n{logs}");
    fs::write(folder.join("plugin.yaml"), &spec).unwrap();
    fails(folder, &pack, 1, &["limits.memory"]);
    fs::write(folder.join("plugin.yaml"), spec.replace("much", "8Mi")).unwrap();
    let packed = works(folder, &pack);
    fs::write(folder.join("packed.yaml"), packed).unwrap();
    // What is packed is a manifest for the other commands, too.
    works(
        folder,
        &["plugin", "check", pack[2], "--manifest", "packed.yaml"],
    );
}

/// The output of a command that goes on, line by line.
struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Following {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = command(folder, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line with this in it.
    fn wait_line(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("waited in vain for {part:?}: {error}"));
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        support::signal_to(&self.child, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

#[test]
fn a_plugin_is_built_and_loaded_again_when_a_file_is_saved() {
    let (_folder, path) = new_crate("saved", "logs");
    let running = Following::start(&path, &["plugin", "run"]);
    running.wait_line("{\"greeting\":\"hello\"}");
    let source = path.join("src/lib.rs");
    let first = fs::read_to_string(&source).unwrap();
    fs::write(
        &source,
        first.replace("\"greeting\", \"hello\"", "\"greeting\", \"good day\""),
    )
    .unwrap();
    running.wait_line("{\"greeting\":\"good day\"}");
    // What does not build leaves what runs alone.
    fs::write(&source, "broken").unwrap();
    fs::write(&source, first).unwrap();
    running.wait_line("{\"greeting\":\"hello\"}");
}

#[test]
fn a_manifest_that_is_saved_is_declared_again() {
    let (_folder, path) = new_crate("declared", "logs");
    let running = Following::start(&path, &["plugin", "run", "--output", "json"]);
    running.wait_line("{\"loaded\":");
    let spec = path.join("plugin.yaml");
    let first = fs::read_to_string(&spec).unwrap();
    fs::write(&spec, first + "logLevel: debug\n").unwrap();
    running.wait_line("{\"loaded\":");
}
