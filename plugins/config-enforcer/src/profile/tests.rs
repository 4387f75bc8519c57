//! Each rule of each profile: on a node that breaks it, mended, and on nodes that lack what it is about.

use std::collections::BTreeSet;

use bulkhead_sdk::testing::{Harness, Node, Planned, Verdict};
use serde_json::{Value, json};

use crate::ConfigEnforcer;

fn plugin(profile: Value) -> Harness<ConfigEnforcer> {
    Harness::new(&json!({ "profiles": [profile] }).to_string()).unwrap()
}

fn refused(profile: Value) -> (String, String) {
    let error = Harness::<ConfigEnforcer>::new(&json!({ "profiles": [profile] }).to_string());
    let error = error.err().unwrap();
    (error.field().to_owned(), error.message().to_owned())
}

/// A node on which every rule is broken, as one finds them.
fn broken_host() -> Node {
    let mut node = Node::new()
        .group("shadow", 42)
        .user("app", 1000)
        .file("/etc/ssh/sshd_config", BROKEN_SSHD)
        .mode("/etc/ssh/sshd_config", 0o644)
        .file("/etc/ssh/ssh_host_rsa_key", "x")
        .mode("/etc/ssh/ssh_host_rsa_key", 0o644)
        .file("/etc/ssh/ssh_host_rsa_key.pub", "x")
        .mode("/etc/ssh/ssh_host_rsa_key.pub", 0o666)
        .file("/etc/passwd", "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nold:$1$x$y:7:7::/:/bin/sh\n")
        .mode("/etc/passwd", 0o666)
        .file("/etc/sudoers", "Defaults env_reset\n%sudo ALL=(ALL) NOPASSWD: ALL\n")
        .mode("/etc/sudoers", 0o644)
        .file("/etc/hosts.equiv", "+\n")
        .file("/etc/pam.d/su", "#auth required pam_wheel.so use_uid\n")
        .file("/etc/login.defs", "# Days\nPASS_MAX_DAYS\t99999\nPASS_MIN_DAYS\t0\nPASS_WARN_AGE\t3\nUMASK\t022\nENCRYPT_METHOD\tMD5\n")
        .file("/etc/security/pwquality.conf", "# minlen = 8\n")
        .file("/etc/security/faillock.conf", "deny = 0\nunlock_time = 60\n")
        .file("/etc/security/limits.conf", "#* soft core 0\n* hard core unlimited\n# End of file\n")
        .file("/etc/systemd/coredump.conf", "[Coredump]\n#Storage=external\n")
        .file("/etc/systemd/journald.conf", "[Journal]\n#Storage=auto\nCompress=no\n")
        .file("/etc/audit/auditd.conf", "max_log_file_action = ROTATE\n")
        .file("/etc/motd", "Welcome to \\m \\v\n")
        .mode("/etc/motd", 0o666)
        .file("/etc/issue", "Debian GNU/Linux 13 \\n \\l\n")
        .file("/etc/issue.net", "Debian GNU/Linux 13\n")
        .file("/etc/crontab", "")
        .file("/proc/self/mounts", "tmpfs /tmp tmpfs rw 0 0\ntmpfs /dev/shm tmpfs rw,nosuid 0 0\n")
        .directory("/var/log/audit")
        .unit("ssh.service", "enabled", "active")
        .unit("systemd-journald.service", "static", "active")
        .unit("auditd.service", "disabled", "inactive")
        .unit("rpcbind.service", "enabled", "active")
        .unit("avahi-daemon.service", "enabled", "inactive")
        .unit("cups.service", "disabled", "active")
        .unit("bluetooth.service", "enabled", "active");
    for path in [
        "passwd-", "group", "group-", "shadow", "shadow-", "gshadow", "gshadow-",
    ] {
        let path = format!("/etc/{path}");
        node = node
            .file(&path, "")
            .mode(&path, 0o664)
            .owner(&path, 1000, 0);
    }
    for folder in ["hourly", "daily", "weekly", "monthly", "d"] {
        node = node.directory(&format!("/etc/cron.{folder}"));
    }
    for module in [
        "cramfs",
        "freevxfs",
        "hfs",
        "hfsplus",
        "jffs2",
        "usb-storage",
        "dccp",
        "rds",
        "tipc",
    ] {
        node = node.module(module, false);
    }
    for (name, value) in [
        ("net.ipv4.conf.all.send_redirects", "1"),
        ("net.ipv4.conf.default.send_redirects", "1"),
        ("net.ipv4.conf.all.accept_redirects", "1"),
        ("net.ipv4.conf.default.accept_redirects", "1"),
        ("net.ipv6.conf.all.accept_redirects", "1"),
        ("net.ipv4.conf.all.secure_redirects", "1"),
        ("net.ipv4.conf.all.accept_source_route", "1"),
        ("net.ipv6.conf.all.accept_source_route", "1"),
        ("net.ipv6.conf.all.accept_ra", "1"),
        ("net.ipv4.conf.all.log_martians", "0"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.icmp_echo_ignore_broadcasts", "0"),
        ("net.ipv4.icmp_ignore_bogus_error_responses", "0"),
        ("net.ipv4.tcp_syncookies", "0"),
        ("kernel.randomize_va_space", "0"),
        ("kernel.dmesg_restrict", "0"),
        ("kernel.kptr_restrict", "0"),
        ("kernel.yama.ptrace_scope", "0"),
        ("kernel.unprivileged_bpf_disabled", "0"),
        ("fs.suid_dumpable", "2"),
        ("fs.protected_hardlinks", "0"),
        ("fs.protected_symlinks", "0"),
    ] {
        node = node.sysctl(name, value);
    }
    node
}

const BROKEN_SSHD: &str = "\
Include /etc/ssh/sshd_config.d/*.conf
PermitRootLogin yes
permitemptypasswords yes
#PasswordAuthentication no
MaxAuthTries 10
MaxSessions 100
MaxStartups 100
LoginGraceTime 0
ClientAliveInterval 0
LogLevel QUIET
HostbasedAuthentication yes
PermitUserEnvironment yes
X11Forwarding yes
UsePAM no
Banner none
Ciphers aes256-ctr,aes128-cbc
MACs hmac-sha2-256,hmac-md5
Match User backup
    PermitRootLogin yes
";

/// What is only told of, mended by hand.
fn mended_host(node: Node) -> Node {
    let sshd = node.text("/etc/ssh/sshd_config").unwrap();
    let sshd = format!("PasswordAuthentication no\n{sshd}")
        .replace("Ciphers aes256-ctr,aes128-cbc", "Ciphers aes256-ctr")
        .replace("MACs hmac-sha2-256,hmac-md5", "MACs -hmac-md5");
    node.file("/etc/ssh/sshd_config", sshd)
        .mode("/etc/ssh/sshd_config", 0o600)
        .file(
            "/etc/passwd",
            "root:x:0:0::/root:/bin/sh\nold:!:7:7::/:/bin/sh\nd:*:8:8::/:\n",
        )
        .file(
            "/etc/sudoers",
            "Defaults env_reset, use_pty\nDefaults logfile=/var/log/sudo.log\n# NOPASSWD\n",
        )
        .mode("/etc/sudoers", 0o440)
        .file("/etc/pam.d/su", "auth required pam_wheel.so use_uid\n")
        .file("/etc/motd", "Welcome\n")
        .file(
            "/proc/self/mounts",
            "tmpfs /tmp tmpfs rw,nosuid,nodev 0 0\nshm /dev/shm tmpfs rw,nodev,nosuid 0 0\n",
        )
        .sysctl("net.ipv6.conf.all.accept_ra", "0")
        .sysctl("net.ipv4.conf.all.rp_filter", "2")
        .unit("rpcbind.service", "disabled", "inactive")
}

fn broken_kubelet() -> Node {
    let mut node = Node::new()
        .user("app", 1000)
        .file("/var/lib/kubelet/config.yaml", BROKEN_KUBELET)
        .file(
            "/var/lib/kubelet/kubeadm-flags.env",
            "KUBELET_ARGS=\"--hostname-override=x --read-only-port=10255\"\n",
        )
        .unit("kubelet.service", "enabled", "active")
        .directory("/var/lib/kubelet/pki")
        .mode("/var/lib/kubelet/pki", 0o777);
    for path in [
        "/etc/kubernetes/kubelet.conf",
        "/etc/kubernetes/bootstrap-kubelet.conf",
        "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/manifests/etcd.yaml",
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
        "/var/lib/kubelet/pki/kubelet.key",
    ] {
        node = node
            .file(path, "")
            .mode(path, 0o644)
            .owner(path, 1000, 1000);
    }
    for (name, value) in [
        ("vm.overcommit_memory", "0"),
        ("vm.panic_on_oom", "1"),
        ("kernel.panic", "0"),
        ("kernel.panic_on_oops", "0"),
        ("kernel.keys.root_maxkeys", "200"),
        ("kernel.keys.root_maxbytes", "20000"),
    ] {
        node = node.sysctl(name, value);
    }
    node
}

const BROKEN_KUBELET: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous:
    enabled: true # for a test
  webhook:
    cacheTTL: 0s
    enabled: false
  x509: {}
authorization:
  mode: AlwaysAllow
  webhook:
    cacheAuthorizedTTL: 0s
readOnlyPort: 10255
streamingConnectionIdleTimeout: 0s
eventRecordQPS: 0
makeIPTablesUtilChains: false
tlsCipherSuites:
- TLS_RSA_WITH_RC4_128_SHA
- TLS_RSA_WITH_AES_128_CBC_SHA
tlsMinVersion: VersionTLS10
";

fn mended_kubelet(node: Node) -> Node {
    let config = node.text("/var/lib/kubelet/config.yaml").unwrap();
    let config = config.replace(
        "  x509: {}",
        "  x509:\n    clientCAFile: /etc/kubernetes/pki/ca.crt",
    ) + "serverTLSBootstrap: true\nseccompDefault: true\n";
    node.file("/var/lib/kubelet/config.yaml", config)
        .mode("/var/lib/kubelet/config.yaml", 0o600)
        .file(
            "/var/lib/kubelet/kubeadm-flags.env",
            "# --hostname-override=x\n",
        )
}

fn verdicts(planned: &Planned, expected: &[Verdict]) {
    for rule in planned.rules() {
        let verdict = planned.verdict(&rule.id).unwrap();
        assert!(
            expected.contains(&verdict),
            "{}: {verdict:?}: {}",
            rule.id,
            planned.message(&rule.id)
        );
    }
}

/// Rules that a node breaks still after what was planned has been done.
fn told(name: &str, node: &mut Node) -> BTreeSet<String> {
    let mut plugin = plugin(json!({ "name": name }));
    let planned = plugin.plan(node).unwrap();
    verdicts(&planned, &[Verdict::Fail]);
    node.apply(&planned).unwrap();
    let again = plugin.plan(node).unwrap();
    assert!(again.is_empty(), "{:?}", again.ids());
    verdicts(&again, &[Verdict::Pass, Verdict::Fail]);
    let failing = again
        .rules()
        .iter()
        .filter(|it| again.verdict(&it.id) == Some(Verdict::Fail));
    failing
        .map(|it| it.id.split_once('/').unwrap().1.to_owned())
        .collect()
}

fn check(
    name: &str,
    broken: &dyn Fn() -> Node,
    mend: fn(Node) -> Node,
    only_told: &[&str],
    count: usize,
) {
    let mut node = broken();
    let told = told(name, &mut node);
    let only_told: BTreeSet<String> = only_told.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(told, only_told);
    // A node on which all is as it should be.
    let good = mend(node);
    let mut all = plugin(json!({ "name": name }));
    let planned = all.plan(&good).unwrap();
    verdicts(&planned, &[Verdict::Pass]);
    assert!(planned.is_empty());
    let rules: Vec<String> = planned.rules().iter().map(|it| it.id.clone()).collect();
    assert!(rules.len() >= count, "{}", rules.len());
    for rule in planned.rules() {
        assert!(
            !rule.title.is_empty() && rule.rationale.len() > 20 && rule.remediation.len() > 10,
            "{}",
            rule.id
        );
    }
    // Each rule on its own: broken, mended by what it plans, and told of alone if it changes nothing.
    for id in rules {
        let short = id.split_once('/').unwrap().1;
        let mut node = broken();
        let mut one = plugin(json!({ "name": name, "only": [short] }));
        let planned = one.plan(&node).unwrap();
        assert_eq!(planned.verdict(&id), Some(Verdict::Fail), "{id}");
        assert_eq!(planned.is_empty(), only_told.contains(short), "{id}");
        node.apply(&planned).unwrap();
        let again = one.plan(&node).unwrap();
        assert!(again.is_empty(), "{id}: {:?}", again.ids());
        let held = again.verdict(&id) == Some(Verdict::Pass);
        assert_eq!(
            held,
            !only_told.contains(short),
            "{id}: {}",
            again.message(&id)
        );
        assert_eq!(
            one.plan(&good).unwrap().verdict(&id),
            Some(Verdict::Pass),
            "{id}"
        );
        // In audit, by the profile's own switch, nothing is planned.
        let mut audit = plugin(json!({ "name": name, "only": [short], "checkOnly": true }));
        let planned = audit.plan(&broken()).unwrap();
        assert!(planned.is_empty());
        assert_eq!(planned.verdict(&id), Some(Verdict::Fail));
    }
    // On a node without any of it, nothing is in error, and hardly anything is made.
    let planned = all.plan(&Node::new().directory("/etc")).unwrap();
    verdicts(
        &planned,
        &[Verdict::Pass, Verdict::NotApplicable, Verdict::Fail],
    );
    let made: Vec<&str> = planned.ids();
    assert!(
        made.iter().all(|it| it.starts_with("/etc/issue")),
        "{made:?}"
    );
}

#[test]
fn host_hardening() {
    let only_told = [
        "ssh-no-passwords",
        "ssh-no-weak-ciphers",
        "ssh-no-weak-macs",
        "net-no-router-advertisements",
        "net-reverse-path-filter",
        "one-root",
        "passwords-shadowed",
        "su-restricted",
        "sudo-use-pty",
        "sudo-log-file",
        "sudo-asks",
        "motd-tells-nothing",
        "no-rpcbind",
        "mount-tmp",
        "mount-shm",
    ];
    check("host-hardening", &broken_host, mended_host, &only_told, 90);
}

#[test]
fn kubelet_hardening() {
    let only_told = [
        "client-ca",
        "server-certificate",
        "seccomp-default",
        "no-hostname-override",
        "no-insecure-flags",
    ];
    check(
        "kubelet-hardening",
        &broken_kubelet,
        mended_kubelet,
        &only_told,
        30,
    );
}

#[test]
fn edits_keep_what_others_wrote() {
    let mut node = broken_kubelet();
    told("kubelet-hardening", &mut node);
    let text = node.text("/var/lib/kubelet/config.yaml").unwrap();
    assert!(text.contains("    enabled: false # for a test\n"), "{text}");
    assert!(
        text.contains("- TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n"),
        "{text}"
    );
    assert!(
        text.starts_with("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n")
    );
    assert_eq!(
        node.done().last().unwrap(),
        "handler kubelet-hardening/restart kubelet"
    );
}

#[test]
fn what_is_stricter_than_the_profile_is_left_alone() {
    let sshd = "MaxAuthTries 2\nLogLevel INFO\n";
    let node = Node::new()
        .file("/etc/ssh/sshd_config", sshd)
        .file("/etc/login.defs", "PASS_MAX_DAYS 90\nUMASK 077\n")
        .sysctl("kernel.yama.ptrace_scope", "2")
        .sysctl("kernel.unprivileged_bpf_disabled", "2");
    let only = [
        "ssh-max-auth-tries",
        "ssh-log-level",
        "password-max-days",
        "default-umask",
        "kernel-ptrace-scope",
        "kernel-no-unprivileged-bpf",
    ];
    let planned = plugin(json!({ "name": "host-hardening", "only": only }))
        .plan(&node)
        .unwrap();
    assert!(planned.is_empty(), "{:?}", planned.ids());
    verdicts(&planned, &[Verdict::Pass]);
}

#[test]
fn parameters_and_exclusions() {
    let profile = json!({
        "name": "host-hardening",
        "only": ["ssh-max-auth-tries", "ssh-banner"],
        "exclude": ["ssh-banner"],
        "set": {"ssh-max-auth-tries": {"value": 2}},
    });
    let mut node = Node::new().file("/etc/ssh/sshd_config", "");
    let mut plugin = plugin(profile);
    let planned = plugin.plan(&node).unwrap();
    assert_eq!(planned.rules().len(), 1);
    node.apply(&planned).unwrap();
    assert_eq!(node.text("/etc/ssh/sshd_config"), Some("MaxAuthTries 2\n"));
}

#[test]
fn refuses_what_a_profile_does_not_have() {
    let name = "host-hardening";
    let (field, message) = refused(json!({ "name": "host" }));
    assert_eq!(field, "profiles[0].name");
    assert!(
        message.contains("host-hardening, kubelet-hardening"),
        "{message}"
    );
    assert_eq!(
        refused(json!({ "name": name, "exclude": ["x"] })).0,
        "profiles[0].exclude[0]"
    );
    assert_eq!(
        refused(json!({ "name": name, "set": {"x": {}} })).0,
        "profiles[0].set"
    );
    let (field, message) = refused(json!({ "name": name, "set": {"ssh-banner": {"x": 1}} }));
    assert_eq!(field, "profiles[0].set.ssh-banner.x");
    assert!(message.contains("it has path"), "{message}");
    let (field, message) = refused(json!({ "name": name, "set": {"ssh-banner": {"path": 1}} }));
    assert_eq!(field, "profiles[0].set.ssh-banner.path");
    assert!(message.contains("must be a string"), "{message}");
}

#[test]
fn a_resource_that_contradicts_a_profile_is_refused() {
    let config = json!({
        "profiles": [{"name": "host-hardening"}],
        "resources": [{"id": "mine", "setting": {"path": "/etc/ssh/sshd_config", "format": "sshd", "set": {"permitrootlogin": "yes"}}}],
    });
    let error = Harness::<ConfigEnforcer>::new(&config.to_string())
        .err()
        .unwrap();
    assert_eq!(error.field(), "resources[0]");
    assert!(
        error.message().contains("host-hardening/ssh-no-root-login"),
        "{error}"
    );
}
