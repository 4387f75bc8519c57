//! From a ConfigMap as the API server gives it to a manifest. Its label was asked for already, and
//! its keys cannot be doubled; places are those in the text of `plugin.yaml`.

use std::collections::BTreeMap;

use super::configmap::{KEY, LABEL};
use super::declared::{Document, Manifest, Origin};
use super::error::Problem;
use super::identity::Identity;
use super::places::Places;
use super::plugin_text::PluginText;
use super::spec::Module;

/// Reads a labelled ConfigMap's `data` and `binaryData`.
pub fn read_object(
    identity: Identity,
    data: &BTreeMap<String, String>,
    binary_data: BTreeMap<String, Vec<u8>>,
) -> Document {
    let origin = Origin::config_map(&identity);
    let outer = Places::default();
    let refused = |identity, errors| Document::Refused {
        identity: Some(identity),
        errors,
    };
    let Some(text) = data.get(KEY) else {
        let problem = Problem::invalid(
            "data",
            format!("has the label {LABEL}, but no key {KEY}"),
            format!("add `{KEY}: |` to `data`, and the plugin below it"),
        );
        let errors = vec![outer.error(origin.name(), problem)];
        return refused(identity, errors);
    };
    let text = PluginText {
        text,
        file: origin.name(),
        mapping: None,
        outer: &outer,
    };
    match text.read(&binary_data) {
        Ok((spec, places)) => {
            if let Module::File { path, .. } = &spec.module
                && path.is_relative()
            {
                let problem = Problem::invalid(
                    "module.file.path",
                    "is relative, and a ConfigMap of the cluster lies in no folder",
                    "write an absolute path on the node, or use `module.configMapParts`",
                );
                let errors = vec![places.error(origin.name(), problem)];
                return refused(identity, errors);
            }
            let manifest = Manifest::new(identity, origin, spec, binary_data, places);
            Document::Manifest(Box::new(manifest))
        }
        Err(errors) => refused(identity, errors),
    }
}
