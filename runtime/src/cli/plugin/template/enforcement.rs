//! @NAME@: visitors are greeted.

use bulkhead_sdk::enforcement::View;
use bulkhead_sdk::{Enforcement, NoConfig, Outline, Plan, Plugin, Result};

struct @TYPE@;

impl Plugin for @TYPE@ {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Enforcement for @TYPE@ {
    fn outline(&mut self) -> Result<Outline> {
        let mut outline = Outline::new();
        outline.want_file("/etc/motd");
        Ok(outline)
    }

    fn plan(&mut self, view: &View, plan: &mut Plan) -> Result<()> {
        if view.file("/etc/motd").and_then(|file| file.text()) != Some("Hello\n") {
            plan.write_file("motd", "/etc/motd", "Hello\n");
        }
        Ok(())
    }
}

bulkhead_sdk::export!(@TYPE@: Enforcement);

#[cfg(test)]
mod tests {
    use bulkhead_sdk::testing::{Harness, Node};

    #[test]
    fn greets_once() -> bulkhead_sdk::Result<()> {
        let mut node = Node::new().file("/etc/motd", "Go away\n");
        let mut plugin = Harness::<super::@TYPE@>::new("{}")?;
        let planned = plugin.plan(&node)?;
        assert_eq!(planned.ids(), ["motd"]);
        node.apply(&planned)?;
        assert!(plugin.plan(&node)?.is_empty());
        Ok(())
    }
}
