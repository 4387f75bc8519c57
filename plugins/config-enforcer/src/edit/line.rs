//! A line that should be in a file, or not.

use bulkhead_sdk::{Context, Error, Result, bail};
use regex_lite::Regex;

use super::lines::Lines;
use super::{Claim, Edited, Subject, one_line};
use crate::config::{Line, LineState};
use crate::pattern;

/// A compiled [`Line`].
#[derive(Debug)]
pub(crate) struct LineEdit {
    line: Option<String>,
    pattern: Option<Regex>,
    before: Option<Regex>,
    after: Option<Regex>,
    present: bool,
}

impl LineEdit {
    pub(super) fn new(config: &Line) -> Result<Self> {
        let compile = |text: &Option<String>, field: &str| {
            let compiled = text.as_ref().map(|it| pattern::compile(it)).transpose();
            compiled.at(field)
        };
        let edit = Self {
            line: config.line.clone(),
            pattern: compile(&config.pattern, "match")?,
            before: compile(&config.insert_before, "insertBefore")?,
            after: compile(&config.insert_after, "insertAfter")?,
            present: config.state == LineState::Present,
        };
        if let Some(line) = &edit.line {
            one_line(line).at("line")?;
        }
        if edit.before.is_some() && edit.after.is_some() {
            bail!("it is either `insertBefore` or `insertAfter`");
        }
        match (&edit.line, &edit.pattern) {
            (None, _) if edit.present => return Err(Error::new("is missing").at("line")),
            (None, None) => bail!("which lines should be absent? Give `line` or `match`"),
            (Some(_), Some(_)) if !edit.present => {
                bail!("with `state: absent` it is either `line` or `match`");
            }
            (Some(line), Some(pattern)) if !pattern.is_match(line) => {
                let message = "it does not match `line`, which would be added again and again";
                return Err(Error::new(message).at("match"));
            }
            _ => {}
        }
        if !edit.present && (edit.before.is_some() || edit.after.is_some()) {
            bail!("a line that should be absent goes nowhere");
        }
        Ok(edit)
    }

    pub(super) fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        if let Some(pattern) = &self.pattern {
            claims.push(Claim {
                subject: Subject::Pattern(pattern.as_str().to_owned()),
                wanted: self.line.clone().filter(|_| self.present),
            });
        }
        if let Some(line) = &self.line {
            claims.push(Claim {
                subject: Subject::Line(line.clone()),
                wanted: self.present.then(String::new),
            });
        }
        claims
    }

    pub(super) fn apply(&self, text: &str) -> Option<Edited> {
        let mut lines = Lines::new(text);
        let found = match (&self.line, self.present) {
            (Some(line), true) => self.put(line, &mut lines)?,
            _ => self.remove(&mut lines)?,
        };
        let text = lines.text();
        Some(Edited { text, found })
    }

    fn put(&self, wanted: &str, lines: &mut Lines<'_>) -> Option<String> {
        let matching = self.pattern.as_ref().and_then(|pattern| {
            let mut matching = lines.iter().rev();
            matching
                .find(|(_, line)| pattern.is_match(line))
                .map(|(index, _)| index)
        });
        if let Some(index) = matching {
            let found = lines.get(index).to_owned();
            if found == wanted {
                return None;
            }
            lines.replace(index, wanted);
            return Some(format!("line {} is {found:?}", index + 1));
        }
        if lines.iter().any(|(_, line)| line == wanted) {
            return None;
        }
        let before = self.before.as_ref().and_then(|pattern| {
            lines
                .iter()
                .find(|(_, line)| pattern.is_match(line))
                .map(|(index, _)| index)
        });
        let after = self.after.as_ref().and_then(|pattern| {
            let mut lines = lines.iter().rev();
            lines
                .find(|(_, line)| pattern.is_match(line))
                .map(|(index, _)| index + 1)
        });
        let index = before.or(after).unwrap_or(lines.len());
        lines.insert(index, wanted);
        Some(format!("the line {wanted:?} is not there"))
    }

    fn remove(&self, lines: &mut Lines<'_>) -> Option<String> {
        let unwanted = |line: &str| match &self.pattern {
            Some(pattern) => pattern.is_match(line),
            None => self.line.as_deref() == Some(line),
        };
        let (index, first) = lines.iter().find(|(_, line)| unwanted(line))?;
        let found = format!("line {} is {first:?}", index + 1);
        lines.retain(|_, line| !unwanted(line));
        Some(found)
    }
}
