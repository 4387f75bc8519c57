//! From a file's bytes to manifests: finds the ConfigMaps that declare plugins among its documents,
//! and reads each as far as it can be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::decode::{choices, decode, doubled_keys};
use super::error::{Error, Position, Problem, Problems, Reason, quoted};
use super::identity::{Identity, LOCAL_NAMESPACE};
use super::spec::{Module, Plugin};
use super::validate::validate;
use super::yaml::{self, Kind, Malformed, Node, Style};

/// The label that makes a ConfigMap a plugin's manifest.
pub const LABEL: &str = "bulkhead.dev/plugin";
/// The key of the ConfigMap's `data` that holds the plugin.
pub const KEY: &str = "plugin.yaml";
/// The version that this daemon knows.
pub const API_VERSION: &str = "bulkhead.dev/v1alpha1";
/// A file longer than this is not read: a ConfigMap has at most 1 MiB.
pub const MAX_FILE_BYTES: usize = 3 << 20;

/// Where a manifest was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// Which document of the file, from 0.
    pub document: usize,
}

/// A plugin as its owner declared it, checked in itself but not against a policy.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Namespace and name.
    pub identity: Identity,
    /// Where it was read.
    pub origin: Origin,
    /// What it says.
    pub spec: Plugin,
    /// SHA-256 over what it means: defaults filled in, keys in order, no comments, and the module's
    /// bytes if they are in it. Two manifests with one digest need no update between them.
    pub digest: [u8; 32],
    /// Base64 by key, without white space; known to be sound.
    binary_data: BTreeMap<String, String>,
    places: Places,
}

impl PartialEq for Manifest {
    /// Same identity, meaning and origin: a comment or a moved line makes no difference.
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.digest == other.digest
            && self.origin == other.origin
    }
}

impl Manifest {
    /// The bytes of a key of `binaryData`; nothing if there is no such key. Decoded at each call.
    pub fn binary(&self, key: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.binary_data.get(key)?).ok()
    }

    /// The digest in hexadecimal.
    pub fn digest_hex(&self) -> String {
        use std::fmt::Write as _;
        self.digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The module's file, if that is where it comes from; a relative path starts at the manifest's
    /// folder.
    pub fn module_file(&self) -> Option<PathBuf> {
        let Module::File { path, .. } = &self.spec.module else {
            return None;
        };
        let folder = self.origin.file.parent().unwrap_or(Path::new("/"));
        Some(folder.join(path))
    }

    /// An error about a field of this manifest, with its place in the file: for refusals by those who
    /// know more than the manifest says (a plugin's schema, a module's digest).
    pub fn refuse(
        &self,
        reason: Reason,
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        self.error(Problem::invalid(field, problem, remedy).because(reason))
    }

    pub(super) fn error(&self, problem: Problem) -> Error {
        self.places.error(&self.origin.file, problem)
    }
}

/// What one document of a file turned out to be.
#[derive(Debug)]
pub enum Document {
    /// A manifest without fault.
    Manifest(Box<Manifest>),
    /// Meant as a manifest, and refused. Every error there is, at least one.
    Refused {
        /// Whose it is, if that could be read.
        identity: Option<Identity>,
        /// What is wrong.
        errors: Vec<Error>,
    },
    /// Something else, such as a Service.
    Ignored {
        /// What it is, for a debug log.
        note: String,
        /// Set if it looks like a manifest that somebody forgot to label.
        hint: Option<Error>,
        /// Whether its label says `"false"`: somebody took it out knowingly.
        dismissed: bool,
    },
}

/// Reads a file's documents. An empty or malformed file is one refused document.
pub fn read(file: &Path, bytes: &[u8]) -> Vec<Document> {
    let refused = |reason, position, problem: String, remedy: &str| {
        vec![Document::Refused {
            identity: None,
            errors: vec![Error {
                file: file.to_owned(),
                position,
                reason,
                field: String::new(),
                problem,
                remedy: remedy.to_owned(),
            }],
        }]
    };
    if bytes.len() > MAX_FILE_BYTES {
        return refused(
            Reason::Unreadable,
            None,
            format!(
                "has {} bytes, and at most {MAX_FILE_BYTES} are read",
                bytes.len()
            ),
            "keep the module in a file of its own and name it with `module.file`",
        );
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = bytes[..error.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            let at = Position {
                line: u32::try_from(line + 1).unwrap_or(u32::MAX),
                column: 1,
            };
            return refused(
                Reason::Syntax,
                Some(at),
                "is not UTF-8".to_owned(),
                "save it as UTF-8",
            );
        }
    };
    let documents = match yaml::documents(text) {
        Ok(documents) => documents,
        Err(Malformed { at, problem }) => {
            return refused(
                Reason::Syntax,
                Some(at),
                format!("is not YAML, or was cut off: {problem}"),
                "correct it there or just above",
            );
        }
    };
    if documents.iter().all(Node::is_null) {
        return refused(
            Reason::Syntax,
            None,
            "is empty".to_owned(),
            "write a ConfigMap into it, or delete it",
        );
    }
    documents
        .iter()
        .enumerate()
        .filter(|(_, node)| !node.is_null())
        .map(|(document, node)| {
            let origin = Origin {
                file: file.to_owned(),
                document,
            };
            read_document(origin, node, text)
        })
        .collect()
}

fn read_document(origin: Origin, node: &Node, text: &str) -> Document {
    let ignored = |note: String| Document::Ignored {
        note,
        hint: None,
        dismissed: false,
    };
    let word = |key| node.get(key).and_then(Node::text).unwrap_or("nothing");
    if word("kind") != "ConfigMap" || word("apiVersion") != "v1" {
        return ignored(format!(
            "apiVersion {}, kind {} is no ConfigMap",
            quoted(word("apiVersion")),
            quoted(word("kind"))
        ));
    }
    let outer = Outer {
        node,
        places: Places::of(node, None),
        file: &origin.file,
    };
    let plugin = node.get("data").and_then(|data| data.get(KEY));
    let label = node
        .get("metadata")
        .and_then(|metadata| metadata.get("labels"))
        .and_then(|labels| labels.get(LABEL));
    match label.map(|label| (label.text().unwrap_or(""), &label.kind)) {
        Some(("true", Kind::Scalar { style, .. })) => {
            let bare = *style == Style::Plain;
            outer.read(origin.clone(), plugin, bare, text)
        }
        Some(("false", _)) => Document::Ignored {
            note: format!("the label {LABEL} is false"),
            hint: None,
            dismissed: true,
        },
        _ if plugin.is_none() => ignored(format!("a ConfigMap without the label {LABEL}")),
        _ => Document::Ignored {
            note: format!("a ConfigMap with {KEY}, but without the label {LABEL}"),
            dismissed: false,
            hint: Some(outer.places.error(
                outer.file,
                Problem::invalid(
                    "metadata.labels",
                    format!("has a {KEY}, but not the label that makes it a plugin"),
                    format!("add `{LABEL}: \"true\"`, or \"false\" to leave it out knowingly"),
                ),
            )),
        },
    }
}

/// A labelled ConfigMap.
struct Outer<'a> {
    node: &'a Node,
    places: Places,
    file: &'a Path,
}

impl Outer<'_> {
    fn read(
        &self,
        origin: Origin,
        plugin: Option<&Node>,
        bare_label: bool,
        text: &str,
    ) -> Document {
        let problems = Problems::default();
        doubled_keys(self.node, &problems);
        if bare_label {
            problems.push(Problem::invalid(
                format!("metadata.labels[{LABEL:?}]"),
                "a label's value is text, and a bare true is not",
                format!("write `{LABEL}: \"true\"`, with quotes"),
            ));
        }
        let identity = self.identity(&problems);
        let binary_data = self.binary_data(&problems);
        if plugin.is_none() {
            problems.push(Problem::invalid(
                "data",
                format!("has the label {LABEL}, but no key {KEY}"),
                format!("add `{KEY}: |` to `data`, and the plugin below it"),
            ));
        }
        let mut errors: Vec<Error> = problems
            .into_vec()
            .into_iter()
            .map(|problem| self.places.error(self.file, problem))
            .collect();

        let mut read = None;
        if let Some(node) = plugin {
            match self.plugin(node, text, &binary_data) {
                Ok(found) => read = Some(found),
                Err(found) => errors.extend(found),
            }
        }
        match (identity, read) {
            (Some(identity), Some((spec, places))) if errors.is_empty() => {
                let digest = digest(&identity, &spec, &binary_data);
                Document::Manifest(Box::new(Manifest {
                    identity,
                    origin,
                    spec,
                    digest,
                    binary_data,
                    places,
                }))
            }
            (identity, _) => Document::Refused { identity, errors },
        }
    }

    fn identity(&self, problems: &Problems) -> Option<Identity> {
        let metadata = self.node.get("metadata");
        let word = |key| metadata.and_then(|m| m.get(key)).and_then(Node::text);
        let Some(name) = word("name") else {
            problems.push(Problem::invalid("metadata", "has no `name`", "add `name:`"));
            return None;
        };
        let namespace = word("namespace").unwrap_or(LOCAL_NAMESPACE);
        match Identity::new(namespace, name) {
            Ok(identity) => Some(identity),
            Err(error) => {
                let field = match error {
                    super::identity::IdentityError::Namespace(_) => "metadata.namespace",
                    super::identity::IdentityError::Name(_) => "metadata.name",
                };
                problems.push(Problem::invalid(
                    field,
                    error.to_string(),
                    "write a name such as log-shipper",
                ));
                None
            }
        }
    }

    /// The base64 texts, without white space. The bytes are decoded once to see that they are sound,
    /// and not kept.
    fn binary_data(&self, problems: &Problems) -> BTreeMap<String, String> {
        let entries = self.node.get("binaryData").map_or(&[][..], Node::entries);
        let mut binary_data = BTreeMap::new();
        for (key, node) in entries {
            let mut field = "binaryData".to_owned();
            yaml::push_key(&mut field, &key.text);
            let text: String = match &node.kind {
                Kind::Scalar { text, .. } => {
                    text.chars().filter(|c| !c.is_ascii_whitespace()).collect()
                }
                _ => String::new(),
            };
            if text.is_empty() {
                problems.push(Problem::invalid(
                    field,
                    "is empty",
                    "write the bytes in base64",
                ));
            } else if let Err(error) = STANDARD.decode(&text) {
                problems.push(Problem::invalid(
                    field,
                    format!("is not base64, or was cut off: {error}"),
                    "write what `base64 -w0 FILE` prints",
                ));
            }
            // Kept even if it is broken: then the key at least exists.
            binary_data.insert(key.text.to_string(), text);
        }
        binary_data
    }

    fn plugin(
        &self,
        node: &Node,
        text: &str,
        binary_data: &BTreeMap<String, String>,
    ) -> Result<(Plugin, Places), Vec<Error>> {
        let mut field = "data".to_owned();
        yaml::push_key(&mut field, KEY);
        let fail = |problem: Problem| vec![self.places.error(self.file, problem)];
        let Kind::Scalar { text: inner, .. } = &node.kind else {
            return Err(fail(Problem::invalid(
                field,
                "is not text",
                format!("write `{KEY}: |` with a bar, so that what follows is one text"),
            )));
        };
        let mapping = Mapping::of(node, inner, text);
        let documents = yaml::documents(inner).map_err(|Malformed { at, problem }| {
            fail(
                Problem::invalid(
                    &field,
                    format!("is not YAML, or was cut off: {problem}"),
                    "correct it there or just above",
                )
                .because(Reason::Syntax)
                .at(mapping.outer(at)),
            )
        })?;
        let root = match documents.as_slice() {
            [root] if !root.is_null() => root,
            [] | [_] => {
                return Err(fail(Problem::invalid(
                    field,
                    "is empty",
                    format!("begin with `apiVersion: {API_VERSION}`"),
                )));
            }
            _ => {
                return Err(fail(Problem::invalid(
                    field,
                    "has several documents",
                    "write one plugin a ConfigMap",
                )));
            }
        };
        let places = Places::of(root, Some(&mapping));
        let locate = |problem: Problem| {
            let at = problem.at.map(|at| mapping.outer(at));
            places.error(self.file, Problem { at, ..problem })
        };
        // The version first: every other complaint would be about another language.
        version(root).map_err(|problem| vec![locate(problem)])?;

        let problems = Problems::default();
        let spec: Option<Plugin> = decode(&without_header(root), &problems);
        if let Some(spec) = &spec {
            validate(spec, binary_data, &problems);
        }
        match spec {
            Some(spec) if problems.is_empty() => Ok((spec, places)),
            _ => Err(problems
                .into_vec()
                .into_iter()
                .map(|problem| locate(explain(problem)))
                .collect()),
        }
    }
}

fn version(root: &Node) -> Result<(), Problem> {
    let unsupported = |field: &str, problem: String, remedy: String| {
        Err(Problem::invalid(field, problem, remedy).because(Reason::UnsupportedVersion))
    };
    for (field, known) in [("apiVersion", API_VERSION), ("kind", "Plugin")] {
        match root.get(field).and_then(Node::text) {
            Some(found) if found == known => {}
            Some(found) => {
                return unsupported(
                    field,
                    format!("{} is not known", quoted(found)),
                    format!("this daemon knows `{field}: {known}`"),
                );
            }
            None => {
                return unsupported(
                    "",
                    format!("{KEY} has no `{field}`"),
                    format!("begin with `{field}: {known}`"),
                );
            }
        }
    }
    Ok(())
}

/// The same tree without what names its version.
fn without_header(root: &Node) -> Node {
    let entries = root
        .entries()
        .iter()
        .filter(|(key, _)| !matches!(&*key.text, "apiVersion" | "kind"))
        .cloned()
        .collect();
    Node {
        at: root.at,
        kind: Kind::Mapping(entries),
    }
}

/// Says more about fields that people expect.
fn explain(problem: Problem) -> Problem {
    if problem.reason != Reason::UnknownField {
        return problem;
    }
    match problem.field.as_str() {
        "spec" => Problem {
            remedy: "remove this line: its fields stand at the top level".to_owned(),
            ..problem
        },
        role @ ("metrics" | "enforcement" | "scanning" | "roles" | "role") => Problem {
            problem: format!("`{role}` is no role that this daemon knows"),
            remedy: choices("role sections", "", &["logs"]),
            ..problem
        },
        _ => problem,
    }
}

/// Where each field of a document was written, in the outer file.
#[derive(Debug, Clone, Default)]
struct Places(BTreeMap<String, Position>);

impl Places {
    fn of(node: &Node, mapping: Option<&Mapping>) -> Self {
        let mut places = BTreeMap::new();
        node.walk(&mut String::new(), &mut |path, node| {
            // What a plugin's own configuration holds is the plugin's affair; its root is enough.
            if places.len() < 2048 && !path.starts_with("config.") && !path.starts_with("config[") {
                let at = mapping.map_or(node.at, |mapping| mapping.outer(node.at));
                places.entry(path.to_owned()).or_insert(at);
            }
        });
        Self(places)
    }

    /// The place of the field, or of the nearest one around it.
    fn find(&self, field: &str) -> Option<Position> {
        let mut field = field;
        loop {
            if let Some(at) = self.0.get(field) {
                return Some(*at);
            }
            if field.is_empty() {
                return None;
            }
            field = &field[..field.rfind(['.', '[']).unwrap_or(0)];
        }
    }

    fn error(&self, file: &Path, problem: Problem) -> Error {
        Error {
            file: file.to_owned(),
            position: problem.at.or_else(|| self.find(&problem.field)),
            reason: problem.reason,
            field: problem.field,
            problem: problem.problem,
            remedy: problem.remedy,
        }
    }
}

/// From places inside a text to places in the file that holds it.
struct Mapping {
    /// Where the text stands, for texts whose lines are not lines of the file.
    start: Position,
    /// For a block after `|`: the file's line before its first, and how far each line is indented.
    block: Option<(u32, Vec<u32>)>,
}

impl Mapping {
    fn of(node: &Node, inner: &str, outer: &str) -> Self {
        let start = node.at;
        let literal = matches!(
            &node.kind,
            Kind::Scalar {
                style: Style::Literal,
                ..
            }
        );
        // The parser may place a block at its bar or at its first line: see which one fits.
        let block = literal
            .then(|| {
                (start.line.saturating_sub(1)..=start.line).find_map(|before| {
                    let lines = outer.lines().skip(before as usize);
                    let indents: Option<Vec<u32>> = inner
                        .lines()
                        .zip(lines)
                        .map(|(inner, outer)| {
                            let indent = outer.strip_suffix(inner)?;
                            let blank = indent.bytes().all(|b| b == b' ');
                            blank.then(|| u32::try_from(indent.len()).unwrap_or(u32::MAX))
                        })
                        .collect();
                    let indents = indents?;
                    (indents.len() == inner.lines().count()).then_some((before, indents))
                })
            })
            .flatten();
        Self { start, block }
    }

    fn outer(&self, at: Position) -> Position {
        let Some((before, indents)) = &self.block else {
            return self.start;
        };
        let index = (at.line as usize).saturating_sub(1);
        let indent = indents.get(index).or(indents.last()).copied().unwrap_or(0);
        Position {
            line: before.saturating_add(at.line),
            column: indent.saturating_add(at.column),
        }
    }
}

/// SHA-256 over what a manifest means.
fn digest(identity: &Identity, spec: &Plugin, binary_data: &BTreeMap<String, String>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(identity.to_string());
    // Types whose serialization cannot fail: text keys, and no foreign code.
    let value = serde_json::to_value(spec).unwrap_or_default();
    hash_value(&value, &mut hash);
    if let Module::BinaryData { key, .. } = &spec.module
        && let Some(text) = binary_data.get(key)
    {
        hash.update(text);
    }
    hash.finalize().into()
}

/// Hashes a value so that the order of keys makes no difference and no two values look alike.
fn hash_value(value: &serde_json::Value, hash: &mut Sha256) {
    use serde_json::Value;
    let length = |hash: &mut Sha256, kind: u8, n: usize| {
        hash.update([kind]);
        hash.update((n as u64).to_le_bytes());
    };
    match value {
        Value::Object(members) => {
            length(hash, b'{', members.len());
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            for (key, value) in members {
                length(hash, b'k', key.len());
                hash.update(key);
                hash_value(value, hash);
            }
        }
        Value::Array(items) => {
            length(hash, b'[', items.len());
            items.iter().for_each(|item| hash_value(item, hash));
        }
        Value::String(text) => {
            length(hash, b'"', text.len());
            hash.update(text);
        }
        scalar => {
            let text = scalar.to_string();
            length(hash, b'#', text.len());
            hash.update(text);
        }
    }
}
