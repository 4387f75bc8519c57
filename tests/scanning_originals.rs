//! The bundled `security-scanner` beside the programs whose rules, signatures and attributes it takes: Debian's
//! `yara`, `clamscan` and `aide` say the same of the same thousands of real files.
//!
//! What they do not agree on is listed here, with the reason, and in `docs/security-scanner.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};
use support::Node;
use support::originals::{
    Aide, Signatures, assert_same, by_rule, clamscan, corpus, eicar, findings, generate, md5,
    read_aide, read_clamscan, read_integrity, read_yara, run, signatures, spec, wait_passes, yara,
};

/// Real files, beside those that are made.
const FILES: usize = 5_000;
const LARGEST: u64 = 1 << 20;
/// No schedule of its own: passes are those that are asked for.
const QUIET: &str = "schedule: {realTime: false}";

/// Hard copies of files of `/usr`, of all kinds: each in one of some dozens of folders below `tree`.
fn copy(tree: &Path) -> Vec<PathBuf> {
    let files = corpus::files(Path::new("/usr"), u64::MAX, LARGEST);
    assert!(files.len() >= FILES, "/usr has only {} files", files.len());
    let copies = files
        .iter()
        .take(FILES)
        .enumerate()
        .map(|(number, (from, _))| {
            let folder = tree.join((number % 64).to_string());
            fs::create_dir_all(&folder).unwrap();
            let name = from.file_name().unwrap().to_str().unwrap();
            let to = folder.join(format!("{number}-{name}"));
            fs::copy(from, &to).unwrap();
            to
        });
    copies.collect()
}

fn samples(files: &[PathBuf]) -> Vec<Vec<u8>> {
    let some = files.iter().step_by(files.len() / 100);
    some.map(|path| fs::read(path).unwrap()).collect()
}

fn node() -> (Node, PathBuf) {
    let node = Node::new();
    let tree = node.path("tree");
    fs::create_dir(&tree).unwrap();
    (node, tree)
}

/// Rules of all kinds, each with a file that it finds, and some with one that it must not.
const RULES: &str = r#"
rule eicar { strings: $a = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!" condition: $a }
rule widths { strings: $a = "planted-in-two-widths" wide ascii condition: #a == 2 }
rule caseless { strings: $a = "Planted-In-Any-Case" nocase condition: $a }
rule word { strings: $a = "plantedword" fullword condition: $a }
rule keyed { strings: $a = "planted-under-a-key" xor condition: $a }
rule encoded { strings: $a = "planted-in-base64" base64 condition: $a }
rule jumps { strings: $a = { 70 6C 61 6E 74 [2-6] 6A 75 6D 70 ?? 65 64 ( 21 | 3F 3F ) } condition: $a }
rule expression { strings: $a = /planted-[0-9]{3,5}-(left|right)/ condition: $a }
rule thrice { strings: $a = "planted-thrice" condition: #a == 3 }
rule placed { strings: $a = "PLANT" condition: $a at 0 and uint32be(5) == 0x01020304 and filesize < 2KB }
rule last { strings: $a = "planted-last" condition: $a in (filesize - 40..filesize) }
rule looped { strings: $a = "planted-loop" condition: for any i in (1..#a) : ( uint8(@a[i] - 1) == 0x2a ) }
rule some { strings: $a1 = "planted-one" $a2 = "planted-two" $a3 = "planted-three" condition: 2 of ($a*) }
rule about { condition: thrice or placed }
"#;

fn planted() -> Vec<(&'static str, Vec<u8>)> {
    let wide: Vec<u8> = b"planted-in-two-widths"
        .iter()
        .flat_map(|it| [*it, 0])
        .collect();
    let keyed = b"planted-under-a-key".map(|byte| byte ^ 0x5c);
    vec![
        ("eicar", eicar().into()),
        (
            "widths",
            [b"planted-in-two-widths ", wide.as_slice()].concat(),
        ),
        ("widths-not", wide),
        ("caseless", b"pLANTED-iN-aNY-cASE".into()),
        ("word", b"a plantedword.".into()),
        ("word-not", b"a plantedwords.".into()),
        ("keyed", keyed.into()),
        ("encoded", b"cGxhbnRlZC1pbi1iYXNlNjQ=".into()),
        ("jumps", b"plant____jump-ed??".into()),
        ("jumps-not", b"plant_______jump-ed!".into()),
        ("expression", b"planted-1234-right".into()),
        ("expression-not", b"planted-123456-right".into()),
        (
            "thrice",
            b"planted-thrice planted-thrice planted-thrice".into(),
        ),
        ("thrice-not", b"planted-thrice planted-thrice".into()),
        ("placed", b"PLANT\x01\x02\x03\x04".into()),
        ("last", [&[b'x'; 5000], b"planted-last".as_slice()].concat()),
        (
            "last-not",
            [b"planted-last".as_slice(), &[b'x'; 5000]].concat(),
        ),
        ("looped", b"planted-loop *planted-loop".into()),
        ("some", b"planted-three planted-one".into()),
        ("some-not", b"planted-three planted-three".into()),
    ]
}

#[test]
fn yara_finds_the_same_rules_in_the_same_files() {
    let (mut node, tree) = node();
    let samples = samples(&copy(&tree));
    let mut rng = fastrand::Rng::with_seed(3);
    for (name, content) in planted() {
        fs::write(tree.join(name), &content).unwrap();
        // And somewhere in a large one, where it is not about its beginning.
        let mut noise: Vec<u8> = (0..300_000).map(|_| rng.u8(..)).collect();
        noise.splice(150_000..150_000, content);
        fs::write(tree.join(format!("in-noise-{name}")), noise).unwrap();
    }
    let rules = RULES.to_owned() + &generate::rules(1, 200, &samples);
    let text = serde_json::to_string(&rules).unwrap();
    let config = format!(
        "{{signatures: {{yara: [{{name: test, text: {text}}}], archives: {{enabled: false}}}}}}"
    );
    node.manifest("scan", &spec(&tree, &config, QUIET));
    node.start();
    let theirs = read_yara(&run(&mut yara(node.folder.path(), &rules, &tree), &[0]));
    let report = wait_passes(&node, "scan", 1);
    assert!(report["files"].as_u64() >= Some(FILES as u64), "{report:#}");
    let ours = by_rule(&findings(&node, "scan"));
    assert_same(&ours, &theirs, "yara");
    let rules: BTreeSet<&str> = ours.iter().map(|(_, rule)| rule.as_str()).collect();
    for (name, _) in planted() {
        let rule = name.trim_end_matches("-not");
        let found = ours.contains(&(tree.join(name), rule.to_owned()));
        assert_eq!(found, !name.ends_with("-not"), "{name}");
    }
    assert!(rules.contains("about") && rules.len() >= 40, "{rules:?}");
}

/// Why a file with this content may be told here and not by `clamscan`.
fn only_here(content: &[u8]) -> Option<&'static str> {
    match content {
        [b'(', 0xb5, b'/', 0xfd, ..] => Some("clamscan does not unpack zstd"),
        [b'O', b'g', b'g', b'S', ..] | [b'I', b'D', b'3', ..] => Some("clamscan leaves out music"),
        _ if content.len() < 6 => Some("clamscan leaves out files of up to 5 bytes"),
        _ => None,
    }
}

/// The other way round.
fn only_clamscan(content: &[u8]) -> Option<&'static str> {
    match content {
        [b'B', b'Z', b'h', ..] => Some("bzip2 is not unpacked here"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz is not unpacked here"),
        _ => None,
    }
}

/// The files of which one of both is known to be silent, and is.
fn explained(
    told: &BTreeSet<PathBuf>,
    other: &BTreeSet<PathBuf>,
    why: fn(&[u8]) -> Option<&'static str>,
) -> BTreeSet<PathBuf> {
    let only = told.difference(other);
    let explained = only.filter(|path| why(&fs::read(path).unwrap()).is_some());
    explained.cloned().collect()
}

/// EICAR plain and in all that somebody unpacks.
fn pack(tree: &Path) {
    fs::write(tree.join("eicar"), eicar()).unwrap();
    let script = "tar cf eicar.tar eicar && tar czf eicar.tgz eicar && gzip -k eicar && bzip2 -k eicar && xz -k eicar && mkdir in && cp eicar.tgz in && tar cf nested.tar in && rm -r in";
    let packed = Command::new("sh")
        .args(["-ec", script])
        .current_dir(tree)
        .status();
    assert!(packed.unwrap().success(), "{script}");
    let zstd = zstd::encode_all(eicar().as_bytes(), 3).unwrap();
    fs::write(tree.join("eicar.zst"), zstd).unwrap();
    let tar = fs::read(tree.join("nested.tar")).unwrap();
    fs::write(tree.join("eicar.zip"), zip("eicar", eicar().as_bytes())).unwrap();
    fs::write(tree.join("nested.zip"), zip("nested.tar", &tar)).unwrap();
}

/// With one file that is stored.
fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(content);
    let size = (content.len() as u32).to_le_bytes();
    let length = (name.len() as u16).to_le_bytes();
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x5a][..],
        &sum.sum().to_le_bytes(),
        &size,
        &size,
        &length,
        &[0, 0],
    ]
    .concat();
    let local = [b"PK\x03\x04", &common[..], name.as_bytes(), content].concat();
    let directory = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], name.as_bytes()].concat();
    let [size, start] = [&directory, &local].map(|it| (it.len() as u32).to_le_bytes());
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0",
        &size[..],
        &start,
        &[0, 0],
    ]
    .concat();
    [local, directory, end].concat()
}

#[test]
fn clamscan_finds_the_same_files() {
    let (mut node, tree) = node();
    let samples = samples(&copy(&tree));
    pack(&tree);
    let mut all: Signatures = signatures(2, 1000, &samples);
    fs::write(tree.join("music.ogg"), "OggS planted in music").unwrap();
    all.ndb += "Planted:0:*:706c616e74656420696e206d75736963\n";
    fs::write(tree.join("tiny"), "tiny").unwrap();
    all.hdb += &format!("{}:4:Tiny\n", md5(b"tiny"));
    all.hdb += &format!("{}:{}:Eicar\n", md5(eicar().as_bytes()), eicar().len());
    node.manifest("scan", &spec(&tree, &all.config(true), QUIET));
    node.start();
    let mut command = clamscan(node.folder.path(), &all, &tree, true);
    // Infected files are there.
    let mut theirs = read_clamscan(&run(&mut command, &[1]));
    let report = wait_passes(&node, "scan", 1);
    assert!(report["files"].as_u64() >= Some(FILES as u64), "{report:#}");
    let found = findings(&node, "scan");
    let found = found.iter().filter(|it| it["rule"] != "scanner.incomplete");
    let path = |it: &serde_json::Value| PathBuf::from(it["subject"]["path"].as_str().unwrap());
    let mut ours: BTreeSet<PathBuf> = found.map(path).collect();
    let here = explained(&ours, &theirs, only_here);
    for name in ["eicar.zst", "music.ogg", "tiny"] {
        assert!(here.contains(&tree.join(name)), "{name} in {here:?}");
    }
    let there = explained(&theirs, &ours, only_clamscan);
    for name in ["eicar.bz2", "eicar.xz"] {
        assert!(there.contains(&tree.join(name)), "{name} in {there:?}");
    }
    ours.retain(|path| !here.contains(path));
    theirs.retain(|path| !there.contains(path));
    assert_same(&ours, &theirs, "clamscan");
    let packed = [
        "eicar",
        "eicar.tar",
        "eicar.tgz",
        "eicar.gz",
        "nested.tar",
        "eicar.zip",
        "nested.zip",
    ];
    for name in packed {
        assert!(ours.contains(&tree.join(name)), "{name}");
    }
    assert!(ours.len() >= 100, "{}", ours.len());
}

/// What may happen to a file or a folder; each some files of its own, which come one after the other.
fn change(files: &[PathBuf]) {
    let mut files = files.iter();
    let mut some = |count: usize, deed: &dyn Fn(&Path)| {
        files.by_ref().take(count).for_each(|path| deed(path));
    };
    some(20, &|path| {
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    });
    // As long as before, and its times are forged.
    some(20, &|path| {
        let mut content = fs::read(path).unwrap();
        content[0] ^= 1;
        let modified = path.metadata().unwrap().modified().unwrap();
        fs::write(path, content).unwrap();
        let times = FileTimes::new().set_modified(modified);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_times(times)
            .unwrap();
    });
    some(20, &|path| {
        fs::set_permissions(path, PermissionsExt::from_mode(0o4711)).unwrap()
    });
    some(20, &|path| chown(path, Some(12), None).unwrap());
    some(20, &|path| chown(path, None, Some(12)).unwrap());
    some(20, &|path| {
        setxattr(path, "user.mark", b"new", XattrFlags::empty()).unwrap()
    });
    some(20, &|path| {
        // The capability net_raw, as the kernel keeps it.
        let packed = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        setxattr(path, "security.capability", &packed, XattrFlags::empty()).unwrap();
    });
    some(20, &|path| fs::remove_file(path).unwrap());
    some(20, &|path| {
        fs::rename(path, path.with_extension("renamed")).unwrap()
    });
    some(20, &|path| {
        fs::hard_link(path, path.with_extension("linked")).unwrap()
    });
    some(20, &|path| {
        fs::remove_file(path).unwrap();
        symlink("elsewhere", path).unwrap();
    });
    some(20, &|path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("new"), "new").unwrap();
    });
    // Nothing that either looks at.
    some(20, &|path| {
        let times = FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_times(times)
            .unwrap();
    });
}

#[test]
fn aide_finds_the_same_changes() {
    let (mut node, tree) = node();
    let mut files = copy(&tree);
    // So that neighbours are not all of one folder.
    fastrand::Rng::with_seed(5).shuffle(&mut files);
    let marked = files.split_off(files.len() - 40);
    for path in &marked {
        setxattr(path, "user.mark", b"old", XattrFlags::empty()).unwrap();
        symlink(path, path.with_extension("symlink")).unwrap();
    }
    node.manifest(
        "scan",
        &spec(&tree, "{integrity: {baseline: first}}", QUIET),
    );
    node.start();
    let aide = Aide::new(node.folder.path(), &[&tree]);
    run(&mut aide.command("--init"), &[0]);
    aide.accept();
    wait_passes(&node, "scan", 1);
    change(&files);
    for path in &marked[..20] {
        setxattr(path, "user.mark", b"other", XattrFlags::empty()).unwrap();
        let link = path.with_extension("symlink");
        fs::remove_file(&link).unwrap();
        symlink("elsewhere", link).unwrap();
    }
    let folder = tree.join("1");
    fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
    fs::remove_dir_all(tree.join("2")).unwrap();
    // Added, removed and changed.
    let theirs = read_aide(&run(&mut aide.command("--check"), &[7]));
    let pass = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["scanning", "scan", "scan", "--full", "--wait", "--state"])
        .arg(&node.state)
        .output()
        .unwrap();
    // There are findings.
    assert_eq!(pass.status.code(), Some(2), "{pass:?}");
    let ours = read_integrity(&findings(&node, "scan"));
    assert_same(&ours, &theirs, "aide");
    for (what, least) in [("changed", 200), ("added", 50), ("removed", 80)] {
        let count = ours.iter().filter(|(_, it)| *it == what).count();
        assert!(count >= least, "{count} {what}");
    }
}
