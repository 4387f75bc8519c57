//! Prometheus' protobuf format, delimited messages of `io.prometheus.client.MetricFamily`:
//! <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>

use prost::Message;

use super::{Exposition, Family, Kind, Row};

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// Of a gauge, a counter and an untyped metric: they are alike.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Quantile {
    #[prost(double, optional, tag = "1")]
    pub(super) quantile: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<Value>,
    #[prost(message, optional, tag = "4")]
    pub(super) summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    pub(super) untyped: Option<Value>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum MetricType {
    Counter = 0,
    Gauge = 1,
    Summary = 2,
    Untyped = 3,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub(super) r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    pub(super) unit: Option<String>,
}

pub(super) fn write(exposition: &Exposition<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 << 10);
    let mut put = |family: MetricFamily| {
        // Fails only for want of room, and a vector grows.
        let _ = family.encode_length_delimited(&mut out);
    };
    for family in exposition.families() {
        put(message(&family));
    }
    for own in exposition.own() {
        let metrics = own.rows.into_iter().map(|(namespace, name, value)| Metric {
            label: vec![pair("namespace", namespace), pair("name", name)],
            gauge: Some(Value { value: Some(value) }),
            ..Metric::default()
        });
        put(MetricFamily {
            name: Some(own.name.to_owned()),
            help: Some(own.help.to_owned()),
            r#type: Some(MetricType::Gauge.into()),
            metric: metrics.collect(),
            unit: None,
        });
    }
    out
}

fn pair(name: &str, value: &str) -> LabelPair {
    LabelPair {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
    }
}

fn message(family: &Family<'_>) -> MetricFamily {
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge | Kind::Info => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Summary => MetricType::Summary,
        Kind::Untyped => MetricType::Untyped,
    };
    MetricFamily {
        name: Some(family.name.to_owned()),
        help: Some(family.help.to_owned()),
        r#type: Some(kind.into()),
        metric: family.rows.iter().map(|row| metric(kind, row)).collect(),
        unit: (!family.unit.is_empty()).then(|| family.unit.to_owned()),
    }
}

fn metric(kind: MetricType, row: &Row<'_>) -> Metric {
    let series = row.series;
    let value = Some(Value {
        value: Some(series.value()),
    });
    let mut metric = Metric {
        label: row
            .labels()
            .map(|(name, value)| pair(name, value))
            .collect(),
        ..Metric::default()
    };
    let points = series.points().iter();
    let (count, sum) = (Some(series.count() as u64), Some(series.value()));
    match kind {
        MetricType::Counter => metric.counter = value,
        MetricType::Gauge => metric.gauge = value,
        MetricType::Untyped => metric.untyped = value,
        MetricType::Histogram => {
            let bucket = points.map(|(bound, count)| Bucket {
                cumulative_count: Some(*count as u64),
                upper_bound: Some(*bound),
            });
            metric.histogram = Some(Histogram {
                sample_count: count,
                sample_sum: sum,
                bucket: bucket.collect(),
            });
        }
        MetricType::Summary => {
            let quantile = points.map(|(at, value)| Quantile {
                quantile: Some(*at),
                value: Some(*value),
            });
            metric.summary = Some(Summary {
                sample_count: count,
                sample_sum: sum,
                quantile: quantile.collect(),
            });
        }
    }
    metric
}
