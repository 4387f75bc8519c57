//! Grafana Loki, by its push interface in JSON.
//!
//! - Records go to the stream of their labels: those of the manifest and the chosen attributes of
//!   the source, so there are as many streams as combinations of those, and no more. Within a stream
//!   they keep their order. A file without attributes has its path as the label `filename`.
//! - Of entries of one stream with equal time and line Loki keeps one. Lines that were read in one
//!   turn may share a time, so each after the first is moved by a nanosecond; by the parcel alone, so
//!   that whatever is sent again has the time that it had. Only what comes from different files in
//!   one stream may still coincide.
//! - Loki answers 400 if it did not take some entries, for example because they lie too far behind,
//!   and has taken the others. Which ones it means is found by sending smaller requests; what it has
//!   already it drops, because time, labels and line are the same. Entries older than what it takes
//!   at all are told by the time in its answer.
//!
//! <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>,
//! <https://grafana.com/docs/loki/latest/operations/request-validation-rate-limits/>

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};

use crate::manifest::{Format, LokiDestination};
use crate::role::logs::batch::Source;
use crate::role::logs::encode::{RecordEncoder, push_string};
use crate::role::logs::output::{Content, Parcel, Record};

use super::http::body::Bodies;
use super::http::client::{HttpClient, Post};
use super::{Destination, Lane, Request, SendError, Surroundings};

const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// The label of a source that has no attributes.
const FILENAME: &str = "filename";

/// A Loki server.
#[derive(Debug)]
pub struct Loki {
    client: HttpClient,
    url: Url,
    headers: HeaderMap,
    format: Format,
    labels: Vec<(String, String)>,
    /// Attributes that become labels, and the labels' names.
    label_attributes: Vec<(String, String)>,
    /// Names, or what they begin with and a star.
    structured_metadata: Vec<String>,
}

impl Loki {
    /// Checks the configuration; connects to nothing yet.
    pub(super) fn new(
        manifest: &LokiDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let endpoint = manifest.endpoint();
        let client = HttpClient::new(&endpoint, "application/json", None, surroundings)?;
        let mut headers = HeaderMap::new();
        if let Some(tenant) = &manifest.tenant {
            let tenant = HeaderValue::from_str(tenant).map_err(|_| {
                let problem = "has characters that no header may have".to_owned();
                ("loki.tenant".to_owned(), problem)
            })?;
            headers.insert(TENANT, tenant);
        }
        let named = |attributes: &[String]| {
            let name = |attribute: &String| (attribute.clone(), label_name(attribute));
            attributes.iter().map(name).collect()
        };
        Ok(Self {
            url: client.at(&["loki", "api", "v1", "push"]),
            client,
            headers,
            format: manifest.format,
            labels: manifest.labels.clone().into_iter().collect(),
            label_attributes: named(&manifest.label_attributes),
            structured_metadata: manifest.structured_metadata.clone(),
        })
    }

    /// The labels of `source` as a JSON object, and its structured metadata as another or nothing.
    fn stream(&self, source: &Source) -> (Vec<u8>, Vec<u8>) {
        let chosen = |attributes: &[(String, String)]| -> Vec<(String, String)> {
            let known = attributes.iter().filter_map(|(attribute, name)| {
                let mut attributes = source.attributes.iter();
                let (_, value) = attributes.find(|(name, _)| name == attribute)?;
                Some((name.clone(), value.clone()))
            });
            known.collect()
        };
        let mut of_source = chosen(&self.label_attributes);
        let has_filename = self.labels.iter().any(|(name, _)| name == FILENAME);
        let has_room = self.labels.len() < LokiDestination::MAX_LABELS;
        if source.attributes.is_empty() && !has_filename && has_room {
            // As other agents call it.
            let path = source.path.to_string_lossy().into_owned();
            of_source.push((FILENAME.to_owned(), path));
        }
        let fixed = self.labels.iter().cloned();
        // A label has one value; that of the source says more.
        let fixed = fixed.filter(|(name, _)| !of_source.iter().any(|(other, _)| other == name));
        let labels: Vec<(String, String)> = fixed.chain(of_source.iter().cloned()).collect();
        let mut metadata: Vec<(String, String)> = Vec::new();
        for wanted in &self.structured_metadata {
            let fits = |name: &str| match wanted.strip_suffix('*') {
                Some(begin) => name.starts_with(begin),
                None => name == wanted,
            };
            for (name, value) in source.attributes.iter().filter(|(name, _)| fits(name)) {
                let name = label_name(name);
                if !metadata.iter().any(|(other, _)| *other == name) {
                    metadata.push((name, value.clone()));
                }
            }
        }
        let metadata = match metadata.is_empty() {
            true => Vec::new(),
            false => object(&metadata),
        };
        (object(&labels), metadata)
    }
}

/// Dots and other characters that a label's name may not have become underscores, as in Loki's own
/// mapping of OpenTelemetry's attributes.
fn label_name(attribute: &str) -> String {
    attribute.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_")
}

/// The times of a parcel's entries: their own, or a little later where one of the same file has that.
struct Times<'a> {
    content: &'a Content,
    /// For each output line or, if the plugin wrote none, each input line.
    times: Vec<i64>,
}

impl<'a> Times<'a> {
    fn of(parcel: &'a Parcel) -> Self {
        let batch = &parcel.batch;
        // A rotated file and its successor may both be here, under one name.
        let mut files: HashMap<&Path, usize> = HashMap::new();
        let files: Vec<usize> = (batch.spans.iter())
            .map(|span| {
                let next = files.len();
                *files.entry(&span.source.path).or_insert(next)
            })
            .collect();
        // For each file, the last line's own time and the one that it was given.
        let mut last: Vec<Option<(i64, i64)>> = vec![None; files.len()];
        let mut given = |line: usize, time: i64| {
            let file = files[batch.lines[line].source as usize];
            let given = match last[file] {
                Some((own, given)) if (own..=given).contains(&time) => given.saturating_add(1),
                _ => time,
            };
            last[file] = Some((time, given));
            given
        };
        let times = match &parcel.output.content {
            Content::Lines(lines) => (lines.iter())
                .map(|line| given(line.line as usize, line.time))
                .collect(),
            _ => (batch.lines.iter().enumerate())
                .map(|(index, line)| given(index, line.time))
                .collect(),
        };
        Self {
            content: &parcel.output.content,
            times,
        }
    }

    fn of_record(&self, record: &Record<'_>) -> i64 {
        let index = match self.content {
            Content::Lines(lines) => lines
                .binary_search_by_key(&(record.line, record.ordinal), |line| {
                    (line.line, line.ordinal)
                })
                .ok(),
            _ => Some(record.line as usize),
        };
        let time = index.and_then(|index| self.times.get(index));
        time.copied().unwrap_or(record.time)
    }
}

fn object(members: &[(String, String)]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (name, value) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        push_string(name.as_bytes(), &mut out);
        out.push(b':');
        push_string(value.as_bytes(), &mut out);
    }
    out.push(b'}');
    out
}

impl Destination for Loki {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(LokiLane {
            encoder: RecordEncoder::new(self.format),
            bodies: self.client.bodies(),
            line: Vec::new(),
            destination: self,
        })
    }
}

struct LokiLane {
    destination: Arc<Loki>,
    encoder: RecordEncoder,
    bodies: Bodies,
    /// The line at hand; kept for its memory.
    line: Vec<u8>,
}

/// The entries of one source in a request.
struct Stream<'a> {
    source: &'a Arc<Source>,
    labels: Vec<u8>,
    metadata: Vec<u8>,
    /// JSON arrays with commas between them.
    values: Vec<u8>,
}

impl LokiLane {
    /// As many of `records` as one request takes.
    fn streams<'r>(&mut self, parcel: &Parcel, records: &[Record<'r>]) -> (Vec<Stream<'r>>, usize) {
        const AROUND: usize = "{\"stream\":,\"values\":[]},".len();
        let limit = self.destination.client.max_body();
        let times = Times::of(parcel);
        let mut streams: Vec<Stream<'r>> = Vec::new();
        let mut length = "{\"streams\":[]}".len();
        for (taken, record) in records.iter().enumerate() {
            let mut known = streams
                .iter()
                .rposition(|stream| Arc::ptr_eq(stream.source, record.source));
            if known.is_none() {
                let (labels, metadata) = self.destination.stream(record.source);
                length += labels.len() + AROUND;
                streams.push(Stream {
                    source: record.source,
                    labels,
                    metadata,
                    values: Vec::new(),
                });
                known = Some(streams.len() - 1);
            }
            let Some(stream) = known.and_then(|known| streams.get_mut(known)) else {
                return (streams, taken);
            };
            let before = stream.values.len();
            self.line.clear();
            match self.destination.format {
                Format::Json => self.encoder.object(record, &mut self.line),
                Format::Raw => self.line.extend_from_slice(record.body),
            }
            if before > 0 {
                stream.values.push(b',');
            }
            let start = format!("[\"{}\",", times.of_record(record));
            stream.values.extend_from_slice(start.as_bytes());
            push_string(&self.line, &mut stream.values);
            if !stream.metadata.is_empty() {
                stream.values.push(b',');
                stream.values.extend_from_slice(&stream.metadata);
            }
            stream.values.push(b']');
            length += stream.values.len() - before;
            if length > limit && taken > 0 {
                stream.values.truncate(before);
                return (streams, taken);
            }
        }
        (streams, records.len())
    }
}

impl Lane for LokiLane {
    fn encode(&mut self, parcel: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let (streams, taken) = self.streams(parcel, records);
        self.bodies.write(body, |plain| {
            plain.extend_from_slice(b"{\"streams\":[");
            let mut separator: &[u8] = b"";
            for stream in streams.iter().filter(|stream| !stream.values.is_empty()) {
                plain.extend_from_slice(separator);
                plain.extend_from_slice(b"{\"stream\":");
                plain.extend_from_slice(&stream.labels);
                plain.extend_from_slice(b",\"values\":[");
                plain.extend_from_slice(&stream.values);
                plain.extend_from_slice(b"]}");
                separator = b",";
            }
            plain.extend_from_slice(b"]}");
        });
        taken
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        self.bodies
            .write(body, |plain| plain.extend_from_slice(payload));
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        let destination = &self.destination;
        let uncompressed = self.bodies.uncompressed();
        Box::pin(async move {
            let post = Post {
                url: &destination.url,
                body: request.body,
                compressed: true,
                headers: &destination.headers,
                read: 0,
            };
            let client = &destination.client;
            let answer = client.post(post).await?;
            let said = String::from_utf8_lossy(&answer.body);
            match answer.status {
                // Between Loki's own parts, and nothing that another attempt changes.
                StatusCode::INTERNAL_SERVER_ERROR if said.contains("larger than max") => {
                    Err(SendError::TooLarge {
                        reason: client.describe(&answer),
                    })
                }
                _ => match client.judge(&answer, uncompressed) {
                    Err(SendError::Rejected { reason })
                        if answer.status == StatusCode::BAD_REQUEST
                            && !request.records.is_empty() =>
                    {
                        Err(refusal(&said, request.records, reason))
                    }
                    judged => judged,
                },
            }
        })
    }
}

/// Which of `records` an answer 400 means. The others were taken.
fn refusal(said: &str, records: &[Record<'_>], reason: String) -> SendError {
    if records.len() == 1 {
        return SendError::Rejected { reason };
    }
    // This limit is the tenant's; that of entries "too far behind" is another for each stream.
    let oldest = said
        .contains("has timestamp too old")
        .then(|| oldest_acceptable(said))
        .flatten();
    if let Some(oldest) = oldest {
        let (old, young): (Vec<_>, Vec<_>) =
            (0..records.len()).partition(|&index| i128::from(records[index].time) < oldest);
        if !old.is_empty() {
            return SendError::Partial {
                retry: young,
                rejected: old.into_iter().map(|i| (i, reason.clone())).collect(),
                after: None,
                reason,
            };
        }
    }
    SendError::TooLarge { reason }
}

/// The time in nanoseconds since 1970.
fn oldest_acceptable(said: &str) -> Option<i128> {
    let (_, after) = said.split_once("oldest acceptable timestamp is: ")?;
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && !"-:.+".contains(c));
    let text = after.get(..end.unwrap_or(after.len()))?;
    let time: jiff::Timestamp = text.trim_end_matches('.').parse().ok()?;
    Some(time.as_nanosecond())
}

#[cfg(test)]
mod tests;
