use bulkhead_sdk::scanning::{FileKind, Password, Process};
use bulkhead_sdk::testing::{Harness, Judged, Node};

use crate::SecurityScanner;

fn assess(config: &str, node: &Node) -> Judged {
    let config = format!(r#"{{"posture": {config}}}"#);
    let mut plugin = Harness::<SecurityScanner>::new(&config).unwrap();
    plugin.assess(node).unwrap()
}

#[track_caller]
fn rules(found: &Judged, expected: &[&str]) {
    let mut ids: Vec<&str> = found
        .all()
        .iter()
        .map(|finding| finding.rule.as_str())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, expected);
}

#[test]
fn nothing_is_looked_at_unless_asked() {
    let node = Node::new()
        .account("mallory", 0, Password::Empty)
        .foreign_module("rootkit")
        .listener("tcp", "0.0.0.0", 2375, None);
    assert!(assess("{}", &node).is_empty());
}

#[test]
fn ports_that_are_not_allowed_are_told() {
    let node = Node::new()
        .listener("tcp", "0.0.0.0", 22, None)
        .listener("tcp6", "::", 23, Some(7))
        .listener("tcp", "127.0.0.1", 24, None)
        .listener("tcp6", "::ffff:127.0.0.1", 25, None)
        .listener("tcp", "10.0.0.1", 30_005, None)
        .listener("udp", "0.0.0.0", 53, None);
    let found = assess(r#"{"ports": {"allow": ["22", "tcp/30000-32767"]}}"#, &node);
    assert_eq!(found.subjects("posture.port"), ["socket/tcp6/[::]:23"]);
    assert_eq!(found.all()[0].evidence["pid"], 7);
    let found = assess(
        r#"{"ports": {"allow": ["tcp/1-65535"], "udp": true}}"#,
        &node,
    );
    assert_eq!(found.subjects("posture.port"), ["socket/udp/0.0.0.0:53"]);
    let found = assess(
        r#"{"ports": {"allow": ["22-23", "30005"], "loopback": true}}"#,
        &node,
    );
    assert_eq!(found.subjects("posture.port").len(), 2);
    for wrong in ["x", "tcp/", "sctp/1", "9-8", "70000"] {
        let config = format!(r#"{{"posture": {{"ports": {{"allow": ["22", "{wrong}"]}}}}}}"#);
        let error = Harness::<SecurityScanner>::new(&config).unwrap_err();
        assert_eq!(error.field(), "posture.ports.allow[1]", "{wrong}");
    }
}

#[test]
fn users_who_can_do_too_much_are_told() {
    let node = Node::new()
        .account("root", 0, Password::Locked)
        .account("toor", 0, Password::Set)
        .account("backup", 0, Password::Set)
        .account("guest", 1000, Password::Empty);
    let found = assess(r#"{"accounts": {"allowUid0": ["backup"]}}"#, &node);
    assert_eq!(found.subjects("posture.uid-0"), ["user/toor"]);
    assert_eq!(found.subjects("posture.empty-password"), ["user/guest"]);
    assert_eq!(found.all().len(), 2);
}

#[test]
fn ssh_goes_by_the_first_value() {
    const MAIN: &str = "/etc/ssh/sshd_config";
    let bad = Node::new()
        .file(MAIN, "# all\nInclude /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\nPermitEmptyPasswords yes\n")
        .file("/etc/ssh/sshd_config.d/10-x.conf", "permitrootlogin=YES\n")
        .file("/etc/ssh/sshd_config.d/20-y.conf", "PasswordAuthentication no\n");
    let found = assess(r#"{"ssh": {}}"#, &bad);
    rules(
        &found,
        &["posture.ssh-empty-passwords", "posture.ssh-root-login"],
    );
    let root = &found.all()[0];
    assert_eq!(root.evidence["set"], "/etc/ssh/sshd_config.d/10-x.conf:1");
    // Before the parts, so it counts.
    let good = Node::new()
        .file(
            MAIN,
            "PermitRootLogin no\nPasswordAuthentication no\nInclude sshd_config.d/*.conf\n",
        )
        .file("/etc/ssh/sshd_config.d/10-x.conf", "PermitRootLogin yes\n");
    assert!(assess(r#"{"ssh": {}}"#, &good).is_empty());
    // Without an Include nobody reads the parts; passwords are taken by default.
    let default = Node::new().file(MAIN, "\n").file(
        "/etc/ssh/sshd_config.d/10-x.conf",
        "PasswordAuthentication no\nPermitRootLogin yes\n",
    );
    rules(
        &assess(r#"{"ssh": {}}"#, &default),
        &["posture.ssh-passwords"],
    );
    let ignored = r#"{"ssh": {"ignore": ["PasswordAuthentication"]}}"#;
    assert!(assess(ignored, &default).is_empty());
    assert!(
        assess(r#"{"ssh": {}}"#, &Node::new()).is_empty(),
        "no server"
    );
}

#[test]
fn what_ssh_says_of_some_is_said_not_to_be_judged() {
    let node = Node::new().file(
        "/etc/ssh/sshd_config",
        "PasswordAuthentication no\nMatch User backup\n  PermitRootLogin yes\n",
    );
    let found = assess(r#"{"ssh": {}}"#, &node);
    rules(&found, &["posture.ssh-unclear"]);
    assert!(
        found.all()[0].message.contains("sshd_config:2"),
        "{}",
        found.all()[0].message
    );
}

#[test]
fn kernel_modules_are_told() {
    let node = Node::new()
        .module("nf_tables", true)
        .module("cramfs", true)
        .foreign_module("nvidia")
        .foreign_module("rootkit");
    let config = r#"{"kernelModules": {"allow": ["nf-tables"], "allowForeign": ["nvidia"]}}"#;
    let found = assess(config, &node);
    assert_eq!(
        found.subjects("posture.kernel-module-foreign"),
        ["kernel-module/rootkit"]
    );
    assert_eq!(
        found.subjects("posture.kernel-module"),
        ["kernel-module/cramfs", "kernel-module/rootkit"]
    );
    let found = assess(r#"{"kernelModules": {}}"#, &node);
    assert_eq!(found.all().len(), 2);
}

#[test]
fn kernel_settings_have_to_be_so() {
    let node = Node::new()
        .sysctl("kernel.kptr_restrict", "0")
        .sysctl("net.ipv4.tcp_rmem", "4096\t131072\t6291456");
    let config = r#"{"sysctls": {"expect": {"kernel.kptr_restrict": "1", "net.ipv4.tcp_rmem": "4096 131072 6291456", "kernel.none": "1"}}}"#;
    let found = assess(config, &node);
    assert_eq!(
        found.subjects("posture.sysctl"),
        ["sysctl/kernel.kptr_restrict", "sysctl/kernel.none"]
    );
}

#[test]
fn container_runtimes_are_not_for_everybody() {
    let node = Node::new()
        .special("/run/docker.sock", FileKind::Socket)
        .mode("/run/docker.sock", 0o666)
        .special("/run/containerd/containerd.sock", FileKind::Socket)
        .mode("/run/containerd/containerd.sock", 0o660)
        .listener("tcp6", "::", 2375, None);
    let found = assess(r#"{"containerRuntime": {}}"#, &node);
    assert_eq!(
        found.subjects("posture.runtime-socket"),
        ["/run/docker.sock"]
    );
    assert_eq!(
        found.subjects("posture.runtime-tcp"),
        ["socket/tcp6/:::2375"]
    );
    let own = r#"{"containerRuntime": {"sockets": ["/srv/own.sock"]}}"#;
    let node = Node::new()
        .special("/srv/own.sock", FileKind::Socket)
        .mode("/srv/own.sock", 0o777);
    assert_eq!(
        assess(own, &node).subjects("posture.runtime-socket"),
        ["/srv/own.sock"]
    );
}

const KUBELET: &str = "/var/lib/kubelet/config.yaml";

#[test]
fn the_kubelet_is_judged_by_its_configuration() {
    let bad = "authentication:\n  anonymous: {enabled: true}\nauthorization: {mode: AlwaysAllow}\nreadOnlyPort: 10255\n";
    let key = "/var/lib/kubelet/pki/kubelet.key";
    let node = Node::new()
        .file(KUBELET, bad)
        .mode(KUBELET, 0o664)
        .file(key, "k")
        .mode(key, 0o640);
    let found = assess(r#"{"kubelet": {}}"#, &node);
    rules(
        &found,
        &[
            "posture.kubelet-anonymous",
            "posture.kubelet-authorization",
            "posture.kubelet-file",
            "posture.kubelet-file",
            "posture.kubelet-read-only-port",
        ],
    );
    // What is not said is fine by default.
    let node = Node::new()
        .file(KUBELET, "kind: KubeletConfiguration\n")
        .mode(KUBELET, 0o644);
    assert!(assess(r#"{"kubelet": {}}"#, &node).is_empty());
    let node = Node::new().file(KUBELET, "a: [").mode(KUBELET, 0o644);
    rules(
        &assess(r#"{"kubelet": {}}"#, &node),
        &["posture.kubelet-unclear"],
    );
    assert!(
        assess(r#"{"kubelet": {}}"#, &Node::new()).is_empty(),
        "no kubelet"
    );
}

#[test]
fn flags_of_the_kubelet_come_first() {
    let kubelet = |arguments: &[&str]| Process {
        pid: 9,
        parent: 1,
        uid: 0,
        gid: 0,
        started: 0,
        name: "kubelet".to_owned(),
        executable: "/usr/bin/kubelet".to_owned(),
        executable_deleted: false,
        arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
    };
    let node = Node::new()
        .file(KUBELET, "readOnlyPort: 10255\n")
        .mode(KUBELET, 0o600);
    let with = |arguments: &[&str]| node.clone().process_with(kubelet(arguments));
    let flags = r#"{"kubelet": {"flags": true}}"#;
    let good = [
        "kubelet",
        "--config=/var/lib/kubelet/config.yaml",
        "--read-only-port",
        "0",
    ];
    assert!(assess(flags, &with(&good)).is_empty());
    let bad = ["kubelet", "--anonymous-auth", "--read-only-port=0"];
    rules(&assess(flags, &with(&bad)), &["posture.kubelet-anonymous"]);
    // Without a configuration, the kubelet's old defaults hold.
    let alone = Node::new().process_with(kubelet(&["kubelet", "--anonymous-auth=false"]));
    rules(
        &assess(flags, &alone),
        &[
            "posture.kubelet-authorization",
            "posture.kubelet-read-only-port",
        ],
    );
}
