//! Metrics that others wrote to files.

mod parse;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sdk::metrics::{Entry, Kind};
use bulkhead_sdk::{Collector, Families, Result, View, warn};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use parse::{Family, File, Labels, parse};

const FOLDER: &str = "/var/lib/prometheus/node-exporter";

/// The collector `textfile`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Folders whose files `*.prom` are told; they may be globs. One that is not there is an error
    /// (`node_textfile_scrape_error`). If absent, `/var/lib/prometheus/node-exporter`, which may be
    /// missing.
    pub directories: Option<Vec<String>>,
}

pub(crate) struct Textfile {
    folders: Vec<String>,
    may_be_missing: bool,
    /// What was complained of last time, by file: once is enough.
    complaints: BTreeMap<String, String>,
}

impl Textfile {
    pub(crate) fn new(options: &Options) -> Self {
        let folders = options.directories.clone();
        Self {
            may_be_missing: folders.is_none(),
            folders: folders.unwrap_or_else(|| vec![FOLDER.to_owned()]),
            complaints: BTreeMap::new(),
        }
    }

    fn complain(&mut self, complaints: BTreeMap<String, String>) {
        for (path, why) in &complaints {
            if self.complaints.get(path) != Some(why) {
                warn!("{path}: {why}");
            }
        }
        self.complaints = complaints;
    }
}

impl Collect for Textfile {
    fn wants(&self) -> Collector {
        let folders = self
            .folders
            .iter()
            .map(|folder| folder.trim_end_matches('/'));
        folders.fold(Collector::new("textfile"), |collector, folder| {
            collector.names(folder).content(&format!("{folder}/*.prom"))
        })
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let mut complaints = BTreeMap::new();
        let mut files = BTreeMap::new();
        for (index, folder) in self.folders.iter().enumerate() {
            if view.want(2 * index).next().is_none() && !self.may_be_missing {
                complaints.insert(folder.clone(), "not there".to_owned());
            }
            for entry in view.want(2 * index + 1) {
                match read(entry) {
                    Ok(file) => {
                        files.insert(entry.path(), file);
                    }
                    Err(why) => {
                        complaints.insert(entry.path().to_owned(), why);
                    }
                }
            }
        }
        let failed = !complaints.is_empty();
        tell_all(&files, &mut complaints, out);
        let modified = out.gauge(
            "node_textfile_mtime_seconds",
            "Unixtime mtime of textfiles successfully read.",
        );
        for entry in view.files() {
            // Whole seconds, as the exporter tells them; 0 is not known.
            let seconds = entry.modified() / 1_000_000_000;
            if seconds != 0 && files.contains_key(entry.path()) {
                out.add(modified, &[("file", entry.path())], seconds as f64);
            }
        }
        self.complain(complaints);

        let family = out.gauge(
            "node_textfile_scrape_error",
            "1 if there was an error opening or reading a file, 0 otherwise",
        );
        out.add(family, &[], f64::from(u8::from(failed)));
        Ok(())
    }
}

fn read(entry: Entry<'_>) -> Result<File<'_>, String> {
    if let Some(error) = entry.error() {
        return Err(format!("cannot be read (error {error})"));
    }
    if entry.is_cut() {
        return Err("too long".to_owned());
    }
    parse(entry.text().ok_or("not UTF-8")?)
}

fn tell_all(
    files: &BTreeMap<&str, File>,
    complaints: &mut BTreeMap<String, String>,
    out: &mut Families,
) {
    // Our own names, which no file may take.
    let own = ["node_textfile_scrape_error", "node_textfile_mtime_seconds"];
    let mut claimed: BTreeMap<String, (&str, Kind)> = own
        .into_iter()
        .map(|name| (name.to_owned(), ("", Kind::Gauge)))
        .collect();
    let mut told: BTreeSet<(&str, &Labels)> = BTreeSet::new();
    let mut files_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, file) in files {
        for name in file.keys() {
            files_of.entry(name).or_default().push(path);
        }
    }
    for (path, file) in files {
        for (name, family) in file {
            let owner = (*name, family.kind());
            let samples = sample_names(name, family.kind());
            let is_free = |sample| claimed.get(sample).is_none_or(|other| *other == owner);
            if !samples.iter().all(is_free) {
                let why = format!("another file, or family, has metrics named {name}");
                complaints.insert((*path).to_owned(), why);
                continue;
            }
            claimed.extend(samples.into_iter().map(|sample| (sample, owner)));
            // The first counts.
            let help = match (&family.help, files_of.remove(name)) {
                (Some(help), _) => help,
                (None, Some(paths)) => &format!("Metric read from {}", paths.join(", ")),
                (None, None) => "",
            };
            tell(
                name,
                help,
                family,
                |labels| told.insert((*name, labels)),
                out,
            );
        }
    }
}

/// The names that the lines of a family have.
fn sample_names(name: &str, kind: Kind) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        Kind::Histogram => &["", "_bucket", "_sum", "_count"],
        Kind::Summary => &["", "_sum", "_count"],
        _ => &[""],
    };
    suffixes
        .iter()
        .map(|suffix| format!("{name}{suffix}"))
        .collect()
}

/// Tells those series of a family that are new.
fn tell<'a>(
    name: &str,
    help: &str,
    family: &'a Family<'a>,
    mut is_new: impl FnMut(&'a Labels<'a>) -> bool,
    out: &mut Families,
) {
    let kind = family.kind();
    let id = out.family(kind, name, help);
    for (labels, series) in &family.series {
        if !is_new(labels) {
            continue;
        }
        // All series of a family have the same labels.
        let value = |label: &&'a str| (*label, labels.get(label).map_or("", |value| value));
        let labels: Vec<(&str, &str)> = family.label_names.iter().map(value).collect();
        // Of two that are the same, the last counts.
        let mut points = series.points.clone();
        points.reverse();
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        points.dedup_by(|(next, _), (kept, _)| next == kept);
        match kind {
            Kind::Histogram => out.histogram(id, &labels, &points, series.count, series.value),
            Kind::Summary => out.summary(id, &labels, &points, series.count, series.value),
            _ => out.add(id, &labels, series.value),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
