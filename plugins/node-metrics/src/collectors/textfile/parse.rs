//! The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! As strict as the node exporter: one wrong line, a file that ends within a line (it is being
//! written), or a time stamp costs the whole file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sdk::metrics::Kind;

/// The families of a file, by name.
pub(super) type File<'a> = BTreeMap<&'a str, Family<'a>>;

/// Labels by name, without empty ones, which are as if they were not there.
pub(super) type Labels<'a> = BTreeMap<&'a str, Cow<'a, str>>;

#[derive(Debug, Default)]
pub(super) struct Family<'a> {
    kind: Option<Kind>,
    pub(super) help: Option<String>,
    /// Of all series, with those that are empty.
    pub(super) label_names: BTreeSet<&'a str>,
    pub(super) series: BTreeMap<Labels<'a>, Series>,
}

impl Family<'_> {
    pub(super) fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Untyped)
    }
}

#[derive(Debug, Default)]
pub(super) struct Series {
    /// Or the sum.
    pub(super) value: f64,
    pub(super) count: f64,
    /// Buckets or quantiles.
    pub(super) points: Vec<(f64, f64)>,
}

/// What a line tells of a histogram or summary.
#[derive(Debug, Clone, Copy)]
enum Part {
    Point,
    Sum,
    Count,
}

/// # Errors
/// The first line that is wrong, and why.
pub(super) fn parse(text: &str) -> Result<File<'_>, String> {
    let mut file = File::new();
    let mut lines = text.split('\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = skip_blanks(line);
        let parsed = match line.strip_prefix('#') {
            _ if line.is_empty() => continue,
            _ if is_last => Err("it ends within a line".to_owned()),
            Some(comment) => comment_line(comment, &mut file),
            None => sample(line, &mut file),
        };
        parsed.map_err(|why| format!("line {}: {why}", index + 1))?;
    }
    file.retain(|_, family| !family.series.is_empty());
    Ok(file)
}

fn comment_line<'a>(line: &'a str, file: &mut File<'a>) -> Result<(), String> {
    let (keyword, rest) = split_while(skip_blanks(line), |c| !is_blank(c));
    if keyword != "HELP" && keyword != "TYPE" {
        return Ok(());
    }
    let (name, rest) = metric_name(skip_blanks(rest));
    if !rest.is_empty() && !rest.starts_with(is_blank) {
        return Err(format!("no name of a metric after {keyword}"));
    }
    let rest = skip_blanks(rest);
    if rest.is_empty() {
        return Ok(());
    }
    let (family, _) = family_of(name, file);
    if keyword == "HELP" {
        let help = unescape(rest, false)?;
        match family.help.replace(help.into_owned()) {
            Some(_) => Err(format!("a second HELP of {name}")),
            None => Ok(()),
        }
    } else {
        match family.kind.replace(kind(rest)?) {
            Some(_) => Err(format!("a second TYPE of {name}, or one after its series")),
            None => Ok(()),
        }
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    [
        ("counter", Kind::Counter),
        ("gauge", Kind::Gauge),
        ("histogram", Kind::Histogram),
        ("summary", Kind::Summary),
        ("untyped", Kind::Untyped),
    ]
    .into_iter()
    .find_map(|(name, kind)| name.eq_ignore_ascii_case(text).then_some(kind))
    .ok_or_else(|| format!("{text:?} is no type"))
}

fn sample<'a>(line: &'a str, file: &mut File<'a>) -> Result<(), String> {
    let (name, rest) = metric_name(line);
    if name.is_empty() {
        return Err("no name of a metric".to_owned());
    }
    let (family, part) = family_of(name, file);
    let kind = *family.kind.get_or_insert(Kind::Untyped);
    let special = match kind {
        Kind::Histogram => "le",
        Kind::Summary => "quantile",
        _ => "",
    };
    let mut at = f64::NAN;
    let mut series_labels = Labels::new();
    let mut known = BTreeSet::new();
    let mut rest = skip_blanks(rest);
    if let Some(labels) = rest.strip_prefix('{') {
        rest = parse_labels(labels, |label, value| {
            if label == special {
                at = number(&value)?;
                return Ok(());
            }
            if !known.insert(label) {
                return Err(format!("{name} has the label {label} twice"));
            }
            if !value.is_empty() {
                series_labels.insert(label, value);
            }
            Ok(())
        })?;
    }
    let (value, rest) = split_while(skip_blanks(rest), |c| !is_blank(c));
    let value = number(value)?;
    if !rest.is_empty() {
        return Err("time stamps are not allowed, nor blanks at the end".to_owned());
    }
    family.label_names.extend(known);
    let is_new = !family.series.contains_key(&series_labels);
    let series = family.series.entry(series_labels).or_default();
    match (kind, part) {
        (Kind::Histogram | Kind::Summary, Part::Sum) => series.value = value,
        (Kind::Histogram | Kind::Summary, Part::Count) => series.count = whole(value),
        (Kind::Histogram, Part::Point) if !at.is_nan() => series.points.push((at, whole(value))),
        (Kind::Summary, Part::Point) if (0.0..=1.0).contains(&at) => {
            series.points.push((at, value));
        }
        (Kind::Histogram | Kind::Summary, Part::Point) => {}
        // Of two that are the same, the first counts.
        _ if is_new => series.value = value,
        _ => {}
    }
    Ok(())
}

/// The family that a sample of this name is of, and what it tells of it.
fn family_of<'a, 'b>(name: &'a str, file: &'b mut File<'a>) -> (&'b mut Family<'a>, Part) {
    let parts = [
        ("_sum", Part::Sum),
        ("_count", Part::Count),
        ("_bucket", Part::Point),
    ];
    let found = parts.into_iter().find_map(|(suffix, part)| {
        let family = name.strip_suffix(suffix)?;
        let is_part = match file.get(family)?.kind? {
            Kind::Histogram => true,
            Kind::Summary => suffix != "_bucket",
            _ => false,
        };
        is_part.then_some((family, part))
    });
    match found {
        Some((family, part)) if !file.contains_key(name) => (file.entry(family).or_default(), part),
        _ => (file.entry(name).or_default(), Part::Point),
    }
}

/// Of `a="b",c="d"}`, and returns what follows.
fn parse_labels<'a>(
    mut rest: &'a str,
    mut add: impl FnMut(&'a str, Cow<'a, str>) -> Result<(), String>,
) -> Result<&'a str, String> {
    loop {
        rest = skip_blanks(rest);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (label, after) = label_name(rest);
        if label.is_empty() || label.starts_with("__") {
            return Err(format!("no name of a label, or a reserved one: {label:?}"));
        }
        let value = skip_blanks(after)
            .strip_prefix('=')
            .and_then(|after| skip_blanks(after).strip_prefix('"'));
        let Some(value) = value else {
            return Err(format!("no '=' and '\"' after the label {label}"));
        };
        let mut escaped = false;
        let (quoted, after) = split_while(value, |c| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            !is_end
        });
        let Some(after) = after.strip_prefix('"') else {
            return Err(format!("the value of the label {label} does not end"));
        };
        add(label, unescape(quoted, true)?)?;
        rest = skip_blanks(after);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err(format!("neither ',' nor '}}' after the label {label}")),
        }
    }
}

fn unescape(text: &str, is_quoted: bool) -> Result<Cow<'_, str>, String> {
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        plain.push(match c {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if is_quoted => '"',
                _ => return Err("a backslash before what needs none".to_owned()),
            },
            other => other,
        });
    }
    Ok(Cow::Owned(plain))
}

fn number(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no number");
    let value: f64 = text.parse().map_err(|_| wrong())?;
    // Too large for a number, unless it says so.
    if value.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) {
        return Err(wrong());
    }
    Ok(value)
}

/// Observations are counted in whole numbers.
fn whole(value: f64) -> f64 {
    value as u64 as f64
}

fn metric_name(text: &str) -> (&str, &str) {
    name(text, |c| c == ':')
}

fn label_name(text: &str) -> (&str, &str) {
    name(text, |_| false)
}

fn name(text: &str, more: impl Fn(char) -> bool) -> (&str, &str) {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || more(c);
    match text.starts_with(begins) {
        true => split_while(text, |c| begins(c) || c.is_ascii_digit()),
        false => ("", text),
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches(is_blank)
}

fn split_while(text: &str, mut goes_on: impl FnMut(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !goes_on(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}
