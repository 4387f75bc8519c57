//! What a resource may be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::values::{Accept, Mode, Owner, Scalar};

/// A whole file. With neither `content` nor `template` it is enough that there is one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Where it is.
    pub path: String,
    /// What is in it.
    #[serde(default)]
    pub content: Option<String>,
    /// The same as a template (Jinja) of facts, `labels` and `vars`. What is not there is an error.
    #[serde(default)]
    pub template: Option<String>,
    /// Its permission bits.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Whose it is.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// Its group.
    #[serde(default)]
    pub group: Option<Owner>,
    /// Nobody is shown what is in it, nor how it differs.
    #[serde(default)]
    pub secret: bool,
    /// Whether it should be there.
    #[serde(default)]
    pub state: FileState,
}

/// Whether a file should be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FileState {
    /// It should.
    #[default]
    Present,
    /// It should not.
    Absent,
}

/// What is done about a file, a setting or a unit that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IfMissing {
    /// It is an error.
    #[default]
    Error,
    /// A file is made.
    Create,
    /// The rule does not apply.
    NotApplicable,
}

/// A line of a file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Line {
    /// The file.
    pub path: String,
    /// The line, without its end.
    #[serde(default)]
    pub line: Option<String>,
    /// A regular expression. The last line that it matches is replaced by `line`, which it must match
    /// too; with `state: absent` all lines that it matches are removed.
    #[serde(default, rename = "match")]
    pub pattern: Option<String>,
    /// A new line goes before the first line that this regular expression matches; at the end if
    /// there is none.
    #[serde(default)]
    pub insert_before: Option<String>,
    /// A new line goes behind the last line that this regular expression matches; at the end if there
    /// is none.
    #[serde(default)]
    pub insert_after: Option<String>,
    /// Whether it should be there.
    #[serde(default)]
    pub state: LineState,
    /// If there is no such file.
    #[serde(default)]
    pub if_missing: IfMissing,
}

/// Whether a line should be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LineState {
    /// It should.
    #[default]
    Present,
    /// It should not.
    Absent,
}

/// Keys of a configuration file, edited where they stand: comments, order and formatting stay.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Setting {
    /// The file.
    pub path: String,
    /// How it is written.
    pub format: Format,
    /// The section of an `ini` file; what stands before the first section unless given.
    #[serde(default)]
    pub section: Option<String>,
    /// Keys and their values. In `yaml` and `json` a key is a path: `authentication.anonymous.enabled`,
    /// or a JSON pointer if a name has dots in it: `/metadata/annotations/example.com~1a`. A list of
    /// strings or numbers may be a value there.
    #[serde(default)]
    pub set: Map<String, Value>,
    /// Keys that should not be there.
    #[serde(default)]
    pub unset: Vec<String>,
    /// By key, values that are as good as that of `set`, and are left alone: a list, or `atMost` or
    /// `atLeast` for numbers up to it (but above 0) or from it on.
    #[serde(default)]
    pub accept: BTreeMap<String, Accept>,
    /// Nobody is shown the values.
    #[serde(default)]
    pub secret: bool,
    /// If there is no such file.
    #[serde(default)]
    pub if_missing: IfMissing,
}

/// How a configuration file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// `key=value` in sections, such as systemd's.
    Ini,
    /// `key=value` without sections, such as `/etc/sysctl.conf` and `/etc/default/grub`.
    KeyValue,
    /// `key value`, such as `/etc/login.defs`.
    Words,
    /// `/etc/ssh/sshd_config`: the first of several counts, upper case is lower case, and `Match`
    /// begins what is not edited.
    Sshd,
    /// YAML with one document.
    Yaml,
    /// JSON.
    Json,
}

/// Who may use files and folders that are there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Permissions {
    /// Which: a path, whose components may hold `*`, `?` and `[...]`, or be `**`.
    pub path: String,
    /// Permission bits, exactly.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Permission bits that may be there; others are taken away.
    #[serde(default)]
    pub max_mode: Option<Mode>,
    /// Whose they are.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// Their group.
    #[serde(default)]
    pub group: Option<Owner>,
}

/// A folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
    /// Where it is. The folder above must be there, or be a resource too.
    pub path: String,
    /// Its permission bits.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Whose it is.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// Its group.
    #[serde(default)]
    pub group: Option<Owner>,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Symlink {
    /// Where it is.
    pub path: String,
    /// Where it points to.
    pub target: String,
}

/// Files that should not be there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Absent {
    /// Which: a path, whose components may hold `*`, `?` and `[...]`, or be `**`.
    pub path: String,
    /// Folders with all that is in them, at most eight deep. Otherwise only empty ones.
    #[serde(default)]
    pub recursive: bool,
}

/// A kernel setting.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sysctl {
    /// Its name: `net.ipv4.ip_forward`.
    pub name: String,
    /// Its value.
    pub value: Scalar,
    /// Values that are as good, and are left alone: a list, or `atMost` or `atLeast`.
    #[serde(default)]
    pub accept: Option<Accept>,
    /// Whether it is set now.
    #[serde(default = "yes")]
    pub now: bool,
    /// Whether it is set at the node's next start.
    #[serde(default = "yes")]
    pub persist: bool,
    /// If the kernel has no such setting. It cannot be made.
    #[serde(default)]
    pub if_missing: IfMissing,
}

fn yes() -> bool {
    true
}

/// A kernel module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KernelModule {
    /// Its name.
    pub name: String,
    /// What should be so.
    pub state: ModuleState,
}

/// What a kernel module should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ModuleState {
    /// In the kernel, now and after each start.
    Loaded,
    /// Never loaded. One that is in the kernel stays until the next start.
    Blacklisted,
}

/// A systemd unit. What is not given does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unit {
    /// Its full name: `ssh.service`.
    pub name: String,
    /// Whether it starts with the node.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Whether it runs.
    #[serde(default)]
    pub running: Option<bool>,
    /// Whether nobody can start it.
    #[serde(default)]
    pub masked: Option<bool>,
    /// If the node has no such unit and it should be enabled or running. It cannot be made.
    #[serde(default)]
    pub if_missing: IfMissing,
}

/// Lines that files must have or must not have. Nothing is changed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// Which files, taken together: a path, whose components may hold `*`, `?` and `[...]`.
    pub path: String,
    /// More of them.
    #[serde(default)]
    pub also: Vec<String>,
    /// A regular expression that at least one line matches.
    #[serde(default)]
    pub some_line: Option<String>,
    /// A regular expression that no line matches,
    #[serde(default)]
    pub no_line: Option<String>,
    /// except for lines that this one matches too.
    #[serde(default)]
    pub except: Option<String>,
    /// If there is none of the files. None is made.
    #[serde(default = "not_applicable")]
    pub if_missing: IfMissing,
}

fn not_applicable() -> IfMissing {
    IfMissing::NotApplicable
}
