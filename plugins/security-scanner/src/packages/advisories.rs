//! Advisories in the format of OSV, by what they are about.

use std::collections::{BTreeSet, HashMap};

use bulkhead_sdk::scanning::Severity;
use bulkhead_sdk::{Context, Result};
use serde::Deserialize;

use super::installed::Package;
use super::{Ecosystem, System};

/// What of an advisory is needed; the rest is ignored.
#[derive(Debug, Deserialize)]
struct Osv {
    id: String,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    details: String,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    database_specific: serde_json::Value,
    #[serde(default)]
    affected: Vec<Affected>,
}

#[derive(Debug, Deserialize)]
struct Affected {
    package: Option<Named>,
    #[serde(default)]
    ranges: Vec<Range>,
    #[serde(default)]
    versions: BTreeSet<String>,
    #[serde(default)]
    ecosystem_specific: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Named {
    ecosystem: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Range {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

/// A version from which on, or up to which, it holds.
#[derive(Debug, Clone, Deserialize)]
struct Event {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
}

/// An advisory, for findings.
#[derive(Debug)]
pub(super) struct Advisory {
    pub(super) id: String,
    pub(super) summary: String,
    pub(super) severity: Severity,
}

/// Which versions of a package an advisory is about.
#[derive(Debug)]
struct Match {
    advisory: usize,
    /// Of which systems, by the id in their `os-release`; of all if there is none.
    systems: &'static [&'static str],
    /// Of which release, such as `12` or `v3.18`; of all if there is none.
    release: Option<String>,
    ranges: Vec<Vec<Event>>,
    versions: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct Advisories {
    all: Vec<Advisory>,
    by_package: HashMap<(Ecosystem, String), Vec<Match>>,
}

impl Advisories {
    /// Adds a text: an advisory, or a list of them.
    pub(super) fn add(&mut self, text: &str) -> Result<()> {
        let is_list = text.trim_start().starts_with('[');
        let all: Vec<Osv> = match is_list {
            true => serde_json::from_str(text),
            false => serde_json::from_str(text).map(|one| vec![one]),
        }
        .context("is not an advisory in the format of OSV, nor a list of them")?;
        for osv in all.into_iter().filter(|osv| osv.withdrawn.is_none()) {
            self.insert(osv);
        }
        Ok(())
    }

    fn insert(&mut self, osv: Osv) {
        let number = self.all.len();
        let said = osv.affected.iter().map(|it| &it.ecosystem_specific);
        let severity = said.chain([&osv.database_specific]).find_map(severity);
        let mut summary = if osv.summary.is_empty() {
            osv.details
        } else {
            osv.summary
        };
        summary.truncate(summary.floor_char_boundary(500));
        for affected in osv.affected {
            let Some(package) = affected.package else {
                continue;
            };
            let (name, release) = match package.ecosystem.split_once(':') {
                Some((name, release)) => (name, Some(release.to_owned())),
                None => (package.ecosystem.as_str(), None),
            };
            let (ecosystem, systems, release) = match name {
                "Debian" => (Ecosystem::Debian, &[][..], release),
                "Alpine" => (Ecosystem::Alpine, &[][..], release),
                _ => match rpm_systems(&package.ecosystem) {
                    Some(systems) => {
                        let release = release.and_then(|release| rpm_release(&release));
                        (Ecosystem::Rpm, systems, release)
                    }
                    None => continue,
                },
            };
            let ranges = affected
                .ranges
                .into_iter()
                .filter(|range| range.kind == "ECOSYSTEM");
            let found = Match {
                advisory: number,
                systems,
                release,
                ranges: ranges.map(|range| range.events).collect(),
                versions: affected.versions,
            };
            let key = (ecosystem, package.name);
            self.by_package.entry(key).or_default().push(found);
        }
        let id: String = osv
            .id
            .chars()
            .filter(|it| !it.is_control())
            .take(100)
            .collect();
        let id = id[..id.floor_char_boundary(120)].to_owned();
        // Vectors of CVSS are not computed here.
        let severity = severity.unwrap_or(Severity::Medium);
        self.all.push(Advisory {
            id,
            summary,
            severity,
        });
    }

    /// Advisories about the package, and the versions that have it fixed. Some name the source that it is
    /// made of, and some of those for rpm the package itself.
    pub(super) fn find<'a>(
        &'a self,
        ecosystem: Ecosystem,
        system: System<'a>,
        package: &'a Package,
    ) -> impl Iterator<Item = (&'a Advisory, Option<&'a str>)> {
        let of_source = (&package.source, &package.source_version);
        let itself = (&package.name, &package.version);
        let has_own = ecosystem == Ecosystem::Rpm && package.name != package.source;
        let names = [of_source].into_iter().chain(has_own.then_some(itself));
        names.flat_map(move |(name, version)| {
            let about = self.by_package.get(&(ecosystem, name.clone()));
            about.into_iter().flatten().filter_map(move |found| {
                if !found.is_about(system) {
                    return None;
                }
                let fixed = found.fixed(ecosystem, version)?;
                Some((self.all.get(found.advisory)?, fixed))
            })
        })
    }
}

impl Match {
    fn is_about(&self, system: System<'_>) -> bool {
        let known = self.systems.is_empty() || system.id.is_empty();
        let release = self.release.as_deref();
        (known || self.systems.contains(&system.id))
            && release.is_none_or(|of| is_of(of, system.version))
    }

    /// Whether it is about the version, and then, since which one it is not.
    fn fixed(&self, ecosystem: Ecosystem, version: &str) -> Option<Option<&str>> {
        if self.versions.contains(version) {
            let mut events = self.ranges.iter().flatten();
            return Some(events.find_map(|event| event.fixed.as_deref()));
        }
        self.ranges
            .iter()
            .find_map(|events| in_range(ecosystem, events, version))
    }
}

/// The last event up to the version decides, whatever the order in which they are given.
fn in_range<'e>(
    ecosystem: Ecosystem,
    events: &'e [Event],
    version: &str,
) -> Option<Option<&'e str>> {
    let at_least = |from: &str| {
        from == "0"
            || ecosystem
                .compare(version, from)
                .is_some_and(|order| order.is_ge())
    };
    let after = |last: &str| {
        ecosystem
            .compare(version, last)
            .is_some_and(|order| order.is_gt())
    };
    let introduced = events
        .iter()
        .filter_map(|event| event.introduced.as_deref())
        .filter(|from| at_least(from))
        .max_by(|a, b| order(ecosystem, a, b))?;
    let ended = events.iter().any(|event| {
        let end = |end: &str| order(ecosystem, end, introduced).is_ge();
        event
            .fixed
            .as_deref()
            .is_some_and(|fixed| end(fixed) && at_least(fixed))
            || event
                .last_affected
                .as_deref()
                .is_some_and(|last| end(last) && after(last))
    });
    if ended {
        return None;
    }
    let fixed = events.iter().filter_map(|event| event.fixed.as_deref());
    let later = fixed.filter(|fixed| order(ecosystem, fixed, introduced).is_gt());
    // What cannot be compared is not affected: a finding would be a guess.
    ecosystem.compare(version, version)?;
    Some(later.min_by(|a, b| order(ecosystem, a, b)))
}

/// `0` is before all.
fn order(ecosystem: Ecosystem, a: &str, b: &str) -> std::cmp::Ordering {
    match (a, b) {
        ("0", "0") => std::cmp::Ordering::Equal,
        ("0", _) => std::cmp::Ordering::Less,
        (_, "0") => std::cmp::Ordering::Greater,
        _ => ecosystem.compare(a, b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// The ecosystems of OSV with packages of rpm, and what systems of each call themselves. What is part of another
/// one is before it.
const RPM: [(&str, &[&str]); 11] = [
    ("AlmaLinux", &["almalinux"]),
    ("Azure Linux", &["azurelinux", "mariner"]),
    ("Mageia", &["mageia"]),
    ("openEuler", &["openEuler"]),
    ("openSUSE:Leap", &["opensuse-leap"]),
    ("openSUSE:Tumbleweed", &["opensuse-tumbleweed"]),
    (
        "openSUSE",
        &["opensuse-leap", "opensuse-tumbleweed", "opensuse"],
    ),
    ("Photon OS", &["photon"]),
    ("Red Hat", &["rhel"]),
    ("Rocky Linux", &["rocky"]),
    ("SUSE", &["sles", "sled", "sles_sap"]),
];

fn rpm_systems(ecosystem: &str) -> Option<&'static [&'static str]> {
    let is_of = |known: &str| {
        let release = ecosystem.strip_prefix(known);
        release.is_some_and(|it| it.is_empty() || it.starts_with([':', ' ']))
    };
    let found = RPM.iter().find(|(known, _)| is_of(known));
    found.map(|(_, systems)| *systems)
}

/// The number in what they call a release: `9`, `enterprise_linux:9::baseos`, `Leap 15.5`, `Linux Enterprise
/// Server 15 SP5`. None for one that has no number, such as `Tumbleweed`.
fn rpm_release(release: &str) -> Option<String> {
    let mut words = release.split([':', ' ', '-']);
    let number = words.find(|word| word.starts_with(|it: char| it.is_ascii_digit()))?;
    let pack = words.next().and_then(|word| word.strip_prefix("SP"));
    Some(match pack {
        Some(pack) => format!("{number}.{pack}"),
        None => number.to_owned(),
    })
}

/// Debian's are `12`, Alpine's `v3.18` while the system says `3.18.4`.
fn is_of(of: &str, release: &str) -> bool {
    let of = of.trim_start_matches('v');
    release
        .strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// In words, as some databases have it.
fn severity(of: &serde_json::Value) -> Option<Severity> {
    let word = ["severity", "urgency"]
        .into_iter()
        .find_map(|key| of.get(key)?.as_str())?;
    match word.to_ascii_lowercase().as_str() {
        "critical" => Some(Severity::Critical),
        "high" => Some(Severity::High),
        "medium" | "moderate" => Some(Severity::Medium),
        "low" => Some(Severity::Low),
        "unimportant" | "negligible" => Some(Severity::Info),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{rpm_release, rpm_systems};

    #[test]
    fn an_advisory_is_for_the_systems_that_it_names() {
        for (ecosystem, systems) in [
            ("openSUSE:Leap 15.5", Some(&["opensuse-leap"][..])),
            ("openSUSE:Tumbleweed", Some(&["opensuse-tumbleweed"])),
            ("Red Hat:enterprise_linux:9::baseos", Some(&["rhel"])),
            (
                "SUSE:Linux Enterprise Server 15 SP5",
                Some(&["sles", "sled", "sles_sap"]),
            ),
            ("AlmaLinux", Some(&["almalinux"])),
            ("AlmaLinuxish", None),
            ("npm", None),
        ] {
            assert_eq!(rpm_systems(ecosystem), systems, "{ecosystem}");
        }
        for system in ["opensuse-leap", "opensuse-tumbleweed"] {
            let generally = rpm_systems("openSUSE");
            assert!(generally.is_some_and(|systems| systems.contains(&system)));
        }
        assert_eq!(rpm_release("Tumbleweed"), None);
    }
}
