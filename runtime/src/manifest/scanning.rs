//! What a plugin with the role `scanning` is shown, when, and what becomes of its findings.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changes::{NodePath, SubjectGlob, SysctlGlob};
use super::node_glob::NodeGlob;
use super::quantity::{ByteSize, CpuShare, Period};
use super::spec::Destination;

/// What may be shown of the node; nothing unless named. Never passwords' hashes, nor the volumes of pods that hold
/// secrets; other secrets in files are contents of the folders that are granted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScanGrants {
    /// Folders whose files are read, each with all below it; `/` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Tree>,
    /// Processes: names, owners, the files that they run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub processes: bool,
    /// Programs whose arguments are shown, by the name of their file: `kubelet`, `kube-*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments_of: Vec<SubjectGlob>,
    /// Open sockets and who has them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sockets: bool,
    /// Users, and whether their passwords are set, empty or locked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub users: bool,
    /// Kernel modules.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kernel_modules: bool,
    /// Kernel settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<SysctlGlob>,
}

impl ScanGrants {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A folder with all below it, or everything.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub enum Tree {
    /// `/`.
    Root,
    /// A folder.
    Below(NodePath),
}

impl Tree {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Root => "/",
            Self::Below(path) => path.as_str(),
        }
    }

    /// Whether all of `other` is in it.
    pub fn holds(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Root, _) => true,
            (Self::Below(_), Self::Root) => false,
            (Self::Below(mine), Self::Below(theirs)) => mine.holds(theirs),
        }
    }
}

impl TryFrom<String> for Tree {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "/" => Ok(Self::Root),
            _ => NodePath::try_from(text).map(Self::Below),
        }
    }
}

impl From<Tree> for String {
    fn from(tree: Tree) -> Self {
        tree.as_str().to_owned()
    }
}

/// What is scanned, when and how fast. All has defaults.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scanning {
    /// Which files.
    pub files: ScannedFiles,
    /// When.
    pub schedule: Schedule,
    /// How fast.
    pub budget: Budget,
    /// Findings that are known and accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppress: Vec<Suppression>,
    /// Where changes of its findings go; nowhere unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
}

/// Which files are scanned.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScannedFiles {
    /// Folders, each with all below it; all that is granted unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Tree>,
    /// Globs of what is left out: `/var/lib/containerd/**`, `/home/*/.cache/**`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<NodeGlob>,
    /// Whether file systems mounted below a folder are left out. File systems of the kernel always are.
    pub one_file_system: bool,
}

impl Default for ScannedFiles {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: true,
        }
    }
}

/// When things are looked at.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Schedule {
    /// How often all files are passed that changed since they were judged.
    pub changed: Period,
    /// How often all files are passed, changed or not.
    pub full: Period,
    /// How often the node as it is, is judged.
    pub assess: Period,
    /// Whether files are scanned at once when they are written or moved in.
    pub real_time: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            changed: Period::seconds(6 * 3600),
            full: Period::seconds(7 * 24 * 3600),
            assess: Period::seconds(300),
            real_time: true,
        }
    }
}

/// What scanning may take of the node.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budget {
    /// Bytes read in a second at most.
    pub read: ByteSize,
    /// Cores that walking, reading and computing digests may take; the plugin has its own `limits.cpu`.
    pub cpu: CpuShare,
    /// Whether passes pause while the node's processes wait for CPU, memory or disks.
    pub yield_to_pressure: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            read: ByteSize::mebibytes(64),
            cpu: CpuShare::cores(1),
            yield_to_pressure: true,
        }
    }
}

/// Findings that are not reported.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suppression {
    /// The rule's id; `*` and `?` stand for parts of it.
    pub rule: SubjectGlob,
    /// Of which subjects: a glob of paths, or of other subjects' names; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Why, for whoever reads it later.
    pub reason: String,
    /// Until which day, inclusive (UTC): `2027-03-31`; for ever unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
}
