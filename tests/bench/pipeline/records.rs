//! That the parse is real, and the same in both programs: what is in their output files.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::corpus::Corpus;

/// What an output file holds.
pub(crate) struct Records {
    pub(crate) lines: u64,
    /// Of the JSON records: the members that both programs write, hashed.
    json: HashSet<u64>,
}

impl Records {
    /// Reads an output file; nothing in it may be at level debug, hold an address or the old name.
    pub(crate) fn read(path: &Path) -> Self {
        let mut records = Self {
            lines: 0,
            json: HashSet::new(),
        };
        for line in BufReader::new(File::open(path).unwrap()).lines() {
            let line = line.unwrap();
            records.lines += 1;
            let Ok(Value::Object(members)) = serde_json::from_str(&line) else {
                continue;
            };
            if !members.contains_key("n") {
                continue;
            }
            assert_ne!(members["level"], "debug", "{line}");
            assert_eq!(members["user"], "<address>", "{line}");
            assert!(!members.contains_key("msg"), "{line}");
            let mut hasher = DefaultHasher::new();
            for name in ["n", "level", "path", "status", "user", "text"] {
                members[name].to_string().hash(&mut hasher);
            }
            assert!(records.json.insert(hasher.finish()), "twice: {line}");
        }
        records
    }

    /// What rsyslog wrote, ours holds too, and besides only the lines in parts that it cannot join.
    pub(crate) fn assert_equal_to_rsyslog(&self, corpus: &Corpus, rsyslog: &Self) {
        assert!(rsyslog.json.is_subset(&self.json), "records differ");
        let more = (self.json.len() - rsyslog.json.len()) as u64;
        assert_eq!(more, corpus.json_in_parts);
    }
}
