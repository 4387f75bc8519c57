//! Values that name a secret instead of holding it: `${env:NAME}`, `${file:/path}` and, of the cluster,
//! `${secret:NAME/KEY}`; and what differs from node to node, `${node:name}` and `${node:label/KEY}`.
//!
//! The secret is looked up when it is needed, kept out of `Debug`, and taken out of whatever a peer
//! says before that reaches a log or the status.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::kubernetes::{ClusterSecrets, SecretKey};

/// A file larger than this, in bytes, is no credential; a system's bundle of certificates is shorter.
const MAX_FILE: u64 = 512 << 10;

/// Looks secrets up, and says which a manifest may name. The caller puts its policy in here: a
/// destination sends what it is given to whatever host the same manifest names.
pub trait Secrets: Send + Sync {
    /// The environment variable `name`; none if it is not set.
    ///
    /// An error is a refusal and says why.
    fn env(&self, name: &str) -> Result<Option<OsString>, String>;

    /// Whether the file may be read, in the daemon's own file system. An error is a refusal and
    /// says why.
    fn may_read(&self, path: &Path) -> Result<(), String>;

    /// A key of a Secret in the manifest's own namespace.
    fn secret(&self, name: &str, key: &str) -> Arc<dyn Live>;

    /// A label of the node, or its name if there is no label's name.
    fn node(&self, label: Option<&str>) -> Arc<dyn Live>;
}

/// A value that may change while the daemon runs.
pub trait Live: Send + Sync {
    /// What it is now. Must not block.
    ///
    /// An error says why there is none, and never a value.
    fn get(&self) -> Result<String, String>;
}

/// The daemon's environment and files, without what would hand over the daemon itself: its
/// service account, kernel interfaces, and other processes; and what the cluster has for a namespace.
#[derive(Debug, Clone)]
pub struct DaemonSecrets {
    namespace: Box<str>,
    cluster: Option<ClusterSecrets>,
    node: NodeNames,
}

/// What the node is called.
#[derive(Debug, Clone)]
pub struct NodeNames {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: watch::Receiver<Arc<BTreeMap<String, String>>>,
}

impl Default for NodeNames {
    fn default() -> Self {
        Self {
            name: "".into(),
            labels: watch::channel(Arc::default()).1,
        }
    }
}

impl DaemonSecrets {
    /// For manifests of a namespace. Without a cluster there are no Secrets of it.
    pub fn new(namespace: &str, cluster: Option<ClusterSecrets>, node: NodeNames) -> Self {
        Self {
            namespace: namespace.into(),
            cluster,
            node,
        }
    }

    /// Where there is no daemon: environment and files.
    pub fn offline() -> Self {
        Self::new("local", None, NodeNames::default())
    }
}

impl Live for SecretKey {
    fn get(&self) -> Result<String, String> {
        Self::get(self)
    }
}

struct NoCluster;

impl Live for NoCluster {
    fn get(&self) -> Result<String, String> {
        Err(
            "there is no cluster here, and so no Secret; use `${env:NAME}` or `${file:/path}`"
                .to_owned(),
        )
    }
}

struct NodeName(Arc<str>);

impl Live for NodeName {
    fn get(&self) -> Result<String, String> {
        Ok(self.0.to_string())
    }
}

struct NodeLabel {
    labels: watch::Receiver<Arc<BTreeMap<String, String>>>,
    key: Box<str>,
}

impl Live for NodeLabel {
    fn get(&self) -> Result<String, String> {
        let found = self.labels.borrow().get(&*self.key).cloned();
        found.ok_or_else(|| format!("the node has no label {}", self.key))
    }
}

impl Secrets for DaemonSecrets {
    fn secret(&self, name: &str, key: &str) -> Arc<dyn Live> {
        match &self.cluster {
            Some(cluster) => Arc::new(cluster.key(&self.namespace, name, key)),
            None => Arc::new(NoCluster),
        }
    }

    fn node(&self, label: Option<&str>) -> Arc<dyn Live> {
        match label {
            None => Arc::new(NodeName(self.node.name.clone())),
            Some(key) => Arc::new(NodeLabel {
                labels: self.node.labels.clone(),
                key: key.into(),
            }),
        }
    }

    fn env(&self, name: &str) -> Result<Option<OsString>, String> {
        Ok(std::env::var_os(name))
    }

    fn may_read(&self, path: &Path) -> Result<(), String> {
        // Resolved, so that neither `..` nor a link leads there.
        let resolved = path
            .canonicalize()
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        match forbidden(&resolved) {
            Some(root) => Err(format!(
                "{} lies below {root}, which holds secrets of the daemon or of others; use another file",
                path.display()
            )),
            None => Ok(()),
        }
    }
}

/// The folder that no manifest may name files in and that holds `resolved`, a path without links.
fn forbidden(resolved: &Path) -> Option<&'static str> {
    // With /host, where a pod of ours may have the node's root.
    const FORBIDDEN: [&str; 9] = [
        "/proc",
        "/sys",
        "/dev",
        "/run/secrets/kubernetes.io",
        "/var/run/secrets/kubernetes.io",
        "/host/proc",
        "/host/sys",
        // Every pod's secrets and service account.
        "/var/lib/kubelet",
        "/host/var/lib/kubelet",
    ];
    FORBIDDEN
        .into_iter()
        .find(|root| resolved.starts_with(root))
}

/// A text with the secrets that it names, by reference.
#[derive(Clone)]
pub struct Template {
    parts: Vec<Part>,
    /// Whether the whole value is a secret, also what does not come from a reference.
    all_hidden: bool,
    secrets: Arc<dyn Secrets>,
}

#[derive(Clone)]
enum Part {
    Text(String),
    Env(String),
    File {
        path: PathBuf,
        read: Option<(Stamp, String)>,
    },
    Live {
        live: Arc<dyn Live>,
        is_secret: bool,
        read: Option<String>,
    },
}

/// What changes when a file is written or, as Kubernetes does it, replaced through a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// A template's value.
pub struct Resolved {
    /// The whole text. Never shown.
    pub text: String,
    /// The secrets in it, to be taken out of messages with [`redact`].
    pub hidden: Vec<String>,
}

impl Template {
    /// Reads the references in `text`; anything else stands for itself.
    ///
    /// An error says what is wrong with which reference.
    pub fn parse(text: &str, secrets: &Arc<dyn Secrets>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            let Some(end) = from.find('}') else {
                return Err("\"${\" without \"}\"".to_owned());
            };
            let reference = &from[2..end];
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match reference.split_once(':') {
                Some(("env", name)) if !name.is_empty() => Part::Env(name.to_owned()),
                Some(("file", path)) if path.starts_with('/') => Part::File {
                    path: PathBuf::from(path),
                    read: None,
                },
                Some(("secret", reference)) if is_key(reference) => {
                    let (name, key) = reference.split_once('/').unwrap_or_default();
                    Part::live(secrets.secret(name, key), true)
                }
                Some(("node", "name")) => Part::live(secrets.node(None), false),
                Some(("node", reference)) if reference.starts_with("label/") => {
                    Part::live(secrets.node(reference.strip_prefix("label/")), false)
                }
                _ => {
                    return Err(format!(
                        "\"${{{reference}}}\" is none of ${{env:NAME}}, ${{file:/path}}, ${{secret:NAME/KEY}}, ${{node:name}} and ${{node:label/KEY}}"
                    ));
                }
            });
            rest = &from[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self {
            parts,
            all_hidden: false,
            secrets: Arc::clone(secrets),
        })
    }

    /// The content of a file.
    pub fn file(path: &Path, secrets: &Arc<dyn Secrets>) -> Self {
        Self {
            parts: vec![Part::File {
                path: path.to_owned(),
                read: None,
            }],
            all_hidden: false,
            secrets: Arc::clone(secrets),
        }
    }

    /// The same, of which all is a secret: a password may stand in the manifest itself.
    pub fn all_hidden(mut self) -> Self {
        self.all_hidden = true;
        self
    }

    /// Whether the value can change while the daemon runs.
    pub fn can_change(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|part| matches!(part, Part::File { .. } | Part::Live { .. }))
    }

    /// Whether it is another one since [`Template::resolve`]; a file by its time, size and inode.
    /// Blocks, briefly.
    pub fn changed(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::File { path, read } => {
                let now = std::fs::metadata(path).ok().map(|found| stamp(&found));
                now != read.as_ref().map(|(stamp, _)| *stamp)
            }
            Part::Live { live, read, .. } => live.get().ok() != *read,
            Part::Text(_) | Part::Env(_) => false,
        })
    }

    /// Looks the secrets up. Blocks, briefly. One line feed at a file's end is left out.
    ///
    /// An error names the reference, never a value.
    pub fn resolve(&mut self) -> Result<Resolved, String> {
        let mut resolved = Resolved {
            text: String::new(),
            hidden: Vec::new(),
        };
        for part in &mut self.parts {
            let secret = match part {
                Part::Text(text) => {
                    resolved.text.push_str(text);
                    continue;
                }
                Part::Env(name) => self
                    .secrets
                    .env(name)?
                    .ok_or_else(|| format!("the environment variable {name} is not set"))?
                    .into_string()
                    .map_err(|_| format!("the environment variable {name} is not UTF-8"))?,
                Part::File { path, read } => {
                    self.secrets.may_read(path)?;
                    let (stamp, text) = read_file(path)
                        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                    *read = Some((stamp, text.clone()));
                    text
                }
                Part::Live {
                    live,
                    is_secret,
                    read,
                } => {
                    let text = live.get()?;
                    *read = Some(text.clone());
                    if !*is_secret {
                        resolved.text.push_str(&text);
                        continue;
                    }
                    text
                }
            };
            resolved.text.push_str(&secret);
            resolved.hidden.push(secret);
        }
        if self.all_hidden {
            resolved.hidden.push(resolved.text.clone());
        }
        Ok(resolved)
    }
}

impl Part {
    fn live(live: Arc<dyn Live>, is_secret: bool) -> Self {
        Self::Live {
            live,
            is_secret,
            read: None,
        }
    }
}

/// Whether it is `NAME/KEY`.
fn is_key(reference: &str) -> bool {
    let parts = reference.split_once('/');
    parts.is_some_and(|(name, key)| !name.is_empty() && !key.is_empty() && !key.contains('/'))
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template(...)")
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolved(...)")
    }
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    Stamp {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        inode: metadata.ino(),
    }
}

fn read_file(path: &Path) -> std::io::Result<(Stamp, String)> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("longer than 512 KiB"));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok((stamp(&metadata), text))
}

/// Replaces every secret in `message` by `***`.
pub fn redact(message: &str, hidden: &[String]) -> String {
    let mut message = message.to_owned();
    for secret in hidden.iter().filter(|secret| !secret.is_empty()) {
        if message.contains(secret.as_str()) {
            message = message.replace(secret.as_str(), "***");
        }
    }
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Fake;
    struct Key(String);
    impl Live for Key {
        fn get(&self) -> Result<String, String> {
            Ok(self.0.clone())
        }
    }
    impl Secrets for Fake {
        fn secret(&self, name: &str, key: &str) -> Arc<dyn Live> {
            Arc::new(Key(format!("{name}.{key}")))
        }
        fn node(&self, label: Option<&str>) -> Arc<dyn Live> {
            Arc::new(Key(label.unwrap_or("n1").to_owned()))
        }
        fn env(&self, name: &str) -> Result<Option<OsString>, String> {
            Ok((name == "TOKEN").then(|| OsString::from("s3cret")))
        }
        fn may_read(&self, path: &Path) -> Result<(), String> {
            match path.starts_with("/proc") {
                true => Err("refused".to_owned()),
                false => Ok(()),
            }
        }
    }

    fn template(text: &str) -> Result<Template, String> {
        let secrets: Arc<dyn Secrets> = Arc::new(Fake);
        Template::parse(text, &secrets)
    }

    #[test]
    fn references_are_replaced_and_hidden() {
        let mut template = template("Bearer ${env:TOKEN}!").unwrap();
        let resolved = template.resolve().unwrap();
        assert_eq!(resolved.text, "Bearer s3cret!");
        assert_eq!(redact("you sent s3cret", &resolved.hidden), "you sent ***");
        assert!(!format!("{template:?}{resolved:?}").contains("s3cret"));
    }

    #[test]
    fn secrets_of_the_cluster_are_hidden_and_the_nodes_names_are_not() {
        let mut template = template("${secret:a/b} ${node:name} ${node:label/x.y/z}").unwrap();
        assert!(template.can_change());
        let resolved = template.resolve().unwrap();
        assert_eq!(resolved.text, "a.b n1 x.y/z");
        assert_eq!(resolved.hidden, ["a.b"]);
        assert!(!template.changed());
    }

    #[test]
    fn a_wrong_reference_is_named() {
        for text in [
            "${env:}",
            "${file:relative}",
            "${vault:x}",
            "${env:A",
            "${secret:a}",
            "${secret:a/}",
            "${secret:a/b/c}",
            "${node:ip}",
        ] {
            assert!(template(text).is_err(), "{text}");
        }
        let error = template("${env:ABSENT}").unwrap().resolve().unwrap_err();
        assert!(error.contains("ABSENT"), "{error}");
        let error = template("${file:/proc/1/environ}").unwrap().resolve();
        assert_eq!(error.unwrap_err(), "refused");
    }

    #[test]
    fn a_file_is_read_again_when_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let mut template = template(&format!("${{file:{}}}", path.display())).unwrap();
        assert!(template.changed());
        assert_eq!(template.resolve().unwrap().text, "one");
        assert!(!template.changed());
        let other = folder.path().join("new");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(template.changed());
        assert_eq!(template.resolve().unwrap().text, "two");
    }

    #[test]
    fn the_daemons_own_secrets_are_refused() {
        assert!(
            DaemonSecrets::offline()
                .may_read(Path::new("/proc/self/environ"))
                .is_err()
        );
        assert!(
            DaemonSecrets::offline()
                .may_read(Path::new("/etc/../proc/version"))
                .is_err()
        );
        for path in [
            "/host/proc/1/environ",
            "/host/sys/kernel",
            "/var/lib/kubelet/pods/1/volumes/token",
            "/host/var/lib/kubelet",
        ] {
            assert!(forbidden(Path::new(path)).is_some(), "{path}");
        }
        for path in [
            "/etc/bulkhead/token",
            "/host/etc/token",
            "/var/lib/kubelets",
        ] {
            assert_eq!(forbidden(Path::new(path)), None);
        }
    }
}
