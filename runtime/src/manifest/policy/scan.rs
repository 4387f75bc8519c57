//! What a namespace's plugins may be shown of the node to judge it.

use super::Allowance;
use crate::manifest::spec::Plugin;

impl Allowance {
    /// Notes what may not be shown.
    pub(super) fn refuse_scan(
        &self,
        spec: &Plugin,
        not: &dyn Fn(&str) -> String,
        add: &mut dyn FnMut(String, String, String),
    ) {
        let (wanted, allowed) = (&spec.grants.scan, &self.scan);
        for (name, wanted, allowed, what) in [
            (
                "processes",
                wanted.processes,
                allowed.processes,
                "see processes",
            ),
            ("sockets", wanted.sockets, allowed.sockets, "see sockets"),
            ("users", wanted.users, allowed.users, "see users"),
            (
                "kernelModules",
                wanted.kernel_modules,
                allowed.kernel_modules,
                "see kernel modules",
            ),
        ] {
            if wanted && !allowed {
                let yaml = format!("scan: {{{name}: true}}");
                add(format!("grants.scan.{name}"), not(what), yaml);
            }
        }
        let mut note = |kind: &str, i: usize, name: &str, what: &str| {
            add(
                format!("grants.scan.{kind}[{i}]"),
                not(&format!("{what} {name}")),
                format!("scan: {{{kind}: [\"{name}\"]}}"),
            );
        };
        for (i, tree) in wanted.files.iter().enumerate() {
            if !allowed.files.iter().any(|allowed| allowed.holds(tree)) {
                note("files", i, tree.as_str(), "scan");
            }
        }
        for (i, name) in wanted.arguments_of.iter().enumerate() {
            let mut granted = allowed.arguments_of.iter();
            if !granted.any(|allowed| allowed.holds(name)) {
                let name = name.to_string();
                note("argumentsOf", i, &name, "see the arguments of");
            }
        }
        for (i, name) in wanted.sysctls.iter().enumerate() {
            if !allowed.sysctls.iter().any(|allowed| allowed.holds(name)) {
                note("sysctls", i, &name.to_string(), "see the kernel setting");
            }
        }
    }
}
