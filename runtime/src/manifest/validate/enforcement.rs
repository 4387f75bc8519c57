//! Checks of what belongs to the role `enforcement`.

use std::path::Path;

use super::{Check, kernel_folder};
use crate::manifest::changes::ChangeGrants;
use crate::manifest::enforcement::Enforcement;
use crate::manifest::quantity::{ByteSize, Period};

/// How often everything may be looked at.
const INTERVAL: [Period; 2] = [Period::seconds(1), Period::seconds(24 * 3600)];
/// The most windows: no week needs more.
const MAX_WINDOWS: usize = 64;
/// The least bytes that may be kept.
const MIN_KEPT: ByteSize = ByteSize::mebibytes(1);
/// The most that may be kept.
const MAX_KEPT: (ByteSize, u32) = (ByteSize::mebibytes(4096), 100_000);

impl Check<'_> {
    pub(super) fn change_grants(&self, changes: &ChangeGrants) {
        for (i, path) in changes.files.iter().enumerate() {
            if let Some(system) = kernel_folder(Path::new(path.as_str())) {
                self.refuse(
                    format!("grants.changes.files[{i}]"),
                    format!("is in {system}, where nothing is a file"),
                    "grant kernel settings by name: `sysctls: [net.ipv4.ip_forward]`",
                );
            }
        }
    }

    pub(super) fn enforcement(&self, enforcement: &Enforcement) {
        let [shortest, longest] = INTERVAL;
        let interval = enforcement.interval;
        if interval < shortest || interval > longest {
            self.refuse(
                "enforcement.interval",
                format!("{interval} is not between {shortest} and {longest}"),
                "write how often everything is to be looked at, for example 10m",
            );
        }
        let windows = enforcement.windows.len();
        if windows > MAX_WINDOWS {
            self.refuse(
                "enforcement.windows",
                format!("has {windows} windows; at most {MAX_WINDOWS} are allowed"),
                "put days with the same hours into one",
            );
        }
        let (size, changes) = (enforcement.keep.max_size, enforcement.keep.changes);
        if size > MAX_KEPT.0 || size < MIN_KEPT {
            self.refuse(
                "enforcement.keep.maxSize",
                format!("{size} is not between {MIN_KEPT} and {}", MAX_KEPT.0),
                "write how much of what was there before is kept, for example 64Mi",
            );
        }
        if changes == 0 || changes > MAX_KEPT.1 {
            self.refuse(
                "enforcement.keep.changes",
                format!("{changes} is not between 1 and {}", MAX_KEPT.1),
                "write how many changes are kept, for example 1000",
            );
        }
    }
}
