//! What plugins found, by family, and the formats in which it is written. A format is a file.
//!
//! Two plugins may give series of one family. The plugin that comes first by namespace and name says
//! what type it has; another type, and a series that is there already, are left out.

mod negotiate;
mod number;
mod openmetrics;
mod protobuf;
mod push;
mod text;

use std::collections::{BTreeMap, HashSet};

pub use negotiate::Format;
pub(super) use push::{FamilyInfo, Sample};

use super::collection::Collection;
use super::driver::Labels;
use super::found::{FamilyView, Kind, SeriesView};
use number::number;

/// What all plugins found.
#[derive(Default)]
pub(super) struct Exposition<'a> {
    families: BTreeMap<&'a str, Vec<Part<'a>>>,
    plugins: Vec<About<'a>>,
}

/// What one collector of one plugin has of a family.
struct Part<'a> {
    plugin: usize,
    family: FamilyView<'a>,
    added: &'a Labels,
}

/// How a plugin's collection went: the daemon's own series.
struct About<'a> {
    namespace: &'a str,
    name: &'a str,
    success: bool,
    seconds: f64,
    series: usize,
}

/// A series as it is written.
struct Row<'a> {
    series: SeriesView<'a>,
    added: &'a Labels,
}

impl<'a> Row<'a> {
    fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let series = self.series;
        // A label that the series has already is its own: no series has one twice.
        let own = move |name: &str| series.labels().any(|(known, _)| known == name);
        let added = self.added.iter();
        let added = added.map(|(name, value)| (name.as_str(), value.as_str()));
        let added = added.filter(move |(name, _)| !own(name));
        self.series.labels().chain(added)
    }
}

/// A family as it is written.
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: Kind,
    rows: Vec<Row<'a>>,
}

/// What the daemon says of each plugin's collection.
struct Own<'a> {
    name: &'static str,
    help: &'static str,
    /// Namespace, name and value.
    rows: Vec<(&'a str, &'a str, f64)>,
}

impl<'a> Exposition<'a> {
    pub(super) fn add(
        &mut self,
        namespace: &'a str,
        name: &'a str,
        labels: &'a Labels,
        collection: &'a Collection,
    ) {
        let plugin = self.plugins.len();
        self.plugins.push(About {
            namespace,
            name,
            success: collection.failure.is_none(),
            seconds: collection.took.as_secs_f64(),
            series: collection.series(),
        });
        for outcome in &collection.collectors {
            for family in outcome.found.families() {
                let parts = self.families.entry(family.name()).or_default();
                parts.push(Part {
                    plugin,
                    family,
                    added: labels,
                });
            }
        }
    }

    pub(super) fn write(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Text => text::write(self),
            Format::OpenMetrics => openmetrics::write(self),
            Format::Protobuf => protobuf::write(self),
        }
    }

    fn families(&self) -> impl Iterator<Item = Family<'a>> {
        self.families.iter().filter_map(|(name, parts)| {
            let first = parts.first()?.family;
            let shared = parts.iter().any(|part| part.plugin != parts[0].plugin);
            let mut known = HashSet::new();
            let same = parts
                .iter()
                .filter(|part| part.family.kind() == first.kind());
            let rows = same.flat_map(|part| {
                let added = part.added;
                part.family
                    .series()
                    .map(move |series| Row { series, added })
            });
            let rows = rows.filter(|row| {
                // Within one plugin it was checked already.
                if !shared {
                    return true;
                }
                let mut labels: Vec<_> = row.labels().collect();
                labels.sort_unstable();
                known.insert(labels)
            });
            Some(Family {
                name,
                help: first.help(),
                unit: first.unit(),
                kind: first.kind(),
                rows: rows.collect(),
            })
        })
    }

    fn own(&self) -> [Own<'a>; 3] {
        let rows = |value: fn(&About<'a>) -> f64| {
            let plugins = self.plugins.iter();
            plugins
                .map(|about| (about.namespace, about.name, value(about)))
                .collect()
        };
        [
            Own {
                name: "bulkhead_collect_duration_seconds",
                help: "How long the plugin's latest collection took.",
                rows: rows(|about| about.seconds),
            },
            Own {
                name: "bulkhead_collect_series",
                help: "Series that the plugin's latest collection found.",
                rows: rows(|about| about.series as f64),
            },
            Own {
                name: "bulkhead_collect_success",
                help: "Whether the plugin's latest collection went to its end, in time.",
                rows: rows(|about| f64::from(u8::from(about.success))),
            },
        ]
    }
}

/// Writes a text with backslashes, line feeds and, if it stands in quotes, those escaped.
fn escaped(out: &mut Vec<u8>, text: &str, quoted: bool) {
    let is_plain = |byte: u8| !matches!(byte, b'\\' | b'\n' | b'"');
    if text.bytes().all(is_plain) {
        return out.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quoted => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
}

/// Writes the number in a label.
type Bound = fn(&mut Vec<u8>, f64);

/// Writes `name{labels} value`, with what `suffix` adds to the name and `more` to the labels.
fn sample<'l>(
    out: &mut Vec<u8>,
    [name, suffix]: [&str; 2],
    labels: impl Iterator<Item = (&'l str, &'l str)>,
    more: Option<(&str, f64, Bound)>,
    value: f64,
) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    let mut before = b'{';
    for (label, value) in labels {
        out.push(before);
        before = b',';
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        escaped(out, value, true);
        out.push(b'"');
    }
    if let Some((label, value, bound)) = more {
        out.push(before);
        before = b',';
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        bound(out, value);
        out.push(b'"');
    }
    if before == b',' {
        out.push(b'}');
    }
    out.push(b' ');
    number(out, value);
    out.push(b'\n');
}

/// Writes the samples of a family, which the two text formats spell alike but for `suffix`.
/// `bound` writes a bucket's bound or a quantile, which is a label: it is compared as a text.
fn samples(out: &mut Vec<u8>, family: &Family<'_>, suffix: &str, bound: Bound) {
    for row in &family.rows {
        let series = row.series;
        let label = match family.kind {
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
            _ => {
                let name = [family.name, suffix];
                sample(out, name, row.labels(), None, series.value());
                continue;
            }
        };
        let of_point = match family.kind {
            Kind::Histogram => "_bucket",
            _ => "",
        };
        for (at, value) in series.points() {
            let name = [family.name, of_point];
            sample(out, name, row.labels(), Some((label, *at, bound)), *value);
        }
        sample(
            out,
            [family.name, "_sum"],
            row.labels(),
            None,
            series.value(),
        );
        sample(
            out,
            [family.name, "_count"],
            row.labels(),
            None,
            series.count(),
        );
    }
}

/// Writes the daemon's own families, which look alike in both text formats.
fn own_families(out: &mut Vec<u8>, exposition: &Exposition<'_>) {
    for Own { name, help, rows } in exposition.own() {
        head(out, name, help, "gauge", false);
        for (namespace, plugin, value) in rows {
            let labels = [("namespace", namespace), ("name", plugin)];
            sample(out, [name, ""], labels.into_iter(), None, value);
        }
    }
}

/// `quoted`: quotation marks of the help text are escaped, as OpenMetrics has it.
fn head(out: &mut Vec<u8>, name: &str, help: &str, kind: &str, quoted: bool) {
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    escaped(out, help, quoted);
    out.extend_from_slice(b"\n# TYPE ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    out.extend_from_slice(kind.as_bytes());
    out.push(b'\n');
}
