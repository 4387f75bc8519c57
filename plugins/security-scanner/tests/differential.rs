//! The engine beside Debian's `yara`: the same rules on the same files, and the same matches of the
//! same strings in the same places.

mod support;

use std::path::{Path, PathBuf};

use support::{corpus, generate, peer};

fn write(folder: &Path, contents: &[&[u8]]) -> Vec<PathBuf> {
    let write = |(index, content): (usize, &&[u8])| {
        let path = folder.join(format!("file{index}"));
        std::fs::write(&path, content).unwrap();
        path
    };
    contents.iter().enumerate().map(write).collect()
}

#[test]
fn real_files_and_generated_rules() {
    let files: Vec<PathBuf> =
        corpus::files(Path::new("/usr"), 60 << 20, 8 << 20).into_iter().map(|(path, _)| path).collect();
    assert!(files.len() > 500, "/usr has only {} files to compare", files.len());
    let samples: Vec<Vec<u8>> =
        files.iter().step_by(files.len() / 60).map(|path| std::fs::read(path).unwrap()).collect();
    let verdicts = peer::assert_same(&generate::rules(1, 200, &samples), &files);
    let mut rules: Vec<_> = verdicts.keys().map(|(_, rule)| rule).collect();
    rules.sort();
    rules.dedup();
    assert!(rules.len() >= 20, "only {} rules matched anything", rules.len());
}
