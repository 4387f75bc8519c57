//! The plugin: rules from its configuration, files of the node in, findings out.

use bulkhead_sdk::scanning::{Batch, File, FileInterest, FileKind, Findings, Outline, Severity};
use bulkhead_sdk::{Context, Error, Plugin, Result, Scanning};

use crate::yara::{Compiler, Incomplete, Input, Limits, Meta, Rules, Scanner};

/// What of a file is looked at unless the configuration says otherwise.
const MAX_CONTENT: u64 = 16 << 20;

/// What is looked for.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Rules in the language of YARA.
    yara: Vec<Source>,
    /// ClamAV's signatures of content (`.ndb`).
    ndb: Vec<Source>,
    /// Bytes of each file that are looked at; longer files are cut, and the rest is not judged.
    max_content: Option<u64>,
}

/// A text of rules, by name: here, or in a file below a folder that the manifest grants (`grants.files`).
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// What findings call it; rules of one text see each other.
    name: String,
    /// The text itself.
    #[serde(default)]
    text: Option<String>,
    /// The path of its file, as the plugin sees it.
    #[serde(default)]
    file: Option<String>,
}

impl Source {
    fn read(&self, field: &str) -> Result<String> {
        match (&self.text, &self.file) {
            (Some(text), None) => Ok(text.clone()),
            (None, Some(path)) => std::fs::read_to_string(path)
                .context(format!(
                    "{path} cannot be read; grant its folder: grants.files"
                ))
                .map_err(|error| error.at(field)),
            _ => Err(Error::new("needs either text or file").at(field)),
        }
    }
}

/// See the crate.
#[derive(Debug)]
pub struct SecurityScanner {
    scanner: Scanner<'static>,
    rules: &'static Rules,
    rule_set: Vec<String>,
    max_content: u64,
    /// What there is so far of a file that comes in several batches.
    begun: Vec<u8>,
}

impl Plugin for SecurityScanner {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let mut compiler = Compiler::default();
        let max_content = config.max_content.unwrap_or(MAX_CONTENT);
        let mut rule_set = vec![max_content.to_string()];
        for (i, source) in config.yara.iter().enumerate() {
            let field = format!("yara[{i}]");
            let text = source.read(&field)?;
            let added = compiler.yara(&source.name, &text);
            added.map_err(|error| Error::new(format!("{}:{error}", source.name)).at(field))?;
            rule_set.push(text);
        }
        for (i, source) in config.ndb.iter().enumerate() {
            let text = source.read(&format!("ndb[{i}]"))?;
            let left_out = compiler.ndb(&source.name, &text);
            if let Some(first) = left_out.first() {
                bulkhead_sdk::warn!(
                    "{} of the signatures {} are left out, the first at {first}",
                    left_out.len(),
                    source.name
                );
            }
            rule_set.push(text);
        }
        // There is one plugin in a component, and its rules live as long.
        let rules: &'static Rules = Box::leak(Box::new(compiler.finish()));
        Ok(Self {
            scanner: Scanner::new(rules, Limits::default()),
            rules,
            rule_set,
            max_content,
            begun: Vec::new(),
        })
    }
}

impl Scanning for SecurityScanner {
    fn outline(&mut self) -> Result<Outline> {
        let mut outline = Outline::new();
        for rule in self.rules.rules().iter().filter(|rule| !rule.private) {
            outline.rule(describe(rule));
        }
        outline.rule(
            bulkhead_sdk::scanning::Rule::new(INCOMPLETE, "A file was not judged as a whole")
                .severity(Severity::Info)
                .rationale(
                    "It is longer than maxContent, or asked for more work than one file may be.",
                ),
        );
        outline.files(FileInterest::content(self.max_content));
        for part in &self.rule_set {
            outline.rule_set(part);
        }
        Ok(outline)
    }

    fn scan(&mut self, batch: &Batch, out: &mut Findings) -> Result<()> {
        for file in batch {
            if file.kind() != FileKind::File {
                continue;
            }
            match file.whole() {
                Some(content) => judge(&mut self.scanner, &file, content, out),
                None => {
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
                        judge(&mut self.scanner, &file, &content, out);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The rule of files that were not looked at as a whole.
const INCOMPLETE: &str = "scanner.incomplete";

fn id(rule: &crate::yara::Rule) -> String {
    format!("{}.{}", rule.namespace, rule.name)
}

fn text<'r>(rule: &'r crate::yara::Rule, name: &str) -> Option<&'r str> {
    let mut meta = rule.meta.iter();
    meta.find_map(|(key, value)| match value {
        Meta::Text(text) if key == name => Some(text.as_str()),
        _ => None,
    })
}

fn severity(rule: &crate::yara::Rule) -> Severity {
    match text(rule, "severity") {
        Some("info") => Severity::Info,
        Some("low") => Severity::Low,
        Some("high") => Severity::High,
        Some("critical") => Severity::Critical,
        _ => Severity::Medium,
    }
}

fn describe(rule: &crate::yara::Rule) -> bulkhead_sdk::scanning::Rule {
    let title = text(rule, "description").unwrap_or(&rule.name);
    let described = bulkhead_sdk::scanning::Rule::new(&id(rule), title).severity(severity(rule));
    match text(rule, "reference") {
        Some(address) => described.reference(address),
        None => described,
    }
}

fn judge(scanner: &mut Scanner<'static>, file: &File<'_>, content: &[u8], out: &mut Findings) {
    let report = scanner.scan(Input {
        data: content,
        size: file.size(),
    });
    for hit in report.hits {
        let first = hit.strings.iter().filter_map(|(name, matches)| {
            let first = matches.first()?;
            Some(format!("${name} at {}", first.offset))
        });
        let found: Vec<String> = first.take(16).collect();
        let mut finding = out
            .file(file, &id(hit.rule))
            .severity(severity(hit.rule))
            .message(text(hit.rule, "description").unwrap_or(&hit.rule.name));
        if !found.is_empty() {
            finding = finding.evidence("strings", found.join(", "));
        }
        if !hit.rule.tags.is_empty() {
            finding.evidence("tags", hit.rule.tags.join(" "));
        }
    }
    if !report.incomplete.is_empty() {
        let why = report.incomplete.iter().map(|why| match why {
            Incomplete::Cut => "it is longer than maxContent",
            Incomplete::Steps => "its rules asked for more steps than they may take",
            Incomplete::Matches => "its strings were found more often than counts",
        });
        let why: Vec<&str> = why.collect();
        out.file(file, INCOMPLETE)
            .severity(Severity::Info)
            .message(why.join("; "));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bulkhead_sdk::testing::{Harness, Node};

    use super::*;

    const RULES: &str = r#"{"yara": [{"name": "test", "text": "rule eicar : malware { meta: description = \"the test file\" severity = \"high\" strings: $a = \"EICAR-STANDARD\" condition: $a }"}]}"#;

    #[test]
    fn files_are_judged_by_the_rules_of_the_configuration() {
        let mut plugin = Harness::<SecurityScanner>::new(RULES).unwrap();
        let node = Node::new()
            .file("/tmp/bad", "x EICAR-STANDARD x")
            .file("/tmp/good", "nothing");
        let found = plugin.scan(&node).unwrap();
        assert_eq!(found.subjects("test.eicar"), ["/tmp/bad"]);
        assert_eq!(found.all()[0].evidence["strings"], "$a at 2");
        assert_eq!(found.all().len(), 1);
    }

    #[test]
    fn what_is_wrong_with_rules_is_told_with_its_place() {
        let wrong = r#"{"yara": [{"name": "test", "text": "rule a { condition: $b }"}]}"#;
        let error = Harness::<SecurityScanner>::new(wrong).unwrap_err();
        assert_eq!(error.field(), "yara[0]");
        assert!(error.to_string().contains("test:1:"), "{error}");
        let nothing = r#"{"yara": [{"name": "test"}]}"#;
        let error = Harness::<SecurityScanner>::new(nothing).unwrap_err();
        assert!(error.to_string().contains("either text or file"), "{error}");
    }
}
