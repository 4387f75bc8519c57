#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use proptest::prelude::*;

use super::*;

mod endpoints;
mod metadata;
mod policy;
mod remote_write;
mod scanning;
mod syslog;

const FILE: &str = "/etc/bulkhead/manifests/p.yaml";

fn config_map(plugin: &str) -> String {
    let indented: String = plugin.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: shipper\n  labels:\n    bulkhead.dev/plugin: \"true\"\ndata:\n  plugin.yaml: |\n{indented}"
    )
}

const GOOD: &str = "apiVersion: bulkhead.dev/v1alpha1
kind: Plugin
module:
  bundled: log-shipper
config:
  parse: json
  rate: 0.5
limits:
  memory: 32Mi
logs:
  sources:
    - containers: {}
    - files:
        include: [/var/log/*.log]
  destinations:
    - name: out
      stdout: {}
    - name: loki
      receives: routed
      http:
        url: https://logs.example.org/ingest
";

fn one(text: &str) -> Document {
    let mut documents = read(Path::new(FILE), text.as_bytes());
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0)
}

fn good(text: &str) -> Manifest {
    match one(text) {
        Document::Manifest(manifest) => *manifest,
        other => panic!("refused: {}", describe(&other)),
    }
}

fn describe(document: &Document) -> String {
    match document {
        Document::Refused { errors, .. } => {
            errors.iter().map(|e| format!("{e}\n")).collect::<String>()
        }
        other => format!("{other:?}"),
    }
}

fn refused(text: &str) -> Vec<String> {
    match one(text) {
        Document::Refused { errors, .. } => {
            assert!(!errors.is_empty());
            errors.iter().map(ToString::to_string).collect()
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// The errors of `GOOD` with a part replaced.
fn refused_with(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    refused(&config_map(&GOOD.replacen(from, to, 1)))
}

#[test]
fn a_manifest_is_read_whole() {
    let manifest = good(&config_map(GOOD));
    assert_eq!(manifest.identity.to_string(), "local/shipper");
    assert_eq!(
        manifest.spec.module,
        Module::Bundled("log-shipper".to_owned())
    );
    assert_eq!(manifest.spec.limits.memory, ByteSize::mebibytes(32));
    assert_eq!(
        manifest.spec.config.value(),
        serde_json::json!({"parse": "json", "rate": 0.5})
    );
    let logs = manifest.spec.logs.as_ref().unwrap();
    assert_eq!(logs.sources.len(), 2);
    assert_eq!(logs.destinations[1].receives, Receives::Routed);
    assert!(matches!(
        logs.destinations[1].kind,
        DestinationKind::Http(_)
    ));
    assert!(Policy::default().check(&manifest).is_empty());
    // A place inside the block is a place in the file.
    let error = manifest.refuse(Reason::InvalidField, "limits.memory", "x", "y");
    assert_eq!(
        error.position,
        Some(Position {
            line: 17,
            column: 15
        })
    );
}

#[test]
fn json_is_read_too() {
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "kube-system", "labels": {"bulkhead.dev/plugin": "true"}},
        "data": {"plugin.yaml": GOOD},
    });
    for text in [
        text.to_string(),
        serde_json::to_string_pretty(&text).unwrap(),
    ] {
        assert_eq!(good(&text).identity.to_string(), "kube-system/a");
    }
}

#[test]
fn each_refusal_names_file_place_field_and_remedy() {
    for (from, to, wanted) in [
        (
            "  memory: 32Mi",
            "  memroy: 32Mi",
            "/etc/bulkhead/manifests/p.yaml:17:7: limits.memroy: unknown field: did you mean `memory`? known fields: memory, deadline, cpu, output",
        ),
        (
            "v1alpha1",
            "v9",
            "p.yaml:9:17: apiVersion: \"bulkhead.dev/v9\" is not known: this daemon knows `apiVersion: bulkhead.dev/v1alpha1`",
        ),
        (
            "kind: Plugin",
            "kind: Plugins",
            "p.yaml:10:11: kind: \"Plugins\" is not known",
        ),
        (
            "  bundled: log-shipper",
            "  bundled: log-shipper\n  file: {path: a.wasm, sha256: aa}",
            "module: has `bundled` and `file` at once: keep exactly one of bundled, file, binaryData",
        ),
        (
            "  bundled: log-shipper",
            "  image: x",
            "module: there is no \"image\"",
        ),
        (
            "  bundled: log-shipper",
            "  file: {path: a.wasm, sha256: aa}",
            "module.file.sha256: \"aa\" is not 64 hexadecimal digits",
        ),
        (
            "  bundled: log-shipper",
            "  binaryData: {key: a.wasm}",
            "module.binaryData.key: the ConfigMap's binaryData has no key \"a.wasm\": add `binaryData:`",
        ),
        (
            "      stdout: {}",
            "      stdout: {}\n      file: {path: /srv/a}",
            "logs.destinations[0]: destination \"out\" is several things at once: keep exactly one of",
        ),
        (
            "      stdout: {}",
            "      receives: all",
            "destination \"out\" does not say what it is: add exactly one of",
        ),
        (
            "      stdout: {}",
            "      stdout: {}\n      retries: 3",
            "p.yaml:26:11: logs.destinations[0].retries: unknown field: known fields: name, receives, queue, file, stdout, http, elasticsearch, splunkHec, loki, otlp, syslog",
        ),
        (
            "      stdout: {}",
            "      stdot: {}",
            "did you mean `stdout`?",
        ),
        (
            "name: loki",
            "name: out",
            "p.yaml:26:17: logs.destinations[1].name: two destinations are called \"out\"",
        ),
        (
            "/var/log/*.log",
            "var/log/*.log",
            "logs.sources[1].files.include[0]: \"var/log/*.log\" is not absolute",
        ),
        ("[/var/log/*.log]", "[\"/var/log/[a\"]", "is no glob"),
        (
            "containers: {}",
            "containers: {}\n      multiline: {start: '(\\d'}",
            "p.yaml:21:30: logs.sources[0].multiline.start: `(\\d` is no regular expression: unclosed group: put a backslash before",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {continuation: '\\w{1000}{100}'}",
            "logs.sources[0].multiline.continuation: `\\w{1000}{100}` needs more than 1048576 bytes when compiled: use smaller repetitions",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {start: ''}",
            "logs.sources[0].multiline.start: is empty and fits every line: write what",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {timeout: 1s}",
            "logs.sources[0].multiline: does not say which lines belong together: add exactly one of",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {start: a, preset: go}",
            "logs.sources[0].multiline: says in several ways",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {preset: ruby}",
            "logs.sources[0].multiline.preset: there is no \"ruby\": known values: java, python, go",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {preset: [go, jav]}",
            "logs.sources[0].multiline.preset[1]: there is no \"jav\": did you mean `java`?",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {preset: [go, go]}",
            "logs.sources[0].multiline.preset: names a preset twice",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {preset: []}",
            "logs.sources[0].multiline.preset: is empty: write java",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {preset: go, timeout: 0s}",
            "logs.sources[0].multiline.timeout: is zero",
        ),
        (
            "containers: {}",
            "containers: {}\n      multiline: {preset: go, maxLines: 1}",
            "logs.sources[0].multiline.maxLines: 1 is not between 2 and 100000",
        ),
        (
            "containers: {}",
            "multiline: {preset: go}",
            "logs.sources[0]: does not say what is read: add `containers: {}`",
        ),
        (
            "containers: {}",
            "containers: {}\n      files: {include: [/a]}",
            "logs.sources[0]: has `containers` and `files` at once",
        ),
        (
            "containers: {}",
            "continers: {}",
            "logs.sources[0].continers: unknown field: did you mean `containers`? known fields: containers, files, multiline",
        ),
        (
            "https://logs.example.org/ingest",
            "logs.example.org/ingest",
            "logs.destinations[1].http.url: is no URL",
        ),
        (
            "https://logs.example.org/ingest",
            "ftp://logs.example.org/",
            "has the scheme \"ftp\"",
        ),
        (
            "https://logs.example.org/ingest",
            "https://me:secret@logs.example.org/",
            "has credentials in it",
        ),
        (
            "memory: 32Mi",
            "memory: lots",
            "limits.memory: \"lots\" is not a size such as 1048576, 64Mi or 1Gi",
        ),
        ("memory: 32Mi", "deadline: 0s", "limits.deadline: is zero"),
        (
            "memory: 32Mi",
            "memory: 32Mi\n  memory: 64Mi",
            "p.yaml:18:7: limits.memory: is here twice, first 1 line(s) above",
        ),
        (
            "limits:\n  memory: 32Mi",
            "limits: 32Mi",
            "limits: is \"32Mi\": write a mapping with the fields memory, deadline, cpu, output",
        ),
        (
            "limits:",
            "suspend: yes\nlimits:",
            "suspend: is \"yes\": write true or false",
        ),
        (
            "limits:",
            "spec: {}\nlimits:",
            "its fields stand at the top level",
        ),
        (
            "limits:",
            "roles: {}\nlimits:",
            "`roles` is no role that this daemon knows: known role sections: logs, metrics, enforcement, scanning",
        ),
        (
            "limits:",
            "grants: {nodeFiles: [proc]}\nlimits:",
            "grants.nodeFiles[0]: \"proc\" is not absolute: write an absolute path such as `/proc` or",
        ),
        (
            "limits:",
            "grants: {nodeFiles: [/proc/../etc]}\nlimits:",
            "grants.nodeFiles[0]: \"/proc/../etc\" has an empty component, `.` or `..`",
        ),
        (
            "limits:",
            "metrics: {timeout: 0s}\nlimits:",
            "metrics.timeout: is zero",
        ),
        (
            "limits:",
            "metrics: {timeout: 1h}\nlimits:",
            "metrics.timeout: 1h is longer than 2m",
        ),
        (
            "limits:",
            "metrics: {maxSeries: 0}\nlimits:",
            "metrics.maxSeries: 0 is not between 1 and 1000000",
        ),
        (
            "limits:",
            "metrics: {labels: {a-b: c}}\nlimits:",
            "metrics.labels: \"a-b\" is no name of a label",
        ),
        (
            "limits:",
            "grants: {files: [{host: var/lib, guest: /a}]}\nlimits:",
            "grants.files[0].host: \"var/lib\" is not absolute: begin it with a slash, for example `/var/lib`",
        ),
        (
            "limits:",
            "grants: {files: [{host: /, guest: /a}]}\nlimits:",
            "is the whole node",
        ),
        (
            "limits:",
            "grants: {files: [{host: /proc/1, guest: /a}]}\nlimits:",
            "is in /proc",
        ),
        (
            "limits:",
            "grants: {files: [{host: /sys, guest: /a}]}\nlimits:",
            "is in /sys",
        ),
        (
            "limits:",
            "grants: {files: [{host: /a/../proc, guest: /a}]}\nlimits:",
            "leaves its folder",
        ),
        (
            "module:\n  bundled: log-shipper\n",
            "",
            "has no `module`: add `module:`",
        ),
        (
            "      stdout: {}",
            "      file: {path: /var/log/a.log}",
            "is also read by this plugin",
        ),
        (
            "        url: https://logs.example.org/ingest",
            "        url: https://a.b/\n        headers: {a: \"${env:}\"}",
            "has a placeholder that is not known",
        ),
    ] {
        let errors = refused_with(from, to).join("\n");
        assert!(errors.contains(wanted), "wanted {wanted}\ngot    {errors}");
        assert!(errors.starts_with(FILE), "{errors}");
    }
}

#[test]
fn how_lines_are_joined_is_read_and_written_the_same() {
    let of = |multiline: &str| {
        let to = format!("containers: {{}}\n      multiline: {multiline}");
        let logs = good(&config_map(&GOOD.replace("containers: {}", &to)))
            .spec
            .logs;
        let source = logs.unwrap().sources[0].clone();
        let json = serde_json::to_value(&source).unwrap();
        assert_eq!(
            serde_json::from_value::<LogSource>(json).unwrap(),
            source,
            "{multiline}"
        );
        source.multiline.unwrap()
    };
    let java = of("{preset: java}");
    assert_eq!(java.rule, JoinRule::Presets(vec![Preset::Java]));
    assert_eq!((java.timeout, java.max_lines), (Period::seconds(2), 2000));
    let several = of("{preset: [go, python], timeout: 500ms, maxLines: 10}");
    let rule = JoinRule::Presets(vec![Preset::Go, Preset::Python]);
    assert_eq!(several.rule, rule);
    assert_eq!(several.timeout, Period::millis(500));
    assert_eq!(several.max_lines, 10);
    let JoinRule::Start(start) = of("{start: '^\\d{4}-'}").rule else {
        panic!("not a start");
    };
    assert_eq!(start.to_string(), r"^\d{4}-");
    assert!(matches!(
        of(r"{continuation: '^\s'}").rule,
        JoinRule::Continuation(_)
    ));
    let plain = good(&config_map(GOOD)).spec.logs.unwrap();
    assert!(plain.sources[0].multiline.is_none());
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let text = GOOD
        .replace("  memory: 32Mi", "  memroy: 32Mi\n  deadline: 0s")
        .replace("name: loki", "name: out")
        .replace("limits:", "surprise: 1\nlimits:");
    let errors = refused(&config_map(&text));
    assert_eq!(errors.len(), 4, "{errors:#?}");
}

#[test]
fn too_many_destinations_are_refused() {
    let many: String = (0..65)
        .map(|i| format!("    - {{name: d{i}, stdout: {{}}}}\n"))
        .collect();
    let errors = refused_with("    - name: out\n      stdout: {}\n", &many);
    assert!(
        errors[0].contains("logs.destinations: has 66 entries"),
        "{errors:?}"
    );
}

#[test]
fn broken_files_are_refused_as_a_whole() {
    for (text, wanted) in [
        (String::new(), "p.yaml: is empty"),
        ("# nothing\n---\n".to_owned(), "p.yaml: is empty"),
        (
            "apiVersion: v1\nkind: [Config".to_owned(),
            "is not YAML, or was cut off",
        ),
        (config_map("apiVersion: [a"), "is not YAML, or was cut off"),
        (
            config_map(""),
            "is empty: begin with `apiVersion: bulkhead.dev/v1alpha1`",
        ),
        (config_map("- a"), "is not a mapping of fields to values"),
        (config_map("kind: Plugin"), "has no `apiVersion`"),
        (
            config_map(GOOD).replace("name: shipper", "name: Shipper"),
            "metadata.name",
        ),
        (
            config_map(GOOD).replace("name: shipper", "name:"),
            "has no `name`",
        ),
        (
            config_map(GOOD).replace("plugin.yaml:", "plugin.yml:"),
            "no key plugin.yaml",
        ),
        (config_map(GOOD).replace("\"true\"", "true"), "with quotes"),
        (
            format!("{}binaryData:\n  a.wasm: AGFzbQ\n", config_map(GOOD)),
            "binaryData[\"a.wasm\"]: is not base64, or was cut off",
        ),
    ] {
        let errors = refused(&text).join("\n");
        assert!(errors.contains(wanted), "wanted {wanted}\ngot    {errors}");
    }
    let Document::Refused { errors, .. } = &read(Path::new(FILE), b"a: \xff\n")[0] else {
        panic!("not text");
    };
    assert!(errors[0].problem.contains("UTF-8"));
    let long = vec![b'#'; MAX_FILE_BYTES + 1];
    assert!(matches!(
        &read(Path::new(FILE), &long)[0],
        Document::Refused { .. }
    ));
}

#[test]
fn other_documents_are_ignored_and_a_forgotten_label_is_hinted_at() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, name: b}\n";
    let unlabelled = config_map(GOOD).replace("bulkhead.dev/plugin", "app");
    let text = format!("{service}---\n{}---\n{unlabelled}", config_map(GOOD));
    let dismissed = config_map(GOOD).replace("\"true\"", "\"false\"");
    assert!(matches!(
        one(&dismissed),
        Document::Ignored {
            dismissed: true,
            hint: None,
            ..
        }
    ));
    let documents = read(Path::new(FILE), text.as_bytes());
    assert!(matches!(
        &documents[0],
        Document::Ignored {
            hint: None,
            dismissed: false,
            ..
        }
    ));
    let Document::Manifest(manifest) = &documents[1] else {
        panic!("{documents:?}");
    };
    let file = Path::new(FILE).to_owned();
    assert_eq!(manifest.origin, Origin::File { file, document: 1 });
    let Document::Ignored {
        hint: Some(hint), ..
    } = &documents[2]
    else {
        panic!("{documents:?}");
    };
    assert!(
        hint.to_string()
            .contains("add `bulkhead.dev/plugin: \"true\"`"),
        "{hint}"
    );
}

#[test]
fn the_digest_is_of_the_meaning() {
    let digest = |text: &str| good(text).digest;
    let plain = digest(&config_map(GOOD));
    let reordered = GOOD
        .replace(
            "  parse: json\n  rate: 0.5\n",
            "  rate: 0.5  # comment\n  parse: 'json'\n",
        )
        .replace("  memory: 32Mi", "  memory: 33554432\n  deadline: 5s");
    assert_eq!(plain, digest(&config_map(&reordered)));
    assert_eq!(
        plain,
        digest(&format!("# x\n{}  other: y\n", config_map(GOOD)))
    );
    assert_ne!(plain, digest(&config_map(&GOOD.replace("0.5", "0.6"))));
    assert_ne!(
        plain,
        digest(
            &config_map(GOOD)
                .replace("shipper\n", "b\n")
                .replace("log-b", "log-shipper")
        )
    );

    let inline = GOOD.replace("bundled: log-shipper", "binaryData: {key: a.wasm}");
    let with = |bytes: &str| format!("{}binaryData:\n  {bytes}\n", config_map(&inline));
    let first = with("a.wasm: AGFzbQ==");
    assert_eq!(good(&first).binary("a.wasm").unwrap(), b"\0asm");
    assert_eq!(good(&first).binary("b.wasm"), None);
    assert_eq!(
        digest(&first),
        digest(&with("a.wasm: |\n    AGFz\n    bQ=="))
    );
    assert_eq!(
        digest(&first),
        digest(&with("a.wasm: AGFzbQ==\n  unused: AAAA"))
    );
    assert_ne!(
        digest(&first),
        digest(&with("a.wasm: AGFzbR==").replace("bR==", "bg=="))
    );
}

#[test]
fn policy_refuses_by_field_with_the_yaml_that_would_allow_it() {
    let check = |policy: &Policy, text: &str| -> String {
        policy
            .check(&good(text))
            .iter()
            .map(|e| format!("{e}\n"))
            .collect()
    };
    let policy = Policy {
        private_folders: vec!["/var/lib/bulkhead".into()],
        ..Policy::default()
    };
    let grants = |files: &str| {
        config_map(&GOOD.replace("limits:", &format!("grants: {{files: [{files}]}}\nlimits:")))
    };

    let big = check(&policy, &config_map(&GOOD.replace("32Mi", "2Gi")));
    assert!(big.contains(":17:15: limits.memory: 2Gi is above this node's maximum of 512Mi: write `memory: 512Mi` or less"), "{big}");
    let cpu = check(
        &policy,
        &config_map(&GOOD.replace("memory: 32Mi", "cpu: 1.5")),
    );
    assert!(cpu.contains("limits.cpu: 1500m is above"), "{cpu}");

    for covered in ["/var/lib/bulkhead/state", "/var/lib/bulkhead", "/var"] {
        let state = check(&policy, &grants(&format!("{{host: {covered}, guest: /a}}")));
        assert!(
            state.contains("grants.files[0].host: covers /var/lib/bulkhead"),
            "{state}"
        );
    }
    assert_eq!(check(&policy, &grants("{host: /etc, guest: /a}")), "");
    let etc = grants("{host: /etc/cron.d, guest: /a, writable: true}");
    let refused = check(&policy, &etc);
    assert!(
        refused.contains("writing to /etc is as good as being root"),
        "{refused}"
    );
    assert!(
        refused.contains("allowRootEquivalent: [{bundled: log-shipper}]"),
        "{refused}"
    );
    let allowed = Policy {
        allow_root_equivalent: [TrustedModule::Bundled("log-shipper".to_owned())].into(),
        ..policy.clone()
    };
    assert_eq!(check(&allowed, &etc), "");
    let cron = check(
        &policy,
        &config_map(&GOOD.replace("stdout: {}", "file: {path: /etc/cron.d/x}")),
    );
    assert!(
        cron.contains("logs.destinations[0].file.path: writing to /etc"),
        "{cron}"
    );

    let other = config_map(GOOD).replace("name: shipper", "name: shipper\n  namespace: team");
    let refused = check(&policy, &other);
    assert!(
        refused.contains("namespace `team` may declare no plugins on this node"),
        "{refused}"
    );
    assert!(refused.contains("namespaces: {team: {}}"), "{refused}");
}

#[test]
fn hostile_yaml_is_refused() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for i in 1..40 {
        let refs = vec![format!("*a{}", i - 1); 9].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    let block: String = (0..10_000)
        .map(|i| format!("{}a:\n", " ".repeat(i.min(200))))
        .collect();
    let chain: String = (0..2_000)
        .map(|i| match i {
            0 => "a0: &a0 [[[[[[[[1]]]]]]]]\n".to_owned(),
            i => format!("a{i}: &a{i} [[[[[[[[*a{}]]]]]]]]\n", i - 1),
        })
        .collect();
    let big = "x".repeat(2 << 20);
    let aliased = format!("a: &a {big}\nb: [{}]\n", vec!["*a"; 1000].join(", "));
    for (name, text) in [
        ("laughs", laughs),
        ("flow", "[".repeat(10_000)),
        ("maps", "{a: ".repeat(10_000)),
        ("dashes", "- ".repeat(10_000)),
        ("block", block),
        ("chain", chain),
        ("aliased", aliased),
        ("self", "a: &a [*a]\n".to_owned()),
        ("many", "- a\n".repeat(200_000)),
    ] {
        for text in [
            text.clone(),
            config_map(&format!("{GOOD}config2:\n  {text}")),
        ] {
            assert!(
                matches!(
                    one(&text),
                    Document::Refused { .. } | Document::Ignored { .. }
                ),
                "{name}"
            );
        }
        assert!(
            yaml::documents(&text).is_err() || name == "block",
            "{name} was read"
        );
    }
    // A thousand unknown fields are told as a few.
    let many: String = (0..5_000).map(|i| format!("u{i}: 1\n")).collect();
    assert_eq!(refused(&config_map(&format!("{GOOD}{many}"))).len(), 50);
    // One doubled field many times over.
    let doubled = "suspend: true\n".repeat(20_000);
    assert_eq!(refused(&config_map(&format!("{GOOD}{doubled}"))).len(), 50);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(Path::new(FILE), &bytes);
    }

    #[test]
    fn arbitrary_plugins_never_panic(text in "[a-z0-9:{}\\[\\]\\-&*|>\"' \\n,#!%~?.]{0,300}") {
        let _ = read(Path::new(FILE), config_map(&text).as_bytes());
        let _ = read(Path::new(FILE), config_map(&format!("{GOOD}{text}")).as_bytes());
    }

    #[test]
    fn mutated_manifests_never_panic(
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0usize..12, "[ \\n:\\-\\[\\]{}&*a-z0-9\"/.$\u{e9}\u{1F600}]{0,6}"),
            1..8,
        ),
        outside in any::<bool>(),
    ) {
        let mut text = if outside { config_map(GOOD) } else { GOOD.to_owned() };
        for (at, cut, insert) in edits {
            let chars: Vec<char> = text.chars().collect();
            let start = at.index(chars.len() + 1);
            let end = (start + cut).min(chars.len());
            text = chars[..start].iter().chain(insert.chars().collect::<Vec<_>>().iter()).chain(&chars[end..]).collect();
        }
        let text = if outside { text } else { config_map(&text) };
        for document in read(Path::new(FILE), text.as_bytes()) {
            if let Document::Manifest(manifest) = document {
                let _ = Policy::default().check(&manifest);
            }
        }
    }

    #[test]
    fn a_config_means_the_same_as_its_json(
        text in "[a-zA-Z0-9 ]{0,12}",
        number in any::<i64>(),
        real in -1e300f64..1e300,
    ) {
        let config = serde_json::json!({"t": text, "n": number, "r": real, "l": [true, null, {"x": []}]});
        let manifest = good(&config_map(&format!("{}config: {config}\n", GOOD.replace("config:\n  parse: json\n  rate: 0.5\n", ""))));
        prop_assert_eq!(manifest.spec.config.value(), config);
    }
}
