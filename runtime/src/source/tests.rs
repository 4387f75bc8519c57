#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::*;
use crate::manifest::{Identity, Reason};
use crate::source::Declared;

fn text(name: &str, note: &str) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  labels:
    bulkhead.dev/plugin: \"true\"
data:
  plugin.yaml: |
    apiVersion: bulkhead.dev/v1alpha1
    kind: Plugin
    module:
      bundled: log-shipper
    config: {{note: \"{note}\"}}
"
    )
}

fn with_module(name: &str, path: &str) -> String {
    let digest = "ab".repeat(32);
    text(name, "").replace(
        "bundled: log-shipper",
        &format!("file: {{path: {path}, sha256: {digest}}}"),
    )
}

fn id(name: &str) -> Identity {
    name.parse().unwrap()
}

fn scanner(folder: &tempfile::TempDir) -> Scanner {
    Scanner::new(folder.path().to_owned(), Rules::default())
}

/// The note of an accepted plugin; its first error otherwise; nothing if it is not declared.
fn state(desired: &Desired, name: &str) -> Option<String> {
    Some(match desired.plugins.get(&id(name))? {
        Declared::Accepted(accepted) => accepted.manifest.spec.config.value()["note"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        Declared::Refused { errors, .. } => format!("refused: {}", errors[0]),
    })
}

fn is(desired: &Desired, name: &str, note: &str) -> bool {
    state(desired, name).as_deref() == Some(note)
}

/// Waits until the source says what is expected of it.
fn until(directory: &Directory, what: &str, holds: impl Fn(&Desired) -> bool) -> Arc<Desired> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let receiver = directory.desired();
    loop {
        let desired = receiver.borrow().clone();
        if holds(&desired) {
            return desired;
        }
        assert!(Instant::now() < deadline, "never {what}: {desired:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start(folder: &tempfile::TempDir) -> Directory {
    Directory::start(folder.path(), Rules::default()).unwrap()
}

fn problems(desired: &Desired) -> Vec<String> {
    desired.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn files_come_change_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, text("a", "1")).unwrap();
    let directory = start(&folder);
    // The first look is done when start returns.
    assert!(is(&directory.desired().borrow(), "a", "1"));
    fs::write(folder.path().join("b.yml"), text("b", "1")).unwrap();
    until(&directory, "b", |d| is(d, "b", "1"));
    fs::write(&file, text("a", "2")).unwrap();
    until(&directory, "a changed", |d| is(d, "a", "2"));
    // As careful editors do.
    let temporary = folder.path().join(".a.yaml.swp");
    fs::write(&temporary, text("a", "3")).unwrap();
    fs::rename(&temporary, &file).unwrap();
    until(&directory, "a replaced", |d| is(d, "a", "3"));
    fs::rename(&file, folder.path().join("renamed.yaml")).unwrap();
    fs::remove_file(folder.path().join("b.yml")).unwrap();
    until(&directory, "b gone", |d| {
        state(d, "b").is_none() && is(d, "a", "3")
    });
}

#[test]
fn nothing_changes_when_nothing_changed_in_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, text("a", "1")).unwrap();
    let mut scanner = scanner(&folder);
    let before = scanner.look();
    fs::write(&file, text("a", "1")).unwrap();
    let same = scanner.look();
    assert_eq!(same, before);
    // One copy is enough of what may be large.
    let manifest = |desired: &Desired| match &desired.plugins[&id("a")] {
        Declared::Accepted(accepted) => Arc::as_ptr(&accepted.manifest),
        refused => panic!("{refused:?}"),
    };
    assert_eq!(manifest(&same), manifest(&before));
    fs::write(&file, format!("# a comment\n{}", text("a", "1"))).unwrap();
    fs::write(folder.path().join("readme.txt"), "x").unwrap();
    scanner.forget_stamps();
    assert_eq!(scanner.look(), before);
    // Same length, and perhaps the same time stamp.
    fs::write(&file, format!("# a comment\n{}", text("a", "2"))).unwrap();
    assert!(is(&scanner.look(), "a", "2"));
}

#[test]
fn a_file_that_breaks_or_is_cut_off_stands_for_its_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.yaml");
    let both = format!("{}---\n{}", text("a", "1"), text("b", "1"));
    fs::write(&file, &both).unwrap();
    fs::write(folder.path().join("c.yaml"), text("c", "1")).unwrap();
    let mut scanner = scanner(&folder);
    scanner.look();
    for broken in ["", "a: [", "apiVersion: v1\nkind: Conf"] {
        fs::write(&file, broken).unwrap();
        let desired = scanner.look();
        for name in ["a", "b"] {
            let state = state(&desired, name).unwrap();
            assert!(state.starts_with("refused: "), "{state}");
            assert!(state.contains("two.yaml"), "{state}");
        }
        assert!(is(&desired, "c", "1"));
        assert!(desired.problems.is_empty());
    }
    for cut in 0..both.len() {
        fs::write(&file, &both).unwrap();
        scanner.look();
        fs::write(&file, &both[..cut]).unwrap();
        assert!(state(&scanner.look(), "a").is_some(), "lost at {cut}");
    }
    // Taken out knowingly, or whole again with less in it.
    fs::write(&file, text("a", "1").replace("\"true\"", "\"false\"")).unwrap();
    assert_eq!(scanner.look().plugins.len(), 1);
    fs::write(&file, text("b", "2")).unwrap();
    let desired = scanner.look();
    assert_eq!(state(&desired, "a"), None);
    assert!(is(&desired, "b", "2"));
    // Moved to another file, a plugin is that file's.
    fs::write(&file, "a: [").unwrap();
    fs::write(folder.path().join("b.yaml"), text("b", "3")).unwrap();
    let desired = scanner.look();
    assert!(is(&desired, "b", "3"));
    assert_eq!(desired.problems.len(), 1);
}

#[test]
fn a_broken_file_that_nobody_knows_is_a_problem_of_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    put("bad.yaml", "a: [");
    put(
        "hint.yaml",
        &text("h", "").replace("bulkhead.dev/plugin", "app"),
    );
    put("other.yaml", "kind: Service\napiVersion: v1\n");
    put("wrong.json", &text("w", "").replace("module:", "modul:"));
    let desired = scanner(&folder).look();
    let problems = problems(&desired);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("bad.yaml:1:") || problems[1].contains("bad.yaml:1:"));
    assert!(
        problems.iter().any(|p| p.contains("bulkhead.dev/plugin")),
        "{problems:?}"
    );
    let wrong = state(&desired, "w").unwrap();
    assert!(wrong.contains("did you mean `module`?"), "{wrong}");
    assert_eq!(desired.plugins.len(), 1);
}

#[test]
fn two_manifests_of_one_identity_are_both_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), text("a", "1")).unwrap();
    let mut scanner = scanner(&folder);
    let alone = scanner.look();
    let copy = folder.path().join("copy.yaml");
    fs::write(&copy, text("a", "1")).unwrap();
    let desired = scanner.look();
    let Declared::Refused { errors, .. } = &desired.plugins[&id("a")] else {
        panic!("one of two won");
    };
    assert!(errors.iter().all(|e| e.reason == Reason::DuplicateIdentity));
    let first = errors[0].to_string();
    assert!(
        first.contains("a.yaml") && first.contains("copy.yaml"),
        "{first}"
    );
    fs::remove_file(&copy).unwrap();
    assert_eq!(scanner.look(), alone);
}

#[test]
fn what_the_policy_refuses_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let big = text("a", "1").replace("    config:", "    limits: {memory: 64Gi}\n    config:");
    fs::write(folder.path().join("a.yaml"), big).unwrap();
    let state = state(&scanner(&folder).look(), "a").unwrap();
    assert!(state.contains("above this node's maximum"), "{state}");
}

#[test]
fn modules_are_watched_too() {
    let folder = tempfile::tempdir().unwrap();
    let modules = tempfile::tempdir().unwrap();
    let module = modules.path().join("m.wasm");
    let manifest = folder.path().join("a.yaml");
    fs::write(&manifest, with_module("a", module.to_str().unwrap())).unwrap();
    let content = |d: &Desired| match &d.plugins[&id("a")] {
        Declared::Accepted(accepted) => Some(accepted.module_file.clone().unwrap().content),
        Declared::Refused { .. } => None,
    };
    let directory = start(&folder);
    let missing = state(&directory.desired().borrow(), "a").unwrap();
    assert!(missing.contains("module.file.path"), "{missing}");
    fs::write(&module, "one").unwrap();
    let one = until(&directory, "the module", |d| content(d).is_some());
    let one = content(&one).unwrap();
    fs::write(modules.path().join("new"), "two").unwrap();
    fs::rename(modules.path().join("new"), &module).unwrap();
    until(&directory, "another module", |d| {
        content(d).is_some_and(|c| c != one)
    });
    fs::write(&module, "one").unwrap();
    until(&directory, "the first module", |d| content(d) == Some(one));
    fs::remove_file(&module).unwrap();
    until(&directory, "no module", |d| content(d).is_none());

    // Touched, but the same: nothing to tell. Relative paths start at the manifest's folder.
    fs::write(folder.path().join("n.wasm"), "three").unwrap();
    fs::write(&manifest, with_module("a", "n.wasm")).unwrap();
    let mut scanner = scanner(&folder);
    let before = scanner.look();
    assert!(content(&before).is_some());
    fs::write(folder.path().join("n.wasm"), "three").unwrap();
    assert_eq!(scanner.look(), before);
}

#[test]
fn a_mounted_config_map_is_followed_through_its_swap() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let version = |n: &str| {
        let inside = path(&format!("..2026_{n}"));
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("a.yaml"), text("a", n)).unwrap();
        symlink(format!("..2026_{n}"), path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    version("1");
    symlink("..data/a.yaml", path("a.yaml")).unwrap();
    let directory = start(&folder);
    assert!(is(&directory.desired().borrow(), "a", "1"));
    version("2");
    until(&directory, "the swap", |d| is(d, "a", "2"));
}

#[test]
fn a_file_written_in_pieces_ends_up_whole() {
    let folder = tempfile::tempdir().unwrap();
    let directory = start(&folder);
    let whole = text("a", "1");
    let mut file = fs::File::create(folder.path().join("a.yaml")).unwrap();
    for piece in whole.as_bytes().chunks(whole.len() / 10) {
        file.write_all(piece).unwrap();
        file.sync_all().unwrap();
    }
    drop(file);
    until(&directory, "whole", |d| {
        is(d, "a", "1") && d.problems.is_empty()
    });
}

#[test]
fn odd_files_neither_block_nor_stop_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("fifo.yaml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    fs::create_dir(path("folder.yaml")).unwrap();
    symlink("/nowhere/at/all", path("dangling.yaml")).unwrap();
    symlink("loop.yaml", path("loop.yaml")).unwrap();
    fs::write(path("long.yaml"), vec![b'#'; 4 << 20]).unwrap();
    fs::write(path("bytes.yaml"), [0xff, 0, 1]).unwrap();
    fs::write(path(".hidden.yaml"), text("hidden", "")).unwrap();
    fs::write(path("a.yaml"), text("a", "1")).unwrap();
    let desired = scanner(&folder).look();
    assert_eq!(desired.plugins.len(), 1);
    let problems = problems(&desired);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(
        problems.iter().any(|p| p.contains("long.yaml: has ")),
        "{problems:?}"
    );
}

#[test]
fn a_missing_folder_is_an_error_at_start_and_a_problem_later() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("manifests");
    let error = Directory::start(&folder, Rules::default()).unwrap_err();
    assert!(error.to_string().contains("--manifests"), "{error}");

    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), text("a", "1")).unwrap();
    let directory = Directory::start(&folder, Rules::default()).unwrap();
    fs::rename(&folder, parent.path().join("away")).unwrap();
    let gone = until(&directory, "gone", |d| !d.problems.is_empty());
    assert!(is(&gone, "a", "1"), "what was known stays");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("b.yaml"), text("b", "1")).unwrap();
    let back = until(&directory, "back", |d| {
        d.problems.is_empty() && is(d, "b", "1")
    });
    assert_eq!(state(&back, "a"), None);
    fs::write(folder.join("b.yaml"), text("b", "2")).unwrap();
    until(&directory, "watched again", |d| is(d, "b", "2"));
}

#[test]
fn without_inotify_changes_are_polled() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), text("a", "1")).unwrap();
    let mut watcher = Watcher {
        scanner: scanner(&folder),
        inotify: None,
        control: Arc::new(Control {
            wake: eventfd(0, EventfdFlags::NONBLOCK).unwrap(),
            stop: AtomicBool::new(false),
            rescan: AtomicBool::new(false),
        }),
        interval: CROSS_CHECK,
    };
    watcher.look();
    assert_eq!(watcher.interval, POLL);
    assert!(!watcher.wait(Duration::ZERO));
    watcher.control.wake();
    assert!(watcher.wait(Duration::ZERO));
    fs::write(folder.path().join("a.yaml"), text("a", "2")).unwrap();
    assert!(is(&watcher.look(), "a", "2"));
}

#[test]
fn it_stops_also_while_changes_come_to_rest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..20 {
            let directory = start(&folder);
            // Once the thread has taken this for a change, it waits for quiet: stopping must end
            // that, and not be taken for one more change.
            directory.rescan();
            while rustix::event::poll(
                &mut [PollFd::from_borrowed_fd(
                    directory.control.wake.as_fd(),
                    PollFlags::IN,
                )],
                Some(&Timespec::default()),
            ) != Ok(0)
            {
                std::thread::yield_now();
            }
            fs::write(&file, text("a", "1")).unwrap();
            drop(directory);
        }
        done.send(()).unwrap();
    });
    assert!(
        ended.recv_timeout(Duration::from_secs(20)).is_ok(),
        "a stop was lost until the next look"
    );
}
