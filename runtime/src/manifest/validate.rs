//! Every check of a manifest's values that holds on every node. Policy is what holds on this one.

mod endpoint;
mod enforcement;
mod metrics;
mod scanning;
mod syslog;

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::path::{Component, Path};

use globset::{Glob, GlobBuilder};

use super::error::{Problem, Problems, quoted};
use super::identity::{is_dns_label, is_dns_subdomain};
use super::node_selector::NodeOperator;
use super::quantity::{ByteSize, Period};
use super::queue::Queue;
use super::spec::{
    Destination, DestinationKind, FileDestination, FileGrant, FileSource, LogSource, LogSourceKind,
    Logs, Module, Plugin,
};

/// The most destinations that a plugin may have.
const MAX_DESTINATIONS: usize = 64;
/// The most ConfigMaps that a module may be in: 1 MiB each, before they are uncompressed.
const MAX_PARTS: usize = 64;
/// The smallest queue that may be asked for: room is made in sixteenths of it.
const MIN_QUEUE: ByteSize = ByteSize::mebibytes(1);
/// The longest line that may be asked for.
const MAX_LINE: ByteSize = ByteSize::mebibytes(16);
/// The longest that a log may wait for what is known of its pod.
const MAX_METADATA_WAIT: Period = Period::seconds(60);
/// How many lines may be joined at most; one is no joining.
const JOINED_LINES: RangeInclusive<u32> = 2..=100_000;

struct Check<'a> {
    problems: &'a Problems,
}

/// Notes everything that is wrong with `spec`.
pub(super) fn validate(
    spec: &Plugin,
    binary_data: &BTreeMap<String, Vec<u8>>,
    problems: &Problems,
) {
    let check = Check { problems };
    check.module(&spec.module, binary_data);
    check.nodes(spec);
    check.file_grants(&spec.grants.files);
    if let Some(state) = &spec.grants.state {
        check.not_zero_size("grants.state.quota", state.quota);
    }
    check.not_zero_size("limits.memory", spec.limits.memory);
    check.not_zero_size("limits.output", spec.limits.output);
    check.not_zero("limits.deadline", spec.limits.deadline);
    check.not_zero("update.probation", spec.update.probation);
    if let Some(logs) = &spec.logs {
        check.logs(logs);
    }
    if let Some(metrics) = &spec.metrics {
        check.metrics(metrics);
    }
    check.change_grants(&spec.grants.changes);
    if let Some(enforcement) = &spec.enforcement {
        check.enforcement(enforcement);
    }
    check.scan_grants(&spec.grants.scan);
    if let Some(scanning) = &spec.scanning {
        check.scanning(&spec.grants.scan, scanning);
    }
}

impl Check<'_> {
    fn refuse(
        &self,
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem::invalid(field, problem, remedy));
    }

    fn not_zero(&self, field: impl Into<String>, period: Period) {
        if period.0.is_zero() {
            self.refuse(field, "is zero", "write a duration such as 200ms or 30s");
        }
    }

    fn not_zero_size(&self, field: impl Into<String>, size: ByteSize) {
        if size.0 == 0 {
            self.refuse(field, "is zero", "write a size such as 64Mi");
        }
    }

    fn module(&self, module: &Module, binary_data: &BTreeMap<String, Vec<u8>>) {
        match module {
            Module::Bundled(name) => {
                if !is_dns_label(name) {
                    self.refuse(
                        "module.bundled",
                        format!("{} is no name of a bundled plugin", quoted(name)),
                        "write for example `bundled: log-shipper`",
                    );
                }
            }
            Module::File { path, sha256 } => {
                if path.as_os_str().is_empty() || path.to_string_lossy().contains('\0') {
                    self.refuse("module.file.path", "is empty", "name the module's file");
                }
                self.digest("module.file.sha256", sha256);
            }
            Module::BinaryData { key, sha256 } => {
                if !binary_data.contains_key(key) {
                    let keys: Vec<&str> = binary_data.keys().map(String::as_str).collect();
                    let remedy = if keys.is_empty() {
                        format!("add `binaryData:` with the key `{key}` to the ConfigMap")
                    } else {
                        super::decode::choices("keys", key, &keys)
                    };
                    self.refuse(
                        "module.binaryData.key",
                        format!("the ConfigMap's binaryData has no key {}", quoted(key)),
                        remedy,
                    );
                }
                if let Some(sha256) = sha256 {
                    self.digest("module.binaryData.sha256", sha256);
                }
            }
            Module::ConfigMapParts { names, sha256 } => {
                let field = "module.configMapParts.names";
                if names.is_empty() || names.len() > MAX_PARTS {
                    self.refuse(
                        field,
                        format!("names {} ConfigMaps", names.len()),
                        format!("name 1 to {MAX_PARTS}; `bulkhead plugin pack` writes them"),
                    );
                }
                let mut seen = HashSet::new();
                for (i, name) in names.iter().enumerate() {
                    let field = format!("{field}[{i}]");
                    if !is_dns_subdomain(name) {
                        let problem = format!("{} is no name of a ConfigMap", quoted(name));
                        self.refuse(field, problem, "write for example `app-module-0`");
                    } else if !seen.insert(name) {
                        let problem = format!("{} is named twice", quoted(name));
                        self.refuse(field, problem, "name each part once, in order");
                    }
                }
                self.digest("module.configMapParts.sha256", sha256);
            }
        }
    }

    fn nodes(&self, spec: &Plugin) {
        for (i, expression) in spec.node_expressions.iter().enumerate() {
            let field = format!("nodeExpressions[{i}].values");
            let values = &expression.values;
            let number = |value: &String| value.parse::<i64>().is_ok();
            let operator = expression.operator;
            let (fits, remedy) = match operator {
                NodeOperator::In | NodeOperator::NotIn => {
                    (!values.is_empty(), "name the values, `values: [a, b]`")
                }
                NodeOperator::Exists | NodeOperator::DoesNotExist => {
                    (values.is_empty(), "remove `values`")
                }
                NodeOperator::Gt | NodeOperator::Lt => (
                    values.len() == 1 && values.iter().all(number),
                    "write one whole number, `values: [\"8\"]`",
                ),
            };
            if !fits {
                let problem = format!("{values:?} is nothing that {operator:?} can be asked with");
                self.refuse(field, problem, remedy);
            }
            if expression.key.is_empty() {
                let field = format!("nodeExpressions[{i}].key");
                self.refuse(field, "is empty", "name a label of the node");
            }
        }
    }

    fn digest(&self, field: &str, digest: &str) {
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            self.refuse(
                field,
                format!("{} is not 64 hexadecimal digits", quoted(digest)),
                "write what `sha256sum` prints for the uncompressed component",
            );
        }
    }

    fn file_grants(&self, grants: &[FileGrant]) {
        let mut guests = HashSet::new();
        for (i, grant) in grants.iter().enumerate() {
            let host = format!("grants.files[{i}].host");
            if self.node_path(&host, &grant.host) {
                if grant.host == Path::new("/") {
                    self.refuse(
                        host,
                        "is the whole node, with other processes' memory and credentials below /proc",
                        "grant the folders that the plugin needs, each by its path",
                    );
                } else if let Some(system) = kernel_folder(&grant.host) {
                    self.refuse(
                        host,
                        format!("is in {system}, through which a plugin would reach other processes and the kernel"),
                        "remove it; the grant `nodeFacts: true` has the facts of the node",
                    );
                }
            }
            let guest = format!("grants.files[{i}].guest");
            let path = Path::new(&grant.guest);
            if !path.is_absolute() || has_dots(path) || grant.guest.contains('\0') {
                self.refuse(
                    guest,
                    format!(
                        "{} is not an absolute path without `..`",
                        quoted(&grant.guest)
                    ),
                    "write the path that the plugin opens, for example `guest: /data`",
                );
            } else if !guests.insert(path) {
                self.refuse(
                    guest,
                    format!("{} is granted twice", quoted(&grant.guest)),
                    "give each folder a path of its own inside the plugin",
                );
            }
        }
    }

    /// Whether `path` is absolute and goes nowhere but down.
    fn node_path(&self, field: &str, path: &Path) -> bool {
        let text = path.to_string_lossy();
        if !path.is_absolute() {
            self.refuse(
                field,
                format!("{} is not absolute", quoted(&text)),
                format!(
                    "begin it with a slash, for example `/{}`",
                    text.trim_start_matches(['.', '/'])
                ),
            );
        } else if has_dots(path) || text.contains('\0') {
            self.refuse(
                field,
                format!("{} leaves its folder by `..`", quoted(&text)),
                "write the path without `..`",
            );
        } else {
            return true;
        }
        false
    }

    fn logs(&self, logs: &Logs) {
        if logs.sources.is_empty() {
            self.refuse(
                "logs.sources",
                "is empty",
                "add `- containers: {}` or `- files: {include: [/var/log/*.log]}`",
            );
        }
        for (i, source) in logs.sources.iter().enumerate() {
            self.source(&format!("logs.sources[{i}]"), source);
        }
        if logs.max_line.0 == 0 || logs.max_line > MAX_LINE {
            self.refuse(
                "logs.maxLine",
                format!("{} is not between 1 byte and {MAX_LINE}", logs.max_line),
                "write a size such as 256Ki",
            );
        }
        if logs.destinations.is_empty() {
            self.refuse(
                "logs.destinations",
                "is empty, so that no line would go anywhere",
                "add for example `- {name: out, stdout: {}}`",
            );
        }
        self.destinations("logs.destinations", &logs.destinations, &logs.sources);
    }

    /// `sources`: what they must not write to.
    fn destinations(&self, list: &str, destinations: &[Destination], sources: &[LogSource]) {
        if destinations.len() > MAX_DESTINATIONS {
            self.refuse(
                list,
                format!("has {} entries", destinations.len()),
                format!("keep at most {MAX_DESTINATIONS}, or make a second plugin"),
            );
        }
        let mut names = HashSet::new();
        let mut paths = HashSet::new();
        let destinations = destinations.iter().take(MAX_DESTINATIONS);
        for (i, destination) in destinations.enumerate() {
            let field = format!("{list}[{i}]");
            if !names.insert(&destination.name) {
                self.refuse(
                    format!("{field}.name"),
                    format!("two destinations are called {}", quoted(&destination.name)),
                    "give each a name of its own",
                );
            }
            self.destination(&field, destination, sources);
            if let DestinationKind::File(file) = &destination.kind
                && !paths.insert(&file.path)
            {
                self.refuse(
                    format!("{field}.file.path"),
                    "two destinations write to this file",
                    "give each a file of its own",
                );
            }
        }
    }

    fn source(&self, field: &str, source: &LogSource) {
        if let Some(multiline) = &source.multiline {
            self.not_zero(format!("{field}.multiline.timeout"), multiline.timeout);
            if !JOINED_LINES.contains(&multiline.max_lines) {
                self.refuse(
                    format!("{field}.multiline.maxLines"),
                    format!(
                        "{} is not between {} and {}",
                        multiline.max_lines,
                        JOINED_LINES.start(),
                        JOINED_LINES.end()
                    ),
                    "write how many lines a record may have, for example 2000",
                );
            }
        }
        match &source.kind {
            LogSourceKind::Containers(containers) => {
                for (list, names) in [
                    ("namespaces", &containers.namespaces),
                    ("excludeNamespaces", &containers.exclude_namespaces),
                ] {
                    for (i, name) in names.iter().enumerate() {
                        if !is_dns_label(name) {
                            self.refuse(
                                format!("{field}.containers.{list}[{i}]"),
                                format!("{} is no namespace's name", quoted(name)),
                                "write whole names; patterns are not known here",
                            );
                        }
                    }
                }
                if let Some(metadata) = &containers.metadata
                    && metadata.wait > MAX_METADATA_WAIT
                {
                    self.refuse(
                        format!("{field}.containers.metadata.wait"),
                        format!("{} is longer than {MAX_METADATA_WAIT}", metadata.wait),
                        "write how long a new log may wait for its pod to be known, for example 2s",
                    );
                }
                if let Some(root) = &containers.root {
                    self.node_path(&format!("{field}.containers.root"), root);
                }
            }
            LogSourceKind::Files(files) => {
                if files.include.is_empty() {
                    self.refuse(
                        format!("{field}.files.include"),
                        "is empty",
                        "add a glob such as `/var/log/*.log`",
                    );
                }
                for (list, globs) in [("include", &files.include), ("exclude", &files.exclude)] {
                    for (i, pattern) in globs.iter().enumerate() {
                        self.glob(&format!("{field}.files.{list}[{i}]"), pattern);
                    }
                }
            }
        }
    }

    fn glob(&self, field: &str, pattern: &str) {
        if !pattern.starts_with('/') || has_dots(Path::new(pattern)) {
            self.refuse(
                field,
                format!("{} is not absolute, or has `..`", quoted(pattern)),
                "write a glob such as `/var/log/*.log`",
            );
        } else if let Err(error) = glob(pattern) {
            self.refuse(
                field,
                format!("{} is no glob, {}", quoted(pattern), error.kind()),
                "escape brackets and braces that are meant as such with a backslash",
            );
        } else if let Some(system) = kernel_folder(Path::new(pattern)) {
            self.refuse(
                field,
                format!("is in {system}, which holds no logs and may block"),
                "name the folder that the logs are in",
            );
        }
    }

    fn destination(&self, field: &str, destination: &Destination, sources: &[LogSource]) {
        if !is_dns_label(&destination.name) {
            self.refuse(
                format!("{field}.name"),
                format!("{} is no name", quoted(&destination.name)),
                "write 1 to 63 lower-case letters, digits and dashes",
            );
        }
        if let Some(queue) = &destination.queue {
            self.queue(&format!("{field}.queue"), queue);
        }
        match &destination.kind {
            DestinationKind::Stdout(_) => {}
            DestinationKind::File(file) => self.file(&format!("{field}.file"), file, sources),
            DestinationKind::Http(http) => self.http(&format!("{field}.http"), http),
            DestinationKind::Elasticsearch(to) => {
                self.elasticsearch(&format!("{field}.elasticsearch"), to);
            }
            DestinationKind::SplunkHec(to) => self.splunk(&format!("{field}.splunkHec"), to),
            DestinationKind::Loki(to) => self.loki(&format!("{field}.loki"), to),
            DestinationKind::Otlp(to) => self.endpoint(&format!("{field}.otlp"), &to.endpoint()),
            DestinationKind::Syslog(to) => self.syslog(&format!("{field}.syslog"), to),
        }
    }

    fn queue(&self, field: &str, queue: &Queue) {
        if queue.max_size < MIN_QUEUE {
            self.refuse(
                format!("{field}.maxSize"),
                format!("{} is less than {MIN_QUEUE}", queue.max_size),
                "write a size such as 1Gi",
            );
        }
        let Some(path) = &queue.path else { return };
        let field = format!("{field}.path");
        if self.node_path(&field, path)
            && let Some(system) = kernel_folder(path)
        {
            self.refuse(
                field,
                format!("is in {system}, which belongs to the kernel"),
                "name a folder on a disk, or leave the path out",
            );
        }
    }

    fn file(&self, field: &str, file: &FileDestination, sources: &[LogSource]) {
        self.not_zero_size(format!("{field}.maxSize"), file.max_size);
        let field = format!("{field}.path");
        if !self.node_path(&field, &file.path) {
            return;
        }
        if let Some(system) = kernel_folder(&file.path) {
            self.refuse(
                field,
                format!("is in {system}, which belongs to the kernel"),
                "write to a plain folder",
            );
        } else if file.path.file_name().is_none() || file.path.to_string_lossy().ends_with('/') {
            self.refuse(field, "is a folder", "name a file in it");
        } else if sources.iter().any(|source| reads(source, &file.path)) {
            self.refuse(
                field,
                "is also read by this plugin, so that every line would come back for ever",
                "write elsewhere, or add the path to the source's `exclude`",
            );
        }
    }
}

/// Compiles a glob as the logs role does: `*` and `?` stop at a slash.
fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

fn reads(source: &LogSource, path: &Path) -> bool {
    let LogSourceKind::Files(FileSource {
        include, exclude, ..
    }) = &source.kind
    else {
        return false;
    };
    let matches = |globs: &[String]| {
        globs
            .iter()
            .filter_map(|pattern| glob(pattern).ok())
            .any(|glob| glob.compile_matcher().is_match(path))
    };
    matches(include) && !matches(exclude)
}

pub(super) fn has_dots(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// The file system of the kernel's that a path is in.
fn kernel_folder(path: &Path) -> Option<&'static str> {
    ["/proc", "/sys"]
        .into_iter()
        .find(|system| path.starts_with(system))
}
