//! The manifest's types, `bulkhead.dev/v1alpha1`. Fields are camelCase; unknown ones are refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

use super::changes::ChangeGrants;
use super::endpoint::{
    ElasticsearchDestination, HttpDestination, LokiDestination, OtlpDestination,
    SplunkHecDestination,
};
use super::enforcement::Enforcement;
use super::metadata::PodMetadata;
use super::metrics::Metrics;
use super::multiline::Multiline;
use super::node_glob::NodeGlob;
use super::node_selector::NodeExpression;
use super::plugin_config::PluginConfig;
use super::quantity::{ByteSize, CpuShare, Period};
use super::queue::Queue;
use super::scanning::{ScanGrants, Scanning};
use super::syslog::SyslogDestination;

/// The `spec` part of a manifest: everything beside `apiVersion` and `kind`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plugin {
    /// Where the component's bytes come from.
    pub module: Module,
    /// Labels that the node must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// What must hold of the node's labels besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_expressions: Vec<NodeExpression>,
    /// Stops the plugin at once and keeps its state.
    #[serde(default)]
    pub suspend: bool,
    /// The least level of the plugin's own log records that are kept; what is below is dropped. `info` unless
    /// given.
    #[serde(default, skip_serializing_if = "LogLevel::is_default")]
    pub log_level: LogLevel,
    /// The plugin's own configuration, passed to `init` as JSON.
    #[serde(default)]
    pub config: PluginConfig,
    /// What the plugin may use; nothing unless named.
    #[serde(default)]
    pub grants: Grants,
    /// Bounds on memory, time and output.
    #[serde(default)]
    pub limits: Limits,
    /// How a new revision takes over.
    #[serde(default)]
    pub update: Update,
    /// What a plugin with the role `logs` reads, and where its lines go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Logs>,
    /// How a plugin with the role `metrics` is asked, and what becomes of its series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Whether and when the changes are made that a plugin with the role `enforcement` plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// What a plugin with the role `scanning` is shown, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanning: Option<Scanning>,
}

impl Plugin {
    /// The JSON Schema of a manifest, beside `apiVersion` and `kind`.
    pub fn schema() -> Schema {
        schema_for!(Self)
    }
}

/// How much a record of a plugin's log matters, least first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For whoever develops the plugin.
    Debug,
    /// For the operator, in normal running.
    #[default]
    Info,
    /// Something is not as it should be; the plugin goes on.
    Warn,
    /// Something was not done.
    Error,
}

impl LogLevel {
    /// As a manifest, a report and the daemon's log spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Exactly one source of the module's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Module {
    /// A plugin built into the daemon, by name (`log-shipper`).
    Bundled(String),
    /// A file on the node. A relative path starts at the manifest's folder.
    File {
        /// The component, or a zstd frame that holds it.
        path: PathBuf,
        /// SHA-256 of the component (uncompressed), 64 hexadecimal digits.
        sha256: String,
    },
    /// A key of this ConfigMap's `binaryData`; zstd-compressed if it ends in `.zst`.
    BinaryData {
        /// The key.
        key: String,
        /// SHA-256 of the component (uncompressed), if it shall be checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// The `binaryData` of other ConfigMaps of the manifest's namespace, one key each, put together in
    /// this order: the component, or a zstd frame that holds it. Fetched when the digest is new to the
    /// node.
    ConfigMapParts {
        /// The ConfigMaps.
        names: Vec<String>,
        /// SHA-256 of the component (uncompressed), 64 hexadecimal digits.
        sha256: String,
    },
}

/// Capabilities; deny by default.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Grants {
    /// A durable key-value store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateGrant>,
    /// The import `bulkhead:plugin/node`.
    pub node_facts: bool,
    /// The import `bulkhead:plugin/node-stats`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub node_stats: bool,
    /// Plain folders that the plugin sees through WASI.
    pub files: Vec<FileGrant>,
    /// What the host may read for the plugin: absolute paths with all below them, `/proc` and `/sys`
    /// among them; `*`, `?` and `[...]` stand for parts of a name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_files: Vec<NodeGlob>,
    /// What of the node may be changed.
    #[serde(skip_serializing_if = "ChangeGrants::is_empty")]
    pub changes: ChangeGrants,
    /// What of the node is shown to a plugin that scans.
    #[serde(skip_serializing_if = "ScanGrants::is_empty")]
    pub scan: ScanGrants,
}

/// A durable key-value store with a quota.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateGrant {
    /// The most bytes that keys and values may take together.
    #[serde(default = "StateGrant::default_quota")]
    pub quota: ByteSize,
}

impl StateGrant {
    fn default_quota() -> ByteSize {
        ByteSize::mebibytes(1)
    }
}

/// One folder made visible to the plugin. Never `/`, procfs or sysfs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileGrant {
    /// Absolute path on the node.
    pub host: PathBuf,
    /// Absolute path that the plugin opens.
    pub guest: String,
    /// Whether the plugin may write there.
    #[serde(default)]
    pub writable: bool,
}

/// Bounds on an instance. The node's maxima cap them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// All linear memories and tables together.
    pub memory: ByteSize,
    /// The longest that one call may take.
    pub deadline: Period,
    /// The share of one core, for example `0.5` or `500m`.
    pub cpu: CpuShare,
    /// The most bytes that one call may return.
    pub output: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mebibytes(64),
            deadline: Period::seconds(5),
            cpu: CpuShare::cores(1),
            output: ByteSize::mebibytes(16),
        }
    }
}

/// How a new revision takes over.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Update {
    /// How long a new revision must work before the old one is let go.
    pub probation: Period,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            probation: Period::seconds(10),
        }
    }
}

/// What a plugin with the role `logs` reads, and where its lines go.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logs {
    /// What is read; at least one.
    pub sources: Vec<LogSource>,
    /// Where lines go; 1 to 64, names unique.
    pub destinations: Vec<Destination>,
    /// Where to begin in files that are older than the plugin.
    #[serde(default)]
    pub start_at: StartAt,
    /// Longer lines are cut and marked.
    #[serde(default = "Logs::default_max_line")]
    pub max_line: ByteSize,
    /// How long a deleted file is read on when a destination is behind.
    #[serde(default = "Logs::default_deleted_file_wait")]
    pub deleted_file_wait: Period,
}

impl Logs {
    fn default_max_line() -> ByteSize {
        ByteSize::kibibytes(256)
    }
    fn default_deleted_file_wait() -> Period {
        Period::seconds(60)
    }
}

/// One thing to read: exactly one kind, and how its lines are joined.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", try_from = "LogSourceFields")]
pub struct LogSource {
    /// What it is.
    #[serde(flatten)]
    pub kind: LogSourceKind,
    /// Which lines make one record; each its own unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiline: Option<Multiline>,
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogSourceKind {
    /// Container logs in CRI format.
    Containers(ContainerSource),
    /// Files by glob.
    Files(FileSource),
}

impl From<LogSourceKind> for LogSource {
    fn from(kind: LogSourceKind) -> Self {
        Self {
            kind,
            multiline: None,
        }
    }
}

/// A source as it is written, for the same reason as [`DestinationFields`].
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogSourceFields {
    /// Container logs in CRI format.
    #[serde(default)]
    containers: Option<ContainerSource>,
    /// Files by glob.
    #[serde(default)]
    files: Option<FileSource>,
    /// Which lines make one record; each its own unless given.
    #[serde(default)]
    multiline: Option<Multiline>,
}

impl TryFrom<LogSourceFields> for LogSource {
    type Error = &'static str;

    fn try_from(fields: LogSourceFields) -> Result<Self, Self::Error> {
        let kind = match (fields.containers, fields.files) {
            (Some(containers), None) => LogSourceKind::Containers(containers),
            (None, Some(files)) => LogSourceKind::Files(files),
            (None, None) => {
                return Err(
                    "does not say what is read\nadd `containers: {}` or `files: {include: [/var/log/*.log]}`",
                );
            }
            (Some(_), Some(_)) => {
                return Err(
                    "has `containers` and `files` at once\nkeep one of them, and make the other a source of its own",
                );
            }
        };
        Ok(Self {
            kind,
            multiline: fields.multiline,
        })
    }
}

/// Container logs below `/var/log/pods` and `/var/log/containers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ContainerSource {
    /// Only pods of these namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// Not the pods of these namespaces.
    pub exclude_namespaces: Vec<String>,
    /// What of their pods' metadata goes along; none unless given, and none without a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadata>,
    /// The folder that holds `pods` and `containers`; `/var/log` unless a test says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

/// Files by glob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSource {
    /// Absolute globs (`/var/log/*.log`, `/srv/**/app.log`); `*` does not cross a `/`.
    pub include: Vec<String>,
    /// Globs of files to leave out. Compressed files are always left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How a line looks.
    #[serde(default)]
    pub format: FileFormat,
}

/// How a line of a plain file looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FileFormat {
    /// One line, one record.
    #[default]
    Plain,
    /// CRI: `TIME STREAM P|F BODY`.
    Cri,
}

/// Where to begin in files that are older than the plugin. Files born later are read from their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// Only what is written from now on.
    #[default]
    End,
    /// Everything.
    Beginning,
    /// What was written in the last period: CRI lines by their time, plain files by the file's time.
    Last(Period),
}

/// One destination: a name, and exactly one kind.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", try_from = "DestinationFields")]
pub struct Destination {
    /// Its name, by which the plugin routes and the status reports.
    pub name: String,
    /// Which lines it gets.
    pub receives: Receives,
    /// The queue on the disk in front of it; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// What it is.
    #[serde(flatten)]
    pub kind: DestinationKind,
}

/// A destination as it is written: serde checks for unknown fields here, which it cannot do beside
/// `flatten`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DestinationFields {
    /// Its name, by which the plugin routes and the status reports.
    name: String,
    /// Which lines it gets.
    #[serde(default)]
    receives: Receives,
    /// The queue on the disk in front of it; none unless given.
    #[serde(default)]
    queue: Option<Queue>,
    /// A file on the node.
    #[serde(default)]
    file: Option<FileDestination>,
    /// The daemon's standard output.
    #[serde(default)]
    stdout: Option<StdoutDestination>,
    /// An HTTP endpoint.
    #[serde(default)]
    http: Option<HttpDestination>,
    /// Elasticsearch or OpenSearch.
    #[serde(default)]
    elasticsearch: Option<ElasticsearchDestination>,
    /// Splunk's HTTP Event Collector.
    #[serde(default)]
    splunk_hec: Option<SplunkHecDestination>,
    /// Grafana Loki.
    #[serde(default)]
    loki: Option<LokiDestination>,
    /// An OpenTelemetry receiver.
    #[serde(default)]
    otlp: Option<OtlpDestination>,
    /// A syslog server.
    #[serde(default)]
    syslog: Option<SyslogDestination>,
}

impl TryFrom<DestinationFields> for Destination {
    type Error = String;

    fn try_from(fields: DestinationFields) -> Result<Self, String> {
        let kinds = [
            fields.file.map(DestinationKind::File),
            fields.stdout.map(DestinationKind::Stdout),
            fields.http.map(DestinationKind::Http),
            fields.elasticsearch.map(DestinationKind::Elasticsearch),
            fields.splunk_hec.map(DestinationKind::SplunkHec),
            fields.loki.map(DestinationKind::Loki),
            fields.otlp.map(DestinationKind::Otlp),
            fields.syslog.map(DestinationKind::Syslog),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let name = fields.name;
        // The decoder takes what follows the line feed as the remedy.
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(Self {
                name,
                receives: fields.receives,
                queue: fields.queue,
                kind,
            }),
            (None, _) => Err(format!(
                "destination {name:?} does not say what it is\nadd exactly one of `file:`, `stdout: {{}}`, `http:`, `elasticsearch:`, `splunkHec:`, `loki:`, `otlp:` and `syslog:`"
            )),
            (Some(_), Some(_)) => Err(format!(
                "destination {name:?} is several things at once\nkeep exactly one of them, and make the others destinations of their own"
            )),
        }
    }
}

/// Which lines a destination gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Receives {
    /// Lines without a route, and lines routed to it.
    #[default]
    All,
    /// Only lines that the plugin routes to it.
    Routed,
}

/// What a destination is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DestinationKind {
    /// A file on the node.
    File(FileDestination),
    /// The daemon's standard output.
    Stdout(StdoutDestination),
    /// An HTTP endpoint.
    Http(HttpDestination),
    /// Elasticsearch or OpenSearch.
    Elasticsearch(ElasticsearchDestination),
    /// Splunk's HTTP Event Collector.
    SplunkHec(SplunkHecDestination),
    /// Grafana Loki.
    Loki(LokiDestination),
    /// An OpenTelemetry receiver.
    Otlp(OtlpDestination),
    /// A syslog server.
    Syslog(SyslogDestination),
}

impl DestinationKind {
    /// All kinds, as manifests write them.
    pub(super) const NAMES: [&str; 8] = [
        "file",
        "stdout",
        "http",
        "elasticsearch",
        "splunkHec",
        "loki",
        "otlp",
        "syslog",
    ];

    /// As manifests write it.
    pub(super) fn name(&self) -> &'static str {
        let index = match self {
            Self::File(_) => 0,
            Self::Stdout(_) => 1,
            Self::Http(_) => 2,
            Self::Elasticsearch(_) => 3,
            Self::SplunkHec(_) => 4,
            Self::Loki(_) => 5,
            Self::Otlp(_) => 6,
            Self::Syslog(_) => 7,
        };
        Self::NAMES[index]
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// One JSON object a line: time, message or the body's own members, source, added fields.
    #[default]
    Json,
    /// The body and a line feed, nothing else.
    Raw,
}

/// A file on the node, rotated by size.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileDestination {
    /// Absolute path; its folder is made if it is missing.
    pub path: PathBuf,
    /// How records are written.
    #[serde(default)]
    pub format: Format,
    /// A file of this size is renamed to `PATH.1` and a new one begun.
    #[serde(default = "FileDestination::default_max_size")]
    pub max_size: ByteSize,
    /// How many renamed files are kept.
    #[serde(default = "FileDestination::default_keep")]
    pub keep: u32,
}

impl FileDestination {
    fn default_max_size() -> ByteSize {
        ByteSize::mebibytes(256)
    }
    fn default_keep() -> u32 {
        3
    }
}

/// The daemon's standard output.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StdoutDestination {
    /// How records are written.
    pub format: Format,
}

/// Backoff between attempts: doubled each time, with full jitter.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// The first wait.
    pub initial: Period,
    /// The longest wait.
    pub max: Period,
    /// After this many attempts a delivery is dead-lettered; for ever if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Period::millis(200),
            max: Period::seconds(30),
            attempts: None,
        }
    }
}
