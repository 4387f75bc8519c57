//! Kernel settings and modules.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;

fn sysctl(name: &str, value: &str, now: bool, persist: bool) -> Action {
    Action::SetSysctl {
        name: SysctlName::parse(name).unwrap(),
        value: value.to_owned(),
        now,
        persist,
    }
}

/// A network namespace of this thread's own.
struct Network(Child);

impl Network {
    fn enter() -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let held = Self(holder);
        let path = format!("/proc/{}/ns/net", held.0.id());
        let mine = std::fs::read_link("/proc/self/ns/net").unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while std::fs::read_link(&path).unwrap() == mine {
            assert!(Instant::now() < until, "unshare made no network namespace");
            std::thread::sleep(Duration::from_millis(2));
        }
        let namespace = std::fs::File::open(path).unwrap();
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).unwrap();
        held
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_setting_is_set_noted_and_put_back() {
    let _network = Network::enter();
    let node = Node::new(r#"{"changes":{"sysctls":["net.ipv4.*"]}}"#);
    let current = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        text.trim_end().to_owned()
    };
    let notes = "/etc/sysctl.d/60-bulkhead-local.x.conf";
    let (forward, range) = ("net.ipv4.ip_forward", "net.ipv4.ip_local_port_range");
    let old = (current("ip_forward"), current("ip_local_port_range"));
    let effects = node.effects();
    let new = if old.0 == "1" { "0" } else { "1" };
    let first = make(&effects, sysctl(forward, new, true, true)).unwrap();
    let second = make(&effects, sysctl(range, "20000 30000", true, true)).unwrap();
    assert_eq!(current("ip_forward"), new);
    assert_eq!(current("ip_local_port_range"), "20000\t30000");
    let again = make(&effects, sysctl(range, "20000\t30000", true, false)).unwrap();
    assert_eq!(again.sequence, None, "it is the same, written otherwise");
    let text = node.read(notes);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            format!("{forward} = {new}"),
            format!("{range} = 20000 30000")
        ]
    );
    assert_eq!(mode(node.at(notes)), 0o644);
    let seen = look(&node, &effects, &[wit::Want::Sysctl(range.to_owned())]);
    let seen = seen.sysctls();
    assert_eq!(seen[0].value, Some("20000\t30000"));
    assert_eq!(seen[0].persisted, Some("20000 30000"));
    for (name, value) in [(range, "much"), (forward, "1\n0"), (range, "5 4 3 2 1")] {
        let error = make(&effects, sysctl(name, value, true, true)).unwrap_err();
        assert!(
            matches!(error, Error::Setting { .. } | Error::Unheeded { .. }),
            "{error}"
        );
    }
    let error = make(&effects, sysctl("net.ipv4.none", "1", true, false)).unwrap_err();
    assert!(matches!(error, Error::NoSetting { .. }), "{error}");
    let error = make(&effects, sysctl("kernel.pid_max", "1", true, false)).unwrap_err();
    assert!(matches!(error, Error::NotGranted { .. }), "{error}");
    assert_eq!(node.read(notes), text, "what is not taken is not noted");
    effects
        .revert(second.sequence.unwrap(), "1", false)
        .unwrap();
    assert_eq!(current("ip_local_port_range"), old.1);
    effects.revert(first.sequence.unwrap(), "1", false).unwrap();
    assert_eq!(current("ip_forward"), old.0);
    assert!(!node.at(notes).exists(), "nothing is left to be noted");
}

#[test]
fn many_settings_are_noted_at_once() {
    let _network = Network::enter();
    let node = Node::new(r#"{"changes":{"sysctls":["net.ipv4.conf.*"]}}"#);
    let effects = node.effects();
    let names = [
        "rp_filter",
        "log_martians",
        "accept_redirects",
        "send_redirects",
    ];
    let changes: Vec<Change> = names
        .iter()
        .map(|it| {
            change(
                it,
                sysctl(&format!("net.ipv4.conf.lo.{it}"), "1", true, true),
            )
        })
        .collect();
    let changes: Vec<&Change> = changes.iter().collect();
    let plan = Plan {
        revision: "1",
        rules: &[],
        seen: None,
    };
    let results = effects.make_all(&changes, &plan);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let text = node.read("/etc/sysctl.d/60-bulkhead-local.x.conf");
    assert_eq!(text.lines().count(), 5, "{text}");
}

/// A node whose kernel is a few files.
fn with_settings(settings: &[(&str, &str)]) -> Node {
    let mut node = Node::new(r#"{"changes":{"sysctls":["net.ipv4.*"]}}"#);
    node.procfs = node.at("/kernel");
    for (name, value) in settings {
        node.write(&format!("/kernel/sys/net/ipv4/{name}"), value);
    }
    node
}

#[test]
fn what_took_effect_before_it_failed_is_kept_and_put_back() {
    let node = with_settings(&[("ip_forward", "0\n")]);
    // So it is set, but cannot be noted.
    node.write("/etc/sysctl.d", "a file");
    let effects = node.effects();
    let forward = || sysctl("net.ipv4.ip_forward", "1", true, true);
    let error = make(&effects, forward()).unwrap_err();
    assert!(matches!(error, Error::Unfinished(_)), "{error}");
    assert!(error.to_string().contains("/etc/sysctl.d"), "{error}");
    assert_eq!(node.read("/kernel/sys/net/ipv4/ip_forward"), "1\n");
    // It is set already now, so that nothing is otherwise than before.
    let error = make(&effects, forward()).unwrap_err();
    assert!(!matches!(error, Error::Unfinished(_)), "{error}");
    let past = effects.history(None, 9);
    let first = past.last().unwrap();
    assert_eq!(first.result, Some(Ended::Interrupted));
    effects.revert(first.sequence, "1", false).unwrap();
    assert_eq!(node.read("/kernel/sys/net/ipv4/ip_forward"), "0\n");
    let log = std::fs::read_to_string(node.state.join("audit/audit.jsonl")).unwrap();
    assert!(log.contains(r#""result":"interrupted""#), "{log}");
}

/// A node whose kernel is a few files and whose modprobe is a script.
fn with_modules(script: &str) -> Node {
    let mut node = Node::new(r#"{"changes":{"kernelModules":["*"]}}"#);
    let release = rustix::system::uname();
    let release = release.release().to_str().unwrap().to_owned();
    node.write(
        &format!("/lib/modules/{release}/modules.builtin"),
        "kernel/fs/ext4.ko\n",
    );
    node.write(
        &format!("/lib/modules/{release}/modules.dep"),
        "kernel/net/br-netfilter.ko.zst: kernel/net/bridge.ko.zst\n",
    );
    node.procfs = node.at("/kernel");
    node.write("/kernel/modules", "loop 1 0 - Live 0x0\n");
    std::fs::create_dir(node.at("/kernel/sys")).unwrap();
    node.executable = node.at("/script");
    node.write(
        "/script",
        &format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n"),
    );
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(node.at("/script"), all).unwrap();
    node
}

#[test]
fn modules_are_loaded_now_at_the_start_or_never() {
    let node = with_modules(
        "cd \"$2\" && case $4 in --remove) sed -i \"/^$3 /d\" kernel/modules;; \
         *) echo \"$3 1 0 - Live 0x0\" >> kernel/modules;; esac",
    );
    let effects = node.effects();
    let name = ModuleName::parse("br-netfilter").unwrap();
    let seen = || {
        let wants =
            ["br_netfilter", "ext4", "none"].map(|it| wit::Want::KernelModule(it.to_owned()));
        look(&node, &effects, &wants).kernel_modules
    };
    let first = seen();
    assert!(!first[0].loaded && first[0].available && !first[0].built_in);
    assert!(first[1].loaded && first[1].built_in);
    assert!(!first[2].loaded && !first[2].available);
    let loaded = make(&effects, Action::LoadModule { name: name.clone() }).unwrap();
    assert!(seen()[0].loaded);
    let noted = make(&effects, Action::LoadModuleAtStart { name: name.clone() }).unwrap();
    assert!(seen()[0].at_start);
    let load = "/etc/modules-load.d/bulkhead-local.x.conf";
    assert!(node.read(load).ends_with("\nbr_netfilter\n"));
    make(&effects, Action::BlacklistModule { name: name.clone() }).unwrap();
    assert!(seen()[0].blacklisted && !seen()[0].at_start && seen()[0].loaded);
    assert!(!node.at(load).exists(), "a blacklist takes it back");
    let never = node.read("/etc/modprobe.d/bulkhead-local.x.conf");
    assert!(
        never.ends_with("blacklist br_netfilter\ninstall br_netfilter /bin/false\n"),
        "{never}"
    );
    // Newest first, as one goes back.
    for sequence in effects.history(None, 1).iter().map(|it| it.sequence) {
        effects.revert(sequence, "1", false).unwrap();
    }
    assert!(seen()[0].at_start && !seen()[0].blacklisted);
    effects.revert(noted.sequence.unwrap(), "1", false).unwrap();
    effects
        .revert(loaded.sequence.unwrap(), "1", false)
        .unwrap();
    assert!(!seen()[0].loaded && !seen()[0].at_start);
    let built_in = ModuleName::parse("ext4").unwrap();
    let made = make(&effects, Action::LoadModule { name: built_in }).unwrap();
    assert_eq!(made.sequence, None);
}

#[test]
fn what_a_module_brings_along_was_not_there_before_it_and_is_not_changed() {
    let node = with_modules(
        "cd \"$2\" && case $4 in --remove) sed -i \"/^$3 /d\" kernel/modules;; \
         *) for it in bridge $3; do grep -q \"^$it \" kernel/modules || \
         echo \"$it 1 0 - Live 0x0\" >> kernel/modules; done;; esac",
    );
    let effects = node.effects();
    let load = |name: &str| {
        let name = ModuleName::parse(name).unwrap();
        change(name.as_str(), Action::LoadModule { name: name.clone() })
    };
    let changes = [load("br_netfilter"), load("bridge"), load("dummy")];
    let plan = Plan {
        revision: "1",
        rules: &[],
        seen: None,
    };
    let made = effects.make_all(&changes.each_ref(), &plan);
    let made: Vec<bool> = made
        .into_iter()
        .map(|it| it.unwrap().sequence.is_some())
        .collect();
    assert_eq!(made, [true, false, true]);
    let past = effects.history(None, 9);
    let past: Vec<&str> = past.iter().map(|it| &*it.change).collect();
    assert_eq!(past, ["dummy", "br_netfilter"]);
}

#[test]
fn what_modprobe_says_is_the_error() {
    let name = || ModuleName::parse("dummy").unwrap();
    let node = with_modules("echo 'FATAL: Module dummy not found' >&2; exit 1");
    let error = make(&node.effects(), Action::LoadModule { name: name() }).unwrap_err();
    assert!(error.to_string().contains("dummy not found"), "{error}");
    let node = with_modules("exit 0");
    let error = make(&node.effects(), Action::LoadModule { name: name() }).unwrap_err();
    assert!(
        error.to_string().contains("/proc/modules does not"),
        "{error}"
    );
}

/// The node's own modprobe runs with the node's root as its root.
#[test]
fn modprobe_runs_in_the_nodes_root() {
    let script = format!(
        "exec env BULKHEAD_TEST_MODPROBE=\"$2 $3 $4\" {:?} --exact {}::kernel::the_child --ignored --nocapture",
        std::env::current_exe().unwrap(),
        module_path!()
            .rsplit_once("::")
            .unwrap()
            .0
            .split_once("::")
            .unwrap()
            .1,
    );
    let node = with_modules(&script);
    // What the shell needs, as the node has it.
    let mounts = [
        ("/usr/bin", "bin"),
        ("/usr/lib", "lib"),
        ("/usr/lib64", "lib64"),
    ];
    std::fs::rename(node.at("lib"), node.at("modules")).unwrap();
    for (from, to) in mounts {
        std::fs::create_dir(node.at(to)).unwrap();
        let to = node.at(to);
        run("mount", &["--bind", from, to.to_str().unwrap()]);
    }
    node.write(
        "/sbin/modprobe",
        "#!/bin/sh\necho \"$@\" > /said\necho 'dummy 1' >> /kernel/modules\n",
    );
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(node.at("/sbin/modprobe"), all).unwrap();
    let name = ModuleName::parse("dummy").unwrap();
    let made = make(&node.effects(), Action::LoadModule { name });
    for (_, to) in mounts {
        let mounted = node.at(to);
        run("umount", &["--lazy", mounted.to_str().unwrap()]);
    }
    made.unwrap();
    assert_eq!(node.read("/said"), "-- dummy\n");
}

#[test]
#[ignore = "started by modprobe_runs_in_the_nodes_root"]
fn the_child() {
    let arguments = std::env::var("BULKHEAD_TEST_MODPROBE").unwrap();
    let arguments: Vec<std::ffi::OsString> = arguments.split_whitespace().map(Into::into).collect();
    modprobe_child(&arguments);
    panic!("modprobe was not started");
}
