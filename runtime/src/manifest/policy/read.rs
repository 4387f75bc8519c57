//! How a policy is written: a document `kind: Policy` of the manifests' version, in a file or under the
//! key `policy.yaml` of a ConfigMap.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;

use super::{NamespacePolicy, NodeLimits, Policy, TrustedModule};
use crate::manifest::decode::decode;
use crate::manifest::error::{Error, Problem, Problems, Reason};
use crate::manifest::places::Places;
use crate::manifest::plugin_text::{API_VERSION, version, without_header};
use crate::manifest::spec::DestinationKind;
use crate::manifest::yaml::{self, Malformed};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    /// The most that any plugin may ask for.
    limits: NodeLimits,
    /// Which namespaces may declare plugins, and with what.
    namespaces: BTreeMap<String, NamespacePolicy>,
    /// Modules that may have grants which are as good as root.
    allow_root_equivalent: BTreeSet<TrustedModule>,
}

impl Policy {
    /// The JSON Schema of a policy, beside `apiVersion` and `kind`.
    pub fn schema() -> Schema {
        schema_for!(Written)
    }

    /// The same policy with what `text` says in it; `name` is what messages call it.
    ///
    /// # Errors
    /// Everything that is wrong with the text. Nothing of it holds then.
    pub fn with(&self, name: &Path, text: &str) -> Result<Self, Vec<Error>> {
        let nowhere = Places::default();
        let fail = |problem: Problem| vec![nowhere.error(name, problem)];
        let documents = yaml::documents(text).map_err(|Malformed { at, problem }| {
            fail(
                Problem::invalid(
                    "",
                    format!("is not YAML, or was cut off: {problem}"),
                    "correct it there or just above",
                )
                .because(Reason::Syntax)
                .at(at),
            )
        })?;
        let [root] = documents.as_slice() else {
            return Err(fail(Problem::invalid(
                "",
                "is not one document",
                format!("write one policy, which begins with `apiVersion: {API_VERSION}`"),
            )));
        };
        let places = Places::of(root, None);
        let locate = |problem| places.error(name, problem);
        version(root, "Policy").map_err(|problem| vec![locate(problem)])?;
        let problems = Problems::default();
        let written: Option<Written> = decode(&without_header(root), &problems);
        if let Some(written) = &written {
            written.validate(&problems);
        }
        match written {
            Some(written) if problems.is_empty() => Ok(Self {
                limits: written.limits,
                namespaces: written.namespaces,
                allow_root_equivalent: written.allow_root_equivalent,
                home: self.home.clone(),
                private_folders: self.private_folders.clone(),
                broken: None,
            }),
            _ => Err(problems.into_vec().into_iter().map(locate).collect()),
        }
    }

    /// The same node when its policy cannot be read: nobody may declare anything.
    pub fn shut(&self, why: &[Error]) -> Self {
        let why: Vec<String> = why.iter().map(ToString::to_string).collect();
        Self {
            broken: Some(why.join("\n")),
            ..self.clone()
        }
    }
}

impl Written {
    fn validate(&self, problems: &Problems) {
        for (namespace, policy) in &self.namespaces {
            let field = |name: &str| {
                let mut field = "namespaces".to_owned();
                yaml::push_key(&mut field, namespace);
                format!("{field}.{name}")
            };
            if policy.all_grants && policy.grants != super::Allowance::default() {
                problems.push(Problem::invalid(
                    field("grants"),
                    "stands beside `allGrants: true`, which has them all",
                    "keep one of them",
                ));
            }
            for (i, folder) in policy.grants.files.iter().enumerate() {
                if folder.host.is_relative() {
                    problems.push(Problem::invalid(
                        field(&format!("grants.files[{i}].host")),
                        "is no absolute path",
                        "begin with /",
                    ));
                }
            }
            let logs = policy.grants.logs.as_ref();
            let kinds = logs.and_then(|logs| logs.destinations.as_ref());
            for kind in kinds.into_iter().flatten() {
                if !DestinationKind::NAMES.contains(&kind.as_str()) {
                    problems.push(Problem::invalid(
                        field("grants.logs.destinations"),
                        format!("{kind:?} is no kind of destination"),
                        format!("the kinds are {}", DestinationKind::NAMES.join(", ")),
                    ));
                }
            }
        }
    }
}
