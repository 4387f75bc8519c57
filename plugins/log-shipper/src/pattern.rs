//! Compiling regular expressions, with errors for the person who wrote the manifest.

use bulkhead_sdk::{Error, Result};
use regex::bytes::{Regex, RegexBuilder};

/// A plugin has little memory, and a pattern that needs more than this is a mistake.
const MAX_COMPILED: usize = 1 << 20;

/// Compiles a pattern that is matched against bytes.
pub(crate) fn compile(pattern: &str) -> Result<Regex> {
    look_free(pattern)?;
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => Error::new(format!(
                "`{pattern}` needs more than {limit} bytes when compiled; use smaller repetitions, \
                 or `(?-u)` for classes of ASCII only"
            )),
            other => Error::from(other),
        })
}

/// Whether the pattern asks nothing of what is around a match (no `^`, `$`, `\b`).
pub(crate) fn look_free(pattern: &str) -> Result<bool> {
    let mut parser = regex_syntax::ParserBuilder::new().utf8(false).build();
    let parsed = parser.parse(pattern).map_err(|error| {
        let (at, why) = match &error {
            regex_syntax::Error::Parse(error) => {
                (error.span().start.offset, error.kind().to_string())
            }
            regex_syntax::Error::Translate(error) => {
                (error.span().start.offset, error.kind().to_string())
            }
            _ => return Error::from(error),
        };
        let character = pattern.get(..at).unwrap_or(pattern).chars().count() + 1;
        Error::new(format!(
            "the pattern `{pattern}` is wrong at character {character}: {why}"
        ))
    })?;
    Ok(parsed.properties().look_set().is_empty())
}
