//! Measures what it is told to, and does to its host what it is told to.

use std::hint::black_box;

use bulkhead_sdk::__private::metrics::{Label, Series};
use bulkhead_sdk::metrics::{Kind, Look};
use bulkhead_sdk::{Collector, Error, Families, Metrics, Plugin, Result, View};

/// The collectors, in order.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fixture {
    collectors: Vec<Part>,
}

#[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    name: String,
    /// Whose content it wants.
    #[serde(default)]
    content: Vec<String>,
    /// Whose names it wants.
    #[serde(default)]
    names: Vec<String>,
    /// Of which links it wants the targets.
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default, rename = "do")]
    act: Act,
}

#[derive(Clone, Copy, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Act {
    /// A series for each file.
    #[default]
    Echo,
    /// A series of each kind, with texts that must be escaped.
    Kinds,
    Panic,
    Loop,
    Error,
    /// This many series.
    Many(u32),
    /// A good one, and one each of what the data model does not allow.
    Invalid,
    /// A family of another type than `kinds` has.
    OtherType,
    /// What is not allowed at all.
    SpanOutside,
    NotText,
    LabelsMissing,
    FamilyMissing,
    /// Many labels with one long value.
    SpansUnending,
    /// How the collectors before it fared.
    Outcomes,
    /// How often it was called.
    Count,
}

struct Measures {
    parts: Vec<Part>,
    calls: u32,
}

impl Plugin for Measures {
    type Config = Fixture;
    fn new(config: Fixture) -> Result<Self> {
        Ok(Self {
            parts: config.collectors,
            calls: 0,
        })
    }
}

impl Metrics for Measures {
    fn collectors(&mut self) -> Result<Vec<Collector>> {
        let collectors = self.parts.iter().map(|part| {
            let wants = [
                (Look::Content, &part.content),
                (Look::Name, &part.names),
                (Look::Target, &part.targets),
            ];
            let mut collector = Collector::new(&part.name);
            for (look, globs) in wants {
                for glob in globs {
                    collector = collector.want(look, glob);
                }
            }
            collector
        });
        Ok(collectors.collect())
    }

    fn collect(&mut self, collector: usize, view: &View, out: &mut Families) -> Result<()> {
        let part = &self.parts[collector];
        self.calls += 1;
        match part.act {
            Act::Echo => echo(&part.name, view, out),
            Act::Kinds => kinds(out),
            Act::Error => return Err(Error::new("fixture error")),
            Act::Many(count) => {
                let family = out.gauge("fixture_many", "Many.");
                for number in 0..count {
                    out.add(family, &[("number", &number.to_string())], 1.0);
                }
            }
            Act::Invalid => invalid(out),
            Act::OtherType => {
                let family = out.gauge("fixture_counter_total", "Of another type.");
                out.add(family, &[("from", "other")], 1.0);
                let family = out.counter("fixture_shared_total", "Of the same type.");
                out.add(family, &[("from", "other")], 1.0);
            }
            Act::Outcomes => {
                let family = out.gauge("fixture_outcome", "How a collector fared.");
                for outcome in view.outcomes() {
                    let name = &self.parts[outcome.collector].name;
                    out.add(
                        family,
                        &[("collector", name)],
                        f64::from(u8::from(outcome.ok)),
                    );
                }
            }
            Act::Count => {
                let family = out.counter("fixture_calls_total", "Calls.");
                out.add(family, &[], f64::from(self.calls));
            }
            act => garbage(act, out),
        }
        Ok(())
    }
}

fn echo(collector: &str, view: &View, out: &mut Families) {
    let family = out.gauge(
        "fixture_file_bytes",
        "The length of what was passed of a file.",
    );
    for file in view.files() {
        let text = String::from_utf8_lossy(file.bytes());
        let text: String = text.chars().take(64).collect();
        let error = file.error().map(|error| error.to_string());
        let labels = [
            ("collector", collector),
            ("path", file.path()),
            ("text", &text),
            ("error", error.as_deref().unwrap_or("")),
            ("cut", if file.is_cut() { "yes" } else { "" }),
            ("dated", if file.modified() > 0 { "yes" } else { "" }),
        ];
        out.add(family, &labels, file.bytes().len() as f64);
    }
}

fn kinds(out: &mut Families) {
    let family = out.counter(
        "fixture_counter_total",
        "A counter with a \\ and\na line feed.",
    );
    out.add(family, &[("text", "a \"quoted\" \\ and\nbroken text")], 3.0);
    let family = out.gauge("fixture_size_bytes", "A gauge with a unit.");
    out.unit(family, "bytes");
    out.add(family, &[], 1.5e9);
    let family = out.family(Kind::Info, "fixture_info", "An info.");
    out.add(family, &[("version", "1.0")], 1.0);
    let family = out.untyped("fixture_untyped", "An untyped.");
    for (of, value) in [
        ("zero", 0.0),
        ("tiny", 1e-300),
        ("huge", 1e300),
        ("nan", f64::NAN),
        ("infinite", f64::INFINITY),
        ("negative", f64::NEG_INFINITY),
        ("exact", 9_007_199_254_740_993_f64),
    ] {
        out.add(family, &[("of", of)], value);
    }
    let family = out.family(Kind::Histogram, "fixture_seconds", "A histogram.");
    out.histogram(
        family,
        &[("path", "/")],
        &[(0.1, 2.0), (1.0, 5.0)],
        7.0,
        8.25,
    );
    let family = out.family(Kind::Summary, "fixture_pause_seconds", "A summary.");
    out.summary(family, &[], &[(0.5, 0.1), (0.99, 0.4)], 12.0, 3.5);
    let family = out.counter("fixture_odd", "A counter without the suffix.");
    out.add(family, &[], 1.0);
}

fn invalid(out: &mut Families) {
    let family = out.gauge("fixture_good", "A good one.");
    out.add(family, &[("a", "b")], 1.0);
    // The same again, with its labels in another order.
    let family = out.gauge("fixture_twice", "Twice.");
    out.add(family, &[("a", "1"), ("b", "2")], 1.0);
    out.add(family, &[("b", "2"), ("a", "1")], 2.0);
    let family = out.gauge("0fixture", "No name.");
    out.add(family, &[], 1.0);
    let family = out.gauge("fixture_label", "No label.");
    out.add(family, &[("a-b", "")], 1.0);
    out.add(family, &[("__name__", "other")], 1.0);
    out.add(family, &[("a", "1"), ("a", "2")], 1.0);
    let family = out.counter("fixture_negative_total", "Below zero.");
    out.add(family, &[], -1.0);
    let family = out.family(Kind::Histogram, "fixture_buckets", "Not ascending.");
    out.histogram(family, &[], &[(1.0, 5.0), (0.5, 6.0)], 6.0, 1.0);
    out.histogram(family, &[("le", "1")], &[], 6.0, 1.0);
}

#[allow(clippy::panic, reason = "that is its purpose")]
fn garbage(act: Act, out: &mut Families) {
    let family = out.gauge("fixture_garbage", "Garbage.");
    out.add(family, &[], 1.0);
    let raw = out.raw_mut();
    let label = Label {
        name_offset: 0,
        name_length: 7,
        value_offset: u32::MAX,
        value_length: u32::MAX,
    };
    let series = Series {
        family: 0,
        labels: 0,
        points: 0,
        value: 0.0,
        count: 0.0,
    };
    match act {
        Act::Panic => panic!("fixture panic"),
        Act::Loop => loop {
            black_box(0);
        },
        Act::SpanOutside => {
            raw.labels.push(label);
            raw.series.push(Series {
                labels: 1,
                ..series
            });
        }
        Act::NotText => raw.bytes.push(0xff),
        Act::LabelsMissing => raw.series.push(Series {
            labels: u32::MAX,
            ..series
        }),
        Act::SpansUnending => {
            raw.bytes.resize(1 << 20, b'a');
            let long = Label {
                name_offset: 0,
                name_length: 7,
                value_offset: 0,
                value_length: 1 << 20,
            };
            for _ in 0..10_000 {
                raw.labels.push(long);
                raw.series.push(Series {
                    labels: 1,
                    ..series
                });
            }
        }
        Act::FamilyMissing => raw.series.push(Series {
            family: 7,
            ..series
        }),
        _ => {}
    }
}

bulkhead_sdk::export!(Measures: Metrics);
