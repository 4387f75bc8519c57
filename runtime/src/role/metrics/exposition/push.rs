//! What a push to a remote-write server holds: samples as Prometheus has them of a scrape, which it asks
//! for in the format OpenMetrics, so that a series has the same name and labels whichever way it came.

use super::number::canonical;
use super::{Exposition, Family, Kind, Own};

/// One sample of a series.
pub(in crate::role::metrics) struct Sample<'s> {
    /// By name, each once, with `__name__`; none of them is empty.
    pub(in crate::role::metrics) labels: &'s [(&'s str, &'s str)],
    pub(in crate::role::metrics) value: f64,
    /// Of its family: told with the first sample of that.
    pub(in crate::role::metrics) family: Option<FamilyInfo<'s>>,
}

/// What is known of a family.
#[derive(Clone, Copy)]
pub(in crate::role::metrics) struct FamilyInfo<'s> {
    pub(in crate::role::metrics) name: &'s str,
    pub(in crate::role::metrics) help: &'s str,
    pub(in crate::role::metrics) unit: &'s str,
    pub(in crate::role::metrics) kind: Kind,
}

/// Hands samples on, one after the other.
struct Out<'o> {
    /// Added to every series that has none of the name.
    added: &'o [(String, String)],
    to: &'o mut dyn FnMut(Sample<'_>),
}

impl Out<'_> {
    fn sample<'l>(
        &mut self,
        [name, suffix]: [&str; 2],
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        more: Option<(&str, f64)>,
        value: f64,
        family: Option<FamilyInfo<'_>>,
    ) {
        let full = format!("{name}{suffix}");
        let mut text = Vec::new();
        let more = more.map(|(label, value)| {
            canonical(&mut text, value);
            (label, std::str::from_utf8(&text).unwrap_or_default())
        });
        let mut all: Vec<(&str, &str)> = labels.collect();
        all.extend(more);
        for (label, value) in self.added {
            if !all.iter().any(|(known, _)| known == label) {
                all.push((label, value));
            }
        }
        all.push(("__name__", &full));
        // An empty label is none.
        all.retain(|(_, value)| !value.is_empty());
        all.sort_unstable();
        (self.to)(Sample {
            labels: &all,
            value,
            family,
        });
    }

    fn family(&mut self, family: &Family<'_>) {
        let mut info = Some(FamilyInfo {
            name: family.name,
            help: family.help,
            unit: family.unit,
            kind: family.kind,
        });
        for row in &family.rows {
            let series = row.series;
            let (label, of_point) = match family.kind {
                Kind::Histogram => ("le", "_bucket"),
                Kind::Summary => ("quantile", ""),
                _ => {
                    let name = [family.name, ""];
                    self.sample(name, row.labels(), None, series.value(), info.take());
                    continue;
                }
            };
            for (at, value) in series.points() {
                let (name, more) = ([family.name, of_point], Some((label, *at)));
                self.sample(name, row.labels(), more, *value, info.take());
            }
            for (suffix, value) in [("_sum", series.value()), ("_count", series.count())] {
                let name = [family.name, suffix];
                self.sample(name, row.labels(), None, value, info.take());
            }
        }
    }

    fn own(&mut self, own: &Own<'_>) {
        let mut info = Some(FamilyInfo {
            name: own.name,
            help: own.help,
            unit: "",
            kind: Kind::Gauge,
        });
        for (namespace, name, value) in &own.rows {
            let labels = [("namespace", *namespace), ("name", *name)];
            let labels = labels.into_iter();
            self.sample([own.name, ""], labels, None, *value, info.take());
        }
    }
}

impl Exposition<'_> {
    /// All samples, with `added` to every series that has none of the name.
    pub(in crate::role::metrics) fn samples(
        &self,
        added: &[(String, String)],
        to: &mut dyn FnMut(Sample<'_>),
    ) {
        let mut out = Out { added, to };
        // What Prometheus says of whatever it scrapes.
        let works = self.plugins.iter().all(|plugin| plugin.success);
        let value = f64::from(u8::from(works));
        out.sample(["up", ""], std::iter::empty(), None, value, None);
        for family in self.families() {
            out.family(&family);
        }
        for own in self.own() {
            out.own(&own);
        }
    }
}
