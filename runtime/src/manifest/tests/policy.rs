use super::*;

fn policy(text: &str) -> Result<Policy, String> {
    let text = format!("apiVersion: bulkhead.dev/v1alpha1\nkind: Policy\n{text}");
    let name = Path::new("/etc/bulkhead/policy.yaml");
    Policy::default().with(name, &text).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n")
    })
}

/// What is refused of the manifest in namespace `shop`.
fn refused(policy: &Policy, plugin: &str) -> String {
    let text = config_map(&format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Plugin\n{plugin}"
    ));
    let text = text.replace("name: shipper", "name: shipper\n  namespace: shop");
    let errors = policy.check(&good(&text));
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("\n")
}

const LOGS: &str = "module: {bundled: log-shipper}
logs:
  sources: [{containers: {namespaces: [shop]}}]
  destinations: [{name: out, http: {url: \"http://a\", headers: {X: \"${secret:a/b}\"}}}]
";

#[test]
fn a_policy_is_read_with_its_faults_named() {
    let read = policy(
        "limits: {memory: 1Gi}\nallowRootEquivalent: [{bundled: x}]\nnamespaces:\n  shop:\n    allGrants: true\n    modules: [bundled]\n",
    );
    let read = read.unwrap();
    assert_eq!(read.limits.memory, ByteSize::mebibytes(1024));
    assert_eq!(read.limits.deadline, NodeLimits::default().deadline);
    assert!(read.namespaces["shop"].all_grants);
    for (text, expected) in [
        ("limit: {}", "policy.yaml:3:1: limit: unknown field"),
        (
            "namespaces: {a: {grants: {stat: true}}}",
            "stat: unknown field",
        ),
        (
            "namespaces: {a: {allGrants: true, grants: {state: true}}}",
            "namespaces.a.grants: stands beside `allGrants: true`",
        ),
        ("namespaces: {a: {modules: [oci]}}", "oci"),
        (
            "namespaces: {a: {grants: {files: [{host: var}]}}}",
            "namespaces.a.grants.files[0].host: is no absolute path",
        ),
        (
            "namespaces: {a: {grants: {logs: {destinations: [kafka]}}}}",
            "the kinds are file, stdout, http",
        ),
        ("a: [", "is not YAML"),
    ] {
        let error = policy(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let other = Policy::default().with(
        Path::new("p"),
        "kind: Plugin\napiVersion: bulkhead.dev/v1alpha1",
    );
    assert!(other.unwrap_err()[0].to_string().contains("kind: Policy"));
}

#[test]
fn a_broken_policy_lets_nobody_in() {
    let why = Policy::default()
        .with(Path::new("p.yaml"), "a: [")
        .unwrap_err();
    let shut = Policy::default().shut(&why);
    let refused = shut.check(&good(&config_map(GOOD)));
    let text = refused[0].to_string();
    assert!(
        text.contains("nobody may declare plugins: p.yaml:"),
        "{text}"
    );
}

#[test]
fn a_namespace_gets_what_its_entry_says() {
    let none = policy("namespaces: {shop: {}}").unwrap();
    let plain = "module: {bundled: log-shipper}\n";
    assert_eq!(refused(&none, plain), "");
    for (plugin, expected) in [
        ("grants: {state: {}}", "grants: {state: true}"),
        ("grants: {nodeFacts: true}", "grants: {nodeFacts: true}"),
        (
            "grants: {files: [{host: /srv, guest: /a}]}",
            "grants: {files: [{host: /srv}]}",
        ),
    ] {
        let refused = refused(&none, &format!("{plain}{plugin}"));
        assert!(refused.contains(expected), "{plugin}: {refused}");
    }
    let text = refused(&none, LOGS);
    assert!(
        text.contains("logs: namespace `shop` may not read logs"),
        "{text}"
    );
    let all = policy("namespaces: {shop: {allGrants: true}}").unwrap();
    assert_eq!(refused(&all, LOGS), "");
}

#[test]
fn logs_are_allowed_by_namespace_folder_and_kind() {
    let text = "namespaces: {shop: {grants: {files: [{host: /srv/shop, writable: true}], logs: {containers: [shop], files: [/var/log/shop], destinations: [http, file]}}}}";
    let some = policy(text).unwrap();
    assert_eq!(refused(&some, LOGS), "");
    let with = |from: &str, to: &str| {
        let plugin = LOGS.replace(from, to);
        assert_ne!(plugin, LOGS);
        refused(&some, &plugin)
    };
    for (from, to, expected) in [
        (
            "{namespaces: [shop]}",
            "{}",
            "may not read the logs of all containers",
        ),
        (
            "[shop]",
            "[shop, kube-system]",
            "may not read the logs of `kube-system`",
        ),
        (
            "containers: {namespaces: [shop]}",
            "files: {include: [\"/var/log/*.log\"]}",
            "may not read /var/log/*.log",
        ),
        (
            "containers: {namespaces: [shop]}",
            "files: {include: [\"/var/log/shop*/a\"]}",
            "may not read",
        ),
        (
            "http: {url: \"http://a\", headers: {X: \"${secret:a/b}\"}}",
            "stdout: {}",
            "may not send logs to `stdout`",
        ),
        (
            "${secret:a/b}",
            "${file:/etc/shadow}",
            "may not use the daemon's files",
        ),
        (
            "${secret:a/b}",
            "${env:TOKEN}",
            "may not use the daemon's environment",
        ),
        (
            "headers: {X: \"${secret:a/b}\"}",
            "tls: {caFile: /etc/shadow}",
            "may not use the daemon's files",
        ),
        (
            "http: {url: \"http://a\", headers: {X: \"${secret:a/b}\"}}",
            "file: {path: /srv/shopping}",
            "may not write to /srv/shopping",
        ),
    ] {
        let refused = with(from, to);
        assert!(refused.contains(expected), "{to}: {refused}");
    }
    for (from, to) in [
        (
            "containers: {namespaces: [shop]}",
            "files: {include: [\"/var/log/shop/**/*.log\"]}",
        ),
        (
            "http: {url: \"http://a\", headers: {X: \"${secret:a/b}\"}}",
            "file: {path: /srv/shop/out}",
        ),
    ] {
        assert_eq!(with(from, to), "", "{to}");
    }
}

#[test]
fn a_namespace_has_lower_maxima_and_sources_of_its_own() {
    let some = policy("namespaces: {shop: {limits: {memory: 32Mi}, modules: [bundled]}}").unwrap();
    let text = refused(&some, "module: {bundled: x}\nlimits: {memory: 64Mi}\n");
    assert!(
        text.contains("limits.memory: 64Mi is above the maximum of namespace `shop` of 32Mi"),
        "{text}"
    );
    let digest = "0".repeat(64);
    let parts =
        format!("module: {{configMapParts: {{names: [a-0, a-1], sha256: \"{digest}\"}}}}\n");
    let text = refused(&some, &parts);
    assert!(
        text.contains("module.configMapParts: modules of namespace `shop` may not come from there"),
        "{text}"
    );
    assert!(text.contains("lets them come from: bundled"), "{text}");
}

#[test]
fn pushing_what_is_measured_is_allowed_by_name() {
    let pushing = |fields: &str| {
        format!(
            "module: {{bundled: node-metrics}}\nmetrics: {{remoteWrite: [{{name: far, url: 'http://a'{fields}}}]}}\n"
        )
    };
    let none = policy("namespaces: {shop: {}}").unwrap();
    let text = refused(&none, &pushing(""));
    assert!(text.contains("may not push what it measures"), "{text}");
    assert!(text.contains("grants: {remoteWrite: true}"), "{text}");
    let some = "namespaces: {shop: {grants: {remoteWrite: true, files: [{host: /srv/shop, writable: true}]}}}";
    let some = policy(some).unwrap();
    for fields in [
        "",
        ", headers: {X: '${secret:a/b}'}, labels: {node: '${node:name}'}",
        ", queue: {path: /srv/shop/queues}",
    ] {
        assert_eq!(refused(&some, &pushing(fields)), "", "{fields}");
    }
    for (fields, expected) in [
        (
            ", headers: {X: '${file:/etc/shadow}'}",
            "metrics.remoteWrite[0]: namespace `shop` may not use the daemon's files",
        ),
        (
            ", basicAuth: {user: u, password: '${env:TOKEN}'}",
            "may not use the daemon's environment",
        ),
        (
            ", tls: {caFile: /etc/shadow}",
            "may not use the daemon's files",
        ),
        (
            ", queue: {path: /srv/other}",
            "metrics.remoteWrite[0].queue.path: namespace `shop` may not write to /srv/other",
        ),
    ] {
        let text = refused(&some, &pushing(fields));
        assert!(text.contains(expected), "{fields}: {text}");
    }
    let private = Policy {
        private_folders: vec!["/var/lib/bulkhead".into()],
        ..policy("namespaces: {shop: {allGrants: true}}").unwrap()
    };
    assert_eq!(refused(&private, &pushing("")), "");
    let text = refused(&private, &pushing(", queue: {path: /var/lib/bulkhead/q}"));
    assert!(
        text.contains("where the daemon keeps its own state"),
        "{text}"
    );
}

#[test]
fn findings_are_sent_where_logs_may_be() {
    let sending = |destination: &str| {
        format!(
            "module: {{bundled: security-scanner}}\nscanning: {{destinations: [{{name: far, {destination}}}]}}\n"
        )
    };
    let http = "http: {url: 'http://a', headers: {X: '${secret:a/b}'}}";
    for none in [
        "namespaces: {shop: {}}",
        "namespaces: {shop: {grants: {logs: {destinations: [loki]}}}}",
    ] {
        let text = refused(&policy(none).unwrap(), &sending(http));
        let expected =
            "scanning.destinations[0].http: namespace `shop` may not send findings to `http`";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.contains("grants: {logs: {destinations: [http]}}"),
            "{text}"
        );
    }
    for some in [
        "namespaces: {shop: {grants: {logs: {destinations: [http]}}}}",
        "namespaces: {shop: {grants: {logs: {}}}}",
        "namespaces: {shop: {allGrants: true}}",
    ] {
        assert_eq!(
            refused(&policy(some).unwrap(), &sending(http)),
            "",
            "{some}"
        );
    }
    let some = policy(
        "namespaces: {shop: {grants: {logs: {}, files: [{host: /srv/shop, writable: true}]}}}",
    );
    let some = some.unwrap();
    assert_eq!(refused(&some, &sending("file: {path: /srv/shop/f}")), "");
    for (destination, expected) in [
        (
            "file: {path: /srv/other/f}",
            "scanning.destinations[0].file.path: namespace `shop` may not write to /srv/other/f",
        ),
        (
            "stdout: {}, queue: {path: /srv/other}",
            "scanning.destinations[0].queue.path: namespace `shop` may not write to /srv/other",
        ),
        (
            "http: {url: 'http://a', headers: {X: '${file:/etc/shadow}'}}",
            "scanning.destinations[0]: namespace `shop` may not use the daemon's files",
        ),
    ] {
        let text = refused(&some, &sending(destination));
        assert!(text.contains(expected), "{destination}: {text}");
    }
}

#[test]
fn what_is_shown_to_scan_is_let_in_by_name() {
    let nothing = policy("namespaces: {shop: {}}").unwrap();
    let scan = |grants: &str| {
        format!(
            "module: {{bundled: security-scanner}}\ngrants: {{scan: {{{grants}}}}}\nscanning: {{}}\n"
        )
    };
    for (wanted, field, yaml, allowed) in [
        (
            "processes: true",
            "grants.scan.processes",
            "scan: {processes: true}",
            "processes: true",
        ),
        (
            "sockets: true",
            "grants.scan.sockets",
            "scan: {sockets: true}",
            "sockets: true",
        ),
        (
            "users: true",
            "grants.scan.users",
            "scan: {users: true}",
            "users: true",
        ),
        (
            "kernelModules: true",
            "grants.scan.kernelModules",
            "scan: {kernelModules: true}",
            "kernelModules: true",
        ),
        (
            "files: [/etc/ssh]",
            "grants.scan.files[0]",
            "scan: {files: [\"/etc/ssh\"]}",
            "files: [/etc]",
        ),
        (
            "files: [/]",
            "grants.scan.files[0]",
            "scan: {files: [\"/\"]}",
            "files: [/]",
        ),
        (
            "argumentsOf: [kubelet]",
            "grants.scan.argumentsOf[0]",
            "scan: {argumentsOf: [\"kubelet\"]}",
            "argumentsOf: [kube*]",
        ),
        (
            "sysctls: [net.ipv4.*]",
            "grants.scan.sysctls[0]",
            "scan: {sysctls: [\"net.ipv4.*\"]}",
            "sysctls: [net.*]",
        ),
    ] {
        let said = refused(&nothing, &scan(wanted));
        assert!(
            said.contains(field) && said.contains(yaml),
            "{wanted}: {said}"
        );
        let enough = format!("namespaces: {{shop: {{grants: {{scan: {{{allowed}}}}}}}}}");
        let said = refused(&policy(&enough).unwrap(), &scan(wanted));
        assert_eq!(said, "", "{wanted}");
    }
    for (wanted, allowed) in [
        ("files: [/]", "files: [/etc]"),
        ("files: [/etcetera]", "files: [/etc]"),
        ("argumentsOf: [\"*\"]", "argumentsOf: [kube*]"),
        ("sysctls: [net.*]", "sysctls: [net.ipv4.*]"),
        ("sockets: true", "processes: true"),
    ] {
        let less = format!("namespaces: {{shop: {{grants: {{scan: {{{allowed}}}}}}}}}");
        let said = refused(&policy(&less).unwrap(), &scan(wanted));
        assert!(said.contains("grants.scan"), "{wanted}: {said}");
    }
}

#[test]
fn the_daemons_own_state_is_not_scanned() {
    let policy = Policy {
        home: "shop".to_owned(),
        private_folders: vec!["/var/lib/bulkhead".into()],
        ..Policy::default()
    };
    let scan = |tree: &str| {
        format!(
            "module: {{bundled: security-scanner}}\ngrants: {{scan: {{files: [{tree}]}}}}\nscanning: {{}}\n"
        )
    };
    let said = refused(&policy, &scan("/var/lib/bulkhead/plugins"));
    assert!(
        said.contains("grants.scan.files[0]: is in /var/lib/bulkhead"),
        "{said}"
    );
    assert_eq!(refused(&policy, &scan("/var/lib")), "");
    assert_eq!(refused(&policy, &scan("/")), "");
}
