//! From a file's bytes to manifests: finds the ConfigMaps that declare plugins among its documents,
//! and reads each as far as it can be read.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::declared::{Document, Manifest, Origin};
use super::decode::doubled_keys;
use super::error::{Error, Position, Problem, Problems, Reason, quoted};
use super::identity::{Identity, LOCAL_NAMESPACE};
use super::places::{Mapping, Places};
use super::plugin_text::PluginText;
use super::spec::Plugin;
use super::yaml::{self, Kind, Malformed, Node, Style};

/// The label that makes a ConfigMap a plugin's manifest.
pub const LABEL: &str = "bulkhead.dev/plugin";
/// The key of the ConfigMap's `data` that holds the plugin.
pub const KEY: &str = "plugin.yaml";
/// The version that this daemon knows.
pub const API_VERSION: &str = "bulkhead.dev/v1alpha1";
/// A file longer than this is not read: a ConfigMap has at most 1 MiB.
pub const MAX_FILE_BYTES: usize = 3 << 20;

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
            let origin = Origin::File {
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
        file: origin.name(),
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
                let manifest = Manifest::new(identity, origin, spec, binary_data, places);
                Document::Manifest(Box::new(manifest))
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

    fn binary_data(&self, problems: &Problems) -> BTreeMap<String, Vec<u8>> {
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
            let bytes = STANDARD.decode(&text).unwrap_or_else(|error| {
                problems.push(Problem::invalid(
                    &field,
                    format!("is not base64, or was cut off: {error}"),
                    "write what `base64 -w0 FILE` prints",
                ));
                Vec::new()
            });
            if text.is_empty() {
                problems.push(Problem::invalid(
                    field,
                    "is empty",
                    "write the bytes in base64",
                ));
            }
            // Kept even if it is broken: then the key at least exists.
            binary_data.insert(key.text.to_string(), bytes);
        }
        binary_data
    }

    fn plugin(
        &self,
        node: &Node,
        outer: &str,
        binary_data: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(Plugin, Places), Vec<Error>> {
        let Kind::Scalar { text, .. } = &node.kind else {
            let mut field = "data".to_owned();
            yaml::push_key(&mut field, KEY);
            let problem = Problem::invalid(
                field,
                "is not text",
                format!("write `{KEY}: |` with a bar, so that what follows is one text"),
            );
            return Err(vec![self.places.error(self.file, problem)]);
        };
        let mapping = Mapping::of(node, text, outer);
        let text = PluginText {
            text,
            file: self.file,
            mapping: Some(&mapping),
            outer: &self.places,
        };
        text.read(binary_data)
    }
}
