//! What Debian's `yara`, `clamscan` and `aide` say of real files, beside the bundled `security-scanner`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use super::{Node, sha256};

#[path = "../../plugins/security-scanner/tests/support/corpus.rs"]
pub mod corpus;
#[path = "../../plugins/security-scanner/tests/support/generate.rs"]
pub mod generate;

/// The test file that every scanner of viruses knows (EICAR), in two parts, so that none finds it here.
const EICAR: [&str; 2] = [
    r"X5O!P%@AP[4\PZX54(P^)7CC)7}$",
    "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
];

pub fn eicar() -> String {
    EICAR.concat()
}

/// Passes of a development build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A spec of the bundled scanner for `tree`; `config` is YAML, `scanning` are further fields of it. Passes are
/// at full speed, and there are no other than the first and those that are asked for.
pub fn spec(tree: &Path, config: &str, scanning: &str) -> String {
    format!(
        "module: {{bundled: security-scanner}}\nconfig: {config}\nupdate: {{probation: 200ms}}\nlimits: {{memory: 512Mi}}\ngrants: {{state: {{quota: 64Mi}}, scan: {{files: [{}]}}}}\nscanning: {{budget: {{read: 10Gi, cpu: 8, yieldToPressure: false}}, {scanning}}}\n",
        tree.display()
    )
}

/// The role's report once so many passes have ended.
pub fn wait_passes(node: &Node, plugin: &str, count: u64) -> Value {
    let begin = Instant::now();
    loop {
        let report = node.plugin(plugin).unwrap_or_default();
        if report["scanning"]["passes"].as_u64() >= Some(count) {
            let scanning = report["scanning"].clone();
            assert_eq!(scanning["lastPass"]["complete"], true, "{report:#}");
            assert_eq!(scanning["unjudged"].as_u64().unwrap_or(0), 0, "{report:#}");
            return scanning;
        }
        let late = begin.elapsed() > PATIENCE;
        assert!(!late, "no pass {count}: {report:#}\n{}", node.daemon_log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All open findings of a plugin.
pub fn findings(node: &Node, plugin: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/findings?name={plugin}&state=open&limit=1000{cursor}");
        let (code, body) = node.get(&path).unwrap();
        assert_eq!(code, 200, "{body}");
        let mut page: Value = serde_json::from_str(&body).unwrap();
        all.extend(std::mem::take(page["items"].as_array_mut().unwrap()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// Files with their rules, without the names of sources of rules.
pub fn by_rule(findings: &[Value]) -> BTreeSet<(PathBuf, String)> {
    let told = findings.iter().map(|finding| {
        let path = finding["subject"]["path"].as_str().unwrap();
        let rule = finding["rule"].as_str().unwrap();
        let (_, rule) = rule.split_once('.').unwrap();
        (path.into(), rule.to_owned())
    });
    told.collect()
}

/// The files that findings are about.
pub fn open_paths(findings: &[Value]) -> BTreeSet<PathBuf> {
    let paths = findings.iter().map(|it| it["subject"]["path"].as_str());
    paths.flatten().map(PathBuf::from).collect()
}

/// Runs one of the originals. It is an error if it ends with another code than these.
pub fn run(command: &mut Command, codes: &[i32]) -> Output {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: see `make setup`"));
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or(-1);
    assert!(codes.contains(&code), "{command:?}: {code}: {said}");
    output
}

/// `yara` on all files below a folder, in one thread.
pub fn yara(folder: &Path, rules: &str, tree: &Path) -> Command {
    let file = folder.join("rules.yar");
    fs::write(&file, rules).unwrap();
    let mut command = Command::new("yara");
    command.args([
        "--no-warnings",
        "--threads=1",
        "--recursive",
        "--no-follow-symlinks",
    ]);
    command.arg(file).arg(tree);
    command
}

/// What `yara` printed: files with their rules.
pub fn read_yara(output: &Output) -> BTreeSet<(PathBuf, String)> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let told = text.lines().map(|line| {
        let (rule, path) = line.split_once(' ').unwrap();
        (path.into(), rule.to_owned())
    });
    told.collect()
}

/// ClamAV's signatures, each list as in a file of its name.
#[derive(Debug, Default)]
pub struct Signatures {
    pub ndb: String,
    pub hdb: String,
    pub hsb: String,
}

impl Signatures {
    /// The section `signatures` of the plugin's configuration.
    pub fn config(&self, archives: bool) -> String {
        let text = |text: &str| serde_json::to_string(text).unwrap();
        format!(
            "{{signatures: {{ndb: [{{name: ndb, text: {}}}], hashes: [{{name: hdb, text: {}}}, {{name: hsb, text: {}}}], archives: {{enabled: {archives}}}}}}}",
            text(&self.ndb),
            text(&self.hdb),
            text(&self.hsb)
        )
    }
}

/// `clamscan` on all files below a folder, looking at no more than we do: not into documents and mails, not
/// for heuristics, and at texts as they are.
pub fn clamscan(folder: &Path, signatures: &Signatures, tree: &Path, archives: bool) -> Command {
    let mut command = Command::new("clamscan");
    let lists = [
        ("a.ndb", &signatures.ndb),
        ("a.hdb", &signatures.hdb),
        ("a.hsb", &signatures.hsb),
    ];
    for (name, text) in lists.iter().filter(|(_, text)| !text.is_empty()) {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        command.arg("--database").arg(file);
    }
    for parsed in [
        "normalize",
        "scan-mail",
        "scan-ole2",
        "scan-pdf",
        "scan-swf",
        "scan-html",
        "scan-xmldocs",
        "scan-hwp3",
        "scan-onenote",
        "scan-image",
        "scan-image-fuzzy-hash",
        "phishing-sigs",
        "phishing-scan-urls",
        "heuristic-alerts",
        "bytecode",
    ] {
        command.arg(format!("--{parsed}=no"));
    }
    command.arg(format!(
        "--scan-archive={}",
        if archives { "yes" } else { "no" }
    ));
    command.args([
        "--no-summary",
        "--infected",
        "--recursive",
        "--follow-file-symlinks=0",
    ]);
    command.arg(tree);
    command
}

/// What `clamscan` printed: files, each told once.
pub fn read_clamscan(output: &Output) -> BTreeSet<PathBuf> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let told = text.lines().map(|line| {
        let (path, name) = line.rsplit_once(": ").unwrap();
        assert!(name.ends_with(" FOUND"), "{line}");
        path.into()
    });
    told.collect()
}

/// `count` signatures from a seed: eight of ten are of content, in all forms that both know, the others of
/// hashes. One in five is of a sample.
pub fn signatures(seed: u64, count: usize, samples: &[Vec<u8>]) -> Signatures {
    let mut rng = Rng::with_seed(seed);
    let mut all = Signatures::default();
    for number in 0..count {
        let sample = &samples[rng.usize(..samples.len())];
        let hit = number % 5 == 0;
        let kind = number / 5 % 10;
        let other: Vec<u8> = (0..64).map(|_| rng.u8(..)).collect();
        match kind {
            8 if hit => {
                let _ = writeln!(all.hdb, "{}:{}:Md5-{number}", md5(sample), sample.len());
            }
            8 => {
                let _ = writeln!(
                    all.hdb,
                    "{}:{}:Md5-{number}",
                    md5(&other),
                    rng.u32(1..99_999)
                );
            }
            9 => {
                let digest = sha256(if hit { sample } else { &other });
                let size = if hit { sample.len() } else { other.len() };
                let _ = writeln!(all.hsb, "{digest}:{size}:Sha256-{number}");
            }
            _ => {
                let (content, start) = match distinct(&mut rng, sample, 28) {
                    Some(start) if hit => (&sample[start..start + 28], start),
                    _ => (&other[..28], rng.usize(..9999)),
                };
                let back = sample.len().saturating_sub(start);
                let line = content_line(number, kind, content, start, back);
                all.ndb.push_str(&line);
            }
        }
    }
    all
}

/// A signature of 28 bytes, in one of eight forms.
fn content_line(number: usize, kind: usize, content: &[u8], start: usize, back: usize) -> String {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(String::new(), |all, it| all + &format!("{it:02x}"))
    };
    let [first, second] = [&content[..10], &content[14..]].map(hex);
    let between = hex(&content[10..14]);
    let (target, offset, content) = match kind {
        1 => (0, "*".to_owned(), format!("{first}????????{second}")),
        2 => (0, "*".to_owned(), format!("{first}{{2-6}}{second}")),
        3 => (0, "*".to_owned(), format!("{first}*{second}")),
        4 => (
            0,
            "*".to_owned(),
            format!("{first}({between}|00112233){second}"),
        ),
        5 => (0, start.to_string(), format!("{first}{between}{second}")),
        6 => (
            0,
            format!("EOF-{back}"),
            format!("{first}{between}{second}"),
        ),
        7 => (6, "*".to_owned(), format!("{first}{between}{second}")),
        _ => (0, "*".to_owned(), format!("{first}{between}{second}")),
    };
    format!("Content-{number}:{target}:{offset}:{content}\n")
}

/// Where there are so many bytes of which most differ: others are in every file.
fn distinct(rng: &mut Rng, sample: &[u8], length: usize) -> Option<usize> {
    let last = sample.len().checked_sub(length)?;
    (0..100).map(|_| rng.usize(..=last)).find(|start| {
        let bytes: BTreeSet<u8> = sample[*start..start + length].iter().copied().collect();
        bytes.len() > length / 2
    })
}

pub fn md5(bytes: &[u8]) -> String {
    use md5::Digest as _;
    let digest = md5::Md5::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// AIDE with the attributes that the plugin compares, on these folders and what is below them; its databases
/// are in `folder`.
pub struct Aide {
    folder: PathBuf,
}

impl Aide {
    pub fn new(folder: &Path, trees: &[&Path]) -> Self {
        let place = |name: &str| format!("file:{}", folder.join(name).display());
        let mut config = format!(
            "database_in={}\ndatabase_out={}\nreport_format=json\nreport_url=stdout\nAll = ftype+l+p+u+g+xattrs+sha256\n",
            place("aide.db"),
            place("aide.new"),
        );
        for tree in trees {
            // A regular expression; nothing in these paths stands for anything but a dot.
            let tree = tree.to_str().unwrap().replace('.', "\\.");
            let _ = writeln!(config, "{tree} All");
        }
        fs::write(folder.join("aide.conf"), config).unwrap();
        let folder = folder.to_owned();
        Self { folder }
    }

    pub fn command(&self, order: &str) -> Command {
        let mut command = Command::new("aide");
        let config = self.folder.join("aide.conf");
        command
            .arg(format!("--config={}", config.display()))
            .arg(order);
        command
    }

    /// What it initialised is what is compared with.
    pub fn accept(&self) {
        fs::rename(self.folder.join("aide.new"), self.folder.join("aide.db")).unwrap();
    }
}

/// What `aide --check` printed: paths, and whether they are `changed`, `added` or `removed`.
pub fn read_aide(output: &Output) -> BTreeSet<(PathBuf, &'static str)> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut told = BTreeSet::new();
    for what in ["changed", "added", "removed"] {
        let paths = report[what].as_object().into_iter().flatten();
        told.extend(paths.map(|(path, _)| (path.into(), what)));
    }
    told
}

/// The same of the plugin's findings.
pub fn read_integrity(findings: &[Value]) -> BTreeSet<(PathBuf, &'static str)> {
    let told = findings.iter().filter_map(|finding| {
        let what = match finding["rule"].as_str().unwrap() {
            "integrity.changed" => "changed",
            "integrity.new" => "added",
            "integrity.gone" => "removed",
            _ => return None,
        };
        Some((finding["subject"]["path"].as_str().unwrap().into(), what))
    });
    told.collect()
}

/// Fails if the two are not the same.
pub fn assert_same<T: Ord + std::fmt::Debug>(ours: &BTreeSet<T>, theirs: &BTreeSet<T>, name: &str) {
    let only = |of: &BTreeSet<T>, other: &BTreeSet<T>| {
        let only: Vec<String> = of.difference(other).map(|it| format!("  {it:?}")).collect();
        let first = &only[..only.len().min(20)];
        format!("{}\n{}", only.len(), first.join("\n"))
    };
    assert!(
        ours == theirs,
        "{} are the same; only here: {}\nonly {name}: {}",
        ours.intersection(theirs).count(),
        only(ours, theirs),
        only(theirs, ours)
    );
}
