//! Texts that the configuration names.

use bulkhead_sdk::{Context, Error, Result};

/// A text, by name: here, or in a file below a folder that the manifest grants (`grants.files`).
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Source {
    /// What findings call it; YARA rules of one text see each other.
    pub(crate) name: String,
    /// The text itself.
    #[serde(default)]
    text: Option<String>,
    /// The path of its file, as the plugin sees it.
    #[serde(default)]
    file: Option<String>,
}

impl Source {
    /// The text of `field` of the configuration.
    pub(crate) fn read(&self, field: &str) -> Result<String> {
        match (&self.text, &self.file) {
            (Some(text), None) => Ok(text.clone()),
            (None, Some(path)) => std::fs::read_to_string(path)
                .context(format!(
                    "{path} cannot be read; grant its folder: grants.files"
                ))
                .map_err(|error| error.at(field)),
            _ => Err(Error::new("needs either text or file").at(field)),
        }
    }
}
