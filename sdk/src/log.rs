//! Records to the daemon's own log, where an operator reads them with
//! `bulkhead status NAME` or at `/v1/plugins/NAMESPACE/NAME/logs`.
//!
//! ```
//! use bulkhead_sdk::{info, warn};
//! let (rules, skipped) = (12, 3);
//! info!("started");
//! warn!("skipped {skipped} rules"; "rules" = rules, "skipped" = skipped);
//! ```
//!
//! The host cuts long messages, drops records over a rate, and those below the manifest's `logLevel`. A
//! record a line would be too many: count, and write one a batch.
//!
//! With the features `log` and `tracing`, records of the crates of these names come here too, with their
//! fields, and with those of the spans they are in. Nothing has to be set up.

#[cfg(feature = "log")]
mod facade;
#[cfg(any(feature = "log", feature = "tracing"))]
mod fields;
#[cfg(feature = "tracing")]
mod spans;

use crate::host;
use crate::json::{ToJson, member};

/// How much a record matters.
///
/// ```
/// assert!(bulkhead_sdk::log::Level::Error > bulkhead_sdk::log::Level::Info);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever develops the plugin.
    Debug,
    /// For the operator, in normal running.
    Info,
    /// Something is not as it should be; the plugin goes on.
    Warn,
    /// Something was not done.
    Error,
}

/// Whether records of this level are kept. The macros ask, before they format anything.
///
/// ```
/// use bulkhead_sdk::log::{Level, enabled};
/// assert!(enabled(Level::Error));
/// ```
pub fn enabled(level: Level) -> bool {
    level >= host::least_level()
}

/// Leads what the crates `log` and `tracing` are told to here, if the plugin wants it.
pub(crate) fn lead_here() {
    #[cfg(feature = "log")]
    facade::install();
    #[cfg(feature = "tracing")]
    spans::install();
}

/// Writes one record. The macros [`info!`](crate::info) and so on are shorter.
///
/// ```
/// use bulkhead_sdk::log::{Level, write};
/// write(Level::Info, "zones", "zone table read", &[("zones", &42_u32)]);
/// # assert_eq!(bulkhead_sdk::testing::take_log()[0].fields, r#""zones":42"#);
/// ```
pub fn write(level: Level, target: &str, message: &str, fields: &[(&str, &dyn ToJson)]) {
    let mut members = Vec::new();
    for (index, (name, value)) in fields.iter().enumerate() {
        member(name, *value, index == 0, &mut members);
    }
    // What `ToJson` wrote is UTF-8 unless an author's own implementation broke it.
    let members = String::from_utf8(members).unwrap_or_default();
    host::log(level, target, message, &members);
}

/// Writes a record of the given level to the daemon's log: a format string and its arguments, then,
/// after a semicolon, fields.
///
/// ```
/// use bulkhead_sdk::log::Level;
/// bulkhead_sdk::record!(Level::Debug, "read {} zones", 3; "path" = "/etc/zones");
/// # let records = bulkhead_sdk::testing::take_log();
/// # assert_eq!((records[0].level, records[0].message.as_str()), (Level::Debug, "read 3 zones"));
/// ```
#[macro_export]
macro_rules! record {
    ($level:expr, $message:literal $(, $argument:expr)* $(; $($name:literal = $value:expr),+ $(,)?)?) => {
        match $level {
            level if $crate::log::enabled(level) => $crate::log::write(
                level,
                ::std::module_path!(),
                &::std::format!($message $(, $argument)*),
                &[$($(($name, &$value as &dyn $crate::ToJson)),+)?],
            ),
            _ => {}
        }
    };
}

macro_rules! levels {
    ($dollar:tt $($name:ident $level:ident $doc:literal),+) => {$(
        #[doc = $doc]
        ///
        /// ```
        #[doc = concat!("bulkhead_sdk::", stringify!($name), "!(\"{} lines\", 3; \"source\" = \"a.log\");")]
        /// # assert_eq!(bulkhead_sdk::testing::take_log()[0].message, "3 lines");
        /// ```
        #[macro_export]
        macro_rules! $name {
            ($dollar($dollar record:tt)+) => {
                $crate::record!($crate::log::Level::$level, $dollar($dollar record)+)
            };
        }
    )+};
}
levels!($
    trace Trace "Writes a [record](crate::record) of level trace.",
    debug Debug "Writes a [record](crate::record) of level debug.",
    info Info "Writes a [record](crate::record) of level info.",
    warn Warn "Writes a [record](crate::record) of level warn.",
    error Error "Writes a [record](crate::record) of level error."
);
