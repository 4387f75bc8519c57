//! The command line as its users meet it: exit codes, what is printed where, and every error's words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{Node, config_map, fixture_module, sha256};

fn bulkhead<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The command fails with this code, prints nothing to stdout, and its error has all parts.
fn fails<A: AsRef<std::ffi::OsStr>>(arguments: &[A], expected: i32, parts: &[&str]) {
    let output = bulkhead(arguments);
    let told = stderr(&output);
    assert_eq!(code(&output), expected, "{told}");
    assert!(output.stdout.is_empty(), "{}", stdout(&output));
    let last = told.lines().find(|line| line.starts_with("error: "));
    assert!(last.is_some(), "no line begins with error: {told}");
    for part in parts {
        assert!(told.contains(part), "{part:?} is missing: {told}");
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A port that nobody listens on.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn check_says_what_is_right_and_what_is_wrong_with_several_files() {
    let node = Node::new();
    let file = |name: &str, content: &str| {
        let path = node.path(name);
        fs::write(&path, content).unwrap();
        text(&path)
    };
    let spec = node.spec("app", "fixture-logs", "{}");
    let good = file("good.yaml", &config_map("app", &spec));
    let granted = spec.replace("fixture_logs", "fixture_grants").replace(
        &fixture_module("fixture-logs").1,
        &fixture_module("fixture-grants").1,
    );
    let typo = config_map("typo", &spec.replace("startAt", "starAt"));
    let typo = file("typo.yaml", &typo);
    let config = file(
        "config.yaml",
        &config_map("config", &spec.replace("{}", "{x: 1}")),
    );
    let ungranted = file("ungranted.yaml", &config_map("ungranted", &granted));
    let twin = file("twin.yaml", &config_map("app", &spec));
    let other = file("other.yaml", "apiVersion: v1\nkind: Service\n");
    let missing = text(&node.path("missing.yaml"));
    let folder = text(&node.path("logs"));
    let digest = fixture_module("fixture-logs").1;

    let output = bulkhead(&["check", &good]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert_eq!(
        stdout(&output),
        format!("ok       {good} local/app {digest}\n")
    );

    let all = [
        "check", &good, &typo, &config, &ungranted, &twin, &other, &missing, &folder,
    ];
    let output = bulkhead(&all);
    assert_eq!(code(&output), 1);
    let lines: Vec<&str> = stdout(&output)
        .lines()
        .filter(|line| line.starts_with("ok") || line.starts_with("refused"))
        .collect();
    let expected: [&[&str]; 8] = [
        &["ok ", &good],
        &["refused", &typo, "logs.starAt", "startAt"],
        &["refused", &config, "config: ", "'x' was unexpected"],
        &["refused", &ungranted, "grants: ", "add to the manifest"],
        &[
            "refused",
            &twin,
            "metadata.name",
            "local/app is also declared by",
            &good,
        ],
        &[
            "refused",
            &other,
            "declares no plugin",
            "bulkhead.dev/plugin",
        ],
        &["refused", &missing, "cannot be read", "correct the path"],
        &["refused", &folder, "cannot be read", "name its files"],
    ];
    assert_eq!(lines.len(), expected.len(), "{}", stdout(&output));
    for (line, parts) in lines.iter().zip(expected) {
        assert!(
            parts.iter().all(|part| line.contains(part)),
            "{parts:?}: {line}"
        );
    }
    // All that is to be added is there, to be copied.
    let page = stdout(&output);
    let (_, grants) = page.split_once("add to the manifest:\ngrants:\n").unwrap();
    let mut grants: Vec<&str> = grants.lines().take(3).collect();
    grants.sort_unstable();
    assert_eq!(grants, ["    quota: 1Mi", "  nodeFacts: true", "  state:"]);

    let output = bulkhead(&["check", "--output", "json", &good, &typo]);
    assert_eq!(code(&output), 1);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report[0]["plugin"], "local/app");
    assert_eq!(report[0]["digest"], digest.as_str());
    assert_eq!(report[0]["problems"], serde_json::json!([]));
    assert_eq!(report[1]["plugin"], "local/typo");
    assert!(
        report[1]["problems"][0]
            .as_str()
            .unwrap()
            .contains("starAt")
    );
    let output = bulkhead(&["check", "--output", "json", &good]);
    assert_eq!(code(&output), 0);

    fails(&["check"], 2, &["MANIFEST"]);
    fails(&["check", "--output", "xml", &good], 2, &["xml", "json"]);
}

#[test]
fn check_does_not_leave_anything_behind_and_needs_no_daemon() {
    let node = Node::new();
    let temporary = node.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let path = node.path("app.yaml");
    fs::write(
        &path,
        config_map("app", &node.spec("app", "fixture-logs", "{}")),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .arg("check")
        .arg(&path)
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    assert!(!node.path("out-app").exists(), "no destination was touched");
}

#[test]
fn inspect_shows_what_a_module_is_and_wants() {
    let node = Node::new();
    let (path, digest) = fixture_module("fixture-grants");
    let path = text(&path);
    let output = bulkhead(&["plugin", "inspect", &path]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let page = stdout(&output);
    for part in [
        "fixture-grants",
        &digest,
        "KiB",
        "Roles    logs",
        "bulkhead:plugin/state@",
        "grants:\n  state:\n    quota: 1Mi\n  nodeFacts: true\n",
        "\"facts\"",
    ] {
        assert!(page.contains(part), "{part:?} is missing:\n{page}");
    }
    let output = bulkhead(&["plugin", "inspect", "--output", "json", &path]);
    assert_eq!(code(&output), 0);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["name"], "fixture-grants");
    assert_eq!(report["digest"], digest.as_str());
    assert_eq!(report["sizeBytes"], fs::metadata(&path).unwrap().len());
    assert_eq!(report["roles"], serde_json::json!(["logs"]));
    assert_eq!(report["grants"]["state"]["quota"], "1Mi");
    assert_eq!(report["grants"]["nodeFacts"], true);
    assert!(report["configSchema"]["properties"]["facts"].is_object());

    // The grants that it prints are the ones that make the manifest sound.
    let spec = node.spec("app", "fixture-grants", "{}");
    let grants: Vec<&str> = page
        .lines()
        .skip_while(|line| *line != "grants:")
        .take_while(|line| *line != "Configuration schema")
        .collect();
    let file = node.path("app.yaml");
    fs::write(
        &file,
        config_map("app", &format!("{}\n{spec}", grants.join("\n"))),
    )
    .unwrap();
    let output = bulkhead(&["check", &text(&file)]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));

    // A plugin that wants nothing, compressed.
    let bytes = fs::read(fixture_module("fixture-minimal").0).unwrap();
    let packed = node.path("minimal.wasm.zst");
    fs::write(&packed, zstd::encode_all(bytes.as_slice(), 3).unwrap()).unwrap();
    let output = bulkhead(&["plugin", "inspect", &text(&packed)]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains(&sha256(&bytes)));
    assert!(!stdout(&output).contains("grants:"));
    // One that is part of the daemon.
    let output = bulkhead(&["plugin", "inspect", "log-shipper"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("Name     log-shipper"));
}

#[test]
fn inspect_says_what_is_wrong_with_a_module() {
    let node = Node::new();
    let bytes = fs::read(fixture_module("fixture-minimal").0).unwrap();
    let cases: [(&str, &[u8], &[&str]); 4] = [
        (
            "core.wasm",
            b"\0asm\x01\0\0\0",
            &["core WebAssembly module", "wasm32-wasip2"],
        ),
        ("empty.wasm", b"", &["is empty"]),
        ("text.wasm", b"hello", &["not a WebAssembly component"]),
        ("cut.wasm", &bytes[..bytes.len() / 2], &["does not compile"]),
    ];
    for (name, content, parts) in cases {
        let path = node.path(name);
        fs::write(&path, content).unwrap();
        let path = text(&path);
        let parts: Vec<&str> = parts.iter().copied().chain([path.as_str()]).collect();
        fails(&["plugin", "inspect", &path], 1, &parts);
    }
    let missing = text(&node.path("missing.wasm"));
    fails(
        &["plugin", "inspect", &missing],
        1,
        &[
            &missing,
            "cannot be read",
            "name the file of a component",
            "log-shipper",
        ],
    );
    fails(&["plugin", "inspect"], 2, &["MODULE"]);
    fails(&["plugin", "frob"], 2, &["frob"]);
}

#[test]
fn status_shows_all_plugins_or_one() {
    let mut node = Node::new();
    node.start();
    let address = node.status_address();
    let status =
        |arguments: &[&str]| bulkhead(&[&["status", "--status", &address], arguments].concat());
    let output = status(&[]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("no plugins; put a manifest into"));
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.manifest("bad", &node.spec("bad", "fixture-logs", "{x: 1}"));
    let elsewhere = config_map("app", &node.spec("app", "fixture-logs", "{}"));
    let elsewhere = elsewhere.replace("  name: app\n", "  name: app\n  namespace: other\n");
    node.raw_manifest("elsewhere.yaml", &elsewhere);
    node.wait_running("app");
    node.wait_plugin("bad", "refused", |report| report["phase"] == "Refused");
    node.append("a.log", ["x".to_owned()]);
    node.wait_output("app", 1);
    node.assert_accounted("app", 1);

    let output = status(&[]);
    assert_eq!(code(&output), 0);
    let page = stdout(&output);
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines.len(), 4, "{page}");
    assert!(lines[0].starts_with("NAMESPACE") && lines[0].contains("RESTARTS"));
    assert!(
        lines[1].starts_with("local") && lines[1].contains("Running"),
        "{page}"
    );
    assert!(
        lines[2].contains("bad") && lines[2].contains("Refused"),
        "{page}"
    );
    assert!(
        lines[3].starts_with("other") && lines[3].contains("Refused"),
        "{page}"
    );

    let output = status(&["local/app"]);
    assert_eq!(code(&output), 0);
    for part in [
        "local/app",
        "Running",
        "Current",
        "read 1, acknowledged 1",
        "out (file): Healthy, 1 lines, ",
    ] {
        assert!(
            stdout(&output).contains(part),
            "{part:?}:\n{}",
            stdout(&output)
        );
    }
    let output = status(&["bad"]);
    assert!(
        stdout(&output).contains("'x' was unexpected"),
        "{}",
        stdout(&output)
    );
    let output = status(&["--output", "json", "bad"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["phase"], "Refused");
    let output = status(&["--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["items"].as_array().unwrap().len(), 3);

    fails(
        &["status", "--status", &address, "none"],
        1,
        &[
            "there is no plugin \"none\"",
            "`bulkhead status` lists them",
        ],
    );
    fails(
        &["status", "--status", &address, "app"],
        1,
        &["more than one plugin", "NAMESPACE/app"],
    );
}

#[test]
fn status_without_a_daemon() {
    let address = free_address();
    fails(
        &["status", "--status", &address],
        3,
        &["no daemon answers", &address, "`bulkhead run`", "--status"],
    );
    fails(
        &["status", "--watch", "--status", &address],
        3,
        &["no daemon answers"],
    );
    fails(&["status", "--status", "nowhere"], 2, &["nowhere"]);
    fails(&["status", "--frob"], 2, &["--frob"]);
    // Something else listens there.
    for body in ["hello", "{\"kind\": \"Pong\"}"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while request.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
        });
        fails(
            &["status", "--status", &address],
            1,
            &[&address, "is not a bulkhead daemon", "--status"],
        );
        server.join().unwrap();
    }
}

#[test]
fn watch_shows_again_and_again_also_over_a_restart_and_ends_with_its_reader() {
    let mut node = Node::new();
    // Nobody else takes a port of this address while the daemon is down.
    node.listen = "127.0.0.9:0".to_owned();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    node.wait_running("app");
    let address = node.status_address();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["status", "--watch", "--status", &address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut wait_for_line = |parts: &[&str]| {
        let found = lines.by_ref().map(Result::unwrap).find(|line| {
            assert!(
                !line.contains('\x1b'),
                "no escapes where no terminal is: {line:?}"
            );
            parts.iter().all(|part| line.contains(part))
        });
        found.unwrap_or_else(|| panic!("ended before {parts:?}"))
    };
    wait_for_line(&["local", "app", "Running"]);
    node.manifest("late", &node.spec("late", "fixture-logs", "{}"));
    wait_for_line(&["local", "late", "Running"]);
    assert!(node.stop().success());
    wait_for_line(&["error: no daemon answers"]);
    node.listen.clone_from(&address);
    node.start();
    wait_for_line(&["local", "late", "Running"]);
    // Nobody reads any more.
    drop(lines);
    let status = support::wait_for("the watch to end", || watch.try_wait().unwrap());
    assert!(status.success());
    let mut watch = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args([
            "status", "--watch", "--output", "json", "--status", &address,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pages = serde_json::Deserializer::from_reader(watch.stdout.take().unwrap());
    for page in pages.into_iter::<Value>().take(2) {
        assert_eq!(page.unwrap()["items"].as_array().unwrap().len(), 2);
    }
    support::signal_to(&watch, rustix::process::Signal::INT);
    let status = support::wait_for("the watch to end", || watch.try_wait().unwrap());
    assert!(status.success());
}

#[test]
fn run_says_why_it_does_not_start() {
    let mut node = Node::new();
    node.start();
    let taken = node.status_address();
    let path = |name: &str| text(&node.path(name));
    let run = |manifests: &str, state: &str, status: &str, parts: &[&str]| {
        fails(
            &[
                "run",
                "--manifests",
                manifests,
                "--state",
                state,
                "--status",
                status,
            ],
            1,
            parts,
        );
    };
    let any = "127.0.0.1:0";
    let (manifests, fresh) = (path("manifests"), path("fresh"));
    run(
        &path("none"),
        &fresh,
        any,
        &["manifest folder", "none", "make it", "--manifests"],
    );
    run(
        &manifests,
        &fresh,
        &taken,
        &["--status", &taken, "another daemon", "another port"],
    );
    run(
        &manifests,
        &fresh,
        "0.0.0.0:0",
        &["--status 0.0.0.0:0", "loopback only", "127.0.0.1"],
    );
    run(
        &manifests,
        &path("state"),
        any,
        &["state", "in use by another daemon (process ", "--state"],
    );
    fs::write(node.path("file"), "").unwrap();
    run(
        &path("file"),
        &fresh,
        any,
        &["manifest folder", "file", "--manifests"],
    );
    run(
        &manifests,
        &path("file"),
        any,
        &["state folder", "file", "--state"],
    );
    run(
        &manifests,
        &path("file/below"),
        any,
        &["state folder", "below", "--state"],
    );
    let open = node.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    run(
        &manifests,
        &text(&open),
        any,
        &["state folder", "0777", "chmod 0700"],
    );
    fails(&["run", "--manifests", &manifests], 2, &["--state"]);
    fails(&["run", "--kubernetes"], 2, &["--state"]);
    fails(
        &[
            "run",
            "--manifests",
            &manifests,
            "--state",
            &fresh,
            "--log-level",
            "a=b=c",
        ],
        1,
        &["--log-level"],
    );
    fails::<&str>(&["frob"], 2, &["frob"]);
    // The one that runs is none the worse.
    assert_eq!(node.get("/healthz").unwrap().0, 200);
}

#[test]
fn help_and_version_succeed() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["plugin", "inspect", "--help"],
    ] {
        let output = bulkhead(arguments);
        assert_eq!(code(&output), 0);
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
    assert!(stdout(&bulkhead(&["--help"])).contains("Exit codes: 0 done, 1 failed"));
    let version = format!("bulkhead {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&bulkhead(&["--version"])), version);
}

/// What the daemon tells the allocator of its children.
const ALLOCATOR: &str = "tcache_max:32768,tcache_nslots_small_max:200,retain:false";

/// As the daemon starts it, where its cgroup has little left.
#[test]
fn the_compiler_takes_no_more_memory_than_it_may() {
    let (module, _) = fixture_module("fixture-minimal");
    let compile = |memory: u64| {
        Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .arg("compile-module")
            .env_clear()
            .env("BULKHEAD_CHILD_MEMORY", memory.to_string())
            .env("RAYON_NUM_THREADS", "2")
            .env("_RJEM_MALLOC_CONF", ALLOCATOR)
            .stdin(fs::File::open(&module).unwrap())
            .output()
            .unwrap()
    };
    let output = compile(1 << 20);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        ["memory", "spawn thread", "thread pool"]
            .iter()
            .any(|it| said.contains(it)),
        "{said}"
    );
    assert!(output.stdout.is_empty());
    for enough in [96 << 20, 1 << 30] {
        let output = compile(enough);
        assert!(output.status.success(), "{enough}: {}", stderr(&output));
        assert!(output.stdout.len() > 100_000);
        // Nor has the allocator anything to say about its settings.
        assert_eq!(stderr(&output), "");
    }
}

/// As the daemon starts it, which takes the code and the words.
#[test]
fn a_configuration_is_compared_with_its_schema_in_a_process_of_its_own() {
    let check = |input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .arg("check-config")
            .env_clear()
            .env("_RJEM_MALLOC_CONF", ALLOCATOR)
            .env("BULKHEAD_CHILD_MEMORY", (4 << 20).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.stdout.is_empty());
        (code(&output), stderr(&output).to_owned())
    };
    let schema = r#"{"properties":{"n":{"type":"integer"}}}"#;
    let input = |config: &str| serde_json::to_string(&(schema, config)).unwrap();
    assert_eq!(check(&input(r#"{"n":1}"#)), (0, String::new()));
    let (code, said) = check(&input(r#"{"n":"one"}"#));
    assert_eq!(code, 1);
    assert!(said.starts_with("config.n: \"one\" is not"), "{said}");
    // The daemon's own mistake, or half of what it wrote.
    assert_eq!(check("[\"{}\"").0, 2);
}
