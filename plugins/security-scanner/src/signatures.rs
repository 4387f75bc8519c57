//! Content that is known: by rules, by signatures and by hashes; in files, and in archives.

use std::borrow::Cow;
use std::collections::HashSet;

use bulkhead_sdk::scanning::{File, FileKind, Findings, Outline, Rule, Severity};
use bulkhead_sdk::{Error, Result};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::archive::{self, Trouble};
use crate::clamav::{Digests, Hashes};
use crate::size::Size;
use crate::source::Source;
use crate::yara::{self, Compiler, Hit, Incomplete, Input, Limits, Meta, Rules, Scanner};

/// The rule of files that were not looked at as a whole.
const INCOMPLETE: &str = "scanner.incomplete";
/// What of a file is looked at unless the configuration says otherwise.
const MAX_CONTENT: u64 = 16 << 20;
/// Findings in the members of one file; beyond that they are not told one by one.
const MAX_IN_MEMBERS: usize = 100;
/// Rules that are listed: the contract allows a few more. Findings of others say all that is needed.
const MAX_LISTED: usize = 60_000;

/// Content that is known.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Rules in the language of YARA.
    yara: Vec<Source>,
    /// ClamAV's signatures of content (`.ndb`).
    ndb: Vec<Source>,
    /// Lists of hashes: ClamAV's (`.hdb`, `.hsb`), or a hash and maybe a name on each line, as
    /// `sha256sum` writes them. SHA-256, SHA-1 and MD5.
    hashes: Vec<Source>,
    /// Bytes of each file that are looked at for rules, signatures and archives; of longer files only the
    /// beginning is. 16 MiB unless given.
    max_content: Option<Size>,
    /// Whether and how far archives are unpacked.
    archives: Archives,
}

/// Zip, tar, gzip and zstd, also in each other.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Archives {
    /// Whether they are unpacked at all.
    enabled: bool,
    /// Archives in archives that are unpacked.
    depth: u8,
    /// Bytes that are unpacked of one file, all levels together.
    max_unpacked: Size,
    /// Bytes that one packed byte becomes at most.
    max_ratio: u64,
    /// Members of one file, all levels together.
    max_members: u32,
}

impl Default for Archives {
    fn default() -> Self {
        let limits = archive::Limits::default();
        Self {
            enabled: true,
            depth: limits.depth as u8,
            max_unpacked: Size(limits.unpacked),
            max_ratio: limits.ratio,
            max_members: limits.members as u32,
        }
    }
}

/// All that is known, ready to judge.
#[derive(Debug)]
pub(crate) struct Signatures {
    scanner: Scanner<'static>,
    rules: &'static Rules,
    lists: Vec<(String, Hashes)>,
    archives: Option<archive::Limits>,
    max_content: u64,
    texts: Vec<String>,
    /// What there is so far of a file that comes in several batches.
    begun: Vec<u8>,
}

/// Where something was found.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: &'a File<'a>,
    /// In archives: `a.zip!b.tar!c`.
    member: Option<&'a str>,
}

impl Signatures {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let mut compiler = Compiler::default();
        let mut texts = vec![format!("{:?}{:?}", config.max_content, config.archives)];
        let mut read = |kind: &str, i: usize, source: &Source| {
            let field = format!("signatures.{kind}[{i}]");
            if !(1..=64).contains(&source.name.len()) || source.name.contains(char::is_control) {
                let message = "is 1 to 64 bytes without control characters";
                return Err(Error::new(message).at(format!("{field}.name")));
            }
            let text = source.read(&field)?;
            texts.push(format!("{kind} {} {text}", source.name));
            Ok((field, text))
        };
        for (i, source) in config.yara.iter().enumerate() {
            let (field, text) = read("yara", i, source)?;
            let added = compiler.yara(&source.name, &text);
            added.map_err(|error| Error::new(format!("{}:{error}", source.name)).at(field))?;
        }
        for (i, source) in config.ndb.iter().enumerate() {
            let (_, text) = read("ndb", i, source)?;
            tell_left_out(source, &compiler.ndb(&source.name, &text));
        }
        let mut lists = Vec::new();
        for (i, source) in config.hashes.iter().enumerate() {
            let (_, text) = read("hashes", i, source)?;
            let mut hashes = Hashes::default();
            tell_left_out(source, &hashes.add(&text));
            lists.push((source.name.clone(), hashes));
        }
        let archives = &config.archives;
        let archives = archives.enabled.then_some(archive::Limits {
            depth: archives.depth.into(),
            unpacked: archives.max_unpacked.0,
            ratio: archives.max_ratio,
            members: archives.max_members as usize,
        });
        // There is one plugin in a component, and its rules live as long.
        let rules: &'static Rules = Box::leak(Box::new(compiler.finish()));
        Ok(Self {
            scanner: Scanner::new(rules, Limits::default()),
            rules,
            lists,
            archives,
            max_content: config.max_content.map_or(MAX_CONTENT, |size| size.0),
            texts,
            begun: Vec::new(),
        })
    }

    /// How much of each file is needed.
    pub(crate) fn content(&self) -> u64 {
        let by_content = !self.rules.rules().is_empty();
        let in_archives = self.archives.is_some() && !self.lists.is_empty();
        if by_content || in_archives {
            self.max_content
        } else {
            0
        }
    }

    /// Which digests are needed: MD5, SHA-1 and SHA-256.
    pub(crate) fn digests(&self) -> [bool; 3] {
        self.lists.iter().fold([false; 3], |all, (_, hashes)| {
            let wanted = hashes.wanted();
            std::array::from_fn(|i| all[i] || wanted[i])
        })
    }

    pub(crate) fn outline(&self, outline: &mut Outline) {
        if self.rules.rules().is_empty() && self.lists.is_empty() {
            return;
        }
        let mut known = HashSet::new();
        let rules = self.rules.rules().iter().filter(|rule| !rule.private);
        for rule in rules.filter(|rule| known.insert(id(rule))).take(MAX_LISTED) {
            outline.rule(describe(rule));
        }
        for (list, _) in &self.lists {
            let id = hash_id(list);
            if known.insert(id.clone()) {
                outline.rule(
                    Rule::new(&id, &format!("A file is in the list of hashes {list}"))
                        .severity(Severity::High)
                        .rationale("Its content is, byte for byte, one that the list warns of.")
                        .remediation("Find out how it came here, and remove it."),
                );
            }
        }
        outline.rule(
            Rule::new(INCOMPLETE, "A file was not judged as a whole")
                .severity(Severity::Info)
                .rationale("It passes a limit of the configuration, or cannot be unpacked; what is in the rest is not known.")
                .remediation("Raise the limit that the finding names, or look at the file by other means."),
        );
        for text in &self.texts {
            outline.rule_set(text);
        }
    }

    /// Judges a file, or keeps its bytes until there are all of them.
    pub(crate) fn scan(&mut self, file: &File<'_>, out: &mut Findings) {
        if file.kind() != FileKind::File || file.error().is_some() {
            return;
        }
        if self.content() == 0 {
            if file.is_last() {
                let place = Place { file, member: None };
                self.judge_hashes(place, &of_file(file), file.size(), out);
            }
            return;
        }
        if let Some(content) = file.whole() {
            return self.judge(file, content, out);
        }
        for piece in file.pieces() {
            // One that was interrupted begins anew.
            if piece.position() == 0 {
                self.begun.clear();
                // Once: growing by doubling takes up to three times the memory.
                let length = file.size().min(self.max_content);
                self.begun.reserve_exact(length as usize);
            }
            self.begun.extend_from_slice(piece.bytes());
        }
        if file.is_last() && file.pieces().len() > 0 {
            let content = std::mem::take(&mut self.begun);
            self.judge(file, &content, out);
        }
    }

    fn judge(&mut self, file: &File<'_>, content: &[u8], out: &mut Findings) {
        let place = Place { file, member: None };
        let mut troubles: Vec<(String, String)> = Vec::new();
        let why = self.judge_content(place, content, file.size(), out);
        troubles.extend(why.map(|why| (String::new(), why)));
        self.judge_hashes(place, &of_file(file), file.size(), out);
        if let Some(limits) = self.archives {
            let path = file.path_text();
            let name = path.rsplit('/').next().unwrap_or_default();
            let before = out.len();
            let mut untold = false;
            let wanted = self.digests();
            let found = archive::walk(content, limits, &mut |member| {
                if member.path.is_empty() {
                    return;
                }
                if out.len() - before >= MAX_IN_MEMBERS {
                    untold = true;
                    return;
                }
                let path = within(name, member.path);
                let place = Place {
                    file,
                    member: Some(&path),
                };
                let size = member.data.len() as u64;
                let why = self.judge_content(place, member.data, size, out);
                if let Some(why) = why
                    && troubles.len() < MAX_IN_MEMBERS
                {
                    troubles.push((path.clone(), why));
                }
                self.judge_hashes(place, &of_content(member.data, wanted), size, out);
            });
            let told = found.iter().map(|(path, trouble)| {
                let path = if path.is_empty() {
                    String::new()
                } else {
                    within(name, path)
                };
                (path, said(*trouble, &limits))
            });
            // The end of a file that was cut is missing for sure.
            let cut = |(path, _): &(String, String)| !(path.is_empty() && file.is_cut());
            troubles.extend(told.filter(cut));
            if untold {
                let why =
                    format!("more than {MAX_IN_MEMBERS} findings in it: the rest is not told");
                troubles.push((String::new(), why));
            }
        }
        incomplete(file, &troubles, out);
    }

    /// Answers why not all was looked at.
    fn judge_content(
        &mut self,
        place: Place<'_>,
        data: &[u8],
        size: u64,
        out: &mut Findings,
    ) -> Option<String> {
        if self.rules.rules().is_empty() && place.member.is_some() {
            return None;
        }
        let report = self.scanner.scan(Input { data, size });
        for hit in &report.hits {
            tell(place, hit, out);
        }
        let why = report.incomplete.iter().map(|why| match why {
            Incomplete::Cut => Cow::Owned(format!(
                "longer than maxContent ({} bytes)",
                self.max_content
            )),
            Incomplete::Steps => "its rules asked for more steps than they may take".into(),
            Incomplete::Matches => "its strings were found more often than counts".into(),
        });
        let why: Vec<Cow<'_, str>> = why.collect();
        (!why.is_empty()).then(|| why.join("; "))
    }

    fn judge_hashes(&self, place: Place<'_>, digests: &Digests, size: u64, out: &mut Findings) {
        for (list, hashes) in &self.lists {
            for name in hashes.find(digests, size) {
                let message = format!("known as {name}");
                let rule = hash_id(list);
                let finding = out.file(place.file, &rule).severity(Severity::High);
                let finding = finding.message(message).evidence("name", name);
                let finding = match place.member {
                    Some(member) => finding.evidence("member", member),
                    None => finding,
                };
                finding.fingerprint(fingerprint(&[name, place.member.unwrap_or_default()]));
            }
        }
    }
}

fn tell_left_out(source: &Source, left_out: &[yara::Error]) {
    if let Some(first) = left_out.first() {
        bulkhead_sdk::warn!(
            "{} lines of {} are left out, the first at {first}",
            left_out.len(),
            source.name
        );
    }
}

fn hash_id(list: &str) -> String {
    format!("hash.{list}")
}

/// As evidence names a member.
fn within(name: &str, path: &[String]) -> String {
    format!("{name}!{}", path.join("!"))
}

/// What keeps findings of one rule and file apart, and stays: it must not be long.
fn fingerprint(parts: &[&str]) -> String {
    if parts.iter().all(|part| part.is_empty()) {
        return String::new();
    }
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    crate::integrity::hex(&digest.finalize()[..16])
}

fn of_file(file: &File<'_>) -> Digests {
    Digests {
        md5: file.md5().copied(),
        sha1: file.sha1().copied(),
        sha256: file.sha256().copied(),
    }
}

fn of_content(data: &[u8], [md5, sha1, sha256]: [bool; 3]) -> Digests {
    Digests {
        md5: md5.then(|| Md5::digest(data).into()),
        sha1: sha1.then(|| Sha1::digest(data).into()),
        sha256: sha256.then(|| Sha256::digest(data).into()),
    }
}

/// A trouble, with the limit that was reached.
fn said(trouble: Trouble, limits: &archive::Limits) -> String {
    match trouble {
        Trouble::TooDeep => format!("{trouble} (archives.depth is {})", limits.depth),
        Trouble::TooLarge => format!("{trouble} (archives.maxUnpacked is {})", limits.unpacked),
        Trouble::TooMany => format!("{trouble} (archives.maxMembers is {})", limits.members),
        Trouble::Bomb => format!("{trouble} (archives.maxRatio is {})", limits.ratio),
        Trouble::Damaged | Trouble::Encrypted | Trouble::Unsupported => trouble.to_string(),
    }
}

fn incomplete(file: &File<'_>, troubles: &[(String, String)], out: &mut Findings) {
    let say = |(path, why): &(String, String)| match path.as_str() {
        "" => why.clone(),
        path => format!("{path}: {why}"),
    };
    let Some(first) = troubles.first().map(say) else {
        return;
    };
    let message = match troubles.len() {
        1 => first,
        more => format!("{first}; and {} more", more - 1),
    };
    let mut reached = troubles
        .iter()
        .take(16)
        .map(say)
        .collect::<Vec<_>>()
        .join("\n");
    reached.truncate(reached.floor_char_boundary(1500));
    out.file(file, INCOMPLETE)
        .severity(Severity::Info)
        .message(message)
        .evidence("reached", reached);
}

/// At most 128 bytes, without control characters.
fn id(rule: &yara::Rule) -> String {
    let id = format!("{}.{}", rule.namespace, rule.name).replace(char::is_control, "_");
    id[..id.floor_char_boundary(128)].to_owned()
}

fn text<'r>(rule: &'r yara::Rule, name: &str) -> Option<&'r str> {
    let mut meta = rule.meta.iter();
    meta.find_map(|(key, value)| match value {
        Meta::Text(text) if key == name => Some(text.as_str()),
        _ => None,
    })
}

fn severity(rule: &yara::Rule) -> Severity {
    match text(rule, "severity") {
        Some("info") => Severity::Info,
        Some("low") => Severity::Low,
        Some("high") => Severity::High,
        Some("critical") => Severity::Critical,
        _ => Severity::Medium,
    }
}

fn describe(rule: &yara::Rule) -> Rule {
    let title = text(rule, "description").unwrap_or(&rule.name);
    let title = title.replace(char::is_control, " ");
    let described = Rule::new(&id(rule), &title[..title.floor_char_boundary(256)]);
    let described = described.severity(severity(rule));
    match text(rule, "reference") {
        Some(address)
            if (1..=512).contains(&address.len()) && !address.contains(char::is_control) =>
        {
            described.reference(address)
        }
        _ => described,
    }
}

fn tell(place: Place<'_>, hit: &Hit<'_>, out: &mut Findings) {
    let first = hit.strings.iter().filter_map(|(name, matches)| {
        let first = matches.first()?;
        Some(format!("${name} at {}", first.offset))
    });
    let found: Vec<String> = first.take(16).collect();
    let mut finding = out
        .file(place.file, &id(hit.rule))
        .severity(severity(hit.rule))
        .message(text(hit.rule, "description").unwrap_or(&hit.rule.name));
    if let Some(member) = place.member {
        finding = finding
            .evidence("member", member)
            .fingerprint(fingerprint(&[member]));
    }
    if !found.is_empty() {
        finding = finding.evidence("strings", found.join(", "));
    }
    if !hit.rule.tags.is_empty() {
        finding.evidence("tags", hit.rule.tags.join(" "));
    }
}

#[cfg(test)]
#[path = "signatures_tests.rs"]
mod tests;
