//! Checks of what belongs to the role `scanning`.

use std::path::Path;

use super::{Check, kernel_folder};
use crate::manifest::quantity::{ByteSize, Period};
use crate::manifest::scanning::{ScanGrants, Scanning};
use crate::manifest::spec::Receives;

/// How often things may be looked at.
const FILES: [Period; 2] = [Period::seconds(60), Period::seconds(90 * 24 * 3600)];
const NODE: [Period; 2] = [Period::seconds(5), Period::seconds(24 * 3600)];
/// The slowest reading that comes to an end.
const SLOWEST: ByteSize = ByteSize::mebibytes(1);
/// The most suppressions.
const SUPPRESSIONS: usize = 1000;
/// The longest reason.
const REASON: usize = 1024;

impl Check<'_> {
    pub(super) fn scan_grants(&self, scan: &ScanGrants) {
        for (i, tree) in scan.files.iter().enumerate() {
            if let Some(system) = kernel_folder(Path::new(tree.as_str())) {
                self.refuse(
                    format!("grants.scan.files[{i}]"),
                    format!("is in {system}, where nothing is a file"),
                    "remove it; processes, sockets and settings have grants of their own",
                );
            }
        }
    }

    pub(super) fn scanning(&self, grants: &ScanGrants, scanning: &Scanning) {
        for (i, tree) in scanning.files.include.iter().enumerate() {
            if !grants.files.iter().any(|granted| granted.holds(tree)) {
                let path = tree.as_str();
                self.refuse(
                    format!("scanning.files.include[{i}]"),
                    format!("{path} is not granted"),
                    format!("add it to the grants: `grants: {{scan: {{files: [{path}]}}}}`"),
                );
            }
        }
        let schedule = &scanning.schedule;
        for (name, period, [shortest, longest]) in [
            ("changed", schedule.changed, FILES),
            ("full", schedule.full, FILES),
            ("assess", schedule.assess, NODE),
        ] {
            if period < shortest || period > longest {
                self.refuse(
                    format!("scanning.schedule.{name}"),
                    format!("{period} is not between {shortest} and {longest}"),
                    "write a duration such as 24h",
                );
            }
        }
        if scanning.budget.read < SLOWEST {
            self.refuse(
                "scanning.budget.read",
                format!("{} a second is less than {SLOWEST}", scanning.budget.read),
                "write how many bytes may be read in a second, for example 64Mi",
            );
        }
        self.destinations("scanning.destinations", &scanning.destinations, &[]);
        for (i, destination) in scanning.destinations.iter().enumerate() {
            if destination.receives == Receives::Routed {
                self.refuse(
                    format!("scanning.destinations[{i}].receives"),
                    "is `routed`, and plugins do not route findings",
                    "leave it out",
                );
            }
        }
        if scanning.suppress.len() > SUPPRESSIONS {
            self.refuse(
                "scanning.suppress",
                format!("has more than {SUPPRESSIONS} entries"),
                "change the rules instead",
            );
        }
        for (i, suppression) in scanning.suppress.iter().enumerate() {
            let field = |name: &str| format!("scanning.suppress[{i}].{name}");
            let reason = suppression.reason.trim();
            if reason.is_empty() || reason.len() > REASON {
                self.refuse(
                    field("reason"),
                    "is empty or very long",
                    "write why these findings are accepted",
                );
            }
            if let Some(subject) = &suppression.subject
                && glob::Pattern::new(subject).is_err()
            {
                self.refuse(
                    field("subject"),
                    "is no glob",
                    "write for example `/opt/app/*` or `socket/tcp/*`",
                );
            }
        }
    }
}
