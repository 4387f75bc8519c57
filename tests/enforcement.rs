//! The role `enforcement` through the real binary: what is changed and what only reported, in which order,
//! what is seen at once, left alone and put back, and what plugins cannot do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::{Node, config_map, fixture_file, message, reason, wait_for};

/// A spec of `fixture-enforcement` that may change all below the node's folder `etc`. `config` is YAML in
/// one line, `more` are further fields of `enforcement`.
fn spec(node: &Node, config: &str, more: &str) -> String {
    let module = fixture_file("fixture-enforcement");
    let etc = node.path("etc");
    format!(
        "module:\n  {module}\nconfig: {{{config}}}\ngrants: {{changes: {{files: [{}]}}}}\nenforcement: {{{more}}}\n",
        etc.display()
    )
}

fn node() -> Node {
    let node = Node::new();
    fs::create_dir(node.path("etc")).unwrap();
    node
}

/// `{path: ETC/name, content: text}`.
fn kept(node: &Node, name: &str, content: &str) -> String {
    let path = node.path("etc").join(name);
    format!("{{path: {}, content: {content:?}}}", path.display())
}

fn read(node: &Node, name: &str) -> Option<String> {
    fs::read_to_string(node.path("etc").join(name)).ok()
}

/// The role's report, once it is as it should be.
fn wait(node: &Node, plugin: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
    let report = node.wait_plugin(plugin, what, |report| check(&report["enforcement"]));
    report["enforcement"].clone()
}

fn converged(report: &Value) -> bool {
    report["lastCheck"].is_string()
        && report["outstandingCount"] == 0
        && report["rules"]["fail"] == 0
}

fn outstanding<'a>(report: &'a Value, id: &str) -> &'a Value {
    let changes = report["outstanding"].as_array().unwrap();
    let change = changes.iter().find(|change| change["id"] == id);
    change.unwrap_or_else(|| panic!("{id} is not outstanding: {report:#}"))
}

/// `bulkhead enforcement ARGUMENTS` for this node's daemon.
fn order(node: &Node, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .arg("enforcement")
        .args(arguments)
        .arg("--state")
        .arg(node.path("state"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn get(node: &Node, path: &str) -> Value {
    let (code, body) = node.get(path).unwrap();
    assert_eq!(code, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn audit_reports_and_enforce_changes() {
    let mut node = node();
    fs::write(node.path("etc/motd"), "old\n").unwrap();
    let config = format!(
        "keep: [{}, {}]",
        kept(&node, "motd", "new\n"),
        kept(&node, "issue", "hello\n")
    );
    node.manifest("conf", &spec(&node, &config, ""));
    node.start();
    let report = wait(&node, "conf", "two changes", |it| {
        it["outstandingCount"] == 2
    });
    assert_eq!(report["mode"], "audit");
    assert_eq!(report["onlyReporting"], "enforcement.mode is audit");
    let motd = node.path("etc/motd").display().to_string();
    let change = outstanding(&report, &motd);
    assert_eq!(change["state"], "pending");
    assert_eq!(change["kind"], "write-file");
    assert_eq!(change["rule"], motd.as_str());
    let diff = change["diff"].as_str().unwrap();
    assert!(diff.contains("\n-old\n+new\n"), "{diff}");
    assert_eq!(report["rules"]["fail"], 2);
    assert_eq!(read(&node, "motd").unwrap(), "old\n");
    assert_eq!(read(&node, "issue"), None);

    node.manifest("conf", &spec(&node, &config, "mode: enforce"));
    let report = wait(&node, "conf", "converged", |it| {
        it["mode"] == "enforce" && converged(it)
    });
    assert_eq!(report["made"], 2, "{report:#}");
    assert_eq!(report["rules"]["pass"], 2);
    assert_eq!(read(&node, "motd").unwrap(), "new\n");
    assert_eq!(read(&node, "issue").unwrap(), "hello\n");
    let mode = node.path("etc/issue").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o644);

    let history = get(&node, "/v1/plugins/local/conf/changes");
    let items = history["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{history:#}");
    let entry = items.iter().find(|it| it["change"] == motd.as_str());
    let entry = entry.unwrap();
    assert_eq!(entry["result"], "done");
    assert!(entry["diff"].as_str().unwrap().contains("-old\n+new\n"));
    let one = get(&node, "/v1/plugins/local/conf/changes?limit=1");
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    let number = one["items"][0]["sequence"].as_u64().unwrap();
    let rest = format!("/v1/plugins/local/conf/changes?before={number}");
    let rest = get(&node, &rest);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let rules = get(&node, "/v1/plugins/local/conf/rules");
    assert_eq!(rules["items"][0]["verdict"], "pass");
    let (_, metrics) = node.get("/metrics").unwrap();
    for line in [
        r#"bulkhead_enforcement_rules{namespace="local",name="conf",verdict="pass"} 2"#,
        r#"bulkhead_enforcement_changes_made_total{namespace="local",name="conf"} 2"#,
        r#"bulkhead_enforcement_changes_outstanding{namespace="local",name="conf"} 0"#,
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    let audit = fs::read_to_string(node.path("state/audit/audit.jsonl")).unwrap();
    assert!(audit.contains(&motd) && !audit.contains("new"), "{audit}");
    let checked = order(&node, &["audit"]);
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(
        text(&checked).contains("follow each other"),
        "{}",
        text(&checked)
    );
    // The same after a restart: nothing is changed again, and the history is there.
    node.stop();
    node.start();
    let report = wait(&node, "conf", "converged again", converged);
    assert_eq!(report["made"], 0);
    let history = get(&node, "/v1/plugins/local/conf/changes");
    assert_eq!(history["items"].as_array().unwrap().len(), 2);
    let forged = audit.replace("issue", "tissue");
    fs::write(node.path("state/audit/audit.jsonl"), forged).unwrap();
    let checked = order(&node, &["audit"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
}

#[test]
fn what_is_not_granted_is_not_changed_and_the_rest_is() {
    let mut node = node();
    let outside = node.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "keep").unwrap();
    fs::write(outside.join("other"), "keep").unwrap();
    symlink(&outside, node.path("etc/away")).unwrap();
    symlink("../outside/secret", node.path("etc/link")).unwrap();
    let etc = node.path("etc").display().to_string();
    let outside = outside.display();
    let config = format!(
        "changes: [{{id: outside, write: {{path: {outside}/secret, content: x}}}}, \
         {{id: through, write: {{path: {etc}/away/secret, content: x}}}}, \
         {{id: remove, remove: {etc}/away/other}}, \
         {{id: sysctl, sysctl: {{name: kernel.core_pattern, value: x}}}}, \
         {{id: unit, restart: ssh.service}}, \
         {{id: module, load: loop}}, \
         {{id: link, write: {{path: {etc}/link, content: replaced}}}}, \
         {{id: good, write: {{path: {etc}/good, content: yes}}}}]"
    );
    node.manifest("conf", &spec(&node, &config, "mode: enforce, interval: 1h"));
    node.start();
    let report = wait(&node, "conf", "some were made", |it| {
        it["made"].as_u64().is_some_and(|made| made >= 2)
    });
    for (id, why) in [
        ("outside", "files: ["),
        ("sysctl", "sysctls: [kernel.core_pattern]"),
        ("unit", "units: [ssh.service]"),
        ("module", "kernelModules: [loop]"),
    ] {
        let change = outstanding(&report, id);
        assert_eq!(change["state"], "refused");
        let message = change["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    for id in ["through", "remove"] {
        assert_eq!(outstanding(&report, id)["state"], "failed", "{report:#}");
    }
    let secret = fs::read_to_string(node.path("outside/secret")).unwrap();
    assert_eq!(secret, "keep");
    assert!(node.path("outside/other").exists());
    assert_eq!(read(&node, "good").unwrap(), "yes");
    // The link is what the path names, not what it leads to.
    assert!(
        !node
            .path("etc/link")
            .symlink_metadata()
            .unwrap()
            .is_symlink()
    );
    assert_eq!(read(&node, "link").unwrap(), "replaced");
}

#[test]
fn order_holds_and_a_failure_costs_what_waits_for_it() {
    let mut node = node();
    let etc = node.path("etc").display().to_string();
    fs::create_dir(node.path("etc/folder")).unwrap();
    let config = format!(
        "changes: [{{id: late, write: {{path: {etc}/new/deep/file, content: x}}, after: [deep]}}, \
         {{id: deep, directory: {etc}/new/deep, after: [new]}}, \
         {{id: new, directory: {etc}/new}}, \
         {{id: bad, write: {{path: {etc}/folder, content: x}}}}, \
         {{id: behind, write: {{path: {etc}/behind, content: x}}, after: [bad]}}, \
         {{id: a, write: {{path: {etc}/a, content: x}}, after: [b]}}, \
         {{id: b, write: {{path: {etc}/b, content: x}}, after: [a]}}]"
    );
    node.manifest("conf", &spec(&node, &config, "mode: enforce, interval: 1h"));
    node.start();
    let report = wait(&node, "conf", "the good were made", |it| {
        it["made"].as_u64().is_some_and(|made| made >= 3)
    });
    assert_eq!(read(&node, "new/deep/file").unwrap(), "x");
    let bad = outstanding(&report, "bad");
    assert_eq!(bad["state"], "failed");
    assert!(
        bad["message"].as_str().unwrap().contains("is a folder"),
        "{bad}"
    );
    let behind = outstanding(&report, "behind");
    assert_eq!(behind["state"], "waiting");
    assert_eq!(behind["message"], "it waits for \"bad\"");
    assert_eq!(outstanding(&report, "a")["state"], "refused");
    assert_eq!(read(&node, "behind"), None);
    assert_eq!(read(&node, "a"), None);
}

#[test]
fn an_edit_is_undone_at_once_and_an_edit_war_is_not_fought() {
    let mut node = node();
    let config = format!("keep: [{}]", kept(&node, "motd", "ours\n"));
    node.manifest("conf", &spec(&node, &config, "mode: enforce, interval: 1h"));
    node.start();
    wait(&node, "conf", "converged", converged);
    let path = node.path("etc/motd");
    // By an editor that writes in place, one that renames, a removal and a change of mode.
    fs::write(&path, "theirs\n").unwrap();
    let is_ours = || (read(&node, "motd").as_deref() == Some("ours\n")).then_some(());
    wait_for("written over", is_ours);
    fs::write(node.path("etc/motd.new"), "theirs\n").unwrap();
    fs::rename(node.path("etc/motd.new"), &path).unwrap();
    wait_for("renamed over", is_ours);
    fs::remove_file(&path).unwrap();
    wait_for("removed", is_ours);
    let report = wait(&node, "conf", "all repaired", |it| {
        it["made"] == 4 && converged(it)
    });
    assert_eq!(report["flapping"].as_array().unwrap().len(), 0);
    assert!(report["driftChecks"].as_u64().unwrap() >= 1);
    // The fifth within five minutes is a war.
    fs::write(&path, "theirs\n").unwrap();
    wait_for("written over once more", is_ours);
    let id = path.display().to_string();
    wait(&node, "conf", "flapping", |it| {
        it["flapping"][0] == id.as_str()
    });
    fs::write(&path, "theirs at last\n").unwrap();
    let report = wait(&node, "conf", "left alone", |it| {
        it["outstandingCount"] == 1
    });
    let change = outstanding(&report, &id);
    assert_eq!(change["state"], "flapping");
    assert_eq!(read(&node, "motd").unwrap(), "theirs at last\n");
    assert!(
        node.daemon_log()
            .contains("something else keeps undoing this change")
    );
}

#[test]
fn what_was_put_back_stays_so_until_it_is_taken_up_again() {
    let mut node = node();
    fs::write(node.path("etc/motd"), "old\n").unwrap();
    fs::set_permissions(node.path("etc/motd"), fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!(
        "keep: [{}, {}]",
        kept(&node, "motd", "new\n"),
        kept(&node, "issue", "hello\n")
    );
    node.manifest("conf", &spec(&node, &config, "mode: enforce"));
    node.start();
    wait(&node, "conf", "converged", converged);
    let motd = node.path("etc/motd").display().to_string();
    let output = order(&node, &["history", "conf"]);
    assert!(text(&output).contains(&motd), "{}", text(&output));

    let output = order(&node, &["revert", "conf", "--change", &motd]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(read(&node, "motd").unwrap(), "old\n");
    let mode = node.path("etc/motd").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let report = wait(&node, "conf", "held", |it| it["outstandingCount"] == 1);
    assert_eq!(outstanding(&report, &motd)["state"], "held");
    // Also after a restart; other changes are made as ever.
    node.stop();
    fs::remove_file(node.path("etc/issue")).unwrap();
    node.start();
    let report = wait(&node, "conf", "held still", |it| it["made"] == 1);
    assert_eq!(outstanding(&report, &motd)["state"], "held");
    assert_eq!(read(&node, "issue").unwrap(), "hello\n");
    assert_eq!(read(&node, "motd").unwrap(), "old\n");

    let output = order(&node, &["check", "conf"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("held"), "{}", text(&output));
    let output = order(&node, &["resume", "conf"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(read(&node, "motd").unwrap(), "new\n");

    // All of it. What somebody has changed since only by force.
    node.manifest("conf", &spec(&node, &config, "mode: audit"));
    wait(&node, "conf", "audits", |it| {
        it["mode"] == "audit" && converged(it)
    });
    fs::write(node.path("etc/motd"), "theirs\n").unwrap();
    let output = order(&node, &["revert", "local/conf"]);
    assert!(text(&output).contains("not put back"), "{}", text(&output));
    assert_eq!(read(&node, "issue"), None);
    assert_eq!(read(&node, "motd").unwrap(), "theirs\n");
    let output = order(&node, &["revert", "conf", "--force"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(read(&node, "motd").unwrap(), "old\n");

    let output = order(&node, &["check", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("no plugin \"nobody\""),
        "{}",
        text(&output)
    );
    node.stop();
    let output = order(&node, &["check", "conf"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output).contains("no daemon answers"),
        "{}",
        text(&output)
    );
}

#[test]
fn secrets_are_in_no_report_and_no_log() {
    let mut node = node();
    let path = node.path("etc/token");
    let config = format!(
        "keep: [{{path: {}, content: 'hush-hush', mode: 384, secret: true}}]",
        path.display()
    );
    node.manifest("conf", &spec(&node, &config, ""));
    node.start();
    let report = wait(&node, "conf", "planned", |it| it["outstandingCount"] == 1);
    assert!(!report.to_string().contains("hush-hush"), "{report:#}");
    node.manifest("conf", &spec(&node, &config, "mode: enforce"));
    wait(&node, "conf", "converged", |it| {
        it["made"] == 1 && converged(it)
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), "hush-hush");
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    let (_, plugins) = node.get("/v1/plugins").unwrap();
    let (_, history) = node.get("/v1/plugins/local/conf/changes").unwrap();
    let audit = fs::read_to_string(node.path("state/audit/audit.jsonl")).unwrap();
    for told in [&plugins, &history, &audit, &node.daemon_log()] {
        assert!(!told.contains("hush-hush"), "{told}");
    }
}

#[test]
fn nothing_is_changed_with_audit_only_and_outside_of_windows() {
    let mut node = node();
    let config = format!("keep: [{}]", kept(&node, "motd", "new\n"));
    node.manifest("conf", &spec(&node, &config, "mode: enforce"));
    // Whenever this runs, one of the two is not today.
    let windows = "windows: [{days: [DAY], from: '00:00', to: '23:59'}]";
    let closed = |day: &str| {
        spec(
            &node,
            &config,
            &format!("mode: enforce, {}", windows.replace("DAY", day)),
        )
    };
    node.manifest("monday", &closed("monday").replace("motd", "monday"));
    node.manifest("thursday", &closed("thursday").replace("motd", "thursday"));
    node.start_with(&["--audit-only"], &[]);
    for plugin in ["conf", "monday", "thursday"] {
        let report = wait(&node, plugin, "planned", |it| it["outstandingCount"] == 1);
        assert_eq!(report["onlyReporting"], "the daemon runs with --audit-only");
    }
    node.stop();
    assert_eq!(read(&node, "motd"), None);
    node.start();
    wait(&node, "conf", "converged", converged);
    let report = |plugin: &str| {
        let looked = |it: &Value| it["lastCheck"].is_string();
        wait(&node, plugin, "looked at", looked)
    };
    let shut = [
        ("monday", report("monday")),
        ("thursday", report("thursday")),
    ];
    let shut = shut
        .into_iter()
        .filter(|(_, it)| it["outstandingCount"] == 1);
    let shut: Vec<_> = shut.collect();
    assert!(!shut.is_empty());
    for (name, report) in shut {
        assert_eq!(
            report["onlyReporting"],
            "it is outside of enforcement.windows"
        );
        assert_eq!(read(&node, name), None);
    }
}

#[test]
fn a_plugin_that_fails_changes_nothing_and_harms_nobody() {
    let mut node = node();
    for act in ["panic", "loop", "error", "many"] {
        let config = format!("keep: [{}], do: {act}", kept(&node, act, "x"));
        let limits = "limits: {deadline: 200ms}\n";
        node.manifest(act, &(spec(&node, &config, "mode: enforce") + limits));
    }
    let config = format!("keep: [{}]", kept(&node, "good", "yes"));
    node.manifest("good", &spec(&node, &config, "mode: enforce"));
    let outside = "files: [/etc/shadow]";
    node.manifest("curious", &spec(&node, outside, "mode: enforce"));
    node.start();
    wait(&node, "good", "converged", converged);
    for (act, why) in [
        ("panic", "the fixture panics"),
        ("loop", "deadline"),
        ("many", "changes; at most 4096 are allowed"),
    ] {
        let report = node.wait_plugin(act, "failed", |it| it["lastFailure"].is_object());
        let failure = report["lastFailure"].to_string();
        assert!(failure.contains(why), "{act}: {failure}");
    }
    let report = wait(&node, "error", "no plan", |it| it["problem"].is_string());
    assert_eq!(report["problem"], "the plugin has no plan: fixture error");
    let report = node.wait_plugin("curious", "refused", |it| reason(it, "Ready") == "Refused");
    let why = message(&report, "Ready");
    assert!(why.contains("/etc/shadow is not granted"), "{why}");
    for act in ["panic", "loop", "error", "many"] {
        assert_eq!(read(&node, act), None);
    }
}

#[test]
fn a_handler_is_done_once_after_what_it_waits_for() {
    let mut node = node();
    let etc = node.path("etc").display().to_string();
    // A write as a handler: it shows by its time that it was done.
    let config = |node: &Node, content: &str| {
        format!(
            "keep: [{}, {}], changes: [{{id: handler, write: {{path: {etc}/done, content: \"{content}\"}}, whenChanged: [{etc}/a, {etc}/b]}}, \
             {{id: idle, write: {{path: {etc}/idle, content: x}}, whenChanged: [{etc}/c]}}]",
            kept(node, "a", content),
            kept(node, "b", content),
        )
    };
    node.manifest(
        "conf",
        &spec(&node, &config(&node, "1"), "mode: enforce, interval: 1h"),
    );
    node.start();
    let report = wait(&node, "conf", "converged", |it| {
        converged(it) && it["made"] == 3
    });
    assert_eq!(report["waitingHandlers"], 0);
    let first = node.path("etc/done").metadata().unwrap().ino();
    assert_eq!(read(&node, "idle"), None);
    let output = order(&node, &["check", "conf"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(node.path("etc/done").metadata().unwrap().ino(), first);
    node.manifest(
        "conf",
        &spec(&node, &config(&node, "2"), "mode: enforce, interval: 1h"),
    );
    wait(&node, "conf", "converged anew", |it| {
        converged(it) && it["made"] == 6
    });
    assert_ne!(node.path("etc/done").metadata().unwrap().ino(), first);
}

#[test]
fn a_plan_is_shown_without_a_daemon() {
    let node = node();
    let manifest = node.path("plan.yaml");
    let config = format!("keep: [{}]", kept(&node, "motd", "new\n"));
    fs::write(node.path("etc/motd"), "old\n").unwrap();
    let plan = |path: &Path| {
        Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .args(["enforcement", "plan"])
            .arg(path)
            .output()
            .unwrap()
    };
    fs::write(
        &manifest,
        config_map("conf", &spec(&node, &config, "mode: enforce")),
    )
    .unwrap();
    let output = plan(&manifest);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let motd = node.path("etc/motd");
    let page = text(&output);
    for line in ["-old", "+new", &format!("--- {}", motd.display())] {
        assert!(page.lines().any(|it| it == line), "{line}\n{page}");
    }
    assert!(page.contains("1 to change, 0 that cannot be"), "{page}");
    assert_eq!(read(&node, "motd").unwrap(), "old\n");
    fs::write(&motd, "new\n").unwrap();
    let output = plan(&manifest);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    fs::write(&manifest, config_map("conf", &spec(&node, "keep: 7", ""))).unwrap();
    let output = plan(&manifest);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("config.keep"), "{}", text(&output));
    assert_eq!(plan(&node.path("nothing")).status.code(), Some(1));
}

#[test]
fn what_is_as_good_as_root_needs_the_policy() {
    let mut node = Node::new();
    let module = fixture_file("fixture-enforcement");
    let grants = "files: [/etc/bulkhead-test], sysctls: ['kernel.*'], kernelModules: [loop]";
    node.manifest(
        "conf",
        &format!("module:\n  {module}\ngrants: {{changes: {{{grants}}}}}\n"),
    );
    node.start();
    let report = node.wait_plugin("conf", "refused", |it| reason(it, "Ready") == "Refused");
    let why = message(&report, "Ready");
    for text in [
        "grants.changes.files[0]: writing to /etc is as good as being root",
        "grants.changes.sysctls[0]: setting kernel.core_pattern is as good as being root",
        "grants.changes.kernelModules[0]: loading loop into the kernel is as good as being root",
        "allowRootEquivalent: [{sha256: ",
    ] {
        assert!(why.contains(text), "{text}\n{why}");
    }
}
