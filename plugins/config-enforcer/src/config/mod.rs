//! The configuration: types and their descriptions, which become the schema.

mod kinds;
mod values;

use std::collections::BTreeMap;

use bulkhead_sdk::enforcement::Severity as RuleSeverity;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) use kinds::{
    Absent, Check, Directory, File, FileState, Format, IfMissing, KernelModule, Line, LineState,
    ModuleState, Permissions, Setting, Symlink, Sysctl, Unit,
};
pub(crate) use values::{Accept, Mode, Owner};

/// How the node should be.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// What templates and conditions find as `vars`.
    pub vars: Map<String, Value>,
    /// Collections of rules that the plugin brings along.
    pub profiles: Vec<ProfileUse>,
    /// What is done to units when something that notifies them was changed.
    pub handlers: Vec<Handler>,
    /// What should be so. Each is a rule of its own.
    pub resources: Vec<Resource>,
}

/// Takes the rules of a profile. Their ids begin with its name: `host-hardening/ssh-root-login`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileUse {
    /// `host-hardening` or `kubelet-hardening`.
    pub name: String,
    /// Rules to leave out, by their ids in the profile.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Only these rules; all unless given.
    #[serde(default)]
    pub only: Vec<String>,
    /// Other parameters than the profile's, by rule and name.
    #[serde(default)]
    pub set: BTreeMap<String, Map<String, Value>>,
    /// Changes nothing, and only tells whether the rules hold.
    #[serde(default)]
    pub check_only: bool,
}

/// What is done once, after all changes, if one of the resources that notify it was changed. Nothing
/// is done to a unit that does not run: it finds what was changed when it starts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Handler {
    /// What resources name it by, for example `reload ssh`.
    #[schemars(length(min = 1, max = 128))]
    pub id: String,
    /// The unit, by its full name; of several, the first that the node has.
    pub unit: Units,
    /// What is done to it.
    #[serde(default)]
    pub action: HandlerAction,
}

/// A unit's full name, or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a unit's name or a list of them")]
pub enum Units {
    /// One.
    One(String),
    /// The first of these that the node has.
    FirstOf(Vec<String>),
}

impl Units {
    /// Their names, in order.
    pub fn names(&self) -> &[String] {
        match self {
            Units::One(name) => std::slice::from_ref(name),
            Units::FirstOf(names) => names,
        }
    }
}

/// What a handler does to its unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HandlerAction {
    /// Restarts it.
    #[default]
    Restart,
    /// Has it read its configuration again.
    Reload,
}

/// How much a broken rule matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Severity {
    Info,
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

impl From<Severity> for RuleSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => RuleSeverity::Info,
            Severity::Low => RuleSeverity::Low,
            Severity::Medium => RuleSeverity::Medium,
            Severity::High => RuleSeverity::High,
            Severity::Critical => RuleSeverity::Critical,
        }
    }
}

/// One thing that should be so: exactly one of `file`, `line`, `setting`, `permissions`, `directory`,
/// `symlink`, `absent`, `sysctl`, `kernelModule`, `unit`, `check`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource {
    /// Its name, unique and stable: reports and `dependsOn` go by it.
    #[schemars(length(min = 1, max = 128))]
    pub id: String,
    /// What should be so, for people. Made of the rest unless given.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub title: String,
    /// How much it matters.
    #[serde(default)]
    pub severity: Severity,
    /// Why.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub rationale: String,
    /// How to mend it by hand.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub remediation: String,
    /// An expression about the node, such as `os.id == "debian" and labels.role == "worker"`. If it
    /// is not true, or a fact in it is not known, the rule does not apply.
    #[serde(default)]
    pub when: Option<String>,
    /// Resources that must be as they should be before this one is changed.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Handlers to set off when this is changed.
    #[serde(default)]
    pub notify: Vec<String>,
    /// Changes nothing, and only tells whether it is so.
    #[serde(default)]
    pub check_only: bool,
    /// A whole file.
    #[serde(default)]
    pub file: Option<Box<File>>,
    /// A line of a file.
    #[serde(default)]
    pub line: Option<Box<Line>>,
    /// Keys of a configuration file.
    #[serde(default)]
    pub setting: Option<Box<Setting>>,
    /// Who may use files that are there.
    #[serde(default)]
    pub permissions: Option<Box<Permissions>>,
    /// A folder.
    #[serde(default)]
    pub directory: Option<Box<Directory>>,
    /// A symbolic link.
    #[serde(default)]
    pub symlink: Option<Box<Symlink>>,
    /// Files that should not be there.
    #[serde(default)]
    pub absent: Option<Box<Absent>>,
    /// A kernel setting.
    #[serde(default)]
    pub sysctl: Option<Box<Sysctl>>,
    /// A kernel module.
    #[serde(default)]
    pub kernel_module: Option<Box<KernelModule>>,
    /// A systemd unit.
    #[serde(default)]
    pub unit: Option<Box<Unit>>,
    /// Lines that a file must or must not have; nothing is changed.
    #[serde(default)]
    pub check: Option<Box<Check>>,
}
