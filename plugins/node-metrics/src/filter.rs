//! Choosing by regular expression, as the node exporter's include and exclude options do.

use bulkhead_sdk::{Error, Result};
use regex::Regex;

/// Compiles the regular expression of the configuration's `field`.
pub(crate) fn pattern(text: &str, field: &str) -> Result<Regex> {
    Regex::new(text)
        .map_err(|error| Error::new(format!("no regular expression: {error}")).at(field))
}
