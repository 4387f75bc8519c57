//! What operators are shown: the page about the plugin, and the example of a manifest.

use bulkhead_sdk::__private::{Instance, enforcement::Want};
use serde_json::Value;

use crate::{ConfigEnforcer, yaml};

const PAGE: &str = include_str!("../../../docs/config-enforcer.md");
const EXAMPLE: &str = include_str!("../../../deploy/examples/config-enforcer.yaml");

fn read(text: &str) -> Value {
    yaml::parse(text).unwrap().root.unwrap().value().unwrap()
}

fn made(config: &Value) -> Instance<ConfigEnforcer> {
    let mut instance = Instance::default();
    if let Err(refusal) = instance.init(&config.to_string()) {
        panic!("{}: {}: {config}", refusal.field, refusal.message);
    }
    instance
}

#[test]
fn the_page_shows_every_kind_and_all_of_it_is_accepted() {
    let blocks = PAGE.split("```yaml\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|it| it.split("```").next().unwrap()).collect();
    let mut shown: Vec<String> = Vec::new();
    for block in &blocks {
        let config = read(block);
        made(&config);
        let resources = config["resources"].as_array().cloned().unwrap_or_default();
        shown.extend(
            resources
                .iter()
                .flat_map(|it| it.as_object().unwrap().keys().cloned()),
        );
    }
    for kind in [
        "file",
        "line",
        "setting",
        "permissions",
        "directory",
        "symlink",
        "absent",
        "sysctl",
        "kernelModule",
        "unit",
        "check",
    ] {
        assert!(shown.iter().any(|it| it == kind), "{kind}");
    }
}

#[test]
fn the_page_counts_the_rules_of_the_profiles() {
    for profile in ["host-hardening", "kubelet-hardening"] {
        let config = serde_json::json!({ "profiles": [{ "name": profile }] });
        let rules = made(&config).outline().unwrap().rules.len();
        assert!(
            PAGE.contains(&format!("`{profile}` has {rules}")),
            "{profile}: {rules}"
        );
    }
}

/// Whether a grant holds what is wanted. A component of the grant may end with `*`.
fn holds(grant: &str, wanted: &str) -> bool {
    let mut wanted = wanted.split('/');
    grant
        .split('/')
        .all(|mine| match (mine.strip_suffix('*'), wanted.next()) {
            (Some(prefix), Some(theirs)) => theirs.starts_with(prefix),
            (None, theirs) => theirs == Some(mine),
            (_, None) => false,
        })
}

#[test]
fn the_example_grants_what_it_looks_at() {
    // The manifest is a text in the ConfigMap; what reads YAML here takes no texts apart.
    let text = read(EXAMPLE)["data"]["plugin.yaml"]
        .as_str()
        .unwrap()
        .to_owned();
    let manifest = read(&text);
    let listed = |value: &Value| -> Vec<String> {
        let all = value.as_array().unwrap().iter();
        all.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let files = listed(&manifest["grants"]["nodeFiles"]);
    let settings = listed(&manifest["grants"]["changes"]["sysctls"]);
    let mut used = std::collections::BTreeSet::new();
    for want in made(&manifest["config"]).outline().unwrap().wants {
        let path = match &want {
            Want::File(file) => file.glob.clone(),
            Want::Sysctl(name) if settings.contains(name) => continue,
            Want::Sysctl(name) => format!("/proc/sys/{}", name.replace('.', "/")),
            // By `nodeFacts`.
            Want::KernelModule(_) | Want::Unit(_) => continue,
        };
        let grant = files.iter().find(|grant| holds(grant, &path));
        used.insert(
            grant
                .unwrap_or_else(|| panic!("{path} is not granted"))
                .clone(),
        );
    }
    assert_eq!(
        used.len(),
        files.len(),
        "granted, but not looked at: {:?}",
        files
            .iter()
            .filter(|it| !used.contains(*it))
            .collect::<Vec<_>>()
    );
}
