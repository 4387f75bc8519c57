//! Packages with known vulnerabilities: what is installed against advisories in the format of OSV.

mod advisories;
mod alpine;
mod debian;
mod installed;
mod rpm;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use bulkhead_sdk::Result;
use bulkhead_sdk::scanning::{Findings, Outline, Rule, Severity, View};

use crate::source::Source;
use advisories::Advisories;
use installed::Package;
use rpm::Rpm;

const ID: &str = "packages.vulnerable";
const UNCLEAR: &str = "packages.unclear";
const DPKG: &str = "/var/lib/dpkg/status";
const APK: &str = "/lib/apk/db/installed";
/// Findings of one node.
const MAX_FINDINGS: usize = 10_000;

/// Packages with known vulnerabilities. Needs to read the lists of dpkg and apk.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Advisories: a JSON text with one in the format of OSV, or a list of them.
    advisories: Vec<Source>,
    /// Folders with rpm's database (`rpmdb.sqlite` or `Packages.db`), as the plugin sees them: below a
    /// folder that is granted with `grants.files`.
    rpm: Vec<String>,
}

/// A number of any length, to be compared: without the zeros before it, the longer one is larger.
fn number(digits: &str) -> (usize, &str) {
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits)
}

/// The kinds of packages whose versions can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ecosystem {
    Debian,
    Alpine,
    Rpm,
}

impl Ecosystem {
    fn compare(self, a: &str, b: &str) -> Option<std::cmp::Ordering> {
        match self {
            Self::Debian => Some(debian::compare(a, b)),
            Self::Alpine => alpine::compare(a, b),
            Self::Rpm => Some(rpm::compare(a, b)),
        }
    }
}

/// What is known of packages.
#[derive(Debug)]
pub(crate) struct Packages {
    advisories: Option<Advisories>,
    rpm: Vec<Rpm>,
}

/// The system that packages are of.
#[derive(Debug, Clone, Copy)]
struct System<'v> {
    /// As `/etc/os-release` names it; empty if that is not known.
    id: &'v str,
    version: &'v str,
}

/// From the text of a list to what it names.
type ReadList = fn(&str) -> Vec<Package>;

impl Packages {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        if config.advisories.is_empty() {
            return Ok(Self {
                advisories: None,
                rpm: Vec::new(),
            });
        }
        let mut advisories = Advisories::default();
        for (i, source) in config.advisories.iter().enumerate() {
            let field = format!("packages.advisories[{i}]");
            advisories
                .add(&source.read(&field)?)
                .map_err(|error| error.at(field))?;
        }
        Ok(Self {
            advisories: Some(advisories),
            rpm: config.rpm.iter().map(|folder| Rpm::new(folder)).collect(),
        })
    }

    pub(crate) fn outline(&self, outline: &mut Outline) {
        if self.advisories.is_none() {
            return;
        }
        outline.rule(
            Rule::new(ID, "A package has a known vulnerability")
                .severity(Severity::Medium)
                .rationale("An advisory names this version of the package.")
                .remediation("Update the package to the version that the finding names. If there is none, see what the advisory suggests."),
        );
        outline.rule(
            Rule::new(UNCLEAR, "Packages cannot be judged")
                .severity(Severity::Info)
                .rationale("Without the list of packages, the system's release or versions that can be compared, nothing is said of them.")
                .remediation("Grant the list and nodeFacts; for rpm, name the folder of its database in packages.rpm, and grant it with files."),
        );
        outline.want_file(DPKG);
        outline.want_file(APK);
    }

    pub(crate) fn assess(&mut self, view: &View, out: &mut Findings) {
        let Some(advisories) = &self.advisories else {
            return;
        };
        let system = System {
            id: view.fact("os.id").unwrap_or_default(),
            version: view.fact("os.version").unwrap_or_default(),
        };
        let mut any = !self.rpm.is_empty();
        for rpm in &mut self.rpm {
            let folder = rpm.folder().to_owned();
            if system.version.is_empty() {
                no_release(&folder, out);
            }
            let installed = rpm.installed();
            for (i, trouble) in installed.troubles.iter().enumerate() {
                out.path(&folder, UNCLEAR)
                    .fingerprint(i.to_string())
                    .message(trouble);
            }
            for package in &installed.packages {
                judge(advisories, Ecosystem::Rpm, system, package, out);
            }
        }
        let lists: [(&str, Ecosystem, ReadList); 2] = [
            (DPKG, Ecosystem::Debian, installed::dpkg),
            (APK, Ecosystem::Alpine, installed::apk),
        ];
        for (path, ecosystem, read) in lists {
            let Some(file) = view.file(path).filter(|file| file.kind().is_some()) else {
                continue;
            };
            any = true;
            if file.content().is_empty() || file.is_cut() {
                out.path(path, UNCLEAR)
                    .message("it cannot be read, or is longer than 4 MiB");
            }
            if system.version.is_empty() {
                no_release(path, out);
            }
            let text = String::from_utf8_lossy(file.content());
            // The host cuts what is longer: the last of it may be half a record.
            for package in &read(&text) {
                judge(advisories, ecosystem, system, package, out);
            }
        }
        if !any {
            out.other("packages", UNCLEAR).message(format!(
                "there is neither {DPKG} nor {APK}, and packages.rpm names no folder"
            ));
        }
    }
}

fn no_release(path: &str, out: &mut Findings) {
    out.path(path, UNCLEAR).fingerprint("release").message(
        "the system's release is not known (os.version): advisories for one release are left out",
    );
}

fn judge(
    advisories: &Advisories,
    ecosystem: Ecosystem,
    system: System<'_>,
    package: &Package,
    out: &mut Findings,
) {
    for (advisory, fixed) in advisories.find(ecosystem, system, package) {
        if out.len() >= MAX_FINDINGS {
            return;
        }
        let subject = format!("package/{}", package.name).replace(char::is_control, "?");
        let subject = &subject[..subject.floor_char_boundary(256)];
        let message = match fixed {
            Some(fixed) => format!(
                "{} {}: {} (fixed in {fixed})",
                package.name, package.version, advisory.id
            ),
            None => format!(
                "{} {}: {} (not fixed yet)",
                package.name, package.version, advisory.id
            ),
        };
        let finding = out
            .other(subject, ID)
            .severity(advisory.severity)
            .message(message)
            .evidence("advisory", &advisory.id)
            .evidence("version", &package.version)
            .evidence("fixed", fixed)
            .evidence("summary", &advisory.summary)
            .reference(format!("https://osv.dev/vulnerability/{}", advisory.id));
        finding.fingerprint(&advisory.id);
    }
}
