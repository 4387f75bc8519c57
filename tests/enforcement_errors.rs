//! Bad input for config-enforcer, through the real binary: each has its own clear error, before anything is
//! touched where that can be known before, and other changes are unharmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use support::disk::Tmpfs;
use support::enforcer::{checked, order, spec, text, wait_check};
use support::{Node, message, reason};

fn node() -> Node {
    let node = Node::new();
    fs::create_dir(node.path("etc")).unwrap();
    node
}

fn grants(node: &Node) -> String {
    let etc = node.path("etc");
    format!("nodeFacts: true, changes: {{files: [{}]}}", etc.display())
}

#[test]
fn what_can_be_known_before_is_refused_whole() {
    let mut node = node();
    let etc = node.path("etc").display().to_string();
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "unknown-key",
            "- {id: a, file: {path: ETC/a, contents: x}}",
            &[
                "config.resources[1].file: ",
                "contents",
                "the fields here are",
            ],
        ),
        (
            "cycle",
            "- {id: a, dependsOn: [b], file: {path: ETC/a, content: x}}\n- {id: b, dependsOn: [a], file: {path: ETC/b, content: x}}",
            &[
                "config.resources[1].dependsOn: they wait for each other: `a` waits for `b` waits for `a`",
            ],
        ),
        (
            "two-contents",
            "- {id: a, file: {path: ETC/a, content: x}}\n- {id: b, file: {path: ETC/a, content: y}}",
            &["config.resources[2]: `b` contradicts `a`: the file has another content in each"],
        ),
        (
            "mode",
            "- {id: a, file: {path: ETC/a, content: x, mode: \"0899\"}}",
            &["config.resources[1].file.mode: ", "0899"],
        ),
        (
            "template-syntax",
            "- {id: a, file: {path: ETC/a, template: '{{ node.name'}}",
            &["config.resources[1].file.template: syntax error"],
        ),
        (
            "template-name",
            "- {id: a, file: {path: ETC/a, template: '{{ nodes.name }}'}}",
            &["config.resources[1].file.template: there is no `nodes`; known are facts"],
        ),
        (
            "no-such-dependency",
            "- {id: a, dependsOn: [c], file: {path: ETC/a, content: x}}",
            &[
                "config.resources[1].dependsOn",
                "there is no resource \"c\"",
            ],
        ),
        (
            "outside",
            "- {id: a, file: {path: /srv/bulkhead-test, content: x}}",
            &["/srv/bulkhead-test is not granted; to grant it, add to the manifest"],
        ),
    ];
    let good = format!("resources:\n- {{id: good, file: {{path: {etc}/good, content: x}}}}");
    node.manifest("good", &spec(&good, &grants(&node), "mode: enforce"));
    node.start();
    assert_eq!(checked(&node, "good")["rules"]["pass"], 1);
    // Now that the module is compiled.
    for (name, resources, _) in cases {
        let good = format!("resources:\n- {{id: good, file: {{path: ETC/{name}, content: x}}}}\n");
        let config = (good + resources).replace("ETC", &etc);
        node.manifest(name, &spec(&config, &grants(&node), "mode: enforce"));
    }
    for (name, _, texts) in cases {
        let report = node.wait_plugin(name, "refused", |it| reason(it, "Ready") == "Refused");
        let why = message(&report, "Ready");
        for text in *texts {
            assert!(why.contains(text), "{name}: {text:?} is not in: {why}");
        }
        assert!(!why.contains("anyOf"), "{name}: {why}");
    }
    let found = fs::read_dir(&etc).unwrap();
    let found: Vec<_> = found.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        found,
        ["good"],
        "a manifest that is refused changes nothing"
    );
    assert!(!std::path::Path::new("/srv/bulkhead-test").exists());
}

/// Takes all the room there is.
fn fill(file: &std::path::Path) {
    let mut file = File::create(file).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

#[test]
fn what_shows_on_the_node_costs_what_it_is_about_and_no_more() {
    let mut node = node();
    let etc = node.path("etc");
    fs::create_dir(etc.join("folder")).unwrap();
    let made = Command::new("mknod")
        .arg(etc.join("device"))
        .args(["c", "1", "3"])
        .status();
    assert!(made.unwrap().success(), "mknod needs root");
    let (full, read_only) = (etc.join("full"), etc.join("ro"));
    let _full = Tmpfs::new(&full, 64 << 10);
    let _read_only = Tmpfs::new(&read_only, 64 << 10);
    for folder in [&full, &read_only] {
        fs::write(folder.join("file"), "old\n").unwrap();
    }
    fill(&full.join("ballast"));
    let remount = ["-o", "remount,ro", read_only.to_str().unwrap()];
    assert!(
        Command::new("mount")
            .args(remount)
            .status()
            .unwrap()
            .success()
    );
    let config = r#"resources:
- {id: template, file: {path: ETC/template, template: "{{ labels.role }}"}}
- {id: folder, file: {path: ETC/folder, content: x}}
- {id: device, file: {path: ETC/device, content: x}}
- {id: read-only, file: {path: ETC/ro/file, content: "new\n"}}
- {id: full, file: {path: ETC/full/file, content: "LONG"}}
- {id: behind, dependsOn: [full], file: {path: ETC/behind, content: x}}
- {id: beside-template, dependsOn: [template], file: {path: ETC/beside, content: x}}
- {id: one, when: cpus > 0, file: {path: ETC/twice, content: one}}
- {id: other, when: cpus > 0, file: {path: ETC/twice, content: other}}
- {id: nobody, file: {path: ETC/nobody, content: x, owner: no-such-user}}
- {id: no-folder, file: {path: ETC/missing/file, content: x}}
- {id: yaml, setting: {path: ETC/broken.yaml, format: yaml, set: {a: 1}}}
- {id: good, file: {path: ETC/good, content: x}}
- {id: good-too, directory: {path: ETC/good.d}}"#;
    fs::write(etc.join("broken.yaml"), "a: [1\nb: {").unwrap();
    let config = config.replace("ETC", etc.to_str().unwrap());
    let config = config.replace("LONG", &"new ".repeat(3000));
    node.manifest(
        "conf",
        &spec(&config, &grants(&node), "mode: enforce, interval: 1h"),
    );
    node.start();
    let output = wait_check(&node, "conf");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let rules = node.get("/v1/plugins/local/conf/rules").unwrap().1;
    let rules: serde_json::Value = serde_json::from_str(&rules).unwrap();
    let rule = |id: &str| {
        let rules = rules["items"].as_array().unwrap();
        let rule = rules.iter().find(|it| it["id"] == id).unwrap();
        let message = rule["message"].as_str().unwrap_or_default();
        (rule["verdict"].as_str().unwrap(), message.to_owned())
    };
    for (id, verdict, why) in [
        ("template", "error", "`labels.role` is undefined (line 1)"),
        ("folder", "error", "it is a folder, not a file"),
        (
            "device",
            "error",
            "it is a device, a socket or a pipe, not a file",
        ),
        ("read-only", "fail", "content differs"),
        ("full", "fail", "content differs"),
        (
            "beside-template",
            "error",
            "depends on `template`, which is in error",
        ),
        ("one", "error", "contradicts `other`"),
        ("other", "error", "contradicts `one`"),
        ("nobody", "error", "no-such-user"),
        ("no-folder", "fail", "it is not there"),
        ("yaml", "error", "line"),
        ("good", "pass", ""),
        ("good-too", "pass", ""),
    ] {
        let (found, message) = rule(id);
        assert!(
            found == verdict && message.contains(why),
            "{id}: {found}, {message}"
        );
    }
    let report = checked(&node, "conf");
    let outstanding = report["outstanding"].as_array().unwrap();
    for (path, state, why) in [
        (
            "ro/file",
            "failed",
            "is on a file system that is mounted read-only",
        ),
        (
            "full/file",
            "failed",
            "there is no room on the file system of",
        ),
        ("behind", "waiting", "it waits for"),
        ("missing/file", "failed", "there is no folder"),
    ] {
        let path = etc.join(path).display().to_string();
        let change = outstanding.iter().find(|it| it["subject"] == path.as_str());
        let change = change.unwrap_or_else(|| panic!("{path}: {report:#}"));
        assert_eq!(change["state"], state, "{change:#}");
        assert!(
            change["message"].as_str().unwrap().contains(why),
            "{change:#}"
        );
    }
    assert_eq!(outstanding.len(), 4, "{report:#}");
    assert_eq!(fs::read_to_string(etc.join("good")).unwrap(), "x");
    assert!(etc.join("good.d").is_dir());
    for folder in [&full, &read_only] {
        assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "old\n");
    }
    // Nothing half made is left behind.
    let names = |folder: &std::path::Path| {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&full), ["ballast", "file"]);
    let expected = [
        "broken.yaml",
        "device",
        "folder",
        "full",
        "good",
        "good.d",
        "ro",
    ];
    assert_eq!(names(&etc), expected);
    // Once there is room it is made, and what waits for it.
    fs::remove_file(full.join("ballast")).unwrap();
    order(&node, &["check", "conf"]);
    assert_eq!(fs::read_to_string(full.join("file")).unwrap().len(), 12_000);
    assert_eq!(fs::read_to_string(etc.join("behind")).unwrap(), "x");
}
