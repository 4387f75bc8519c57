//! `sshd_config`: of several lines with the same keyword the first counts, and what is read through
//! `Include` counts as if it stood there.

use bulkhead_sdk::{Context, Result, bail};

use super::lines::Lines;
use super::{Claim, Edited, Subject, Wanted, changes, on_a_line, one_line};
use crate::config::Setting;
use crate::yaml::Change;

/// Keywords whose lines all count: one line takes the place of them.
const ADDING: &[&str] = &[
    "acceptenv",
    "allowgroups",
    "allowusers",
    "denygroups",
    "denyusers",
    "hostcertificate",
    "hostkey",
    "listenaddress",
    "port",
    "setenv",
];

/// A compiled [`Setting`] of `sshd_config`.
#[derive(Debug)]
pub(crate) struct Keywords(Vec<(String, Option<Wanted>)>);

impl Keywords {
    pub(super) fn new(config: &Setting) -> Result<Self> {
        let mut keywords = Vec::new();
        for (keyword, change) in changes(config)? {
            check_keyword(&keyword).at(keyword.as_str()).at("set")?;
            let lower = keyword.to_ascii_lowercase();
            if keywords
                .iter()
                .any(|(known, _): &(String, _)| known.to_ascii_lowercase() == lower)
            {
                bail!("`{keyword}` stands there twice: upper case is lower case");
            }
            let value = match change {
                Change::Set(value) => {
                    let text = on_a_line(&value).at(keyword.as_str()).at("set")?;
                    if text.is_empty() {
                        bail!("the value of `{keyword}` is empty");
                    }
                    Some(Wanted::new(config, &keyword, text))
                }
                Change::Unset => None,
            };
            keywords.push((keyword, value));
        }
        Ok(Self(keywords))
    }

    pub(super) fn claims(&self) -> Vec<Claim> {
        let claim = |(keyword, wanted): &(String, Option<Wanted>)| Claim {
            subject: Subject::Key(String::new(), keyword.to_ascii_lowercase()),
            wanted: wanted.as_ref().map(|it| it.value.clone()),
        };
        self.0.iter().map(claim).collect()
    }

    pub(super) fn apply(&self, text: &str) -> Option<Edited> {
        let mut lines = Lines::new(text);
        let mut found = Vec::new();
        for (keyword, wanted) in &self.0 {
            match wanted {
                Some(wanted) => set(keyword, wanted, &mut lines, &mut found),
                None => {
                    let places = places(keyword, &lines);
                    if !places.is_empty() {
                        found.push(format!("`{keyword}` is set"));
                        lines.retain(|index, _| !places.contains(&index));
                    }
                }
            }
        }
        (!found.is_empty()).then(|| Edited {
            text: lines.text(),
            found: found.join("; "),
        })
    }
}

fn set(keyword: &str, wanted: &Wanted, lines: &mut Lines<'_>, found: &mut Vec<String>) {
    let places = places(keyword, lines);
    let include = lines
        .iter()
        .find_map(|(index, line)| is_keyword(line, "include").then_some(index));
    let value = |index: usize| {
        parts(lines.get(index))
            .map_or("", |(_, value)| value)
            .to_owned()
    };
    let adds = ADDING.contains(&keyword.to_ascii_lowercase().as_str());
    let first = places.first().copied();
    let line = format!("{keyword} {}", wanted.value);
    // Compared as they are read: without quotes.
    let right = first.is_some_and(|it| {
        wanted.is(&value(it)) || parts(&line).is_some_and(|(_, wanted)| value(it) == wanted)
    });
    // What stands behind an `Include` may not be what counts.
    let hidden = first
        .zip(include)
        .is_some_and(|(first, include)| include < first);
    if right && !hidden && (!adds || places.len() == 1) {
        return;
    }
    found.push(match first {
        None => format!("`{keyword}` is not set"),
        Some(first) if right && hidden => {
            format!(
                "line {}, `{keyword}`, comes behind an `Include`, which may set it first",
                first + 1
            )
        }
        Some(_) if right => format!("`{keyword}` is set more than once"),
        Some(first) => format!("`{keyword}` is `{}`", value(first)),
    });
    match first {
        Some(first) if !hidden => {
            if !right {
                lines.replace(first, &line);
            }
            if adds {
                lines.retain(|index, _| index == first || !places.contains(&index));
            }
        }
        _ => {
            if adds {
                lines.retain(|index, _| !places.contains(&index));
            }
            // As it may have moved.
            let before = lines.iter().find_map(|(index, line)| {
                (is_keyword(line, "include") || is_keyword(line, "match")).then_some(index)
            });
            lines.insert(before.unwrap_or(lines.len()), &line);
        }
    }
}

/// Lines with the keyword before the first `Match`.
fn places(keyword: &str, lines: &Lines<'_>) -> Vec<usize> {
    lines
        .iter()
        .take_while(|(_, line)| !is_keyword(line, "match"))
        .filter_map(|(index, line)| is_keyword(line, keyword).then_some(index))
        .collect()
}

fn is_keyword(line: &str, keyword: &str) -> bool {
    parts(line).is_some_and(|(known, _)| known.eq_ignore_ascii_case(keyword))
}

/// Keyword and value of a line.
fn parts(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let separates = |it: char| it.is_whitespace() || it == '=';
    let end = line.find(separates).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let mut value = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    // A comment behind the value.
    if let Some(at) = value.find(" #") {
        value = value[..at].trim_end();
    }
    let bare = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    Some((
        keyword,
        bare.filter(|it| !it.contains('"')).unwrap_or(value),
    ))
}

fn check_keyword(keyword: &str) -> Result<()> {
    one_line(keyword)?;
    if keyword.is_empty() || !keyword.chars().all(|it| it.is_ascii_alphanumeric()) {
        bail!("{keyword:?} is no keyword of sshd_config");
    }
    if ["match", "include"].contains(&keyword.to_ascii_lowercase().as_str()) {
        bail!("`{keyword}` is not set this way; use `line`");
    }
    Ok(())
}
