//! Debian's `yara`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use security_scanner::yara::{Limits, Rules, Scanner};

/// By file and rule, the strings with offset and length.
pub(crate) type Verdicts = BTreeMap<(PathBuf, String), BTreeSet<(u64, u64, String)>>;

/// What `yara` finds. Fails, and says how to get it, if it is not installed.
pub(crate) fn judge(folder: &Path, rules: &str, files: &[PathBuf]) -> Verdicts {
    let output = command(folder, rules, files)
        .args(["--print-strings", "--print-string-length"])
        .output()
        .unwrap_or_else(|why| panic!("{MISSING} ({why})"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && errors.is_empty(),
        "yara refused: {errors}\nrules:\n{rules}"
    );
    let mut verdicts = Verdicts::new();
    let mut current = None;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(rest) = line.strip_prefix("0x") {
            let mut fields = rest.splitn(4, ':');
            let mut field = || fields.next().unwrap_or_default();
            let offset = u64::from_str_radix(field(), 16).unwrap();
            let length = field().parse().unwrap();
            let name = field().trim_start_matches('$').to_owned();
            let strings = current.as_ref().and_then(|key| verdicts.get_mut(key));
            strings.unwrap().insert((offset, length, name));
        } else {
            let (rule, path) = line.split_once(' ').unwrap();
            let key = (PathBuf::from(path), rule.to_owned());
            verdicts.entry(key.clone()).or_default();
            current = Some(key);
        }
    }
    verdicts
}

/// `yara` on a list of files, in one thread.
pub(crate) fn command(folder: &Path, rules: &str, files: &[PathBuf]) -> Command {
    let (rule_file, list) = (folder.join("rules.yar"), folder.join("files.txt"));
    std::fs::write(&rule_file, rules).unwrap();
    let lines: Vec<_> = files
        .iter()
        .map(|file| format!("{}\n", file.display()))
        .collect();
    std::fs::write(&list, lines.concat()).unwrap();
    let mut command = Command::new("yara");
    command.args(["--no-warnings", "--threads=1", "--scan-list"]);
    command.arg(rule_file).arg(list);
    command
}

pub(crate) const MISSING: &str = "the engine is compared with Debian's yara, which is not installed: run \
                           'make setup', or 'apt-get install yara' as root";

/// What the engine of this crate finds.
pub(crate) fn judge_ours(rules: &str, files: &[PathBuf]) -> Verdicts {
    let compiled = Rules::compile([("default", rules)]);
    let rules = compiled.unwrap_or_else(|(_, why)| panic!("refused: {why}\nrules:\n{rules}"));
    let limits = Limits {
        reported: usize::MAX,
        ..Limits::default()
    };
    let mut scanner = Scanner::new(&rules, limits);
    let mut verdicts = Verdicts::new();
    for file in files {
        let data = std::fs::read(file).unwrap();
        let report = scanner.scan(data.as_slice());
        assert!(
            report.incomplete.is_empty(),
            "{}: {:?}",
            file.display(),
            report.incomplete
        );
        for hit in report.hits {
            let strings = hit.strings.into_iter().flat_map(|(name, matches)| {
                let places = matches.into_iter();
                places.map(move |place| (place.offset, place.length, name.to_owned()))
            });
            verdicts.insert((file.clone(), hit.rule.name.clone()), strings.collect());
        }
    }
    verdicts
}

/// Compares both, and says where they differ.
pub(crate) fn assert_same(rules: &str, files: &[PathBuf]) -> Verdicts {
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (judge(folder.path(), rules, files), judge_ours(rules, files));
    let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let differing: Vec<_> = keys
        .into_iter()
        .filter(|key| theirs.get(*key) != ours.get(*key))
        .collect();
    let list = |verdicts: &Verdicts, key: &(PathBuf, String)| match verdicts.get(key) {
        None => "no match".to_owned(),
        Some(strings) => {
            let first: Vec<_> = strings.iter().take(12).collect();
            format!("{} strings: {first:?}", strings.len())
        }
    };
    let mut described = BTreeSet::new();
    for key @ (file, rule) in &differing {
        if described.insert(rule) {
            let text = rules
                .split("\nrule ")
                .find(|text| text.contains(&format!("{rule} ")));
            eprintln!("{rule} on {}:", file.display());
            eprintln!(
                "  yara: {}\n  here: {}",
                list(&theirs, key),
                list(&ours, key)
            );
            eprintln!("  {}", text.unwrap_or_default().replace('\n', "\n  "));
        }
    }
    assert!(
        differing.is_empty(),
        "{} verdicts differ, of rules {described:?}",
        differing.len()
    );
    ours
}
