//! Every command of the book runs. A page's `sh` blocks are one script, in a folder of its own. What takes more than
//! this machine says which test runs it: `sh,node` is of `node.rs`. Forms with placeholders are `text`; of them, that
//! commands and options exist is looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use support::book::{MODULES, Page, root};
use support::sink::own_address;
use support::{PATIENCE, fixture_module, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_bulkhead");

/// A test for each page.
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("blocks_say_who_runs_them", || {
        blocks_say_who_runs_them();
        Ok(())
    })];
    for page in Page::all() {
        let script = page.commands(None);
        if !script.is_empty() {
            let name = page.name.replace(['/', '.', '-'], "_");
            trials.push(Trial::test(name, move || {
                run(&page, &script);
                Ok(())
            }));
        }
    }
    assert!(trials.len() > 9, "pages with commands");
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn blocks_say_who_runs_them() {
    let mut forms = 0;
    for page in Page::all() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.name, block.line);
            match block.info.split_once(',').unwrap_or((&block.info, "")) {
                ("sh", "") => {}
                ("sh", test) => {
                    let path = root().join("tests").join(test).with_extension("rs");
                    let source = fs::read_to_string(path).unwrap_or_default();
                    let name = format!("\"{}\"", page.name);
                    assert!(source.contains(&name), "{place}: not run by {test}");
                }
                ("text", _) => {
                    for form in block.text.lines().filter(|it| it.starts_with("bulkhead ")) {
                        has_its_options(&place, form);
                        forms += 1;
                    }
                }
                // No other language has commands, or is one of the book's.
                ("" | "ini" | "js" | "json" | "python" | "rust" | "wit" | "yaml", _) => {}
                (other, _) => panic!("{place}: {other}"),
            }
        }
    }
    assert!(forms > 5, "{forms}");
}

/// What a form says is there, is there: each `--option`, of the command that the words before name.
fn has_its_options(place: &str, form: &str) {
    let words = form.split_whitespace().skip(1);
    // What follows may be an argument that looks like a command.
    let depth = match words.clone().next() {
        Some("plugin" | "enforcement" | "scanning") => 2,
        _ => 1,
    };
    let mut help = Command::new(BINARY);
    help.args(words.clone().take(depth)).arg("--help");
    let help = help.output().unwrap();
    assert!(help.status.success(), "{place}: {form}");
    let help = String::from_utf8(help.stdout).unwrap();
    for option in words.filter_map(|word| {
        let option = word.trim_matches(|it: char| "[].".contains(it));
        option.strip_prefix("--").filter(|it| !it.is_empty())
    }) {
        let ends = [' ', '\n'].map(|end| help.contains(&format!("--{option}{end}")));
        assert!(ends.contains(&true), "{place}: no --{option} in {form}");
    }
}

/// What a page takes to be there before its first command.
fn stage(page: &str) -> &'static str {
    match page {
        "docs/enforcement.md" => {
            r#"
mkdir manifests etc && echo 'Go away' > etc/motd
cat > manifests/hardening.yaml <<EOF
apiVersion: v1
kind: ConfigMap
metadata: {name: hardening, labels: {bulkhead.dev/plugin: "true"}}
data:
  plugin.yaml: |
    apiVersion: bulkhead.dev/v1alpha1
    kind: Plugin
    module: {bundled: config-enforcer}
    grants: {changes: {files: ["$PWD/etc"]}}
    config: {resources: [{id: motd, file: {path: $PWD/etc/motd, content: Hello}}]}
    enforcement: {mode: enforce}
EOF
bulkhead check manifests/hardening.yaml
bulkhead run --manifests manifests --state state 2> daemon.log &
until grep -q Hello etc/motd; do sleep 0.2; done
"#
        }
        "docs/coming-from.md" => {
            r#"
mkdir files signatures && echo 'nothing to see' > files/one
echo 'rule own { strings: $a = "see" condition: $a }' > own.yar
echo '44d88612fea8a8f36de82e1278abb02f:68:Own.Test' > signatures/own.hdb
"#
        }
        _ => "",
    }
}

/// What a page says of the reader's machine, and what a test has in its place.
const REPLACED: [(&str, &str, &str); 3] = [
    ("docs/coming-from.md", "/usr /tmp", "files"),
    ("docs/coming-from.md", "/etc/yara/own.yar", "own.yar"),
    ("docs/coming-from.md", "/var/lib/clamav-own", "signatures"),
];

/// Programs that go before others of their names, with what a reader has by default in a place of the test's own.
fn stand_ins(bin: &Path, work: &Path, address: &str) {
    let add = |name: &str, script: &str| {
        let path = bin.join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{script}")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let state = work.join("state").display().to_string();
    // What goes on until Ctrl-C ends after its first look.
    let ours = r#"
case "$1 ${2-}" in
run\ *|status\ *) set -- "$1" --status ADDRESS "${@:2}" ;;
"enforcement plan") ;;
enforcement\ *) [[ " $* " == *" --state "* ]] || set -- "$@" --state STATE ;;
"plugin run") [[ " $* " == *" --once "* ]] || set -- "$@" --once ;;
esac
exec BINARY "$@"
"#;
    let ours = ours.replace("ADDRESS", address).replace("STATE", &state);
    add("bulkhead", &ours.replace("BINARY", BINARY));
    // It ends when it has answered.
    let theirs = r#"
/usr/bin/prometheus-node-exporter --web.listen-address=ADDRESS "$@" &
until curl -sf http://ADDRESS/metrics > /dev/null; do kill -0 $! || exit 1; sleep 0.1; done
kill $!
"#;
    let exporter = own_address().to_string();
    let theirs = theirs.replace("ADDRESS", &exporter);
    add("prometheus-node-exporter", &theirs);
    // What it would install and build is there, since this runs.
    add("make", "exec /usr/bin/make -o setup -o toolchain \"$@\"\n");
    let target = bin.join("target");
    fs::create_dir_all(target.join("debug")).unwrap();
    symlink(BINARY, target.join("debug/bulkhead")).unwrap();
    let cargo = r#"
case "$1" in
metadata) echo '{"target_directory":"TARGET"}' ;;
build|test) [[ " $* " == *" --locked "* ]] ;;
*) exit 1 ;;
esac
"#;
    add("built", &cargo.replace("TARGET", target.to_str().unwrap()));
}

/// Runs a page's commands in the order in which they stand.
fn run(page: &Page, script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let address = own_address().to_string();
    let (bin, work) = (folder.path().join("bin"), folder.path().join("work"));
    fs::create_dir(&bin).unwrap();
    fs::create_dir(&work).unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    stand_ins(&bin, &work, &address);
    for (name, fixture) in MODULES {
        if page.text.contains(name) {
            fs::copy(fixture_module(fixture).0, work.join(name)).unwrap();
        }
    }
    let makes = script.contains("make ");
    if makes {
        for part in ["Makefile", "tests"] {
            symlink(root().join(part), work.join(part)).unwrap();
        }
    }
    let mut script = format!("set -euo pipefail\n{}{script}", stage(&page.name));
    script = script.replace("127.0.0.1:9720", &address);
    for (_, theirs, ours) in REPLACED.iter().filter(|(of, ..)| *of == page.name) {
        assert!(script.contains(theirs), "{}: no {theirs}", page.name);
        script = script.replace(theirs, ours);
    }
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let free = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let [demo, sink] = [free(), free()].map(|it| it.local_addr().unwrap().port().to_string());
    let mut shell = Command::new("bash");
    for variable in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "KUBERNETES_SERVICE_HOST",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "RUSTFLAGS",
    ] {
        shell.env_remove(variable);
    }
    shell
        .arg("-c")
        .arg(script)
        .current_dir(&work)
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("TMPDIR", temporary)
        .env("BULKHEAD_DEMO_PORT", demo)
        .env("BULKHEAD_DEMO_SINK_PORT", sink)
        // Crates of tests share what they are built from.
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_BUILD_BUILD_DIR", support::author::target())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0);
    match makes {
        true => shell.env("CARGO", bin.join("built")),
        false => shell.env_remove("CARGO"),
    };
    let status = end(shell.spawn().unwrap());
    let said = fs::read_to_string(folder.path().join("log")).unwrap();
    let logs = ["daemon.log", "hello/daemon.log"].map(|name| fs::read_to_string(work.join(name)));
    let daemon = logs.into_iter().flatten().collect::<String>();
    assert!(
        status.is_some_and(|status| status.success()),
        "{}: {status:?}\n{said}\n{daemon}",
        page.name
    );
}

/// Waits for a shell, if it ends in time, and ends what it has started.
fn end(mut shell: Child) -> Option<ExitStatus> {
    let group = Pid::from_child(&shell);
    let begin = Instant::now();
    let mut status = None;
    while status.is_none() && begin.elapsed() < 4 * PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
        status = shell.try_wait().unwrap();
    }
    // The daemons that the page started, and what waits in vain.
    let _ = kill_process_group(group, Signal::TERM);
    if status.is_none() {
        let _ = shell.kill();
        let _ = shell.wait();
    }
    wait_for("the page's processes to end", || {
        test_kill_process_group(group).err().map(|_| ())
    });
    status
}
