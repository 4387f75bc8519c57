//! Files, folders, links.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use rustix::fs::XattrFlags;

use super::*;

const ETC: &str = r#"{"changes":{"files":["/etc"]}}"#;

#[test]
fn a_file_is_replaced_whole_and_put_back() {
    let node = Node::new(ETC);
    node.write("/etc/motd", "old\n");
    run("chmod", &["0664", node.at("/etc/motd").to_str().unwrap()]);
    run("chown", &["7:8", node.at("/etc/motd").to_str().unwrap()]);
    let before = std::fs::metadata(node.at("/etc/motd")).unwrap();
    let effects = node.effects();
    let made = make(&effects, write_file("/etc/motd", "new\n")).unwrap();
    assert_eq!(node.read("/etc/motd"), "new\n");
    let after = std::fs::metadata(node.at("/etc/motd")).unwrap();
    assert_ne!(before.ino(), after.ino(), "it was written in place");
    assert_eq!((after.mode(), after.uid(), after.gid()), (0o100_664, 7, 8));
    let past = effects.history(None, 10);
    assert_eq!(past.len(), 1);
    assert_eq!(past[0].result, Some(Ended::Done));
    assert_eq!(past[0].rule.as_deref(), Some("rule"));
    assert!(
        past[0].diff.ends_with("@@ -1 +1 @@\n-old\n+new\n"),
        "{}",
        past[0].diff
    );
    // Also after a start.
    drop(effects);
    let effects = node.effects();
    assert_eq!(effects.latest("change"), made.sequence);
    effects.revert(made.sequence.unwrap(), "1", false).unwrap();
    assert_eq!(node.read("/etc/motd"), "old\n");
    assert_eq!(mode(node.at("/etc/motd")), 0o664);
    let past = effects.history(None, 10);
    assert_eq!((past.len(), past[0].undoes), (2, made.sequence));
    assert_eq!(effects.history(Some(past[0].sequence), 10).len(), 1);
    verify(&node.state).unwrap();
    assert!(node.left_over().is_empty());
}

#[test]
fn a_new_file_has_the_usual_permissions_and_is_gone_when_put_back() {
    let node = Node::new(ETC);
    let effects = node.effects();
    let made = make(&effects, write_file("/etc/new", "x")).unwrap();
    assert_eq!(mode(node.at("/etc/new")), 0o644);
    let again = make(&effects, write_file("/etc/new", "x")).unwrap();
    assert_eq!(again.sequence, None, "there was nothing to be done");
    make(&effects, chmod("/etc/new", 0o4755)).unwrap();
    assert_eq!(mode(node.at("/etc/new")), 0o4755);
    // Somebody else's change is not undone unless it is asked for.
    let sequence = made.sequence.unwrap();
    let refused = effects.revert(sequence, "1", false).unwrap_err();
    assert!(matches!(refused, Error::ChangedSince { .. }), "{refused}");
    effects.revert(sequence, "1", true).unwrap();
    assert!(!node.at("/etc/new").exists());
    assert!(matches!(
        make(&effects, chmod("/etc/new", 0o600)),
        Err(Error::Absent { .. })
    ));
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let node = Node::new(ETC);
    std::fs::create_dir(node.at("/etc/folder")).unwrap();
    run("mkfifo", &[node.at("/etc/pipe").to_str().unwrap()]);
    run(
        "mknod",
        &[node.at("/etc/device").to_str().unwrap(), "c", "1", "3"],
    );
    let _socket = std::os::unix::net::UnixListener::bind(node.at("/etc/socket")).unwrap();
    let effects = node.effects();
    for name in ["folder", "pipe", "device", "socket"] {
        let to = format!("/etc/{name}");
        for action in [write_file(&to, "x"), chmod(&to, 0o600)] {
            let error = make(&effects, action).unwrap_err();
            assert!(matches!(error, Error::WrongKind { .. }), "{name}: {error}");
        }
    }
    for name in ["pipe", "device", "socket"] {
        let to = format!("/etc/{name}");
        let error = make(&effects, Action::Remove { path: path(&to) }).unwrap_err();
        assert!(matches!(error, Error::WrongKind { .. }), "{name}: {error}");
    }
    let device = std::fs::symlink_metadata(node.at("/etc/device")).unwrap();
    assert!(device.file_type().is_char_device());
    assert!(effects.history(None, 10).is_empty());
    assert_eq!(effects.audit.head().0, 0, "nothing was going to be done");
}

#[test]
fn a_link_is_replaced_or_removed_and_not_followed() {
    let node = Node::new(ETC);
    node.write("/srv/target", "untouched");
    for name in ["written", "removed", "folder", "linked"] {
        symlink("/srv/target", node.at(&format!("/etc/{name}"))).unwrap();
    }
    let effects = node.effects();
    make(&effects, write_file("/etc/written", "new")).unwrap();
    make(
        &effects,
        Action::Remove {
            path: path("/etc/removed"),
        },
    )
    .unwrap();
    let folder = Action::MakeDirectory {
        path: path("/etc/folder"),
        permissions: Permissions {
            mode: Some(0o700),
            ..Permissions::default()
        },
    };
    make(&effects, folder).unwrap();
    let link = Action::MakeSymlink {
        path: path("/etc/linked"),
        target: "elsewhere".to_owned(),
    };
    make(&effects, link).unwrap();
    assert!(matches!(
        make(&effects, chmod("/etc/linked", 0o600)),
        Err(Error::WrongKind { .. })
    ));
    assert_eq!(node.read("/srv/target"), "untouched");
    assert_eq!(mode(node.at("/srv/target")), 0o644);
    assert!(
        node.at("/etc/written")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
    assert!(node.at("/etc/removed").symlink_metadata().is_err());
    assert_eq!(mode(node.at("/etc/folder")), 0o700);
    assert!(node.at("/etc/folder").symlink_metadata().unwrap().is_dir());
    let target = std::fs::read_link(node.at("/etc/linked")).unwrap();
    assert_eq!(target.to_str(), Some("elsewhere"));
    assert!(node.left_over().is_empty());
    for past in effects
        .history(None, 10)
        .iter()
        .filter(|it| it.result == Some(Ended::Done))
    {
        // A folder does not become a link again by itself.
        let back = effects.revert(past.sequence, "1", false);
        match past.action.as_str() {
            "make-directory" => assert!(matches!(back, Err(Error::WrongKind { .. }))),
            _ => {
                back.unwrap();
                let target = std::fs::read_link(node.at(&past.subject)).unwrap();
                assert_eq!(target.to_str(), Some("/srv/target"), "{}", past.subject);
            }
        }
    }
}

#[test]
fn folders_are_made_changed_and_removed_only_if_empty() {
    let node = Node::new(ETC);
    let effects = node.effects();
    let folder = |mode| Action::MakeDirectory {
        path: path("/etc/d"),
        permissions: Permissions {
            mode,
            uid: Some(5),
            gid: None,
        },
    };
    let made = make(&effects, folder(Some(0o2750))).unwrap();
    assert_eq!(mode(node.at("/etc/d")), 0o2750);
    assert_eq!(std::fs::metadata(node.at("/etc/d")).unwrap().uid(), 5);
    make(&effects, write_file("/etc/d/f", "x")).unwrap();
    let remove = || Action::Remove {
        path: path("/etc/d"),
    };
    let error = make(&effects, remove()).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    let missing = make(&effects, write_file("/etc/none/f", "x")).unwrap_err();
    assert!(matches!(missing, Error::NoFolder { .. }), "{missing}");
    std::fs::remove_file(node.at("/etc/d/f")).unwrap();
    make(&effects, remove()).unwrap();
    assert!(!node.at("/etc/d").exists());
    let removed = effects.latest("change").unwrap();
    effects.revert(removed, "1", false).unwrap();
    assert_eq!(mode(node.at("/etc/d")), 0o2750);
    effects.revert(made.sequence.unwrap(), "1", false).unwrap();
    assert!(!node.at("/etc/d").exists());
}

#[test]
fn only_what_is_granted_wherever_the_path_leads() {
    let mut node = Node::new(r#"{"changes":{"files":["/etc/app","/etc/one","/srv/linked"]}}"#);
    for folder in [
        "etc/app/inside",
        "outside",
        "srv/real",
        "state/below",
        "etc/private",
    ] {
        std::fs::create_dir_all(node.at(folder)).unwrap();
    }
    node.private = vec![node.at("state"), node.at("etc/app/own")];
    std::fs::create_dir(node.at("etc/app/own")).unwrap();
    symlink("/outside", node.at("etc/app/absolute")).unwrap();
    symlink("../../outside", node.at("etc/app/relative")).unwrap();
    symlink("/../../../../../../../tmp", node.at("etc/app/above")).unwrap();
    symlink("/state/below", node.at("etc/app/state")).unwrap();
    symlink("/etc/app/inside", node.at("etc/app/within")).unwrap();
    symlink("/srv/real", node.at("srv/linked")).unwrap();
    let effects = node.effects();
    for to in ["/etc/app/absolute/x", "/etc/app/relative/x"] {
        let error = make(&effects, write_file(to, "x")).unwrap_err();
        assert!(matches!(error, Error::Astray { .. }), "{to}: {error}");
    }
    let above = make(&effects, write_file("/etc/app/above/x", "x")).unwrap_err();
    assert!(
        matches!(above, Error::NoFolder { .. }),
        "it is resolved in the node: {above}"
    );
    for to in ["/etc/app/state/x", "/etc/app/own/x"] {
        let error = make(&effects, write_file(to, "x")).unwrap_err();
        assert!(matches!(error, Error::Private { .. }), "{to}: {error}");
    }
    let own = Action::MakeDirectory {
        path: path("/etc/app/own"),
        permissions: Permissions {
            mode: Some(0o777),
            ..Permissions::default()
        },
    };
    let error = make(&effects, own).unwrap_err();
    assert!(matches!(error, Error::Private { .. }), "{error}");
    let error = make(&effects, write_file("/etc/other", "x")).unwrap_err();
    assert!(
        error.to_string().contains("files:\n    - /etc/other"),
        "{error}"
    );
    // Links within what is granted, and a grant that is itself a link, are the node's business.
    make(&effects, write_file("/etc/app/within/x", "x")).unwrap();
    assert_eq!(node.read("/etc/app/inside/x"), "x");
    make(&effects, write_file("/srv/linked/x", "y")).unwrap();
    assert_eq!(node.read("/srv/real/x"), "y");
    make(&effects, write_file("/etc/one", "z")).unwrap();
    assert_eq!(std::fs::read_dir(node.at("outside")).unwrap().count(), 0);
}

#[test]
fn the_kernels_file_systems_are_no_files() {
    let node = Node::new(r#"{"changes":{"files":["/srv"]}}"#);
    std::fs::create_dir_all(node.at("srv/mounted")).unwrap();
    let mounted = node.at("srv/mounted");
    run("mount", &["-t", "proc", "proc", mounted.to_str().unwrap()]);
    let error = make(
        &node.effects(),
        write_file("/srv/mounted/sys/kernel/core_pattern", "x"),
    );
    run("umount", &["--lazy", mounted.to_str().unwrap()]);
    assert!(matches!(error, Err(Error::Kernels { .. })), "{error:?}");
}

#[test]
fn what_changed_since_the_look_is_planned_again() {
    let node = Node::new(ETC);
    node.write("/etc/a", "one");
    let effects = node.effects();
    let wants = [want("/etc/a"), want("/etc/b")];
    let seen = look(&node, &effects, &wants);
    node.write("/etc/a", "two");
    node.write("/etc/b", "made meanwhile");
    for to in ["/etc/a", "/etc/b"] {
        let error = make_seen(&effects, write_file(to, "x"), Some(&seen)).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
    run("chmod", &["0600", node.at("/etc/b").to_str().unwrap()]);
    let seen = look(&node, &effects, &wants);
    make_seen(&effects, write_file("/etc/a", "x"), Some(&seen)).unwrap();
    make_seen(&effects, chmod("/etc/b", 0o644), Some(&seen)).unwrap();
    let error = make_seen(&effects, chmod("/etc/b", 0o600), Some(&seen)).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
}

#[test]
fn what_changes_while_a_change_is_made_is_not_overwritten() {
    let node = Node::new(ETC);
    node.write("/etc/a", "old");
    let effects = node.effects();
    for to in ["/etc/a", "/etc/new"] {
        let mut desk = effects.desk(None, 1 << 20);
        let mut kind = kind::of(&write_file(to, "new"));
        kind.look(&mut desk).unwrap();
        kind.stage().unwrap();
        node.write(to, "somebody else's");
        let error = kind.apply(&mut desk).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
        kind.discard();
        assert_eq!(node.read(to), "somebody else's");
    }
    assert!(node.left_over().is_empty());
}

#[test]
fn what_cannot_be_written_says_why_and_stays_whole() {
    let node = Node::new(r#"{"changes":{"files":["/full","/read","/etc"]}}"#);
    for (name, options) in [("full", "size=64k"), ("read", "size=64k")] {
        std::fs::create_dir(node.at(name)).unwrap();
        let to = node.at(name);
        let to = to.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", to]);
        node.write(&format!("/{name}/file"), "old");
    }
    let read = node.at("read");
    run("mount", &["-o", "remount,ro", read.to_str().unwrap()]);
    node.write("/etc/held", "old");
    let held = node.at("etc/held");
    let held = held.to_str().unwrap();
    run("chattr", &["+i", held]);
    let effects = node.effects();
    let full = make(&effects, write_file("/full/file", &"x".repeat(1 << 20)));
    let read_only = make(&effects, write_file("/read/file", "x"));
    let chmodded = make(&effects, chmod("/read/file", 0o600));
    let immutable = make(&effects, write_file("/etc/held", "x"));
    let contents = ["/full/file", "/read/file", "/etc/held"].map(|it| node.read(it));
    let left = node.left_over();
    run("chattr", &["-i", held]);
    for name in ["full", "read"] {
        let mounted = node.at(name);
        run("umount", &["--lazy", mounted.to_str().unwrap()]);
    }
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    assert!(
        matches!(read_only, Err(Error::ReadOnly { .. })),
        "{read_only:?}"
    );
    assert!(
        matches!(chmodded, Err(Error::ReadOnly { .. })),
        "{chmodded:?}"
    );
    assert!(
        matches!(immutable, Err(Error::Immutable { .. })),
        "{immutable:?}"
    );
    assert_eq!(contents, ["old", "old", "old"]);
    assert!(left.is_empty(), "{left:?}");
    let ends: Vec<_> = effects
        .history(None, 9)
        .iter()
        .map(|it| it.result)
        .collect();
    assert_eq!(ends, [Some(Ended::Failed); 3]);
}

#[test]
fn attributes_stay_with_the_name() {
    let node = Node::new(ETC);
    node.write("/etc/a", "old");
    let to = node.at("/etc/a");
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(&to, name, value, XattrFlags::empty()).unwrap();
    };
    set("user.note", b"kept");
    // cap_net_raw=ep: a capability is of a program and not of its name.
    set(
        "security.capability",
        &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    // acl(5): the owner, user 7, the group, the mask, others.
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, may, id) in [
        (1, 6, u32::MAX),
        (2, 4, 7),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(may));
        list.extend(u32::to_le_bytes(id));
    }
    set("system.posix_acl_access", &list);
    let effects = node.effects();
    let made = make(&effects, write_file("/etc/a", "new")).unwrap();
    let get = |name: &str| {
        let mut value = [0; 256];
        let length = rustix::fs::getxattr(&to, name, &mut value[..]).ok()?;
        Some(value[..length].to_vec())
    };
    assert_eq!(get("user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(get("system.posix_acl_access"), Some(list.clone()));
    assert_eq!(get("security.capability"), None);
    std::fs::remove_file(&to).unwrap();
    effects.revert(made.sequence.unwrap(), "1", true).unwrap();
    assert_eq!(get("system.posix_acl_access"), Some(list));
    assert_eq!(get("user.note").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn a_file_with_other_names_elsewhere_keeps_them_as_they_are() {
    let node = Node::new(ETC);
    node.write("/elsewhere", "shared");
    std::fs::hard_link(node.at("/elsewhere"), node.at("/etc/a")).unwrap();
    let effects = node.effects();
    let error = make(&effects, chmod("/etc/a", 0o666)).unwrap_err();
    assert!(matches!(error, Error::Linked { links: 2, .. }), "{error}");
    let same = Action::WriteFile {
        path: path("/etc/a"),
        content: Some(b"shared".to_vec()),
        permissions: Permissions {
            mode: Some(0o666),
            ..Permissions::default()
        },
    };
    make(&effects, same).unwrap();
    assert_eq!(mode(node.at("/etc/a")), 0o666);
    assert_eq!(mode(node.at("/elsewhere")), 0o644);
}

#[test]
fn one_that_fails_leaves_the_others_unharmed() {
    let node = Node::new(ETC);
    let effects = node.effects();
    std::fs::create_dir(node.at("/etc/2")).unwrap();
    let changes: Vec<Change> = (0..5)
        .map(|i| change(&i.to_string(), write_file(&format!("/etc/{i}"), "x")))
        .collect();
    let changes: Vec<&Change> = changes.iter().collect();
    let plan = Plan {
        revision: "1",
        rules: &[],
        seen: None,
    };
    let preview = effects.preview_all(&changes);
    assert!(preview[2].is_err() && preview[3].as_ref().unwrap().differs);
    assert!(!node.at("/etc/0").exists(), "a preview changes nothing");
    let results = effects.make_all(&changes, &plan);
    for (i, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), i != 2, "{i}: {result:?}");
        assert_eq!(node.at(&format!("/etc/{i}")).is_file(), i != 2);
    }
}

#[test]
fn a_preview_counts_what_would_have_been_made_before() {
    let node = Node::new(ETC);
    let folder = Action::MakeDirectory {
        path: path("/etc/d"),
        permissions: Permissions::default(),
    };
    let changes = [
        change("d", folder),
        change("f", write_file("/etc/d/f", "x\n")),
    ];
    let preview = node.effects().preview_all(&[&changes[0], &changes[1]]);
    let file = preview[1].as_ref().unwrap();
    assert!(
        file.diff.contains("mode 0644") && file.diff.ends_with("+x\n"),
        "{}",
        file.diff
    );
    let alone = node.effects().preview_all(&[&changes[1]]);
    assert!(matches!(alone[0], Err(Error::NoFolder { .. })));
}

#[test]
fn a_secret_is_nowhere_to_be_seen() {
    let node = Node::new(ETC);
    node.write("/etc/key", "hunter1\n");
    let effects = node.effects();
    let mut secret = change("key", write_file("/etc/key", "hunter2\n"));
    secret.secret = true;
    let plan = Plan {
        revision: "1",
        rules: &[],
        seen: None,
    };
    let preview = format!("{:?}", effects.preview_all(&[&secret]));
    let made = effects.make_all(&[&secret], &plan).pop().unwrap().unwrap();
    let past = serde_json::to_string(&effects.history(None, 1)).unwrap();
    let digest = state::hex_digest(b"hunter2\n");
    let log = std::fs::read_to_string(node.state.join("audit/audit.jsonl")).unwrap();
    for shown in [&preview, &past, &log] {
        assert!(
            !shown.contains("hunter") && !shown.contains(&digest),
            "{shown}"
        );
    }
    effects.revert(made.sequence.unwrap(), "1", false).unwrap();
    assert_eq!(node.read("/etc/key"), "hunter1\n");
    assert_eq!(mode(node.state.join("enforcement/local/x")), 0o700);
}

#[test]
fn what_is_kept_has_bounds_and_what_does_not_fit_is_not_changed() {
    let mut node = Node::new(ETC);
    node.keep = Keep {
        max_size: ByteSize(64 << 10),
        changes: 20,
    };
    let effects = node.effects();
    for i in 0..100 {
        make(
            &effects,
            write_file("/etc/a", &format!("{i}\n").repeat(1000)),
        )
        .unwrap();
    }
    let past = effects.history(None, 1000);
    assert!((5..=20).contains(&past.len()), "{}", past.len());
    let folder = node.state.join("enforcement/local/x");
    let files = std::fs::read_dir(&folder).unwrap();
    let size: u64 = files.map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= 64 << 10, "{size}");
    assert!(matches!(
        effects.revert(1, "1", true),
        Err(Error::Unknown(1))
    ));
    node.write("/etc/large", &"x".repeat(65 << 10));
    let error = make(&effects, write_file("/etc/large", "small")).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(node.read("/etc/large").len(), 65 << 10);
    // Its permissions can be put back.
    make(&effects, chmod("/etc/large", 0o600)).unwrap();
    drop(effects);
    assert_eq!(node.effects().history(None, 1)[0].action, "set-permissions");
}

#[test]
fn what_fails_again_and_again_drives_nothing_out() {
    let mut node = Node::new(ETC);
    node.keep = Keep {
        max_size: ByteSize(64 << 10),
        changes: 20,
    };
    let effects = node.effects();
    make(&effects, write_file("/etc/a", "1")).unwrap();
    let first = effects.latest("change").unwrap();
    // What is in an immutable folder is no more to be replaced than the folder.
    node.write("/etc/held/a", &"x".repeat(8 << 10));
    let held = node.at("/etc/held");
    run("chattr", &["+i", held.to_str().unwrap()]);
    let failing = change("failing", write_file("/etc/held/a", "y"));
    let plan = Plan {
        revision: "1",
        rules: &[],
        seen: None,
    };
    let mut results = Vec::new();
    let mut effects = effects;
    for i in 0..60 {
        if i == 30 {
            drop(effects);
            effects = node.effects();
        }
        // Now and then together with one that is made.
        let other = change("other", write_file("/etc/b", &i.to_string()));
        match i % 20 {
            19 => {
                let mut both = effects.make_all(&[&failing, &other], &plan);
                assert!(both.pop().unwrap().is_ok());
                results.extend(both);
            }
            _ => results.extend(effects.make_all(&[&failing], &plan)),
        }
    }
    run("chattr", &["-i", held.to_str().unwrap()]);
    assert!(results.iter().all(Result::is_err), "{results:?}");
    let past = effects.history(None, 99);
    let kept: Vec<(&str, Option<Ended>)> = (past.iter())
        .map(|past| (&*past.change, past.result))
        .collect();
    assert_eq!(
        kept,
        [
            ("other", Some(Ended::Done)),
            ("other", Some(Ended::Done)),
            ("other", Some(Ended::Done)),
            ("failing", Some(Ended::Failed)),
            ("change", Some(Ended::Done)),
        ]
    );
    assert!(
        past.first().unwrap().sequence > 60,
        "no number is given twice"
    );
    effects.revert(first, "1", false).unwrap();
    let made = effects.make_all(&[&failing], &plan).pop().unwrap().unwrap();
    drop(effects);
    let effects = node.effects();
    effects.revert(made.sequence.unwrap(), "1", false).unwrap();
    assert_eq!(node.read("/etc/held/a").len(), 8 << 10);
}

#[test]
fn nothing_is_changed_that_cannot_be_kept_or_audited() {
    for full in ["enforcement", "audit"] {
        let node = Node::new(ETC);
        node.write("/etc/a", "old");
        let folder = node.state.join(full);
        std::fs::create_dir(&folder).unwrap();
        let folder = folder.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=8k", "tmpfs", folder]);
        let effects = node.effects();
        let mut error = None;
        for i in 0..100 {
            if let Err(found) = make(&effects, write_file("/etc/a", &i.to_string())) {
                error = Some((i, found));
                break;
            }
        }
        let (i, error) = error.unwrap_or_else(|| panic!("{full} never fills"));
        assert_eq!(node.read("/etc/a"), (i - 1).to_string(), "{error}");
        match full {
            "audit" => assert!(matches!(error, Error::NotAudited(_)), "{error}"),
            _ => assert!(matches!(error, Error::NotKept(_)), "{error}"),
        }
        verify(&node.state).unwrap();
        drop(effects);
        run("mount", &["-o", "remount,size=1m", folder]);
        let effects = node.effects();
        make(&effects, write_file("/etc/a", "again")).unwrap();
        verify(&node.state).unwrap();
        drop(effects);
        run("umount", &["--lazy", folder]);
    }
}

/// `cargo nextest run ... --run-ignored all --no-capture -E 'test(measure)'`
#[test]
#[ignore = "a measurement"]
fn measure_500_files() {
    let folder: Vec<String> = (0..20).map(|i| format!("/etc/d{i}")).collect();
    let node = Node::new(ETC);
    for folder in &folder {
        std::fs::create_dir(node.at(folder)).unwrap();
    }
    let effects = node.effects();
    let wants: Vec<wit::Want> = (0..500)
        .map(|i| want(&format!("{}/file{i}", folder[i % 20])))
        .collect();
    let plan = Plan {
        revision: "1",
        rules: &[],
        seen: None,
    };
    for round in 0..4 {
        let begin = std::time::Instant::now();
        let seen = look(&node, &effects, &wants);
        let looked = begin.elapsed();
        let changes: Vec<Change> = (0..500)
            .map(|i| {
                let content = format!("round {round}\n").repeat(150);
                let to = format!("{}/file{i}", folder[i % 20]);
                change(&i.to_string(), write_file(&to, &content))
            })
            .collect();
        let changes: Vec<&Change> = changes.iter().collect();
        let begin = std::time::Instant::now();
        let plan = Plan {
            seen: Some(&seen),
            ..plan.clone()
        };
        let results = effects.make_all(&changes, &plan);
        let made = begin.elapsed();
        assert!(results.iter().all(Result::is_ok));
        eprintln!("round {round}: looked in {looked:?}, made 500 in {made:?}");
    }
}
