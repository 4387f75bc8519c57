//! Files of keys and values, one a line: `key=value` in sections or without, and `key value`.

use bulkhead_sdk::{Context, Result, bail};

use super::lines::Lines;
use super::{Claim, Edited, Subject, Wanted, changes, on_a_line, one_line};
use crate::config::Setting;
use crate::yaml::Change;

/// How keys and values are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Ini,
    KeyValue,
    Words,
}

/// A compiled [`Setting`] of such a file.
#[derive(Debug)]
pub(crate) struct Keys {
    style: Style,
    section: Option<String>,
    keys: Vec<(String, Option<Wanted>)>,
}

/// A line that gives a key a value.
struct Entry<'a> {
    key: &'a str,
    /// All before the value: indentation, the key, what separates them.
    head: &'a str,
    value: &'a str,
    /// Between key and value.
    separator: &'a str,
}

impl Keys {
    pub(super) fn new(config: &Setting, style: Style) -> Result<Self> {
        let mut keys = Vec::new();
        for (key, change) in changes(config)? {
            check_key(&key, style).at(key.as_str()).at("set")?;
            let value = match change {
                Change::Set(value) => {
                    let text = on_a_line(&value).at(key.as_str()).at("set")?;
                    if text.ends_with('\\') {
                        bail!("the value of `{key}` ends with a backslash");
                    }
                    if text.is_empty() && style == Style::Words {
                        bail!("the value of `{key}` is empty");
                    }
                    Some(Wanted::new(config, &key, text))
                }
                Change::Unset => None,
            };
            keys.push((key, value));
        }
        if let Some(section) = &config.section {
            one_line(section).at("section")?;
            if section.is_empty() || section.trim() != section || section.contains(['[', ']']) {
                bail!("{section:?} is no name of a section");
            }
        }
        Ok(Self {
            style,
            section: config.section.clone(),
            keys,
        })
    }

    pub(super) fn claims(&self) -> Vec<Claim> {
        let section = self.section.clone().unwrap_or_default();
        let claim = |(key, wanted): &(String, Option<Wanted>)| Claim {
            subject: Subject::Key(section.clone(), key.clone()),
            wanted: wanted.as_ref().map(|it| it.value.clone()),
        };
        self.keys.iter().map(claim).collect()
    }

    pub(super) fn apply(&self, text: &str) -> Result<Option<Edited>> {
        let mut lines = Lines::new(text);
        let mut found = Vec::new();
        for (key, wanted) in &self.keys {
            match wanted {
                Some(wanted) => self.set(key, wanted, &mut lines, &mut found)?,
                None => self.unset(key, &mut lines, &mut found)?,
            }
        }
        Ok((!found.is_empty()).then(|| Edited {
            text: lines.text(),
            found: found.join("; "),
        }))
    }

    fn set(
        &self,
        key: &str,
        wanted: &Wanted,
        lines: &mut Lines<'_>,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let places = self.places(key, lines)?;
        if places.is_empty() {
            found.push(format!("`{key}` is not set"));
            return self.add(key, &wanted.value, lines);
        }
        // Whichever of them counts.
        for index in places {
            let line = lines.get(index);
            let Some(entry) = self.entry(line) else {
                continue;
            };
            if wanted.is(entry.value) {
                continue;
            }
            found.push(format!("`{key}` is `{}`", entry.value));
            let wanted = &wanted.value;
            let line = match (entry.separator.is_empty(), self.style) {
                (true, Style::Words) => format!("{} {wanted}", entry.head),
                _ => format!("{}{wanted}", entry.head),
            };
            lines.replace(index, &line);
        }
        Ok(())
    }

    fn unset(&self, key: &str, lines: &mut Lines<'_>, found: &mut Vec<String>) -> Result<()> {
        let places = self.places(key, lines)?;
        if !places.is_empty() {
            found.push(format!("`{key}` is set"));
            lines.retain(|index, _| !places.contains(&index));
        }
        Ok(())
    }

    /// The lines of the section that are about the key.
    fn places(&self, key: &str, lines: &Lines<'_>) -> Result<Vec<usize>> {
        let mut places = Vec::new();
        let mut inside = self.section.is_none();
        let mut continued = false;
        for (index, line) in lines.iter() {
            let goes_on = std::mem::replace(&mut continued, line.ends_with('\\'));
            if goes_on {
                continue;
            }
            if let Some(section) = self.header(line) {
                inside = self.section.as_deref() == Some(section);
            } else if inside && self.entry(line).is_some_and(|it| it.key == key) {
                if continued {
                    bail!("`{key}` goes on in the line below, which cannot be edited safely");
                }
                places.push(index);
            }
        }
        Ok(places)
    }

    fn header<'a>(&self, line: &'a str) -> Option<&'a str> {
        let line = line.trim();
        let in_brackets = line.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        in_brackets
            .filter(|_| self.style == Style::Ini)
            .map(str::trim)
    }

    fn entry<'a>(&self, line: &'a str) -> Option<Entry<'a>> {
        let start = line.len() - line.trim_start().len();
        let rest = &line[start..];
        if rest.is_empty() || rest.starts_with(['#', ';']) {
            return None;
        }
        let (key, separator) = match self.style {
            Style::Words => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let gap = rest[end..].len() - rest[end..].trim_start().len();
                (&rest[..end], &rest[end..end + gap])
            }
            _ => {
                let equals = rest.find('=')?;
                let key = rest[..equals].trim_end();
                let behind = &rest[equals + 1..];
                let gap = behind.len() - behind.trim_start().len();
                (key, &rest[key.len()..equals + 1 + gap])
            }
        };
        let at = start + key.len() + separator.len();
        Some(Entry {
            key,
            head: &line[..at],
            value: line[at..].trim_end(),
            separator,
        })
    }

    /// Behind the section's last entry, written as that is.
    fn add(&self, key: &str, value: &str, lines: &mut Lines<'_>) -> Result<()> {
        let mut last_entry = None;
        let mut header = None;
        let mut first_header = None;
        let mut inside = self.section.is_none();
        for (index, line) in lines.iter() {
            if let Some(section) = self.header(line) {
                first_header.get_or_insert(index);
                // Of two sections of one name, the first.
                let again = header.is_some();
                inside = !again && self.section.as_deref() == Some(section);
                if inside {
                    header = Some(index);
                }
            } else if inside && let Some(entry) = self.entry(line) {
                // With the lines that a value goes on in.
                let mut end = index;
                while lines.get(end).ends_with('\\') && end + 1 < lines.len() {
                    end += 1;
                }
                last_entry = Some((end, entry.separator.to_owned()));
            }
        }
        let usual = match self.style {
            Style::Words => " ",
            _ => "=",
        };
        let separator = match &last_entry {
            Some((_, separator)) if self.style != Style::Words => {
                if separator.contains(' ') {
                    " = "
                } else {
                    "="
                }
            }
            _ => usual,
        };
        let line = format!("{key}{separator}{value}");
        let index = match (last_entry, header, first_header) {
            (Some((index, _)), ..) | (None, Some(index), _) => index + 1,
            (None, None, Some(first)) if self.section.is_none() => first,
            (None, None, _) => lines.len(),
        };
        if index > 0 && lines.get(index - 1).ends_with('\\') {
            bail!("line {index} goes on below, where `{key}` belongs");
        }
        if let (Some(section), None) = (&self.section, header) {
            if index > 0 && !lines.get(index - 1).trim().is_empty() {
                lines.insert(lines.len(), "");
            }
            lines.insert(lines.len(), &format!("[{section}]"));
            lines.insert(lines.len(), &line);
        } else {
            lines.insert(index, &line);
        }
        Ok(())
    }
}

fn check_key(key: &str, style: Style) -> Result<()> {
    one_line(key)?;
    let odd = match style {
        Style::Words => key.contains(char::is_whitespace),
        _ => key.contains('=') || key.trim() != key,
    };
    if key.is_empty() || odd || key.starts_with(['#', ';', '[']) {
        bail!("{key:?} is no key of such a file");
    }
    Ok(())
}
