//! Kernel modules and kernel settings.

use std::collections::BTreeMap;

use bulkhead_sdk::scanning::{Findings, Outline, Severity, View};

use super::{Check, rule, subject};

const UNKNOWN: &str = "posture.kernel-module";
const FOREIGN: &str = "posture.kernel-module-foreign";
const SYSCTL: &str = "posture.sysctl";

/// Kernel modules that are loaded.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Modules {
    /// Those that may be loaded; all unless given. What is built into the kernel does not count.
    allow: Option<Vec<String>>,
    /// Those that may be out of the kernel's tree or without a signature, such as a vendor's driver.
    allow_foreign: Vec<String>,
}

/// Kernel settings.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Sysctls {
    /// What they have to be: `kernel.randomize_va_space: "2"`.
    expect: BTreeMap<String, String>,
}

/// The kernel writes `-` in names as `_`.
fn is_same(a: &str, b: &str) -> bool {
    a.replace('-', "_") == b.replace('-', "_")
}

impl Check for Modules {
    fn outline(&mut self, outline: &mut Outline) {
        if self.allow.is_some() {
            outline.rule(rule(
                UNKNOWN,
                Severity::Medium,
                "A kernel module is loaded that nobody has allowed",
                "A module runs inside the kernel, with more rights than root. Those that nobody needs are only there to be attacked.",
                "Unload it (`modprobe -r NAME`) and keep it out, or allow it in posture.kernelModules.allow.",
            ));
        }
        outline.rule(
            rule(
                FOREIGN,
                Severity::High,
                "A kernel module is not of the kernel's sources, or not signed",
                "Rootkits are such modules. So are some vendors' drivers.",
                "Find out what installed it. If it is known, allow it in posture.kernelModules.allowForeign.",
            )
            .reference("https://attack.mitre.org/techniques/T1547/006/"),
        );
        outline.want_kernel_modules();
    }

    fn assess(&self, view: &View, out: &mut Findings) {
        for module in view
            .kernel_modules()
            .iter()
            .filter(|module| !module.built_in)
        {
            let listed = |list: &[String]| list.iter().any(|name| is_same(name, &module.name));
            let subject = || subject("kernel-module", &module.name);
            let foreign = module.out_of_tree || module.unsigned;
            if foreign && !listed(&self.allow_foreign) {
                out.other(subject(), FOREIGN)
                    .message(match (module.out_of_tree, module.unsigned) {
                        (true, true) => "it is out of the kernel's tree, and not signed",
                        (true, false) => "it is out of the kernel's tree",
                        _ => "it is not signed",
                    })
                    .evidence("outOfTree", module.out_of_tree)
                    .evidence("unsigned", module.unsigned);
            }
            if self
                .allow
                .as_deref()
                .is_some_and(|allow| !listed(allow) && !listed(&self.allow_foreign))
            {
                out.other(subject(), UNKNOWN)
                    .message(format!("{} is loaded", module.name))
                    .evidence("size", module.size);
            }
        }
    }
}

impl Check for Sysctls {
    fn outline(&mut self, outline: &mut Outline) {
        outline.rule(rule(
            SYSCTL,
            Severity::Medium,
            "A kernel setting is not as it has to be",
            "The setting was chosen for this fleet.",
            "Set it, and in /etc/sysctl.d for the next start; the plugin config-enforcer can do both.",
        ));
        for name in self.expect.keys() {
            outline.want_sysctl(name);
        }
    }

    fn assess(&self, view: &View, out: &mut Findings) {
        for (name, expected) in &self.expect {
            // Several values are separated by tabs.
            let words = |text: &str| {
                text.split_ascii_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            let found = view.sysctl(name);
            if found.map(words) != Some(words(expected)) {
                out.other(subject("sysctl", name), SYSCTL)
                    .message(match found {
                        Some(found) => format!("it is {found}, not {expected}"),
                        None => format!("there is no such setting; it has to be {expected}"),
                    })
                    .evidence("expected", expected)
                    .evidence("found", found);
            }
        }
    }
}
