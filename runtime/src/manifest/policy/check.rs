//! What the policy refuses of a manifest, each with the YAML that would let it in.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    Allowance, AllowedLogs, ModuleSource, NamespacePolicy, NodeLimits, Policy, TrustedModule,
};
use crate::manifest::changes::SysctlGlob;
use crate::manifest::declared::Manifest;
use crate::manifest::error::{Error, Problem, Reason};
use crate::manifest::spec::{Destination, DestinationKind, LogSourceKind, Module, Plugin};

/// Who writes here decides what root runs.
const ROOT_EQUIVALENT_WRITES: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix",
    "/opt",
    "/ostree",
    "/root",
    "/run",
    "/sbin",
    "/snap",
    "/sysroot",
    "/usr",
    "/var/lib/cloud",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/crio",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/etcd",
    "/var/lib/k0s",
    "/var/lib/kubelet",
    "/var/lib/polkit-1",
    "/var/lib/rancher",
    "/var/lib/snapd",
    "/var/lib/systemd",
    "/var/run",
    "/var/spool/anacron",
    "/var/spool/at",
    "/var/spool/cron",
];

/// Kernel settings by which root is told what to run, or the kernel what to load.
const ROOT_EQUIVALENT_SETTINGS: &[&str] = &[
    "fs.binfmt_misc.*",
    "fs.protected_*",
    "fs.suid_dumpable",
    "kernel.core_pattern",
    "kernel.hotplug",
    "kernel.kexec_load_disabled",
    "kernel.modprobe",
    "kernel.modules_disabled",
    "kernel.poweroff_cmd",
    "kernel.sysrq",
    "kernel.unprivileged_bpf_disabled",
    "kernel.usermodehelper.*",
    "vm.mmap_min_addr",
];

/// A field, what is wrong with it, and what to do.
type Refusal = (String, String, String);

impl Policy {
    /// Everything that this node refuses of `manifest`; nothing if it may run.
    pub fn check(&self, manifest: &Manifest) -> Vec<Error> {
        let refusals = self.refusals(manifest).into_iter();
        refusals
            .map(|(field, problem, remedy)| {
                let problem = Problem::invalid(field, problem, remedy);
                manifest.error(problem.because(Reason::PolicyRefused))
            })
            .collect()
    }

    fn refusals(&self, manifest: &Manifest) -> Vec<Refusal> {
        let spec = &manifest.spec;
        let namespace = manifest.identity.namespace();
        if let Some(broken) = &self.broken {
            return vec![(
                String::new(),
                format!(
                    "the node's policy cannot be read, so nobody may declare plugins: {broken}"
                ),
                "correct the policy".to_owned(),
            )];
        }
        let mut refused = above(&self.limits, spec, "this node's maximum");
        let all = NamespacePolicy {
            all_grants: true,
            ..NamespacePolicy::default()
        };
        let let_in = self.namespaces.get(namespace);
        let Some(policy) = let_in.or((namespace == self.home).then_some(&all)) else {
            refused.push((
                "metadata.namespace".to_owned(),
                format!("namespace `{namespace}` may declare no plugins on this node"),
                format!("let it in by the node's policy: `namespaces: {{{namespace}: {{}}}}`, with the grants that it needs"),
            ));
            return refused;
        };
        if let Some(limits) = &policy.limits {
            let whose = format!("the maximum of namespace `{namespace}`");
            let known: Vec<String> = refused.iter().map(|(field, ..)| field.clone()).collect();
            let lower = above(limits, spec, &whose).into_iter();
            refused.extend(lower.filter(|(field, ..)| !known.contains(field)));
        }
        let source = ModuleSource::of(&spec.module);
        if let Some(modules) = &policy.modules
            && !modules.contains(&source)
        {
            let field = format!("module.{}", source.name());
            let names: Vec<&str> = modules.iter().map(|source| source.name()).collect();
            refused.push((
                field,
                format!("modules of namespace `{namespace}` may not come from there"),
                match names.as_slice() {
                    [] => "the node's policy lets it have none (`modules`)".to_owned(),
                    names => format!(
                        "the node's policy lets them come from: {}",
                        names.join(", ")
                    ),
                },
            ));
        }
        if !policy.all_grants {
            policy.grants.refuse(self, manifest, &mut refused);
            refused.extend(borrowed(spec, namespace));
        }
        self.paths_of_the_node(manifest, &mut refused);
        self.kernel_of_the_node(manifest, &mut refused);
        refused
    }

    /// Folders that nobody, or only few, may have.
    fn paths_of_the_node(&self, manifest: &Manifest, refused: &mut Vec<Refusal>) {
        let spec = &manifest.spec;
        // A folder above may be scanned: what is private is left out of it.
        for (i, tree) in spec.grants.scan.files.iter().enumerate() {
            let mut private = self.private_folders.iter();
            if let Some(private) = private.find(|it| Path::new(tree.as_str()).starts_with(it)) {
                let private = private.display();
                refused.push((
                    format!("grants.scan.files[{i}]"),
                    format!("is in {private}, where the daemon keeps its own state"),
                    "choose a folder beside it".to_owned(),
                ));
            }
        }
        let read = spec.grants.node_files.iter().enumerate().map(|(i, files)| {
            let fixed = Path::new("/").join(files.fixed());
            (format!("grants.nodeFiles[{i}]"), fixed, false)
        });
        let changed = spec.grants.changes.files.iter().enumerate();
        let changed = changed.map(|(i, path)| {
            let field = format!("grants.changes.files[{i}]");
            (field, PathBuf::from(path.as_str()), true)
        });
        let paths = paths(spec).into_iter().chain(read).chain(changed);
        for (field, path, writes) in paths {
            let private = self.private_folders.iter();
            if let Some(private) = private.into_iter().find(|folder| overlap(folder, &path)) {
                refused.push((
                    field,
                    format!(
                        "covers {}, where the daemon keeps its own state",
                        private.display()
                    ),
                    "choose a folder beside it".to_owned(),
                ));
            } else if writes
                && let Some(system) = root_equivalent_folder(&path)
                && !self.trusts(&spec.module)
            {
                let what = format!("writing to {system}");
                refused.push(root_equivalent(field, &what, "write elsewhere", spec));
            }
        }
    }

    /// Changes of the kernel that only few may make.
    fn kernel_of_the_node(&self, manifest: &Manifest, refused: &mut Vec<Refusal>) {
        let spec = &manifest.spec;
        if self.trusts(&spec.module) {
            return;
        }
        let changes = &spec.grants.changes;
        for (i, module) in changes.kernel_modules.iter().enumerate() {
            let field = format!("grants.changes.kernelModules[{i}]");
            let what = format!("loading {module} into the kernel");
            refused.push(root_equivalent(field, &what, "remove it", spec));
        }
        // Among them are shells for everybody, and what guards the node.
        for (i, unit) in changes.units.iter().enumerate() {
            let field = format!("grants.changes.units[{i}]");
            let what = format!("starting and stopping {unit}");
            refused.push(root_equivalent(field, &what, "remove it", spec));
        }
        for (i, granted) in changes.sysctls.iter().enumerate() {
            let settings = ROOT_EQUIVALENT_SETTINGS.iter();
            let mut settings =
                settings.filter_map(|it| SysctlGlob::try_from((*it).to_owned()).ok());
            if let Some(setting) = settings.find(|setting| setting.meets(granted)) {
                let field = format!("grants.changes.sysctls[{i}]");
                let what = format!("setting {setting}");
                refused.push(root_equivalent(field, &what, "name others", spec));
            }
        }
    }

    fn trusts(&self, module: &Module) -> bool {
        let mut trusted = self.allow_root_equivalent.iter();
        trusted.any(|trusted| match (trusted, module) {
            (TrustedModule::Bundled(name), Module::Bundled(bundled)) => name == bundled,
            (TrustedModule::Sha256(digest), module) => {
                stated_digest(module).is_some_and(|stated| digest.eq_ignore_ascii_case(stated))
            }
            (TrustedModule::Bundled(_), _) => false,
        })
    }
}

impl AllowedLogs {
    /// Whether something may be sent to such destinations.
    fn may_send(&self, kind: &str) -> bool {
        let kinds = self.destinations.as_ref();
        kinds.is_none_or(|kinds| kinds.contains(kind))
    }
}

impl Allowance {
    /// Notes what is not in it.
    fn refuse(&self, policy: &Policy, manifest: &Manifest, refused: &mut Vec<Refusal>) {
        let spec = &manifest.spec;
        let namespace = manifest.identity.namespace();
        let mut add = |field: String, problem: String, yaml: String| {
            let remedy = format!(
                "remove it, or add to the node's policy: `namespaces: {{{namespace}: {{grants: {{{yaml}}}}}}}`"
            );
            refused.push((field, problem, remedy));
        };
        let not = |what: &str| format!("namespace `{namespace}` may not {what} on this node");
        if spec.grants.state.is_some() && !self.state {
            let yaml = "state: true".to_owned();
            add("grants.state".to_owned(), not("keep state"), yaml);
        }
        if spec.grants.node_facts && !self.node_facts {
            let yaml = "nodeFacts: true".to_owned();
            add("grants.nodeFacts".to_owned(), not("know the node"), yaml);
        }
        if spec.grants.node_stats && !self.node_stats {
            let yaml = "nodeStats: true".to_owned();
            let what = not("ask the node's kernel");
            add("grants.nodeStats".to_owned(), what, yaml);
        }
        for (i, files) in spec.grants.node_files.iter().enumerate() {
            if !self.node_files.iter().any(|allowed| allowed.holds(files)) {
                let field = format!("grants.nodeFiles[{i}]");
                add(
                    field,
                    not(&format!("read {files}")),
                    format!("nodeFiles: [{files}]"),
                );
            }
        }
        self.refuse_changes(spec, &not, &mut add);
        self.refuse_scan(spec, &not, &mut add);
        for (field, path, writes) in paths(spec) {
            let mut folders = self.files.iter();
            let inside = folders.any(|folder| {
                path.starts_with(&folder.host) && (folder.writable || !writes) && is_plain(&path)
            });
            // Nobody may, so the policy needs no entry.
            let private = policy.private_folders.iter();
            let private = private.into_iter().any(|folder| overlap(folder, &path));
            if !inside && !private {
                let what = if writes { "write to" } else { "read" };
                let writable = if writes { ", writable: true" } else { "" };
                let host = path.display();
                let yaml = format!("files: [{{host: {host}{writable}}}]");
                add(field, not(&format!("{what} {host}")), yaml);
            }
        }
        let pushes = spec.metrics.iter().any(|it| !it.remote_write.is_empty());
        if pushes && !self.remote_write {
            let what = not("push what it measures");
            let yaml = "remoteWrite: true".to_owned();
            add("metrics.remoteWrite".to_owned(), what, yaml);
        }
        let found = spec.scanning.iter().flat_map(|it| &it.destinations);
        for (i, destination) in found.enumerate() {
            let kind = destination.kind.name();
            if !self.logs.as_ref().is_some_and(|logs| logs.may_send(kind)) {
                let field = format!("scanning.destinations[{i}].{kind}");
                let what = not(&format!("send findings to `{kind}`"));
                add(field, what, format!("logs: {{destinations: [{kind}]}}"));
            }
        }
        let Some(logs) = &spec.logs else {
            return;
        };
        let Some(allowed) = &self.logs else {
            let yaml = "logs: {containers: [NAMESPACE], files: [FOLDER]}".to_owned();
            return add("logs".to_owned(), not("read logs"), yaml);
        };
        for (i, source) in logs.sources.iter().enumerate() {
            match &source.kind {
                LogSourceKind::Containers(_) if allowed.containers.contains("*") => {}
                LogSourceKind::Containers(source) => {
                    let field = format!("logs.sources[{i}].containers.namespaces");
                    if source.namespaces.is_empty() {
                        let what = not("read the logs of all containers");
                        add(field, what, "logs: {containers: [\"*\"]}".to_owned());
                        continue;
                    }
                    let mut wanted = source.namespaces.iter();
                    if let Some(other) = wanted.find(|one| !allowed.containers.contains(*one)) {
                        let what = not(&format!("read the logs of `{other}`"));
                        add(field, what, format!("logs: {{containers: [{other}]}}"));
                    }
                }
                LogSourceKind::Files(source) => {
                    for (j, glob) in source.include.iter().enumerate() {
                        let fixed = fixed_part(glob);
                        let mut folders = allowed.files.iter();
                        if !folders.any(|folder| fixed.starts_with(folder) && is_plain(&fixed)) {
                            let field = format!("logs.sources[{i}].files.include[{j}]");
                            let what = not(&format!("read {glob}"));
                            let folder = fixed.display();
                            add(field, what, format!("logs: {{files: [{folder}]}}"));
                        }
                    }
                }
            }
        }
        for (i, destination) in logs.destinations.iter().enumerate() {
            let kind = destination.kind.name();
            if !allowed.may_send(kind) {
                let field = format!("logs.destinations[{i}].{kind}");
                let what = not(&format!("send logs to `{kind}`"));
                add(field, what, format!("logs: {{destinations: [{kind}]}}"));
            }
        }
    }
}

impl Allowance {
    /// Notes the changes that are not in it.
    fn refuse_changes(
        &self,
        spec: &Plugin,
        not: &dyn Fn(&str) -> String,
        add: &mut dyn FnMut(String, String, String),
    ) {
        let (wanted, allowed) = (&spec.grants.changes, &self.changes);
        let mut note = |kind: &str, i: usize, name: String, what: &str| {
            add(
                format!("grants.changes.{kind}[{i}]"),
                not(&format!("{what} {name}")),
                format!("changes: {{{kind}: [\"{name}\"]}}"),
            );
        };
        for (i, path) in wanted.files.iter().enumerate() {
            if allowed.file(path).is_none() {
                note("files", i, path.to_string(), "change");
            }
        }
        for (i, name) in wanted.sysctls.iter().enumerate() {
            if !allowed.sysctls.iter().any(|allowed| allowed.holds(name)) {
                note("sysctls", i, name.to_string(), "set");
            }
        }
        for (i, name) in wanted.kernel_modules.iter().enumerate() {
            if !allowed
                .kernel_modules
                .iter()
                .any(|allowed| allowed.holds(name))
            {
                note("kernelModules", i, name.to_string(), "load or blacklist");
            }
        }
        for (i, name) in wanted.units.iter().enumerate() {
            if !allowed.units.iter().any(|allowed| allowed.holds(name)) {
                note("units", i, name.to_string(), "change the unit");
            }
        }
    }
}

/// What only a module may have that the node's administrator trusts like root.
fn root_equivalent(field: String, what: &str, or: &str, spec: &Plugin) -> Refusal {
    (
        field,
        format!("{what} is as good as being root on this node"),
        match module_of(&spec.module) {
            Some(module) => {
                format!("{or}, or add to the node's policy: `allowRootEquivalent: [{module}]`")
            }
            None => format!(
                "{or}, or state the module's `sha256` and allow it in the node's policy with `allowRootEquivalent`"
            ),
        },
    )
}

impl ModuleSource {
    fn of(module: &Module) -> Self {
        match module {
            Module::Bundled(_) => Self::Bundled,
            Module::File { .. } => Self::File,
            Module::BinaryData { .. } => Self::BinaryData,
            Module::ConfigMapParts { .. } => Self::ConfigMapParts,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::File => "file",
            Self::BinaryData => "binaryData",
            Self::ConfigMapParts => "configMapParts",
        }
    }
}

/// The limits of `spec` that are above `most`, which messages call `whose`.
fn above(most: &NodeLimits, spec: &Plugin, whose: &str) -> Vec<Refusal> {
    let asked = &spec.limits;
    let mut above = Vec::new();
    let mut add = |field: &str, is_above: bool, asked: String, most: String| {
        let name = field.rsplit('.').next().unwrap_or(field);
        if is_above {
            above.push((
                field.to_owned(),
                format!("{asked} is above {whose} of {most}"),
                format!("write `{name}: {most}` or less, or raise it in the node's policy"),
            ));
        }
    };
    macro_rules! limit {
        ($field:literal, $asked:expr, $most:expr) => {
            add(
                $field,
                $asked > $most,
                $asked.to_string(),
                $most.to_string(),
            )
        };
    }
    limit!("limits.memory", asked.memory, most.memory);
    limit!("limits.deadline", asked.deadline, most.deadline);
    limit!("limits.cpu", asked.cpu, most.cpu);
    limit!("limits.output", asked.output, most.output);
    if let Some(state) = &spec.grants.state {
        limit!("grants.state.quota", state.quota, most.state);
    }
    above
}

/// The destinations of logs and of findings, with their fields.
fn destinations(spec: &Plugin) -> impl Iterator<Item = (String, &Destination)> {
    let logs = spec.logs.iter().flat_map(|logs| &logs.destinations);
    let logs = logs.enumerate().map(|it| ("logs", it));
    let scanning = spec.scanning.iter().flat_map(|it| &it.destinations);
    let scanning = scanning.enumerate().map(|it| ("scanning", it));
    let all = logs.chain(scanning);
    all.map(|(role, (i, destination))| (format!("{role}.destinations[{i}]"), destination))
}

/// Field, path and whether it is written to.
fn paths(spec: &Plugin) -> Vec<(String, PathBuf, bool)> {
    let grants = spec.grants.files.iter().enumerate().map(|(i, grant)| {
        (
            format!("grants.files[{i}].host"),
            grant.host.clone(),
            grant.writable,
        )
    });
    let destinations = destinations(spec).flat_map(|(field, destination)| {
        let file = match &destination.kind {
            DestinationKind::File(file) => Some(("file", &file.path)),
            _ => None,
        };
        let queue = destination.queue.as_ref();
        let queue = queue.and_then(|queue| Some(("queue", queue.path.as_ref()?)));
        let paths = file.into_iter().chain(queue);
        paths.map(move |(what, path)| {
            let field = format!("{field}.{what}.path");
            (field, path.clone(), true)
        })
    });
    let targets = spec.metrics.iter().flat_map(|it| &it.remote_write);
    let targets = targets.enumerate().filter_map(|(i, target)| {
        let path = target.queue.as_ref()?.path.clone()?;
        Some((format!("metrics.remoteWrite[{i}].queue.path"), path, true))
    });
    grants.chain(destinations).chain(targets).collect()
}

/// Destinations that would send what is the daemon's: its files and environment.
fn borrowed(spec: &Plugin, namespace: &str) -> Vec<Refusal> {
    let destinations =
        destinations(spec).map(|(field, it)| (field, serde_json::to_value(it).unwrap_or_default()));
    let targets = spec.metrics.iter().flat_map(|it| &it.remote_write);
    let targets = targets.enumerate().map(|(i, it)| {
        let value = serde_json::to_value(it).unwrap_or_default();
        (format!("metrics.remoteWrite[{i}]"), value)
    });
    let refusals = destinations.chain(targets).filter_map(|(field, value)| {
        let mut found = None;
        find_borrowed(&value, &mut found);
        Some((
            field,
            format!(
                "namespace `{namespace}` may not use the daemon's {} on this node",
                found?
            ),
            "take credentials from a Secret of the namespace, `${secret:NAME/KEY}`".to_owned(),
        ))
    });
    refusals.collect()
}

fn find_borrowed(value: &Value, found: &mut Option<&'static str>) {
    match value {
        Value::String(text) if text.contains("${file:") => *found = Some("files"),
        Value::String(text) if text.contains("${env:") => *found = Some("environment"),
        Value::Array(items) => items.iter().for_each(|item| find_borrowed(item, found)),
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            match key.ends_with("File") && value.is_string() {
                true => *found = Some("files"),
                false => find_borrowed(value, found),
            }
        }),
        _ => {}
    }
}

/// A glob up to the last folder before its first special character.
fn fixed_part(glob: &str) -> PathBuf {
    let special = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
    let fixed = &glob[..special];
    let end = match special == glob.len() {
        true => special,
        false => fixed.rfind('/').map_or(0, |slash| slash.max(1)),
    };
    PathBuf::from(&fixed[..end])
}

/// Whether the path leads where it seems to; links are looked at where it is opened.
fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    path.is_absolute() && !parts.any(|part| matches!(part, std::path::Component::ParentDir))
}

/// The digest that a manifest states of its module.
fn stated_digest(module: &Module) -> Option<&str> {
    match module {
        Module::Bundled(_) => None,
        Module::File { sha256, .. } | Module::ConfigMapParts { sha256, .. } => Some(sha256),
        Module::BinaryData { sha256, .. } => sha256.as_deref(),
    }
}

/// How a policy names the module.
fn module_of(module: &Module) -> Option<String> {
    match module {
        Module::Bundled(name) => Some(format!("{{bundled: {name}}}")),
        module => stated_digest(module).map(|sha256| format!("{{sha256: {sha256}}}")),
    }
}

/// The folder of the system that a path is, is in or has in it, and in which writing is as good as being
/// root.
pub fn root_equivalent_folder(path: &Path) -> Option<&'static str> {
    let mut systems = ROOT_EQUIVALENT_WRITES.iter();
    systems
        .find(|system| overlap(Path::new(system), path))
        .copied()
}

/// Whether one path is the other, or above it.
fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
