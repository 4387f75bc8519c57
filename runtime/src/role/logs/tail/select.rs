//! Which paths are read, and what a path says about its lines. Pure: nothing here touches the disk.
//!
//! A source becomes patterns, a pattern a list of path components. Folders are walked with the
//! positions that they stand for in each pattern, so that one new name is judged by itself, without
//! matching whole paths or listing the tree again.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::multiline::Rules;
use crate::manifest::{ContainerSource, FileFormat, LogSource, LogSourceKind, PodMetadata};

/// Endings of compressed files, which are never read: their bytes are no lines.
const COMPRESSED: [&[u8]; 5] = [b".gz", b".zst", b".xz", b".bz2", b".lz4"];

/// One component of a pattern.
#[derive(Debug)]
enum Part {
    Literal(OsString),
    Glob(GlobMatcher),
    /// `**`: any number of folders, none included.
    Deep,
}

impl Part {
    fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Glob(glob) => glob.is_match(Path::new(name)),
            Self::Deep => true,
        }
    }
}

#[derive(Debug)]
struct Pattern {
    parts: Vec<Part>,
    source: usize,
}

/// A position in a pattern: a folder in this state holds what part `at` speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pattern: usize,
    at: usize,
}

#[derive(Debug)]
enum Kind {
    Containers {
        wanted: Vec<String>,
        unwanted: Vec<String>,
        pods: PathBuf,
        root: PathBuf,
    },
    Files {
        exclude: GlobSet,
    },
}

#[derive(Debug)]
struct Source {
    kind: Kind,
    format: FileFormat,
    multiline: Option<Arc<Rules>>,
    metadata: Option<Arc<PodMetadata>>,
}

/// What a matching path means.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    /// How lines look.
    pub(super) format: FileFormat,
    /// How they are joined.
    pub(super) multiline: Option<Arc<Rules>>,
    /// OpenTelemetry attributes known from the path.
    pub(super) attributes: Vec<(String, String)>,
    /// What is to be known of its pod.
    pub(super) metadata: Option<Arc<PodMetadata>>,
}

/// The sources, ready for matching.
#[derive(Debug)]
pub(super) struct Selector {
    patterns: Vec<Pattern>,
    sources: Vec<Source>,
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl Selector {
    pub(super) fn new(sources: &[LogSource]) -> io::Result<Self> {
        let mut this = Self {
            patterns: Vec::new(),
            sources: Vec::new(),
        };
        for source in sources {
            let multiline = source.multiline.as_ref().map(Rules::new).transpose()?;
            let multiline = multiline.map(Arc::new);
            match &source.kind {
                LogSourceKind::Containers(source) => this.add_containers(source, multiline),
                LogSourceKind::Files(files) => {
                    let mut exclude = GlobSetBuilder::new();
                    for glob in &files.exclude {
                        exclude.add(compile(glob)?);
                    }
                    let exclude = exclude
                        .build()
                        .map_err(|error| invalid(error.to_string()))?;
                    let index = this.sources.len();
                    this.sources.push(Source {
                        kind: Kind::Files { exclude },
                        format: files.format,
                        multiline,
                        metadata: None,
                    });
                    for glob in &files.include {
                        let parts = parts(glob)?;
                        this.patterns.push(Pattern {
                            parts,
                            source: index,
                        });
                    }
                }
            }
        }
        Ok(this)
    }

    fn add_containers(&mut self, source: &ContainerSource, multiline: Option<Arc<Rules>>) {
        let root = source.root.clone().unwrap_or_else(|| "/var/log".into());
        let index = self.sources.len();
        self.sources.push(Source {
            kind: Kind::Containers {
                wanted: source.namespaces.clone(),
                unwanted: source.exclude_namespaces.clone(),
                pods: root.join("pods"),
                root: root.clone(),
            },
            format: FileFormat::Cri,
            multiline,
            metadata: source.metadata.clone().map(Arc::new),
        });
        let any = || Part::Glob(star());
        let log = || Part::Glob(star_log());
        // Pods first: their paths say more than the links in `containers`.
        for tail in [
            vec![Part::Literal("pods".into()), any(), any(), log()],
            vec![Part::Literal("containers".into()), log()],
        ] {
            let mut parts = literals(&root);
            parts.extend(tail);
            self.patterns.push(Pattern {
                parts,
                source: index,
            });
        }
    }

    /// Where walking starts: the root folder in the first state of every pattern.
    pub(super) fn roots(&self) -> Vec<State> {
        (0..self.patterns.len())
            .map(|pattern| State { pattern, at: 0 })
            .collect()
    }

    /// The one name that a folder in `state` may hold, if it is known without listing.
    pub(super) fn literal(&self, state: State) -> Option<&OsStr> {
        match &self.patterns[state.pattern].parts[state.at] {
            Part::Literal(name) => Some(name),
            _ => None,
        }
    }

    /// Whether a folder in `state` is only a step towards the pattern's first wildcard.
    pub(super) fn is_step(&self, state: State) -> bool {
        let parts = &self.patterns[state.pattern].parts;
        state.at + 1 < parts.len()
            && parts[..=state.at]
                .iter()
                .all(|part| matches!(part, Part::Literal(_)))
    }

    /// The states of the folder `name` inside a folder in `state`; `link` if it is a symbolic link,
    /// which `**` does not follow, because it could lead round in a circle.
    pub(super) fn descend(&self, state: State, name: &OsStr, link: bool, into: &mut Vec<State>) {
        let parts = &self.patterns[state.pattern].parts;
        let mut add = |state| {
            if !into.contains(&state) {
                into.push(state);
            }
        };
        let next = State {
            at: state.at + 1,
            ..state
        };
        match &parts[state.at] {
            Part::Deep => {
                if !link {
                    add(state);
                }
                if next.at < parts.len() {
                    self.descend(next, name, link, into);
                }
            }
            part => {
                if next.at < parts.len() && part.matches(name) {
                    add(next);
                }
            }
        }
    }

    /// Whether the pattern of `state` matches a file `name` in a folder in that state; gives the source.
    pub(super) fn matches(&self, state: State, name: &OsStr) -> Option<usize> {
        let pattern = &self.patterns[state.pattern];
        let part = &pattern.parts[state.at];
        let last = state.at + 1 == pattern.parts.len();
        match part {
            Part::Deep if last => Some(pattern.source),
            Part::Deep => self.matches(
                State {
                    at: state.at + 1,
                    ..state
                },
                name,
            ),
            part if last && part.matches(name) => Some(pattern.source),
            _ => None,
        }
    }

    /// The name that a rotated file `name` had, if a pattern matches that: what is left of a dot or
    /// dash (`app.log.1`, `0.log.20240102-030405`).
    pub(super) fn rotated_from<'a>(&self, states: &[State], name: &'a OsStr) -> Option<&'a OsStr> {
        let bytes = name.as_bytes();
        if compressed(name) {
            return None;
        }
        (1..bytes.len())
            .rev()
            .filter(|&at| matches!(bytes[at], b'.' | b'-'))
            .map(|at| OsStr::from_bytes(&bytes[..at]))
            .find(|base| states.iter().any(|&s| self.matches(s, base).is_some()))
    }

    /// What `path`, matched by `source`, means; `None` if the source leaves it out. `target` is the
    /// path behind a symbolic link, if it is one.
    pub(super) fn accept(
        &self,
        source: usize,
        path: &Path,
        target: Option<&Path>,
    ) -> Option<Matched> {
        let Source {
            kind,
            format,
            multiline,
            metadata,
        } = &self.sources[source];
        if path.file_name().is_none_or(compressed) {
            return None;
        }
        let attributes = match kind {
            Kind::Files { exclude } => {
                if exclude.is_match(path) {
                    return None;
                }
                Vec::new()
            }
            Kind::Containers {
                wanted,
                unwanted,
                pods,
                root,
            } => {
                let container = [Some(path), target]
                    .into_iter()
                    .flatten()
                    .find_map(|path| pod_path(pods, path))
                    .or_else(|| container_path(root, path))?;
                let namespace = container.namespace;
                if !wanted.is_empty() && !wanted.iter().any(|name| name == namespace)
                    || unwanted.iter().any(|name| name == namespace)
                {
                    return None;
                }
                container.attributes()
            }
        };
        Some(Matched {
            format: *format,
            multiline: multiline.clone(),
            attributes,
            metadata: metadata.clone(),
        })
    }

    /// What the absolute `path` means, if any pattern matches it.
    pub(super) fn find(&self, path: &Path) -> Option<Matched> {
        let names: Vec<&OsStr> = path.iter().skip(1).collect();
        let (file, folders) = names.split_last()?;
        let mut states = self.roots();
        for folder in folders {
            let mut next = Vec::new();
            for state in states {
                self.descend(state, folder, false, &mut next);
            }
            states = next;
        }
        states
            .into_iter()
            .filter_map(|state| self.matches(state, file))
            .find_map(|source| self.accept(source, path, None))
    }

    /// Whether `path` lies in the `pods` folder of a container source: its name tells most.
    pub(super) fn in_pods(&self, path: &Path) -> bool {
        self.sources.iter().any(|source| match &source.kind {
            Kind::Containers { pods, .. } => path.starts_with(pods),
            Kind::Files { .. } => false,
        })
    }
}

fn compressed(name: &OsStr) -> bool {
    COMPRESSED
        .iter()
        .any(|ending| name.as_bytes().ends_with(ending))
}

fn compile(glob: &str) -> io::Result<globset::Glob> {
    GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| invalid(error.to_string()))
}

#[expect(clippy::expect_used, reason = "the pattern is a constant and valid")]
fn star() -> GlobMatcher {
    compile("*").expect("valid").compile_matcher()
}

#[expect(clippy::expect_used, reason = "the pattern is a constant and valid")]
fn star_log() -> GlobMatcher {
    compile("*.log").expect("valid").compile_matcher()
}

fn literals(path: &Path) -> Vec<Part> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(Part::Literal(name.to_owned())),
            _ => None,
        })
        .collect()
}

/// Takes an absolute glob apart.
fn parts(glob: &str) -> io::Result<Vec<Part>> {
    let Some(rest) = glob.strip_prefix('/') else {
        return Err(invalid(format!(
            "the glob {glob:?} is not absolute: begin it with /"
        )));
    };
    let mut parts = Vec::new();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        parts.push(if part == "**" {
            // Two in a row mean the same as one.
            if matches!(parts.last(), Some(Part::Deep)) {
                continue;
            }
            Part::Deep
        } else if part == "." || part == ".." {
            return Err(invalid(format!(
                "the glob {glob:?} has the component {part:?}: write the path without it"
            )));
        } else if part.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            let glob = compile(part).map_err(|error| {
                invalid(format!(
                    "the glob {glob:?} is not valid in {part:?} (a group may not hold a /): {error}"
                ))
            })?;
            Part::Glob(glob.compile_matcher())
        } else {
            Part::Literal(part.into())
        });
    }
    if parts.is_empty() {
        return Err(invalid(format!("the glob {glob:?} names no file")));
    }
    Ok(parts)
}

/// What a container log's path says.
#[derive(Debug, PartialEq, Eq)]
struct Container<'a> {
    namespace: &'a str,
    pod: &'a str,
    uid: Option<&'a str>,
    name: &'a str,
    restarts: Option<&'a str>,
}

impl Container<'_> {
    fn attributes(&self) -> Vec<(String, String)> {
        [
            ("k8s.namespace.name", Some(self.namespace)),
            ("k8s.pod.name", Some(self.pod)),
            ("k8s.pod.uid", self.uid),
            ("k8s.container.name", Some(self.name)),
            ("k8s.container.restart_count", self.restarts),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect()
    }
}

/// `PODS/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`, rotated or not.
fn pod_path<'a>(pods: &Path, path: &'a Path) -> Option<Container<'a>> {
    let mut names = path.strip_prefix(pods).ok()?.iter().map(OsStr::to_str);
    let (folder, name, file) = (names.next()??, names.next()??, names.next()??);
    let mut words = folder.split('_');
    let container = Container {
        namespace: words.next()?,
        pod: words.next()?,
        uid: Some(words.next()?),
        name,
        restarts: file
            .split('.')
            .next()
            .filter(|word| word.bytes().all(|byte| byte.is_ascii_digit())),
    };
    (words.next().is_none() && names.next().is_none()).then_some(container)
}

/// `ROOT/containers/POD_NAMESPACE_CONTAINER-ID.log`.
fn container_path<'a>(root: &Path, path: &'a Path) -> Option<Container<'a>> {
    let name = path.strip_prefix(root).ok()?.strip_prefix("containers");
    let stem = name.ok()?.to_str()?.strip_suffix(".log")?;
    let mut words = stem.splitn(3, '_');
    let (pod, namespace, rest) = (words.next()?, words.next()?, words.next()?);
    let (name, _id) = rest.rsplit_once('-')?;
    Some(Container {
        namespace,
        pod,
        uid: None,
        name,
        restarts: None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::manifest::FileSource;

    fn files(include: &[&str], exclude: &[&str]) -> Selector {
        let list = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect();
        Selector::new(&[LogSourceKind::Files(FileSource {
            include: list(include),
            exclude: list(exclude),
            format: FileFormat::Plain,
        })
        .into()])
        .unwrap()
    }

    fn found(selector: &Selector, path: &str) -> bool {
        selector.find(Path::new(path)).is_some()
    }

    #[test]
    fn globs_match_by_component() {
        let selector = files(
            &["/var/log/*.log", "/srv/**/app.{log,txt}", "/data/**"],
            &["/var/log/secret*.log", "/srv/**/old/*"],
        );
        for yes in [
            "/var/log/a.log",
            "/srv/app.log",
            "/srv/x/app.txt",
            "/srv/x/y/app.log",
            "/data/any/thing",
            "/data/x",
        ] {
            assert!(found(&selector, yes), "{yes}");
        }
        for no in [
            "/var/log/sub/a.log",
            "/var/log/a.txt",
            "/var/log/secret1.log",
            "/srv/old/app.log",
            "/srv/x/other.log",
            "/data/x.gz",
            "/data/x.zst",
            "/elsewhere",
        ] {
            assert!(!found(&selector, no), "{no}");
        }
    }

    #[test]
    fn bad_globs_say_what_is_wrong() {
        for (glob, word) in [
            ("relative/*.log", "not absolute"),
            ("/a/../b", "component"),
            ("/", "names no file"),
            ("/a/{b/c,d}", "may not hold"),
        ] {
            let error = parts(glob).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn rotated_names_lead_back_to_their_log() {
        let selector = files(&["/l/*.log"], &[]);
        let states = [State { pattern: 0, at: 1 }];
        let base = |name: &'static str| {
            selector
                .rotated_from(&states, OsStr::new(name))
                .and_then(OsStr::to_str)
        };
        assert_eq!(base("a.log.1"), Some("a.log"));
        assert_eq!(base("0.log.20240102-030405"), Some("0.log"));
        assert_eq!(base("a.log-20240102"), Some("a.log"));
        assert_eq!(base("a.log.1.gz"), None);
        assert_eq!(base("a.log2"), None);
        assert_eq!(base("b.txt.1"), None);
    }

    #[test]
    fn container_paths_give_attributes() {
        let selector = Selector::new(&[LogSourceKind::Containers(ContainerSource {
            exclude_namespaces: vec!["kube-system".to_owned()],
            ..ContainerSource::default()
        })
        .into()])
        .unwrap();
        let of = |path: &str| {
            selector
                .find(Path::new(path))
                .map(|matched| matched.attributes)
        };
        let pair = |key: &str, value: &str| (format!("k8s.{key}"), value.to_owned());
        assert_eq!(
            of("/var/log/pods/shop_web-0_1f2e/nginx-proxy/3.log"),
            Some(vec![
                pair("namespace.name", "shop"),
                pair("pod.name", "web-0"),
                pair("pod.uid", "1f2e"),
                pair("container.name", "nginx-proxy"),
                pair("container.restart_count", "3"),
            ])
        );
        assert_eq!(
            of("/var/log/containers/web-0_shop_nginx-proxy-0123abc.log"),
            Some(vec![
                pair("namespace.name", "shop"),
                pair("pod.name", "web-0"),
                pair("container.name", "nginx-proxy"),
            ])
        );
        assert_eq!(of("/var/log/pods/kube-system_dns_1/dns/0.log"), None);
        assert_eq!(of("/var/log/pods/no-underscores/dns/0.log"), None);
        assert_eq!(of("/var/log/containers/nonsense.log"), None);
        // A link whose name says little takes what its target says.
        let target = Path::new("/var/log/pods/shop_web-0_1f2e/nginx/0.log");
        let link = Path::new("/var/log/containers/web-0_shop_nginx-1.log");
        let attributes = selector.accept(0, link, Some(target)).unwrap().attributes;
        assert!(attributes.contains(&pair("pod.uid", "1f2e")));
    }
}
