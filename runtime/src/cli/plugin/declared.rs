//! What a plugin's author declares: a ConfigMap, or the text that stands under its key `plugin.yaml`.

use std::path::{Path, PathBuf};

use super::crate_folder::SPEC;
use crate::cli::Failed;
use crate::manifest::{self, Document, KEY, LABEL, Manifest, Module, Position};
use crate::module::Digest;

/// A manifest with the module under test instead of its own.
pub(super) struct Declared {
    pub(super) manifest: Manifest,
    pub(super) path: PathBuf,
    pub(super) text: String,
    inner: Option<String>,
}

/// Lines before the text, and blanks before each of its lines, in the ConfigMap that is made around it.
const LINES: u32 = 7;
const INDENT: u32 = 4;

impl Declared {
    /// Reads it from a file.
    ///
    /// # Errors
    /// All that is wrong with it, with places of the file.
    pub(super) fn read(path: &Path, module: Module) -> Result<Self, Vec<String>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![format!(
                "{}: cannot be read: {error}: name a ConfigMap's file, or a {SPEC}",
                path.display()
            )]
        })?;
        let is_map = text
            .lines()
            .any(|line| line.trim_end() == "kind: ConfigMap");
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let documents = match is_map {
            true => manifest::read(&absolute, text.as_bytes()),
            false => manifest::read(&absolute, around(&name_of(&absolute), &text).as_bytes()),
        };
        let mut found = None;
        let mut problems = Vec::new();
        let mut hints = Vec::new();
        for document in documents {
            match document {
                Document::Manifest(_) if found.is_some() => problems.push(format!(
                    "{}: declares more than one plugin: name a file with one",
                    path.display()
                )),
                Document::Manifest(manifest) => found = Some(*manifest),
                Document::Refused { errors, .. } => {
                    problems.extend(errors.into_iter().map(|mut error| {
                        error.file = path.to_owned();
                        if !is_map {
                            error.position = error.position.and_then(inner);
                        }
                        error.to_string()
                    }));
                }
                Document::Ignored { hint, .. } => {
                    hints.extend(hint.map(|hint| hint.to_string()));
                }
            }
        }
        if found.is_none() {
            problems.append(&mut hints);
        }
        match found {
            Some(mut manifest) if problems.is_empty() => {
                manifest.spec.module = module;
                let path = path.to_owned();
                let inner = is_map.then(|| manifest::plugin_text(&text)).flatten();
                Ok(Self {
                    manifest,
                    path,
                    text,
                    inner,
                })
            }
            None if problems.is_empty() => Err(vec![format!(
                "{}: declares no plugin: write a ConfigMap with the label {LABEL}: \"true\", or what stands under its key {KEY}",
                path.display()
            )]),
            _ => Err(problems),
        }
    }

    /// An error of the manifest, with its place in the author's file.
    pub(super) fn tell(&self, mut error: manifest::Error) -> String {
        error.file.clone_from(&self.path);
        if self.inner.is_none() {
            error.position = error.position.and_then(inner);
        }
        error.to_string()
    }

    /// What stands, or would stand, under the key.
    pub(super) fn plugin_text(&self) -> &str {
        self.inner.as_deref().unwrap_or(&self.text)
    }

    /// `FILE:LINE:COLUMN` of a field.
    pub(super) fn place(&self, field: &str) -> String {
        let file = self.path.display();
        match manifest::locate(&self.text, field) {
            Some(Position { line, column }) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        }
    }
}

/// How a manifest names a module on the command line: a file, or a bundled one.
///
/// # Errors
/// If its path cannot be made absolute.
pub(super) fn module_of(path: &Path, digest: Digest) -> Result<Module, Failed> {
    if !path.exists() {
        return Ok(Module::Bundled(path.display().to_string()));
    }
    let path = std::path::absolute(path)
        .map_err(|error| Failed::new(format!("{}: {error}", path.display())))?;
    let sha256 = digest.to_string();
    Ok(Module::File { path, sha256 })
}

/// The ConfigMap around a text. What the text lacks comes after it, so that its lines keep their order.
pub(super) fn around(name: &str, text: &str) -> String {
    let mut map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{{LABEL}: \"true\"}}\ndata:\n  {KEY}: |\n"
    );
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    let missing = [
        (
            "apiVersion:",
            format!("apiVersion: {}", manifest::API_VERSION),
        ),
        ("kind:", "kind: Plugin".to_owned()),
        // In its place comes the one under test.
        ("module:", "module: {bundled: log-shipper}".to_owned()),
    ];
    let missing = missing.into_iter().filter(|(key, _)| !has(key));
    let missing: Vec<String> = missing.map(|(_, line)| line).collect();
    let lines = text.lines().chain(missing.iter().map(String::as_str));
    for line in lines {
        let indent = if line.is_empty() { 0 } else { INDENT as usize };
        map.push_str(&format!("{:indent$}{line}\n", ""));
    }
    map
}

fn inner(at: Position) -> Option<Position> {
    Some(Position {
        line: at.line.checked_sub(LINES).filter(|line| *line > 0)?,
        column: at.column.saturating_sub(INDENT).max(1),
    })
}

/// What a plugin without a ConfigMap is called: as the folder of its file.
pub(super) fn name_of(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
    let letters = folder.to_string_lossy().to_lowercase();
    let name: String = letters
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    let name = name.trim_matches('-');
    match name {
        "" => "plugin".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SPEC);
        let module = || Module::Bundled("log-shipper".into());
        std::fs::write(&path, "kind: Plugin\n\nlimits:\n  memory: much\n").unwrap();
        let problems = Declared::read(&path, module()).err().unwrap();
        let place = format!("{}:4:11: limits.memory: ", path.display());
        assert!(problems[0].starts_with(&place), "{problems:?}");
        std::fs::write(&path, "config:\n  rules:\n  - {a: 1}\n").unwrap();
        let declared = Declared::read(&path, module()).unwrap();
        let place = declared.place("config.rules[0].a");
        assert_eq!(place, format!("{}:3:9", path.display()));
        let map = around("a", &declared.text);
        // As `pack` writes a module's parts before it.
        let part = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a-module-0\nimmutable: true\nbinaryData:\n  part: AA==\n---\n";
        std::fs::write(&path, format!("{part}{map}")).unwrap();
        let declared = Declared::read(&path, module()).unwrap();
        assert!(declared.plugin_text().starts_with("config:"));
        std::fs::write(&path, map).unwrap();
        let declared = Declared::read(&path, module()).unwrap();
        let place = declared.place("config.rules[0].a");
        assert_eq!(place, format!("{}:10:13", path.display()));
    }
}
