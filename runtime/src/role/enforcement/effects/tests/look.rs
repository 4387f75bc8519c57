//! What a plugin sees.

use std::os::unix::fs::symlink;

use super::*;

/// Path, kind, content, error.
fn rows(seen: &Seen) -> Vec<(String, wit::FileKind, String, u32)> {
    let span = |from: u32, length: u32| {
        let bytes = &seen.bytes[from as usize..][..length as usize];
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let rows = seen.files.iter().map(|file| {
        let path = span(file.path_offset, file.path_length);
        let content = span(file.offset, file.length);
        (path, file.kind, content, file.error)
    });
    rows.collect()
}

fn row(
    path: &str,
    kind: wit::FileKind,
    content: &str,
    error: u32,
) -> (String, wit::FileKind, String, u32) {
    (path.to_owned(), kind, content.to_owned(), error)
}

#[test]
fn every_kind_of_file_is_told_and_none_blocks() {
    use wit::FileKind::{Absent, Directory, File, Other, Symlink};
    let node = Node::new(r#"{"changes":{"files":["/etc"]}}"#);
    node.write("/etc/file", "content");
    run("chmod", &["4711", node.at("/etc/file").to_str().unwrap()]);
    std::fs::create_dir(node.at("/etc/folder")).unwrap();
    run("mkfifo", &[node.at("/etc/pipe").to_str().unwrap()]);
    symlink("/etc/file", node.at("/etc/link")).unwrap();
    node.write("/etc/folder/a.conf", "a");
    node.write("/etc/folder/deep/b.conf", "b");
    node.write("/etc/large", &"x".repeat((4 << 20) + 1));
    symlink("/outside", node.at("/etc/out")).unwrap();
    node.write("/outside/secret", "secret");
    let effects = node.effects();
    let wants = [
        "/etc/file",
        "/etc/folder",
        "/etc/pipe",
        "/etc/link",
        "/etc/none",
        "/etc/none/deeper",
        "/etc/file/below",
        "/etc/folder/**/*.conf",
        "/etc/nothing*",
        "/etc/out/secret",
        "/etc/out/*",
    ]
    .map(want);
    let seen = look(&node, &effects, &wants);
    assert_eq!(
        rows(&seen),
        [
            row("/etc/file", File, "content", 0),
            row("/etc/folder", Directory, "", 0),
            row("/etc/pipe", Other, "", 0),
            row("/etc/link", Symlink, "/etc/file", 0),
            row("/etc/none", Absent, "", 0),
            row("/etc/none/deeper", Absent, "", 0),
            row("/etc/file/below", Absent, "", 0),
            row("/etc/folder/a.conf", File, "a", 0),
            row("/etc/folder/deep/b.conf", File, "b", 0),
            row("/etc/out/secret", Absent, "", 13),
        ]
    );
    assert_eq!(seen.files[0].mode, 0o4711);
    assert_eq!(seen.files[0].size, 7);
    assert!(seen.files[0].modified > 1_600_000_000_000_000_000);
    let wants: Vec<u32> = seen.files.iter().map(|file| file.want).collect();
    assert_eq!(wants, [0, 1, 2, 3, 4, 5, 6, 7, 7, 9]);
    let large = look(&node, &effects, &[want("/etc/large")]);
    assert_eq!((large.files[0].length, large.files[0].flags), (4 << 20, 1));
}

#[test]
fn links_of_a_node_elsewhere_are_its_own() {
    let node = Node::new(r#"{"nodeFiles":["/var/run"],"changes":{"files":["/etc/app"]}}"#);
    node.write("/run/pid", "7");
    symlink("/run", node.at("var_run")).unwrap();
    std::fs::create_dir(node.at("var")).unwrap();
    symlink("/run", node.at("var/run")).unwrap();
    symlink("/run", node.at("etc/app")).unwrap();
    let effects = node.effects();
    let seen = look(
        &node,
        &effects,
        &[want("/var/run/pid"), want("/etc/app/pid")],
    );
    let rows = rows(&seen);
    assert_eq!(rows[0], row("/var/run/pid", wit::FileKind::File, "7", 0));
    assert_eq!(rows[1], row("/etc/app/pid", wit::FileKind::File, "7", 0));
    let folders: Vec<_> = seen.watched().into_iter().map(|it| it.folder).collect();
    assert_eq!(folders, [node.at("run").canonicalize().unwrap()]);
}

#[test]
fn what_is_not_granted_is_not_seen() {
    let node = Node::new(
        r#"{"nodeFiles":["/etc/hosts","/proc/sys/kernel/ostype"],
            "changes":{"files":["/srv"],"sysctls":["vm.*"],"units":["a.service"]}}"#,
    );
    let sysctl = |name: &str| wit::Want::Sysctl(name.to_owned());
    let unit = |name: &str| wit::Want::Unit(name.to_owned());
    let module = |name: &str| wit::Want::KernelModule(name.to_owned());
    for allowed in [
        want("/etc/hosts"),
        want("/srv/**"),
        want("/srv"),
        want("/proc/sys/kernel/ostype"),
        sysctl("vm.swappiness"),
        sysctl("kernel.ostype"),
        unit("a.service"),
    ] {
        let checked = Wants::check(std::slice::from_ref(&allowed), &node.grants);
        assert!(checked.is_ok(), "{allowed:?}: {checked:?}");
    }
    for refused in [
        want("/etc/shadow"),
        want("/etc/*"),
        want("/s*/x"),
        want("/srvx"),
        want("/proc/1/environ"),
        want("/proc/sys/kernel/hostname"),
        want("/srv/../etc/shadow"),
        sysctl("kernel.hostname"),
        unit("b.service"),
        module("loop"),
    ] {
        let checked = Wants::check(&[want("/srv"), refused.clone()], &node.grants);
        assert_eq!(checked.unwrap_err().0, 1, "{refused:?}");
    }
    let mut facts = node.grants.clone();
    facts.node_facts = true;
    assert!(Wants::check(&[unit("b.service"), module("loop")], &facts).is_ok());
}

#[test]
fn the_kernels_own_files_and_accounts() {
    let mut node = Node::new(r#"{"nodeFiles":["/proc/sys/kernel/ostype"]}"#);
    node.write("/proc/sys/kernel/ostype", "Linux\n");
    node.write(
        "/etc/passwd",
        "root:x:0:0::/:/bin/sh\nbroken\n:x:3:\nweb:x:33:33::/:\n",
    );
    node.write("/etc/group", "root:x:0:\nadm:x:4:a,b\n");
    node.grants.node_facts = true;
    let effects = node.effects();
    let seen = look(&node, &effects, &[want("/proc/sys/kernel/ostype")]);
    assert_eq!(
        rows(&seen),
        [row(
            "/proc/sys/kernel/ostype",
            wit::FileKind::File,
            "Linux\n",
            0
        )]
    );
    let of = |accounts: Vec<wit::Account<'_>>| -> Vec<(u32, String)> {
        accounts
            .iter()
            .map(|it| (it.id, it.name.to_owned()))
            .collect()
    };
    let pairs = |pairs: &[(u32, &str)]| -> Vec<(u32, String)> {
        pairs
            .iter()
            .map(|(id, name)| (*id, (*name).to_owned()))
            .collect()
    };
    assert_eq!(of(seen.users()), pairs(&[(0, "root"), (33, "web")]));
    assert_eq!(of(seen.groups()), pairs(&[(0, "root"), (4, "adm")]));
}

#[test]
fn where_to_watch() {
    let node = Node::new(r#"{"changes":{"files":["/etc"]}}"#);
    node.write("/etc/ssh/sshd_config", "x");
    node.write("/etc/all/one", "x");
    let effects = node.effects();
    let wants = [
        "/etc/ssh/sshd_config",
        "/etc/ssh/none",
        "/etc/no/such/file",
        "/etc/all/*",
    ];
    let seen = look(&node, &effects, &wants.map(want));
    let watched = seen.watched().into_iter().map(|it| {
        let folder = it.folder.strip_prefix(&node.root).unwrap().to_owned();
        let names = it
            .names
            .map(|names| names.into_iter().collect::<Vec<_>>().join(","));
        (folder.to_str().unwrap().to_owned(), names)
    });
    let expected = [
        ("etc", Some("no")),
        ("etc/all", None),
        ("etc/ssh", Some("none,sshd_config")),
    ];
    let expected = expected.map(|(folder, names)| (folder.to_owned(), names.map(str::to_owned)));
    assert_eq!(watched.collect::<Vec<_>>(), expected);
}
