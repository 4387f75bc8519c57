//! Named values on their way into a record, each name once.

use std::borrow::Cow;
use std::fmt::Display;

use crate::json::ToJson;

/// Names and values; a later value of a name takes the place of the earlier one.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(Cow<'static, str>, Vec<u8>)>);

impl Fields {
    pub(super) fn set(&mut self, name: impl Into<Cow<'static, str>>, value: &dyn ToJson) {
        let name = name.into();
        let mut json = Vec::new();
        value.write_json(&mut json);
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = json,
            None => self.0.push((name, json)),
        }
    }

    pub(super) fn set_text(&mut self, name: impl Into<Cow<'static, str>>, value: impl Display) {
        self.set(name, &value.to_string());
    }

    #[cfg(feature = "tracing")]
    pub(super) fn extend(&mut self, other: &Self) {
        for (name, json) in &other.0 {
            self.set(name.clone(), &Json(json));
        }
    }

    /// As [`write`](super::write) wants them.
    pub(super) fn each(&self) -> Vec<(&str, Json<'_>)> {
        let fields = self.0.iter();
        fields.map(|(name, json)| (&**name, Json(json))).collect()
    }
}

/// What is JSON already.
pub(super) struct Json<'a>(&'a [u8]);

impl ToJson for Json<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// Writes one record with these fields.
pub(super) fn write(level: super::Level, target: &str, message: &str, fields: &Fields) {
    let fields = fields.each();
    let fields: Vec<(&str, &dyn ToJson)> = fields.iter().map(|(n, v)| (*n, v as _)).collect();
    super::write(level, target, message, &fields);
}
