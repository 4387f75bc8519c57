//! What declares a plugin: the types of a manifest, how they are read from a ConfigMap, and every
//! check that needs no I/O. Nothing here opens a file, knows of Kubernetes' API or starts anything.

mod changes;
mod configmap;
mod declared;
mod decode;
mod endpoint;
mod enforcement;
mod error;
mod identity;
mod index_name;
mod meaning;
mod metadata;
mod metrics;
mod multiline;
mod node_glob;
mod node_selector;
mod object;
mod places;
mod plugin_config;
mod plugin_text;
mod policy;
mod quantity;
mod queue;
mod scanning;
mod spec;
mod syslog;
mod validate;
mod yaml;

#[cfg(test)]
mod tests;

pub use changes::{
    ChangeGrants, ModuleName, NodePath, SubjectGlob, SysctlGlob, SysctlName, UnitName,
};
pub use configmap::{API_VERSION, KEY, LABEL, MAX_FILE_BYTES, read};
pub use declared::{Document, Manifest, Origin};
pub use endpoint::{
    Acknowledgement, BasicAuth, Compression, ElasticsearchDestination, Endpoint, HttpDestination,
    LokiDestination, OtlpDestination, SplunkEndpoint, SplunkHecDestination, Tls,
};
pub use enforcement::{Enforcement, Keep, Mode, Window};
pub use error::{Error, Position, Reason};
pub use identity::{Identity, IdentityError, LOCAL_NAMESPACE};
pub use index_name::IndexName;
pub use metadata::{NameGlob, PodLabels, PodMetadata};
pub use metrics::{Metrics, RemoteWrite};
pub use multiline::{JoinRule, LinePattern, Multiline, Preset};
pub use node_glob::{GlobPart, NodeGlob, NodeGlobError, is_glob};
pub use node_selector::{NodeExpression, NodeOperator};
pub use object::read_object;
pub use places::{locate, plugin_text};
pub use plugin_config::PluginConfig;
pub use policy::{
    Allowance, AllowedFolder, AllowedLogs, ModuleSource, NamespacePolicy, NodeLimits, Policy,
    TrustedModule, root_equivalent_folder,
};
pub use quantity::{ByteSize, CpuShare, Period};
pub use queue::{Queue, WhenFull};
pub use scanning::{Budget, ScanGrants, ScannedFiles, Scanning, Schedule, Suppression, Tree};
pub use spec::{
    ContainerSource, Destination, DestinationKind, FileDestination, FileFormat, FileGrant,
    FileSource, Format, Grants, Limits, LogLevel, LogSource, LogSourceKind, Logs, Module, Plugin,
    Receives, Retry, StartAt, StateGrant, StdoutDestination, Update,
};
pub use syslog::{Facility, Framing, Part, Severity, SyslogDestination, SyslogTls};
