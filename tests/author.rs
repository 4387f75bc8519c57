//! The author's command line, through the real binary and without a network: a plugin from its first line to one
//! that is recorded on a node and run again elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use support::{Node, PATIENCE, fixture_module, numbered, wait_for};

/// The command in a folder, offline; crates share what they are built from.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command
        .current_dir(folder)
        .args(arguments)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", target())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null());
    command
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("author")
}

fn bulkhead(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

#[track_caller]
fn works(folder: &Path, arguments: &[&str]) -> String {
    let output = bulkhead(folder, arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}\n{err}");
    out
}

#[track_caller]
fn fails(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let output = bulkhead(folder, arguments);
    let told = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    for part in parts {
        assert!(told.contains(part), "{part:?} is missing: {told}");
    }
    told
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

/// A crate of its own name, since crates share a target folder.
fn new_crate(name: &str, role: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), &["plugin", "new", name, "--role", role]);
    let path = folder.path().join(name);
    (folder, path)
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
    assert_eq!(told.matches("test result: ok. 1 passed").count(), 2, "{told}");

    let built = works(&path, &["plugin", "build", "--output", "json", "--", "--locked"]);
    let built: Value = serde_json::from_str(&built).unwrap();
    let module = built["path"].as_str().unwrap();
    let bytes = fs::read(module).unwrap();
    assert_eq!(built["digest"], support::sha256(&bytes));
    assert!(bytes.len() <= 150 << 10, "{} bytes", bytes.len());
    let checked = works(
        &path,
        &["plugin", "check", module, "--manifest", "plugin.yaml"],
    );
    assert!(checked.starts_with("ok "), "{checked}");
    assert!(checked.contains(role), "{checked}");

    let packed = works(
        &path,
        &["plugin", "pack", module, "--name", &name, "--spec", "plugin.yaml", "--inline"],
    );
    assert!(packed.contains("module.wasm.zst"), "{packed}");

    let shown = works(&path, &["plugin", "run", "--once"]);
    let expected = match role {
        "logs" => "~ hello, world\n  hello, world  {\"greeting\":\"hello\"}\n- \n",
        "metrics" => "gauge  new_metrics_load ",
        "enforcement" => "WriteFile /etc/motd",
        _ => "findings\n",
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
        fails(folder, &["plugin", "new", name, "--role", "logs"], 2, &["cannot be a plugin's name"]);
    }
    fs::create_dir(folder.join("there")).unwrap();
    let parts = ["is there already", "--path"];
    fails(folder, &["plugin", "new", "there", "--role", "logs"], 1, &parts);
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
        &["plugin", "check", module, "--manifest", "plugin.yaml"],
        1,
        &["plugin.yaml", "not granted", &format!("Add to the manifest:\n{grants}")],
    );
    let alone = works(folder, &["plugin", "check", module]);
    assert!(alone.contains(grants), "{alone}");
    fs::write(folder.join("plugin.yaml"), format!("{grants}{logs}")).unwrap();
    works(folder, &["plugin", "check", module, "--manifest", "plugin.yaml"]);

    let (module, _) = fixture_module("fixture-minimal");
    let module = module.to_str().unwrap();
    let spec = format!("{logs}config:\n  contains: [1]\n");
    fs::write(folder.join("plugin.yaml"), spec).unwrap();
    fails(
        folder,
        &["plugin", "check", module, "--manifest", "plugin.yaml"],
        1,
        &["plugin.yaml:5:13: config.contains: ", "is not of type \"string\""],
    );
    fs::write(folder.join("plugin.yaml"), "limits: {memory: much}\n").unwrap();
    let output = fails(
        folder,
        &["plugin", "check", module, "--manifest", "plugin.yaml", "--output", "json"],
        1,
        &[],
    );
    let report: Value = serde_json::from_str(&output).unwrap();
    let problem = report["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("plugin.yaml:1:18: limits.memory: "), "{problem}");
    fails(folder, &["plugin", "check", "nowhere.wasm"], 1, &["nowhere.wasm", "cannot be read"]);
}

/// Uses every import that there is a fake of.
const CURIOUS: &str = r#"
use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result, info, node, node_stats, state};

pub struct Curious;

impl Plugin for Curious {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Logs for Curious {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        for line in batch {
            if line.text() == Some("panic") {
                panic!("as asked");
            }
            state::set("line", line.bytes())?;
            state::delete("nothing")?;
            let facts = node::facts();
            let sizes = node_stats::filesystems(&["/", "/nowhere"]);
            info!("saw a line"; "length" = line.bytes().len());
            let place = if cfg!(target_arch = "wasm32") { "sandbox" } else { "native" };
            out.edit(line)
                .field("keys", state::keys("")?.join(","))
                .field("quota", state::set("large", &[7; 100]).unwrap_err().to_string())
                .field("name", facts.get("node.name"))
                .field("size", sizes[0].as_ref().map(|sizes| sizes.size).unwrap_or(0))
                .field("other", sizes[1].is_err())
                .field("tai", node_stats::clock().map_or(-1, |clock| clock.tai))
                .field("machine", node_stats::system_name().machine)
                .field("zone", node_stats::time_zone().0)
                .field("place", place);
        }
        Ok(())
    }
}

bulkhead_sdk::export!(Curious: Logs);

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_sdk::testing::{self, Harness};

    #[test]
    fn the_world_is_the_same_in_both() -> Result<()> {
        testing::reset_state(Some(64));
        testing::set_facts(&[("node.name", "node-7")]);
        testing::set_filesystems(&[("/", node_stats::Filesystem { size: 1024, ..Default::default() })]);
        testing::set_clock(node_stats::Clock { tai: 37, ..Default::default() });
        let name = node_stats::SystemName { machine: "x86_64".into(), ..Default::default() };
        testing::set_system_name(name);
        testing::set_time_zone("CET", 3600);
        let mut plugin = Harness::<Curious>::new("{}")?;
        let answer = plugin.process(testing::lines([&b"\xff\0"[..]]))?;
        let fields = answer.line(0).fields();
        assert_eq!(fields["keys"], "line");
        assert!(fields["quota"].as_str().unwrap().contains("64"), "{fields}");
        assert_eq!(fields["name"], "node-7");
        assert_eq!(fields["size"], 1024);
        assert_eq!(fields["other"], true);
        assert_eq!(fields["tai"], 37);
        assert_eq!(fields["machine"], "x86_64");
        assert_eq!(fields["zone"], "CET");
        assert_eq!(state::get("line")?.unwrap(), b"\xff\0");
        let log = testing::take_log();
        assert_eq!((log[0].message.as_str(), log[0].fields.as_str()), ("saw a line", "\"length\":2"));
        assert_eq!(plugin.snapshot(), None);
        Ok(())
    }

    #[test]
    #[should_panic(expected = "as asked")]
    fn a_panic_is_one_in_both() {
        let mut plugin = Harness::<Curious>::new("{}").unwrap();
        let _ = plugin.process(testing::lines(["panic"]));
    }

    #[test]
    fn only_one_of_both_is_native() -> Result<()> {
        testing::reset_state(Some(64));
        let answer = Harness::<Curious>::new("{}")?.process(testing::lines(["a"]))?;
        assert_eq!(answer.line(0).fields()["place"], "native");
        Ok(())
    }
}
"#;

#[test]
fn tests_in_the_sandbox_see_the_same_fakes_and_the_real_component() {
    let (_folder, path) = new_crate("curious", "logs");
    fs::write(path.join("src/lib.rs"), CURIOUS).unwrap();
    let output = bulkhead(&path, &["plugin", "test"]);
    let told = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("3 passed; 0 failed"), "{told}");
    assert!(told.contains("2 passed; 1 failed"), "{told}");
    assert!(told.contains("only_one_of_both_is_native ... FAILED"), "{told}");
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
    fs::write(folder.join("plugin.yaml"), "config: {contains: wanted}\n").unwrap();
    fs::write(folder.join("a.log"), "wanted 1\nother\n").unwrap();
    let run = ["plugin", "run", module, "--manifest", "plugin.yaml", "--once"];
    let shown = works(folder, &[&run[..], &["--input", "a.log"]].concat());
    assert_eq!(shown, "= wanted 1\n- other\n");

    let mut piped = command(folder, &[&run[..], &["--input", "a.log", "--input", "-", "--output", "json"]].concat())
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
    let calls = told.iter().filter(|line| line["call"]["call"] == "logs.process");
    let bytes: String = calls
        .filter_map(|line| line["call"]["arguments"][0]["bytes"].as_str().map(str::to_owned))
        .collect();
    assert!(bytes.contains("wanted 1"), "{bytes}");
    let parts = ["refused", "config.contains"];
    fs::write(folder.join("plugin.yaml"), "config: {contains: [1]}\n").unwrap();
    fails(folder, &run, 1, &parts);
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
    fs::write(&source, first.replace("\"greeting\", \"hello\"", "\"greeting\", \"good day\"")).unwrap();
    running.wait_line("{\"greeting\":\"good day\"}");
    // What does not build leaves what runs alone.
    fs::write(&source, "broken").unwrap();
    fs::write(&source, first).unwrap();
    running.wait_line("{\"greeting\":\"hello\"}");
}

#[test]
fn what_a_live_plugin_did_can_be_done_again() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-minimal", "{contains: wanted}");
    node.manifest("app", &spec);
    node.start_with(&["--allow-recording"], &[]);
    node.wait_running("app");
    let folder = node.path("");
    let state = node.state.to_str().unwrap().to_owned();
    let file = node.path("app.jsonl");
    let file = file.to_str().unwrap();
    let record = ["plugin", "record", "app", "--for", "4s", "-o", file, "--state", &state];
    let recording = command(&folder, &record)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the recording to begin", || {
        fs::read_to_string(file).ok().filter(|text| text.contains("instantiate"))
    });
    node.append("a.log", numbered("wanted", 0..50).chain(numbered("other", 0..50)));
    let output = recording.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("unredacted"));
    node.wait_output("app", 50);
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let recorded = json_lines(&fs::read_to_string(file).unwrap());
    assert!(recorded[0]["recording"]["note"].as_str().unwrap().contains("unredacted"));
    assert_eq!(recorded.last().unwrap()["end"]["lost"], 0);
    assert!(recorded.iter().any(|line| line["call"]["call"] == "lifecycle.init"));
    fails(&folder, &record, 1, &["name another file with -o"]);

    let (same, _) = fixture_module("fixture-minimal");
    let replay = ["plugin", "replay", file, "--module", same.to_str().unwrap()];
    let told = works(&folder, &replay);
    assert!(told.contains("the module that was recorded: the same answers"), "{told}");
    let (other, _) = fixture_module("fixture-logs");
    let replay = ["plugin", "replay", file, "--module", other.to_str().unwrap()];
    fails(&folder, &replay, 1, &["--- recorded", "+++ now", "answers differ"]);
    fails(&folder, &["plugin", "replay", file], 1, &["name it, or a newer one, with --module"]);

    // The lines alone, to a plugin under way.
    let lines = ["plugin", "run", same.to_str().unwrap(), "--recording", file, "--once", "--manifest"];
    fs::write(node.path("plugin.yaml"), "config: {contains: '49'}\n").unwrap();
    let shown = works(&folder, &[&lines[..], &["plugin.yaml"]].concat());
    assert!(shown.contains("= wanted 49\n"), "{shown}");
    assert!(shown.contains("- wanted 48\n"), "{shown}");
}

#[test]
fn nobody_records_unless_the_node_permits_it() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-minimal", "{contains: wanted}");
    node.manifest("app", &spec);
    node.start();
    node.wait_running("app");
    let state = node.state.to_str().unwrap().to_owned();
    let folder = node.path("");
    let record = ["plugin", "record", "app", "-o", "app.jsonl", "--state", &state];
    fails(&folder, &record, 1, &["--allow-recording"]);
    assert!(!folder.join("app.jsonl").exists());
    let nowhere = ["plugin", "record", "app", "-o", "app.jsonl", "--state", "nowhere"];
    fails(&folder, &nowhere, 3, &["no daemon answers"]);
}
