//! A file as it is, and as it becomes.

use bulkhead_sdk::{Result, bail};

use super::Finding;
use crate::compile::EditFile;
use crate::config::IfMissing;

/// What is in a file.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) cut: bool,
}

impl Text<'_> {
    fn text(&self) -> Result<&str> {
        if self.cut {
            bail!("is longer than 4 MiB");
        }
        match std::str::from_utf8(self.bytes) {
            Ok(text) => Ok(text),
            Err(_) => bail!("is not UTF-8 text"),
        }
    }

    /// How it differs from what should be there.
    pub(super) fn differs(&self, wanted: &[u8], secret: bool) -> Option<String> {
        if self.bytes == wanted && !self.cut {
            return None;
        }
        let same = self
            .bytes
            .iter()
            .zip(wanted)
            .take_while(|(one, other)| one == other)
            .count();
        let line = 1 + self.bytes[..same]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Some(match secret {
            true => "its content differs".to_owned(),
            false => format!("its content differs from line {line} on"),
        })
    }
}

/// A file as it becomes.
pub(super) struct Draft<'a> {
    current: Option<Text<'a>>,
    text: Option<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(current: Option<Text<'a>>) -> Self {
        Self {
            current,
            text: None,
        }
    }

    /// Gives it a content, or sees to it that there is one.
    pub(super) fn write(&mut self, content: Option<&str>) {
        match content {
            Some(content) => self.text = Some(content.to_owned()),
            None if self.current.is_none() => self.text = Some(String::new()),
            None => {}
        }
    }

    pub(super) fn edit(&mut self, edit: &EditFile, enforced: bool, secret: bool) -> Finding {
        let current = match &self.current {
            Some(current) => match current.text() {
                Ok(text) => Some(text),
                // What is written anew need not be read.
                Err(_) if self.text.is_some() => None,
                Err(error) => return error.into(),
            },
            None => None,
        };
        let base = match (&self.text, current, edit.if_missing) {
            (Some(text), ..) => text.as_str(),
            (None, Some(text), _) => text,
            (None, None, IfMissing::Create) => "",
            (None, None, IfMissing::Error) => {
                return Finding::Error("there is no such file".to_owned());
            }
            (None, None, IfMissing::NotApplicable) => {
                return Finding::NotApplicable("there is no such file".to_owned());
            }
        };
        let is_draft = self.text.is_some();
        let outcome = match edit.edit.apply(base) {
            Ok(outcome) => outcome,
            Err(error) => return error.into(),
        };
        // Whether it is so is told of the file as it is; the draft may have it already.
        let finding = match (is_draft, current) {
            (true, Some(text)) => match edit.edit.apply(text) {
                Ok(edited) => edited.map(|edited| edited.found),
                // What is in disorder now need not be afterwards.
                Err(_) => Some("its content differs".to_owned()),
            },
            (_, None) => Some("there is no such file".to_owned()),
            (false, Some(_)) => outcome.as_ref().map(|edited| edited.found.clone()),
        };
        if enforced {
            match outcome {
                Some(edited) => self.text = Some(edited.text),
                None if self.current.is_none() && !is_draft => self.text = Some(String::new()),
                None => {}
            }
        }
        match finding {
            None => Finding::pass(),
            Some(_) if secret => Finding::Fail("its content differs".to_owned()),
            Some(why) => Finding::Fail(why),
        }
    }

    /// Whether it is as an edit wants it.
    pub(super) fn has(&self, edit: &EditFile) -> bool {
        self.text
            .as_ref()
            .is_some_and(|text| matches!(edit.edit.apply(text), Ok(None)))
    }

    pub(super) fn is_new(&self) -> bool {
        self.current.is_none()
    }

    /// What is written, if anything is.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The new content, if it is another.
    pub(super) fn changed(self) -> Option<String> {
        let current = self.current;
        self.text
            .filter(|text| current.is_none_or(|it| it.cut || it.bytes != text.as_bytes()))
    }
}
