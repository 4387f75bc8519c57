//! Regular expressions of the configuration.

use bulkhead_sdk::{Error, Result};
use regex_lite::{Regex, RegexBuilder};

/// Compiles one. Its size is bounded, since there may be hundreds of them.
pub(crate) fn compile(text: &str) -> Result<Regex> {
    RegexBuilder::new(text)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| Error::new(format!("no regular expression: {error}")))
}
