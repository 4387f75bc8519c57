//! What a collector found, checked: nothing of it is trusted before.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use xxhash_rust::xxh3::{Xxh3, Xxh3DefaultBuilder};

use crate::sandbox::bindings::metrics::exports::bulkhead::plugin::metrics as wit;

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Info,
    Untyped,
}

/// What spans may add up to beyond twice the bytes.
const SPANS_SLACK: usize = 64 << 10;

/// A span of the text.
type Span = Range<usize>;

#[derive(Debug)]
struct Family {
    kind: Kind,
    name: Span,
    help: Span,
    unit: Span,
    series: Range<usize>,
}

#[derive(Debug)]
struct Series {
    labels: Range<usize>,
    points: Range<usize>,
    value: f64,
    count: f64,
}

/// The families of one collector, packed as they came.
#[derive(Debug, Default)]
pub(super) struct Found {
    text: String,
    families: Vec<Family>,
    /// By family.
    series: Vec<Series>,
    labels: Vec<(Span, Span)>,
    points: Vec<(f64, f64)>,
}

/// What was left out of what a collector found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Series that break the data model.
    pub(super) invalid: u64,
    /// What is wrong with the first of them.
    pub(super) first: Option<String>,
    /// Series over the limit.
    pub(super) over_limit: u64,
}

/// The contract is broken: nothing of it can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the families' bytes are not UTF-8")]
    NotText,
    #[error("a span leads out of the families' bytes")]
    Span,
    #[error("all spans together are much longer than the families' bytes")]
    Spans,
    #[error("the tables of series, labels and points do not fit together")]
    Tables,
}

/// What the collectors of one collection found before: no series may come twice.
#[derive(Default)]
pub(super) struct Known {
    series: HashSet<u128, Xxh3DefaultBuilder>,
    families: HashMap<String, Kind, Xxh3DefaultBuilder>,
}

impl Found {
    /// Checks an answer. At most `room` series are kept.
    pub(super) fn check(
        mut raw: wit::Families,
        room: usize,
        known: &mut Known,
    ) -> Result<(Self, LeftOut), Broken> {
        let text =
            String::from_utf8(std::mem::take(&mut raw.bytes)).map_err(|_| Broken::NotText)?;
        // Spans may overlap, so a few bytes could stand for any number: all together have a bound, too.
        let room_of_spans = Cell::new(text.len().saturating_mul(2).saturating_add(SPANS_SLACK));
        let span = |offset: u32, length: u32| -> Result<Span, Broken> {
            let start = offset as usize;
            let left = room_of_spans.get().checked_sub(length as usize);
            room_of_spans.set(left.ok_or(Broken::Spans)?);
            let span = start..start.checked_add(length as usize).ok_or(Broken::Span)?;
            text.get(span.clone()).ok_or(Broken::Span)?;
            Ok(span)
        };
        let mut labels = Vec::with_capacity(raw.labels.len());
        for label in &raw.labels {
            labels.push((
                span(label.name_offset, label.name_length)?,
                span(label.value_offset, label.value_length)?,
            ));
        }
        let points = raw.points.iter().map(|point| (point.at, point.value));
        let mut found = Self {
            families: Vec::with_capacity(raw.families.len()),
            series: Vec::with_capacity(raw.series.len()),
            labels,
            points: points.collect(),
            text: String::new(),
        };
        let mut left_out = LeftOut::default();
        let by_family = order(&raw)?;
        for (family, members) in raw.families.iter().zip(by_family) {
            let kind = Kind::from(family.kind);
            let name = span(family.name_offset, family.name_length)?;
            let help = span(family.help_offset, family.help_length)?;
            let unit = span(family.unit_offset, family.unit_length)?;
            if members.is_empty() {
                continue;
            }
            let problem = family_problem(kind, &text[name.clone()], &text[unit.clone()], known);
            if let Some(problem) = problem {
                left_out.invalid += members.len() as u64;
                left_out.first.get_or_insert(problem);
                continue;
            }
            let begin = found.series.len();
            for series in members {
                if found.series.len() >= room {
                    left_out.over_limit += 1;
                    continue;
                }
                match series_problem(kind, &name, &series, &found, &text, known) {
                    None => found.series.push(series),
                    Some(problem) => {
                        left_out.invalid += 1;
                        left_out.first.get_or_insert(problem);
                    }
                }
            }
            found.families.push(Family {
                kind,
                name,
                help,
                unit,
                series: begin..found.series.len(),
            });
        }
        match found.series.is_empty() {
            true => found = Self::default(),
            false => found.text = text,
        }
        if let Some(first) = &mut left_out.first {
            let end = (0..=first.len().min(512)).rev();
            let mut end = end.into_iter();
            let end = end.find(|at| first.is_char_boundary(*at));
            first.truncate(end.unwrap_or(0));
        }
        Ok((found, left_out))
    }

    pub(super) fn series(&self) -> usize {
        self.series.len()
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.text.len()
            + self.families.len() * size_of::<Family>()
            + self.series.len() * size_of::<Series>()
            + self.labels.len() * size_of::<(Span, Span)>()
            + self.points.len() * size_of::<(f64, f64)>()
    }

    /// The families that have series.
    pub(super) fn families(&self) -> impl Iterator<Item = FamilyView<'_>> {
        let families = self.families.iter();
        families
            .filter(|family| !family.series.is_empty())
            .map(|family| FamilyView {
                found: self,
                family,
            })
    }

    fn text(&self, span: &Span) -> &str {
        // Spans were checked against this text.
        self.text.get(span.clone()).unwrap_or_default()
    }
}

/// The members of each family, in their order. Spans of labels and points are made on the way, because
/// they are in the order of the series.
fn order(raw: &wit::Families) -> Result<Vec<Vec<Series>>, Broken> {
    let mut by_family: Vec<Vec<Series>> = raw.families.iter().map(|_| Vec::new()).collect();
    let (mut label, mut point) = (0_usize, 0_usize);
    for series in &raw.series {
        let labels = label..label.saturating_add(series.labels as usize);
        let points = point..point.saturating_add(series.points as usize);
        (label, point) = (labels.end, points.end);
        if label > raw.labels.len() || point > raw.points.len() {
            return Err(Broken::Tables);
        }
        let family = by_family.get_mut(series.family as usize);
        family.ok_or(Broken::Tables)?.push(Series {
            labels,
            points,
            value: series.value,
            count: series.count,
        });
    }
    Ok(by_family)
}

/// <https://prometheus.io/docs/concepts/data_model/> and
/// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>
fn family_problem(kind: Kind, name: &str, unit: &str, known: &mut Known) -> Option<String> {
    if !is_metric_name(name) {
        return Some(format!("{name:?} is no name of a metric"));
    }
    if name.starts_with("bulkhead_") {
        return Some(format!(
            "{name}: names that begin with bulkhead_ are the daemon's"
        ));
    }
    let base = name.strip_suffix("_total").unwrap_or(name);
    let has_unit = |unit| base.strip_suffix(unit).is_some_and(|it| it.ends_with('_'));
    if !unit.is_empty() && !has_unit(unit) {
        return Some(format!("{name} does not end in its unit {unit:?}"));
    }
    if kind == Kind::Info && !name.ends_with("_info") {
        return Some(format!("{name} is an info and does not end in _info"));
    }
    match known.families.get(name) {
        None => {
            known.families.insert(name.to_owned(), kind);
            None
        }
        Some(other) if *other == kind => None,
        Some(_) => Some(format!("{name} has two types")),
    }
}

fn series_problem(
    kind: Kind,
    family: &Span,
    series: &Series,
    found: &Found,
    text: &str,
    known: &mut Known,
) -> Option<String> {
    let name = &text[family.clone()];
    let mut labels: Vec<(&str, &str)> = Vec::with_capacity(series.labels.len());
    for (label, value) in &found.labels[series.labels.clone()] {
        labels.push((&text[label.clone()], &text[value.clone()]));
    }
    let reserved = match kind {
        Kind::Histogram => "le",
        Kind::Summary => "quantile",
        _ => "",
    };
    for (label, _) in &labels {
        if !is_label_name(label) || *label == reserved {
            return Some(format!("{name}: {label:?} is no name of a label here"));
        }
    }
    labels.sort_unstable();
    if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Some(format!("{name} has a label twice"));
    }
    let points = &found.points[series.points.clone()];
    let problem = match kind {
        Kind::Counter if series.value < 0.0 => Some("is a counter below zero"),
        Kind::Info if series.value != 1.0 => Some("is an info and not 1"),
        Kind::Histogram => histogram_problem(points, series.count),
        Kind::Summary => summary_problem(points),
        _ => None,
    };
    if let Some(problem) = problem {
        return Some(format!("{name} {problem}"));
    }
    let mut hash = Xxh3::new();
    let mut feed = |text: &str| {
        hash.update(text.as_bytes());
        // Never in UTF-8: no two lists of texts are one.
        hash.update(&[0xff]);
    };
    feed(name);
    for (label, value) in &labels {
        feed(label);
        feed(value);
    }
    let fresh = known.series.insert(hash.digest128());
    (!fresh).then(|| format!("{name} comes twice with the labels {labels:?}"))
}

fn histogram_problem(buckets: &[(f64, f64)], count: f64) -> Option<&'static str> {
    let ascends = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
    match buckets.last() {
        Some((bound, all)) if *bound == f64::INFINITY && *all == count => {}
        _ => return Some("has no last bucket of infinity with all observations"),
    }
    (!buckets.windows(2).all(ascends)).then_some("has buckets that do not ascend")
}

fn summary_problem(quantiles: &[(f64, f64)]) -> Option<&'static str> {
    let within = |(at, _): &(f64, f64)| (0.0..=1.0).contains(at);
    (!quantiles.iter().all(within)).then_some("has a quantile that is not between 0 and 1")
}

fn is_metric_name(name: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    is_name(name, begins)
}

fn is_label_name(name: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    is_name(name, begins) && !name.starts_with("__")
}

fn is_name(name: &str, begins: impl Fn(u8) -> bool) -> bool {
    name.bytes().next().is_some_and(&begins)
        && name
            .bytes()
            .all(|byte| begins(byte) || byte.is_ascii_digit())
}

impl From<wit::Kind> for Kind {
    fn from(kind: wit::Kind) -> Self {
        match kind {
            wit::Kind::Counter => Self::Counter,
            wit::Kind::Gauge => Self::Gauge,
            wit::Kind::Histogram => Self::Histogram,
            wit::Kind::Summary => Self::Summary,
            wit::Kind::Info => Self::Info,
            wit::Kind::Untyped => Self::Untyped,
        }
    }
}

/// A family of what was found.
#[derive(Clone, Copy)]
pub(super) struct FamilyView<'a> {
    found: &'a Found,
    family: &'a Family,
}

impl<'a> FamilyView<'a> {
    pub(super) fn kind(&self) -> Kind {
        self.family.kind
    }

    pub(super) fn name(&self) -> &'a str {
        self.found.text(&self.family.name)
    }

    pub(super) fn help(&self) -> &'a str {
        self.found.text(&self.family.help)
    }

    pub(super) fn unit(&self) -> &'a str {
        self.found.text(&self.family.unit)
    }

    pub(super) fn series(&self) -> impl Iterator<Item = SeriesView<'a>> {
        let found = self.found;
        let series = found.series.get(self.family.series.clone());
        let series = series.unwrap_or_default().iter();
        series.map(move |series| SeriesView { found, series })
    }
}

/// One series of it.
#[derive(Clone, Copy)]
pub(super) struct SeriesView<'a> {
    found: &'a Found,
    series: &'a Series,
}

impl<'a> SeriesView<'a> {
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let found = self.found;
        let labels = found.labels.get(self.series.labels.clone());
        let labels = labels.unwrap_or_default().iter();
        labels.map(move |(name, value)| (found.text(name), found.text(value)))
    }

    /// Buckets or quantiles.
    pub(super) fn points(&self) -> &'a [(f64, f64)] {
        let points = self.found.points.get(self.series.points.clone());
        points.unwrap_or_default()
    }

    /// The value, or the sum.
    pub(super) fn value(&self) -> f64 {
        self.series.value
    }

    /// How many observations.
    pub(super) fn count(&self) -> f64 {
        self.series.count
    }
}
