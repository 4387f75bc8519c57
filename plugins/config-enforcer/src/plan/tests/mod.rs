//! Plans for nodes made up.

mod files;
mod many;
mod order;
mod system;

use bulkhead_sdk::testing::{Harness, Node, Planned, Verdict};
use serde_json::{Value, json};

use crate::ConfigEnforcer;

struct Test {
    plugin: Harness<ConfigEnforcer>,
    node: Node,
}

fn test(config: Value, node: Node) -> Test {
    let plugin = Harness::new(&config.to_string()).unwrap();
    Test { plugin, node }
}

fn one(resource: Value, node: Node) -> Test {
    let mut resource = resource;
    resource["id"] = "r".into();
    test(json!({ "resources": [resource] }), node)
}

impl Test {
    fn plan(&mut self) -> Planned {
        self.plugin.plan(&self.node).unwrap()
    }

    /// Plans and applies; then nothing is left to do, and the rules hold.
    fn converge(&mut self) -> Planned {
        let planned = self.plan();
        self.node.apply(&planned).unwrap();
        let again = self.plan();
        assert_eq!(again.ids(), Vec::<&str>::new());
        for rule in again.rules() {
            let verdict = again.verdict(&rule.id);
            let held = matches!(verdict, Some(Verdict::Pass | Verdict::NotApplicable));
            assert!(
                held,
                "{}: {verdict:?}: {}",
                rule.id,
                again.message(&rule.id)
            );
        }
        planned
    }

    /// The one rule's verdict and message, on a node where nothing is to be changed.
    fn verdict(&mut self) -> (Verdict, String) {
        let planned = self.plan();
        assert_eq!(planned.ids(), Vec::<&str>::new());
        (
            planned.verdict("r").unwrap(),
            planned.message("r").to_owned(),
        )
    }
}

fn etc() -> Node {
    Node::new()
        .directory("/etc")
        .user("app", 1000)
        .group("shadow", 42)
}
