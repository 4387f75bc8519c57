//! From the text of `plugin.yaml` to a plugin, with every error there is in it.

use std::collections::BTreeMap;
use std::path::Path;

pub(super) use super::configmap::API_VERSION;
use super::configmap::KEY;
use super::decode::{choices, decode};
use super::error::{Error, Problem, Problems, Reason, quoted};
use super::places::{Mapping, Places};
use super::spec::Plugin;
use super::validate::validate;
use super::yaml::{self, Kind, Malformed, Node};

/// The text, and where it stands.
pub(super) struct PluginText<'a> {
    pub(super) text: &'a str,
    /// What messages call the file around it.
    pub(super) file: &'a Path,
    /// How places in the text are places in the file; the same unless given.
    pub(super) mapping: Option<&'a Mapping>,
    /// Errors of the text as a whole.
    pub(super) outer: &'a Places,
}

impl PluginText<'_> {
    pub(super) fn read(
        &self,
        binary_data: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(Plugin, Places), Vec<Error>> {
        let mut field = "data".to_owned();
        yaml::push_key(&mut field, KEY);
        let fail = |problem: Problem| vec![self.outer.error(self.file, problem)];
        let outer = |at| self.mapping.map_or(at, |mapping| mapping.outer(at));
        let documents = yaml::documents(self.text).map_err(|Malformed { at, problem }| {
            fail(
                Problem::invalid(
                    &field,
                    format!("is not YAML, or was cut off: {problem}"),
                    "correct it there or just above",
                )
                .because(Reason::Syntax)
                .at(outer(at)),
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
        let places = Places::of(root, self.mapping);
        let locate = |problem: Problem| {
            let at = problem.at.map(outer);
            places.error(self.file, Problem { at, ..problem })
        };
        // The version first: every other complaint would be about another language.
        version(root, "Plugin").map_err(|problem| vec![locate(problem)])?;

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

/// Whether the document says that it is of a kind and version that this daemon knows.
pub(super) fn version(root: &Node, kind: &str) -> Result<(), Problem> {
    let unsupported = |field: &str, problem: String, remedy: String| {
        Err(Problem::invalid(field, problem, remedy).because(Reason::UnsupportedVersion))
    };
    if !matches!(root.kind, Kind::Mapping(_)) {
        return Err(Problem::invalid(
            "",
            "is not a mapping of fields to values",
            format!("begin with `apiVersion: {API_VERSION}`"),
        ));
    }
    for (field, known) in [("apiVersion", API_VERSION), ("kind", kind)] {
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
                    format!("has no `{field}`"),
                    format!("begin with `{field}: {known}`"),
                );
            }
        }
    }
    Ok(())
}

/// The same tree without what names its version.
pub(super) fn without_header(root: &Node) -> Node {
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
        role @ ("roles" | "role") => Problem {
            problem: format!("`{role}` is no role that this daemon knows"),
            remedy: choices(
                "role sections",
                "",
                &["logs", "metrics", "enforcement", "scanning"],
            ),
            ..problem
        },
        _ => problem,
    }
}
