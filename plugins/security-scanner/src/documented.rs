//! What operators are shown: the page about the plugin, and the example of a manifest.

use bulkhead_sdk::__private::Instance;
use serde_json::Value;

use crate::SecurityScanner;

const PAGE: &str = include_str!("../../../docs/security-scanner.md");
const EXAMPLE: &str = include_str!("../../../deploy/examples/security-scanner.yaml");

fn accept(config: &Value) {
    let mut instance = Instance::<SecurityScanner>::default();
    if let Err(refusal) = instance.init(&config.to_string()) {
        panic!("{}: {}: {config}", refusal.field, refusal.message);
    }
}

#[test]
fn the_page_shows_every_section_and_all_of_it_is_accepted() {
    let mut shown = Vec::new();
    for block in PAGE.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let config: Value = serde_saphyr::from_str(block).unwrap();
        accept(&config);
        shown.extend(config.as_object().unwrap().keys().cloned());
    }
    assert_eq!(
        shown,
        [
            "signatures",
            "integrity",
            "permissions",
            "posture",
            "packages"
        ]
    );
}

#[test]
fn the_example_is_accepted() {
    let map: Value = serde_saphyr::from_str(EXAMPLE).unwrap();
    let manifest = map["data"]["plugin.yaml"].as_str().unwrap();
    let manifest: Value = serde_saphyr::from_str(manifest).unwrap();
    accept(&manifest["config"]);
}
