#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use prost::Message;

use super::super::super::collection::{Collection, CollectorOutcome};
use super::super::super::found::Found;
use super::*;
use crate::role::logs::output::Parcel;
use crate::sandbox::bindings::metrics::exports::bulkhead::plugin::metrics as wit;

// The request as the protocol's own definition has it:
// <https://github.com/prometheus/prometheus/blob/main/prompb/remote.proto>

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Measured>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Measured {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

/// A family's name, type, series with labels, points, value and count.
type Given<'g> = (&'g str, wit::Kind, Vec<Series<'g>>);
type Series<'g> = (Vec<(&'g str, &'g str)>, Vec<(f64, f64)>, f64, f64);

fn collection(families: &[Given<'_>]) -> Collection {
    let mut raw = wit::Families {
        bytes: Vec::new(),
        families: Vec::new(),
        series: Vec::new(),
        labels: Vec::new(),
        points: Vec::new(),
    };
    let mut bytes = Vec::new();
    let mut text = |text: &str| {
        let offset = bytes.len() as u32;
        bytes.extend_from_slice(text.as_bytes());
        (offset, text.len() as u32)
    };
    for (index, (name, kind, series)) in families.iter().enumerate() {
        let (name_offset, name_length) = text(name);
        let (help_offset, help_length) = text("What it is.");
        raw.families.push(wit::Family {
            kind: *kind,
            name_offset,
            name_length,
            help_offset,
            help_length,
            unit_offset: 0,
            unit_length: 0,
        });
        for (labels, points, value, count) in series {
            for (name, value) in labels {
                let (name_offset, name_length) = text(name);
                let (value_offset, value_length) = text(value);
                raw.labels.push(wit::Label {
                    name_offset,
                    name_length,
                    value_offset,
                    value_length,
                });
            }
            let points_of = points.iter().map(|&(at, value)| wit::Point { at, value });
            raw.points.extend(points_of);
            raw.series.push(wit::Series {
                family: index as u32,
                labels: labels.len() as u32,
                points: points.len() as u32,
                value: *value,
                count: *count,
            });
        }
    }
    raw.bytes = bytes;
    let (found, left_out) = Found::check(raw, 1000, &mut Default::default()).unwrap();
    assert_eq!(left_out.first, None);
    Collection {
        collectors: vec![CollectorOutcome {
            name: "a".into(),
            took: Duration::ZERO,
            error: None,
            found,
            left_out,
        }],
        failure: None,
        ended: std::time::Instant::now(),
        took: Duration::from_millis(1500),
    }
}

/// The lines one after the other, as a lane sends them.
fn request(batch: Batch) -> WriteRequest {
    let parcel = Parcel::made(batch);
    let lines: Vec<&[u8]> = parcel.records(0).map(|record| record.body).collect();
    WriteRequest::decode(&*lines.concat()).unwrap()
}

fn pushed(
    families: &[Given<'_>],
    added: &[(&str, &str)],
    time: i64,
    describe: bool,
    before: &Known,
) -> (WriteRequest, Known) {
    let collection = collection(families);
    let none = Vec::new();
    let mut found = Exposition::default();
    found.add("shop", "app", &none, &collection);
    let added: Vec<_> = added
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let push = push(&found, &added, time, describe, before);
    assert_eq!(push.batch.lines.len(), push.batch.positions.len());
    (request(push.batch), push.known)
}

/// A series as the text format writes it.
fn shown(series: &TimeSeries) -> String {
    let labels = series.labels.iter();
    labels
        .map(|label| format!("{}={},", label.name, label.value))
        .collect()
}

fn values(request: &WriteRequest) -> BTreeMap<String, f64> {
    let series = request.timeseries.iter();
    series
        .map(|series| (shown(series), series.samples[0].value))
        .collect()
}

#[test]
fn a_push_has_the_series_of_a_scrape_and_says_what_they_are() {
    let buckets = vec![(2.0, 1.0), (f64::INFINITY, 3.0)];
    let families: [Given<'_>; 4] = [
        (
            "a_total",
            wit::Kind::Counter,
            vec![(vec![("z", "1"), ("A", "2")], vec![], 7.0, 0.0)],
        ),
        ("b", wit::Kind::Histogram, vec![(vec![], buckets, 2.5, 3.0)]),
        (
            "c",
            wit::Kind::Summary,
            vec![(vec![], vec![(0.9, 4.0)], 9.0, 2.0)],
        ),
        (
            "d_info",
            wit::Kind::Info,
            vec![(vec![("instance", "own"), ("none", "")], vec![], 1.0, 0.0)],
        ),
    ];
    let added = [("instance", "node-1"), ("job", "shop/app"), ("gone", "")];
    let (request, known) = pushed(&families, &added, 1_700_000_000_123, true, &Known::new());
    let with = |before: &str, after: &str| format!("{before}instance=node-1,job=shop/app,{after}");
    let expected = BTreeMap::from([
        (with("__name__=up,", ""), 1.0),
        (with("A=2,__name__=a_total,", "z=1,"), 7.0),
        (with("__name__=b_bucket,", "le=2.0,"), 1.0),
        (with("__name__=b_bucket,", "le=+Inf,"), 3.0),
        (with("__name__=b_sum,", ""), 2.5),
        (with("__name__=b_count,", ""), 3.0),
        (with("__name__=c,", "quantile=0.9,"), 4.0),
        (with("__name__=c_sum,", ""), 9.0),
        (with("__name__=c_count,", ""), 2.0),
        ("__name__=d_info,instance=own,job=shop/app,".to_owned(), 1.0),
        (
            with(
                "__name__=bulkhead_collect_duration_seconds,",
                "name=app,namespace=shop,",
            ),
            1.5,
        ),
        (
            with(
                "__name__=bulkhead_collect_series,",
                "name=app,namespace=shop,",
            ),
            4.0,
        ),
        (
            with(
                "__name__=bulkhead_collect_success,",
                "name=app,namespace=shop,",
            ),
            1.0,
        ),
    ]);
    assert_eq!(values(&request), expected);
    assert_eq!(known.len(), expected.len());
    let mut samples = request.timeseries.iter().map(|series| &series.samples);
    assert!(samples.all(|it| it.len() == 1 && it[0].timestamp == 1_700_000_000_123));
    let told = |metadata: &Metadata| {
        assert!(metadata.unit.is_empty());
        (metadata.name.clone(), metadata.kind, metadata.help.clone())
    };
    let told: Vec<_> = request.metadata.iter().map(told).collect();
    let what = || "What it is.".to_owned();
    assert_eq!(
        told[..4],
        [
            ("a_total".to_owned(), 1, what()),
            ("b".to_owned(), 3, what()),
            ("c".to_owned(), 5, what()),
            ("d_info".to_owned(), 2, what()),
        ]
    );
    assert_eq!(told.len(), 7);
    let (request, _) = pushed(&families, &added, 0, false, &known);
    assert!(request.metadata.is_empty());
}

#[test]
fn a_series_that_is_gone_ends_once() {
    let gauge = |name, value| -> Given<'static> {
        (name, wit::Kind::Gauge, vec![(vec![], vec![], value, 0.0)])
    };
    let both = [gauge("a", 1.0), gauge("b", f64::from_bits(STALE))];
    let (request, first) = pushed(&both, &[("job", "x")], 5, false, &Known::new());
    // What a plugin measures is never taken for the end.
    let stale = |request: &WriteRequest| -> Vec<String> {
        let series = request.timeseries.iter();
        let ended = series.filter(|it| it.samples[0].value.to_bits() == STALE);
        ended.map(shown).collect()
    };
    assert!(stale(&request).is_empty());
    assert!(values(&request)["__name__=b,job=x,"].is_nan());
    let (request, second) = pushed(&both[..1], &[("job", "x")], 6, false, &first);
    assert_eq!(stale(&request), ["__name__=b,job=x,"]);
    let last = request.timeseries.last().unwrap();
    assert_eq!(last.samples[0].timestamp, 6);
    let (request, third) = pushed(&both[..1], &[("job", "x")], 7, false, &second);
    assert!(stale(&request).is_empty());
    // Another name of the job: all of them are others.
    let (request, _) = pushed(&both[..1], &[("job", "y")], 8, false, &third);
    assert_eq!(stale(&request).len(), third.len());
    let ended = super::ends(&third, 9);
    let ended = self::request(ended);
    assert_eq!(stale(&ended).len(), third.len());
    assert_eq!(ended.timeseries[0].samples[0].timestamp, 9);
}

#[test]
fn series_that_added_labels_make_one_are_sent_once() {
    let series = |labels, value| (labels, vec![], value, 0.0);
    let families: [Given<'_>; 1] = [(
        "a",
        wit::Kind::Gauge,
        vec![series(vec![], 1.0), series(vec![("job", "x")], 2.0)],
    )];
    let (request, _) = pushed(&families, &[("job", "x")], 5, false, &Known::new());
    let same = request.timeseries.iter().map(shown);
    assert_eq!(same.filter(|it| it == "__name__=a,job=x,").count(), 1);
}

proptest! {
    #[test]
    fn labels_are_sorted_and_none_is_lost(
        labels in prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,6}", "[^\u{0}]{0,9}", 0..9),
        added in prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,6}", "[a-z]{0,5}", 0..5),
        value in any::<f64>(),
        time in any::<i64>(),
    ) {
        prop_assume!(labels.keys().all(|name| !name.starts_with("__")));
        prop_assume!(added.keys().all(|name| !name.starts_with("__")));
        // The order of the plugin is any.
        let given: Vec<(&str, &str)> = labels.iter().rev().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let more: Vec<(&str, &str)> = added.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let families: [Given<'_>; 1] = [("m", wit::Kind::Gauge, vec![(given, vec![], value, 0.0)])];
        let (request, _) = pushed(&families, &more, time, false, &Known::new());
        for series in &request.timeseries {
            prop_assert!(series.labels.windows(2).all(|pair| pair[0].name < pair[1].name));
            prop_assert!(series.labels.iter().all(|label| !label.value.is_empty()));
        }
        let mut expected = added.clone();
        expected.extend(labels.clone());
        expected.insert("__name__".to_owned(), "m".to_owned());
        expected.retain(|_, value| !value.is_empty());
        let is_m = |label: &Label| label.name == "__name__" && label.value == "m";
        let series = request.timeseries.iter().find(|it| it.labels.iter().any(is_m)).unwrap();
        let found: BTreeMap<String, String> = series.labels.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(series.samples[0].timestamp, time);
        let sent = series.samples[0].value;
        prop_assert!(sent.to_bits() == value.to_bits() || (sent.is_nan() && value.is_nan()));
    }
}
