//! Making fields of a line.

use bulkhead_sdk::{Context, Error, Line, Result, ToJson};
use regex::bytes::{CaptureLocations, Regex};

use crate::config;
use crate::json::{self, Member};
use crate::logfmt;
use crate::pattern;
use crate::record::{Record, Shape};

/// A compiled [`config::Parse`] with its buffers.
#[derive(Debug)]
pub(crate) struct Parser {
    format: Format,
    members: Vec<Member>,
    /// The object that was made of a line.
    made: Vec<u8>,
    text: Vec<u8>,
}

#[derive(Debug)]
enum Format {
    Auto,
    Json,
    Logfmt,
    Text,
    Regex {
        regex: Regex,
        locations: CaptureLocations,
        /// Each named group's number and its name, written as a key with its colon.
        groups: Vec<(usize, Vec<u8>)>,
    },
}

impl Parser {
    pub(crate) fn new(config: &config::Parse) -> Result<Self> {
        let format = match config {
            config::Parse::Auto => Format::Auto,
            config::Parse::Json => Format::Json,
            config::Parse::Logfmt => Format::Logfmt,
            config::Parse::Text => Format::Text,
            config::Parse::Regex(pattern) => regex(pattern).at("regex")?,
        };
        Ok(Self {
            format,
            members: Vec::new(),
            made: Vec::new(),
            text: Vec::new(),
        })
    }

    /// The name of the format, for lines that are not in it.
    pub(crate) fn name(&self) -> &'static str {
        match self.format {
            Format::Auto | Format::Json => "json",
            Format::Logfmt => "logfmt",
            Format::Text => "text",
            Format::Regex { .. } => "regex",
        }
    }

    /// The line's fields, and whether it is in the format that it should be in. If not, it is text.
    #[inline]
    pub(crate) fn parse<'a>(&'a mut self, line: Line<'a>) -> (Record<'a>, bool) {
        let bytes = line.bytes();
        let text = Record {
            line,
            shape: Shape::Text,
            bytes,
            members: &[],
        };
        let looks_like_json = || bytes.trim_ascii_start().first() == Some(&b'{');
        match &mut self.format {
            Format::Text => return (text, true),
            Format::Auto if !looks_like_json() => return (text, true),
            Format::Auto | Format::Json => {
                if !json::scan_line(bytes, &mut self.members) {
                    return (text, false);
                }
                let members = &self.members;
                let shape = Shape::Json;
                return (
                    Record {
                        shape,
                        members,
                        ..text
                    },
                    true,
                );
            }
            Format::Logfmt => {
                self.made.clear();
                self.made.push(b'{');
                let made = &mut self.made;
                if !logfmt::pairs(bytes, &mut self.text, |key, value| {
                    key.write_json(made);
                    made.push(b':');
                    value.write_json(made);
                    made.push(b',');
                }) {
                    return (text, false);
                }
            }
            Format::Regex {
                regex,
                locations,
                groups,
            } => {
                if regex.captures_read(locations, bytes).is_none() {
                    return (text, false);
                }
                self.made.clear();
                self.made.push(b'{');
                for (number, key) in groups {
                    if let Some((start, end)) = locations.get(*number) {
                        self.made.extend_from_slice(key);
                        bytes[start..end].write_json(&mut self.made);
                        self.made.push(b',');
                    }
                }
            }
        }
        match self.made.last_mut() {
            Some(comma @ b',') => *comma = b'}',
            _ => self.made.push(b'}'),
        }
        if !json::scan_line(&self.made, &mut self.members) {
            return (text, false);
        }
        let made = Record {
            line,
            shape: Shape::Made,
            bytes: &self.made,
            members: &self.members,
        };
        (made, true)
    }
}

fn regex(pattern: &str) -> Result<Format> {
    let regex = pattern::compile(pattern)?;
    let groups: Vec<(usize, Vec<u8>)> = regex
        .capture_names()
        .enumerate()
        .filter_map(|(number, name)| {
            let mut key = Vec::new();
            name?.write_json(&mut key);
            key.push(b':');
            Some((number, key))
        })
        .collect();
    if groups.is_empty() {
        return Err(Error::new(format!(
            "the pattern `{pattern}` has no named group; write one as `(?<level>\\w+)`"
        )));
    }
    Ok(Format::Regex {
        locations: regex.capture_locations(),
        regex,
        groups,
    })
}
