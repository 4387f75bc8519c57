//! How the node is set up: each kind of thing in a section, which wants to see only what it is about.

mod accounts;
mod kernel;
mod kubelet;
mod ports;
mod runtime;
mod ssh;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use bulkhead_sdk::Result;
use bulkhead_sdk::scanning::{Findings, Outline, Rule, Severity, View};

/// How the node is set up. Sections that are not there are not looked at, and need no grants.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Ports that listen. Needs the grant `scan.sockets`.
    ports: Option<ports::Config>,
    /// Users. Needs the grant `scan.users`.
    accounts: Option<accounts::Config>,
    /// The SSH server. Needs to read `/etc/ssh`.
    ssh: Option<ssh::Config>,
    /// Kernel modules. Needs the grant `scan.kernelModules`.
    kernel_modules: Option<kernel::Modules>,
    /// Kernel settings that must have a value. Needs the grant `scan.sysctls`.
    sysctls: Option<kernel::Sysctls>,
    /// Sockets of container runtimes. Needs the grant `scan.sockets`, and to see the sockets' files.
    container_runtime: Option<runtime::Config>,
    /// The kubelet. Needs to see its files.
    kubelet: Option<kubelet::Config>,
}

/// One section.
trait Check: std::fmt::Debug {
    /// Says what it is about, and what it wants to see.
    fn outline(&mut self, outline: &mut Outline);
    fn assess(&self, view: &View, out: &mut Findings);
}

/// The sections that are there.
#[derive(Debug)]
pub(crate) struct Posture(Vec<Box<dyn Check>>);

impl Posture {
    pub(crate) fn new(config: Config) -> Result<Self> {
        let mut all: Vec<Box<dyn Check>> = Vec::new();
        if let Some(ports) = config.ports {
            all.push(Box::new(ports::Ports::new(&ports)?));
        }
        if let Some(accounts) = config.accounts {
            all.push(Box::new(accounts));
        }
        if let Some(ssh) = config.ssh {
            all.push(Box::new(ssh));
        }
        if let Some(modules) = config.kernel_modules {
            all.push(Box::new(modules));
        }
        if let Some(sysctls) = config.sysctls {
            all.push(Box::new(sysctls));
        }
        if let Some(runtime) = config.container_runtime {
            all.push(Box::new(runtime));
        }
        if let Some(kubelet) = config.kubelet {
            all.push(Box::new(kubelet::Kubelet::new(&kubelet)));
        }
        Ok(Self(all))
    }

    pub(crate) fn outline(&mut self, outline: &mut Outline) {
        for check in &mut self.0 {
            check.outline(outline);
        }
    }

    pub(crate) fn assess(&self, view: &View, out: &mut Findings) {
        for check in &self.0 {
            check.assess(view, out);
        }
    }
}

/// A rule with all that is said of it.
fn rule(id: &str, severity: Severity, title: &str, why: &str, how: &str) -> Rule {
    Rule::new(id, title)
        .severity(severity)
        .rationale(why)
        .remediation(how)
}

/// What a finding is about. Names come from files of the node, and may hold anything.
fn subject(kind: &str, name: &str) -> String {
    let name = name.replace(char::is_control, "?");
    format!("{kind}/{}", &name[..name.floor_char_boundary(256)])
}
