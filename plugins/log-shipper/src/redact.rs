//! Replacing what matches a pattern: in text, and in the values of a JSON document.

use bulkhead_sdk::{Context, Error, Result, ToJson};
use regex::bytes::Regex;

use crate::config;
use crate::json;
use crate::pattern;

/// Which redactions, one bit each.
pub(crate) type Set = u64;

/// The most redactions that a configuration may have.
pub(crate) const MAX: usize = Set::BITS as usize;

#[derive(Debug)]
pub(crate) struct Redaction {
    regex: Regex,
    replace: Vec<u8>,
    /// Whether `replace` refers to groups.
    expands: bool,
    /// Whether a match depends on nothing but the bytes matched.
    look_free: bool,
}

/// All redactions, and buffers.
#[derive(Debug)]
pub(crate) struct Redactor {
    redactions: Vec<Redaction>,
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Redaction {
    fn new(config: &config::Redact) -> Result<Self> {
        let regex = pattern::compile(&config.pattern).at("pattern")?;
        if regex.is_match(b"") {
            return Err(Error::new(format!(
                "the pattern `{}` matches the empty text, so it would match everywhere; use `+` \
                 instead of `*`, or make it longer",
                config.pattern
            ))
            .at("pattern"));
        }
        Ok(Self {
            look_free: pattern::look_free(&config.pattern)?,
            expands: config.replace.contains('$'),
            replace: config.replace.clone().into_bytes(),
            regex,
        })
    }

    /// Writes the redacted text to `out`, from its start; false, with nothing written, if nothing
    /// matches.
    fn apply(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut copied = 0;
        let mut found = false;
        if self.expands {
            for captures in self.regex.captures_iter(text) {
                let whole = captures.get_match();
                start(&mut found, out);
                out.extend_from_slice(&text[copied..whole.start()]);
                captures.expand(&self.replace, out);
                copied = whole.end();
            }
        } else {
            for whole in self.regex.find_iter(text) {
                start(&mut found, out);
                out.extend_from_slice(&text[copied..whole.start()]);
                out.extend_from_slice(&self.replace);
                copied = whole.end();
            }
        }
        if !found {
            return false;
        }
        out.extend_from_slice(&text[copied..]);
        true
    }
}

impl Redactor {
    pub(crate) fn new(config: &[config::Redact]) -> Result<Self> {
        if config.len() > MAX {
            return Err(Error::new(format!(
                "{} are too many; at most {MAX}",
                config.len()
            )));
        }
        let compile = |(index, redact)| Redaction::new(redact).at(format!("[{index}]"));
        Ok(Self {
            redactions: config
                .iter()
                .enumerate()
                .map(compile)
                .collect::<Result<_>>()?,
            from: Vec::new(),
            to: Vec::new(),
        })
    }

    /// Whether one of `set` matches somewhere in `text`.
    pub(crate) fn matches(&self, text: &[u8], set: Set) -> bool {
        bits(set).any(|index| self.redactions[index].regex.is_match(text))
    }

    /// Whether one of `set` could match a value in this JSON document: quick, and true if in doubt.
    #[inline]
    pub(crate) fn may_match(&self, document: &[u8], set: Set) -> bool {
        if set == 0 {
            return false;
        }
        // Only where values stand in the document as they are, and are matched as they stand.
        let exact = bits(set).all(|index| self.redactions[index].look_free)
            && memchr::memchr(b'\\', document).is_none();
        !exact || self.matches(document, set)
    }

    /// The text as `set` leaves it; `None` if that is as it was.
    pub(crate) fn text(&mut self, text: &[u8], set: Set) -> Option<&[u8]> {
        let Self {
            redactions,
            from,
            to,
        } = self;
        let mut changed = false;
        for index in bits(set) {
            let input = if changed { from.as_slice() } else { text };
            if redactions[index].apply(input, to) {
                std::mem::swap(from, to);
                changed = true;
            }
        }
        changed.then_some(from.as_slice())
    }

    /// Appends a valid JSON value to `out` with its strings and numbers redacted, but not its keys. A
    /// number that is redacted becomes a string.
    pub(crate) fn document(
        &mut self,
        value: &[u8],
        set: Set,
        unescaped: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let mut copied = 0;
        let mut at = 0;
        while let Some(&byte) = value.get(at) {
            let (text, end): (&[u8], usize) = match byte {
                b'"' => {
                    let Some((end, escaped)) = json::string_end(value, at + 1) else {
                        break;
                    };
                    let inside = &value[at + 1..end];
                    if is_key(&value[end + 1..]) {
                        at = end + 1;
                        continue;
                    }
                    if escaped {
                        json::unescape(inside, unescaped);
                        (unescaped, end + 1)
                    } else {
                        (inside, end + 1)
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let rest = &value[at..];
                    let number =
                        |byte: &u8| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                    let length = rest.iter().position(number).unwrap_or(rest.len());
                    (&rest[..length], at + length)
                }
                _ => {
                    at += 1;
                    continue;
                }
            };
            if let Some(redacted) = self.text(text, set) {
                out.extend_from_slice(&value[copied..at]);
                redacted.write_json(out);
                copied = end;
            }
            at = end;
        }
        out.extend_from_slice(&value[copied..]);
    }
}

/// Empties `out` at the first match, and not without one.
#[inline]
fn start(found: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::replace(found, true) {
        out.clear();
    }
}

fn is_key(after_string: &[u8]) -> bool {
    after_string.trim_ascii_start().first() == Some(&b':')
}

/// The numbers of the bits that are set.
pub(crate) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (lowest < 64).then_some(lowest as usize)
    })
}
