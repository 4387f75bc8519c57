//! Metric families, packed as they are built: series in any order, strings side by side.

use std::collections::HashMap;

use crate::bindings::metrics::exports::bulkhead::plugin::metrics as raw;

/// What a family measures, after the Prometheus data model.
///
/// ```
/// assert_ne!(bulkhead_sdk::metrics::Kind::Counter, bulkhead_sdk::metrics::Kind::Gauge);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows, or begins anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
    /// Counts observations, with quantiles.
    Summary,
    /// Always 1: what matters is in the labels. Its name ends in `_info`.
    Info,
    /// It is not known what.
    Untyped,
}

/// A family of this collection: what [`Families::add`] adds to.
///
/// ```
/// let mut families = bulkhead_sdk::Families::default();
/// let first = families.gauge("node_load1", "1m load average.");
/// assert_eq!(families.gauge("node_load1", "1m load average."), first);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyId(u32);

/// What a collector found.
///
/// A family is asked for by name, which makes it the first time; series are added in any order. A family
/// without series is not shown. The host checks names, labels and that no series comes twice.
///
/// ```
#[doc = include_str!("example.txt")]
/// # let found = found!(Files::new(), |_, out| {
/// let sent = out.counter("node_network_transmit_bytes_total", "Bytes sent.");
/// for (device, bytes) in [("eth0", 10.0), ("eth1", 20.0)] {
///     out.add(sent, &[("device", device)], bytes);
/// }
/// # });
/// assert_eq!(found.value(r#"node_network_transmit_bytes_total{device="eth1"}"#), Some(20.0));
/// ```
#[derive(Debug)]
pub struct Families {
    raw: raw::Families,
    by_name: HashMap<Box<str>, FamilyId>,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            raw: empty(),
            by_name: HashMap::new(),
        }
    }
}

fn empty() -> raw::Families {
    raw::Families {
        bytes: Vec::new(),
        families: Vec::new(),
        series: Vec::new(),
        labels: Vec::new(),
        points: Vec::new(),
    }
}

impl Families {
    /// A family that only grows. Its name should end in `_total`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let forks = out.counter("node_forks_total", "Total number of forks.");
    /// out.add(forks, &[], 42.0);
    /// # });
    /// assert_eq!(found.kind("node_forks_total"), Some("counter"));
    /// ```
    pub fn counter(&mut self, name: &str, help: &str) -> FamilyId {
        self.family(Kind::Counter, name, help)
    }

    /// A family that goes up and down.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let load = out.gauge("node_load1", "1m load average.");
    /// out.add(load, &[], 0.5);
    /// # });
    /// assert_eq!(found.kind("node_load1"), Some("gauge"));
    /// ```
    pub fn gauge(&mut self, name: &str, help: &str) -> FamilyId {
        self.family(Kind::Gauge, name, help)
    }

    /// A family of which it is not known what it measures.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let faults = out.untyped("node_vmstat_pgfault", "/proc/vmstat information field pgfault.");
    /// out.add(faults, &[], 7.0);
    /// # });
    /// assert_eq!(found.kind("node_vmstat_pgfault"), Some("untyped"));
    /// ```
    pub fn untyped(&mut self, name: &str, help: &str) -> FamilyId {
        self.family(Kind::Untyped, name, help)
    }

    /// A family of any kind. Asked again by the same name, it is the same family, whatever the kind
    /// and the help text then.
    ///
    /// ```
    /// use bulkhead_sdk::metrics::Kind;
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let os = out.family(Kind::Info, "node_os_info", "The operating system.");
    /// out.add(os, &[("id", "debian")], 1.0);
    /// # });
    /// assert_eq!(found.value(r#"node_os_info{id="debian"}"#), Some(1.0));
    /// ```
    pub fn family(&mut self, kind: Kind, name: &str, help: &str) -> FamilyId {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let id = FamilyId(self.raw.families.len() as u32);
        let (name_offset, name_length) = self.put(name);
        let (help_offset, help_length) = self.put(help);
        self.raw.families.push(raw::Family {
            kind: match kind {
                Kind::Counter => raw::Kind::Counter,
                Kind::Gauge => raw::Kind::Gauge,
                Kind::Histogram => raw::Kind::Histogram,
                Kind::Summary => raw::Kind::Summary,
                Kind::Info => raw::Kind::Info,
                Kind::Untyped => raw::Kind::Untyped,
            },
            name_offset,
            name_length,
            help_offset,
            help_length,
            unit_offset: 0,
            unit_length: 0,
        });
        self.by_name.insert(name.into(), id);
        id
    }

    /// Says a family's unit, which its name must end in (before `_total`).
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let size = out.gauge("node_filesystem_size_bytes", "File system size.");
    /// out.unit(size, "bytes");
    /// # });
    /// # assert_eq!(found.kind("node_filesystem_size_bytes"), Some("gauge"));
    /// ```
    pub fn unit(&mut self, family: FamilyId, unit: &str) {
        let (offset, length) = self.put(unit);
        if let Some(family) = self.raw.families.get_mut(family.0 as usize) {
            (family.unit_offset, family.unit_length) = (offset, length);
        }
    }

    /// Adds a series.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let load = out.gauge("node_load1", "1m load average.");
    /// out.add(load, &[], 0.5);
    /// # });
    /// assert_eq!(found.value("node_load1"), Some(0.5));
    /// ```
    pub fn add(&mut self, family: FamilyId, labels: &[(&str, &str)], value: f64) {
        self.series(family, labels, value, 0.0, &[]);
    }

    /// Adds a series of a histogram: pairs of an upper bound and the number of observations that are
    /// not above it. The bound of infinity may be left out.
    ///
    /// ```
    /// use bulkhead_sdk::metrics::Kind;
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let latency = out.family(Kind::Histogram, "dns_seconds", "Time to resolve a name.");
    /// out.histogram(latency, &[], &[(0.01, 5.0), (0.1, 8.0)], 9.0, 1.25);
    /// # });
    /// assert_eq!(found.value(r#"dns_seconds_bucket{le="0.1"}"#), Some(8.0));
    /// assert_eq!(found.value(r#"dns_seconds_bucket{le="+Inf"}"#), Some(9.0));
    /// ```
    pub fn histogram(
        &mut self,
        family: FamilyId,
        labels: &[(&str, &str)],
        buckets: &[(f64, f64)],
        count: f64,
        sum: f64,
    ) {
        self.series(family, labels, sum, count, buckets);
        if buckets
            .last()
            .is_none_or(|(bound, _)| *bound != f64::INFINITY)
        {
            let (at, value) = (f64::INFINITY, count);
            self.raw.points.push(raw::Point { at, value });
            if let Some(series) = self.raw.series.last_mut() {
                series.points += 1;
            }
        }
    }

    /// Adds a series of a summary: pairs of a quantile (0 to 1) and its value.
    ///
    /// ```
    /// use bulkhead_sdk::metrics::Kind;
    #[doc = include_str!("example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// let pauses = out.family(Kind::Summary, "gc_seconds", "Pauses.");
    /// out.summary(pauses, &[], &[(0.5, 0.001), (0.99, 0.02)], 120.0, 0.3);
    /// # });
    /// assert_eq!(found.value(r#"gc_seconds{quantile="0.99"}"#), Some(0.02));
    /// ```
    pub fn summary(
        &mut self,
        family: FamilyId,
        labels: &[(&str, &str)],
        quantiles: &[(f64, f64)],
        count: f64,
        sum: f64,
    ) {
        self.series(family, labels, sum, count, quantiles);
    }

    fn series(
        &mut self,
        family: FamilyId,
        labels: &[(&str, &str)],
        value: f64,
        count: f64,
        points: &[(f64, f64)],
    ) {
        for (name, value) in labels {
            let (name_offset, name_length) = self.put(name);
            let (value_offset, value_length) = self.put(value);
            self.raw.labels.push(raw::Label {
                name_offset,
                name_length,
                value_offset,
                value_length,
            });
        }
        let points_before = self.raw.points.len();
        self.raw
            .points
            .extend(points.iter().map(|&(at, value)| raw::Point { at, value }));
        self.raw.series.push(raw::Series {
            family: family.0,
            labels: labels.len() as u32,
            points: (self.raw.points.len() - points_before) as u32,
            value,
            count,
        });
    }

    fn put(&mut self, text: &str) -> (u32, u32) {
        let offset = self.raw.bytes.len();
        self.raw.bytes.extend_from_slice(text.as_bytes());
        (offset as u32, text.len() as u32)
    }

    /// For the daemon's own tests: what no plugin should give.
    #[doc(hidden)]
    pub fn raw_mut(&mut self) -> &mut raw::Families {
        &mut self.raw
    }

    /// What was built; empty afterwards.
    pub(crate) fn take(&mut self) -> raw::Families {
        self.by_name.clear();
        // As large as this time, so that the next collection grows nothing.
        let raw = &self.raw;
        let next = raw::Families {
            bytes: Vec::with_capacity(raw.bytes.len()),
            families: Vec::with_capacity(raw.families.len()),
            series: Vec::with_capacity(raw.series.len()),
            labels: Vec::with_capacity(raw.labels.len()),
            points: Vec::with_capacity(raw.points.len()),
        };
        std::mem::replace(&mut self.raw, next)
    }
}
