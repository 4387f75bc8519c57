//! The pages of the book: their fenced blocks, and parts that are written by tests.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules that pages call by these names.
pub const MODULES: [(&str, &str); 4] = [
    ("grep.wasm", "fixture-minimal"),
    ("load.wasm", "tutorial-load"),
    ("motd.wasm", "tutorial-motd"),
    ("watchman.wasm", "tutorial-watchman"),
];

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A page, by its path in the project.
#[derive(Debug, Clone)]
pub struct Page {
    pub name: String,
    pub text: String,
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What follows the fence: `sh`, `yaml,fragment`.
    pub info: String,
    pub text: String,
    /// The heading above it.
    pub heading: String,
    /// Of the opening fence, from 1.
    pub line: usize,
}

impl Block {
    /// The first word of the info string.
    pub fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or_default()
    }

    pub fn is_marked(&self, mark: &str) -> bool {
        self.info.split(',').skip(1).any(|word| word == mark)
    }

    /// Without the indentation that all its lines have.
    pub fn flush(&self) -> String {
        let lines = self.text.lines().filter(|line| !line.trim().is_empty());
        let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let least = lines.map(depth).min().unwrap_or(0);
        let cut = |line: &str| line.get(least..).unwrap_or_default().to_owned() + "\n";
        self.text.lines().map(cut).collect()
    }
}

impl Page {
    pub fn read(name: &str) -> Self {
        let path = root().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            name: name.to_owned(),
            text,
        }
    }

    /// The README, all of `docs`, and that of `deploy`.
    pub fn all() -> Vec<Self> {
        let mut names = vec!["README.md".to_owned(), "deploy/README.md".to_owned()];
        for folder in ["docs", "docs/decisions"] {
            let entries = fs::read_dir(root().join(folder)).unwrap();
            let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let pages = files.filter(|name| name.ends_with(".md"));
            names.extend(pages.map(|name| format!("{folder}/{name}")));
        }
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        let mut heading = String::new();
        for (index, line) in self.text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(info)) => {
                    open = Some(Block {
                        info: info.trim().to_owned(),
                        text: String::new(),
                        heading: heading.clone(),
                        line: index + 1,
                    });
                }
                (None, None) if line.starts_with('#') => {
                    heading = line.trim_start_matches('#').trim().to_owned();
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block has no end", self.name);
        blocks
    }

    /// The commands of `sh` blocks, as one script: of those that any reader can run, or of those that only a test of
    /// this name can.
    pub fn commands(&self, test: Option<&str>) -> String {
        let info = test.map_or("sh".to_owned(), |test| format!("sh,{test}"));
        self.scripts(&info).concat()
    }

    /// The text of each block that is marked so.
    pub fn scripts(&self, info: &str) -> Vec<String> {
        let blocks = self.blocks().into_iter();
        let blocks = blocks.filter(|it| it.info == info);
        blocks.map(|it| it.flush()).collect()
    }

    /// Lines that are in no fenced block, with their numbers.
    pub fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut inside = false;
        self.text
            .lines()
            .enumerate()
            .filter_map(move |(index, line)| {
                if line.trim_start().starts_with("```") {
                    inside = !inside;
                    return None;
                }
                (!inside).then_some((index + 1, line))
            })
    }
}

/// The page has exactly this text. With `BULKHEAD_WRITE_BOOK=1` it is written instead.
pub fn assert_text(name: &str, text: &str) {
    let path = root().join(name);
    if std::env::var_os("BULKHEAD_WRITE_BOOK").is_some() {
        return fs::write(path, text).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let wrong = found
        .lines()
        .zip(text.lines())
        .find(|(is, should)| is != should);
    assert!(
        found == text,
        "{name} is not what it should be, first in {wrong:?} (found, expected); BULKHEAD_WRITE_BOOK=1 writes it"
    );
}
