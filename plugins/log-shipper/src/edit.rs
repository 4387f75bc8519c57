//! Changes to a JSON object: fields removed, renamed, redacted. What is not concerned is copied as it
//! was written.

use std::collections::BTreeSet;

use bulkhead_sdk::{Error, Result, ToJson};

use crate::config::Config;
use crate::json::{self, Member};
use crate::record::{Match, Record, is_object, key, match_key};
use crate::redact::{Redactor, Set, bits};

/// The compiled changes, and buffers.
#[derive(Debug)]
pub(crate) struct Editor {
    rules: Vec<Rule>,
    members: Vec<Member>,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Rule {
    path: Vec<u8>,
    /// The path is a key of the outermost object, whatever dots are in it.
    literal: bool,
    act: Act,
}

#[derive(Debug)]
enum Act {
    Remove,
    /// The new key, as text and as it is written.
    Rename(Vec<u8>, Vec<u8>),
    Redact(Set),
}

/// Rules that may concern the members of one object, and how much of their paths led there.
#[derive(Clone, Copy)]
struct Active {
    rules: u64,
    taken: usize,
}

/// What the rules say about one member.
#[derive(Default, Clone, Copy)]
struct Hits {
    /// Rules about members of its value.
    deeper: u64,
    /// Length of the key and its dot in their paths.
    taken: usize,
    redact: Set,
    rename: Option<usize>,
    remove: bool,
}

impl Hits {
    fn any(&self) -> bool {
        self.deeper != 0 || self.redact != 0 || self.rename.is_some() || self.remove
    }
}

impl Editor {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let rule = |path: &str, act| Rule {
            path: path.as_bytes().to_vec(),
            literal: false,
            act,
        };
        let mut rules = Vec::new();
        rules.extend(config.remove.iter().map(|path| rule(path, Act::Remove)));
        let mut targets = BTreeSet::new();
        for (from, to) in &config.rename {
            let parent = from.rsplit_once('.').map_or("", |(parent, _)| parent);
            if to.is_empty() || !targets.insert((parent, to)) {
                let message = match to.as_str() {
                    "" => {
                        "the new name is empty; to remove a field, list it in `remove`".to_owned()
                    }
                    _ => format!("another field of the same object is renamed to `{to}` too"),
                };
                return Err(Error::new(message).at(format!("rename.{from}")));
            }
            let mut written = Vec::new();
            to.write_json(&mut written);
            rules.push(rule(from, Act::Rename(to.as_bytes().to_vec(), written)));
        }
        for (index, redact) in config.redact.iter().enumerate() {
            let act = || Act::Redact(1 << index);
            rules.extend(redact.fields.iter().map(|path| rule(path, act())));
        }
        // An added field takes the place of one that the line has.
        rules.extend(config.add.keys().map(|key| Rule {
            path: key.as_bytes().to_vec(),
            literal: true,
            act: Act::Remove,
        }));
        if rules.len() > 64 {
            return Err(Error::new(format!(
                "{} fields are named in `remove`, `rename`, `redact` and `add` together; at most 64 \
                 are possible",
                rules.len()
            )));
        }
        Ok(Self {
            rules,
            members: Vec::new(),
            text: Vec::new(),
        })
    }

    /// Whether there is anything to change in the record. True if in doubt.
    #[inline]
    pub(crate) fn concerns(&mut self, record: &Record<'_>, redactor: &Redactor) -> bool {
        let active = self.all();
        active.rules != 0
            && record.members.iter().any(|member| {
                let hits = hits(
                    &self.rules,
                    active,
                    key(record.bytes, member, &mut self.text),
                );
                let value = &record.bytes[member.value.0 as usize..member.value.1 as usize];
                hits.remove
                    || hits.rename.is_some()
                    || hits.deeper != 0 && is_object(record.bytes, member)
                    || hits.redact != 0
                        && (member.value_escaped
                            || matches!(value[0], b'{' | b'[')
                            || redactor.matches(value.trim_quotes(), hits.redact))
            })
    }

    fn all(&self) -> Active {
        Active {
            rules: u64::MAX
                .checked_shr(64 - self.rules.len() as u32)
                .unwrap_or(0),
            taken: 0,
        }
    }

    /// Writes the record with its changes to `out`, from its start.
    pub(crate) fn write(
        &mut self,
        record: &Record<'_>,
        redactor: &mut Redactor,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        self.members.clear();
        self.members.extend_from_slice(record.members);
        self.object(record.bytes, 0, self.all(), redactor, out);
    }

    /// Writes the object whose members are those from `start` on in `self.members`.
    fn object(
        &mut self,
        bytes: &[u8],
        start: usize,
        active: Active,
        redactor: &mut Redactor,
        out: &mut Vec<u8>,
    ) {
        let end = self.members.len();
        let renamed = self.renamed(bytes, start, active);
        out.push(b'{');
        let open = out.len();
        // Members in a row that nothing concerns are copied together, with what is between them.
        let mut untouched: Option<(u32, u32)> = None;
        for index in start..end {
            let member = self.members[index];
            let name = key(bytes, &member, &mut self.text);
            let hits = hits(&self.rules, active, name);
            let replaced = hits.rename.is_none()
                && bits(renamed)
                    .any(|rule| matches!(&self.rules[rule].act, Act::Rename(to, _) if to == name));
            if !hits.any() && !replaced {
                let first = untouched.map_or(member.key.0 - 1, |(first, _)| first);
                untouched = Some((first, member.value.1));
                continue;
            }
            flush(bytes, &mut untouched, open, out);
            if hits.remove || replaced {
                continue;
            }
            if out.len() > open {
                out.push(b',');
            }
            match hits.rename.map(|rule| &self.rules[rule].act) {
                Some(Act::Rename(_, written)) => out.extend_from_slice(written),
                _ => {
                    out.extend_from_slice(&bytes[member.key.0 as usize - 1..=member.key.1 as usize])
                }
            }
            out.push(b':');
            let value = &bytes[member.value.0 as usize..member.value.1 as usize];
            if hits.deeper != 0 && is_object(bytes, &member) {
                json::members(bytes, member.value, &mut self.members);
                let inner = Active {
                    rules: hits.deeper,
                    taken: active.taken + hits.taken,
                };
                let before = out.len();
                self.object(bytes, end, inner, redactor, out);
                if hits.redact != 0 {
                    // Both a rule about the whole object and rules about its members: rare enough
                    // for a copy.
                    let object = out.split_off(before);
                    redactor.document(&object, hits.redact, &mut self.text, out);
                }
            } else if hits.redact != 0 {
                redactor.document(value, hits.redact, &mut self.text, out);
            } else {
                out.extend_from_slice(value);
            }
        }
        flush(bytes, &mut untouched, open, out);
        out.push(b'}');
        self.members.truncate(start);
    }

    /// The rules that rename a member of this object: other members of the new names give way.
    fn renamed(&mut self, bytes: &[u8], start: usize, active: Active) -> u64 {
        let mut renamed = 0;
        for member in &self.members[start..] {
            let hits = hits(&self.rules, active, key(bytes, member, &mut self.text));
            if let Some(rule) = hits.rename.filter(|_| !hits.remove) {
                renamed |= 1 << rule;
            }
        }
        renamed
    }
}

fn flush(bytes: &[u8], untouched: &mut Option<(u32, u32)>, open: usize, out: &mut Vec<u8>) {
    if let Some((start, end)) = untouched.take() {
        if out.len() > open {
            out.push(b',');
        }
        out.extend_from_slice(&bytes[start as usize..end as usize]);
    }
}

#[inline]
fn hits(rules: &[Rule], active: Active, key: &[u8]) -> Hits {
    let mut hits = Hits::default();
    for index in bits(active.rules) {
        let rule = &rules[index];
        match match_key(key, &rule.path[active.taken..]) {
            Match::Whole => match rule.act {
                Act::Remove => hits.remove = true,
                Act::Rename(..) => hits.rename = Some(index),
                Act::Redact(set) => hits.redact |= set,
            },
            Match::Start(taken) if !rule.literal => {
                hits.deeper |= 1 << index;
                hits.taken = taken;
            }
            _ => {}
        }
    }
    hits
}

trait TrimQuotes {
    fn trim_quotes(&self) -> &[u8];
}

impl TrimQuotes for [u8] {
    fn trim_quotes(&self) -> &[u8] {
        match self {
            [b'"', inside @ .., b'"'] => inside,
            other => other,
        }
    }
}
