//! An OpenTelemetry receiver, by OTLP over HTTP with protobuf.
//!
//! - Records of one source share a resource: its attributes are those of the semantic conventions
//!   for Kubernetes already. What belongs to a line (`log.iostream`, `log.file.path`,
//!   `log.record.uid`, what the plugin added) is an attribute of the record.
//! - A JSON object becomes the body member by member, and its level the severity; text stays text.
//! - A receiver may take a part of a request and say of how many records it did not, but not of
//!   which. The protocol forbids to send them again; they count as acknowledged, and the status shows
//!   what was said.
//! - 429, 502, 503 and 504 are sent again, other failures become dead letters, as the protocol has
//!   it. What is about credentials or the path (401, 403, 404, ...) waits all the same: it is
//!   answered before a receiver sees a record, and is mended without the lines changing.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>,
//! <https://opentelemetry.io/docs/specs/otel/logs/data-model/>,
//! <https://opentelemetry.io/docs/specs/semconv/resource/k8s/>,
//! <https://opentelemetry.io/docs/specs/semconv/general/logs/>

mod json;
mod message;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use prost::Message;
use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::manifest::OtlpDestination;
use crate::role::logs::batch::{LINE_CUT, LINE_STDERR, LINE_UNFINISHED, Source};
use crate::role::logs::output::{Parcel, Record};
use crate::role::logs::record_id::{Machine, RecordId};

use super::http::body::Bodies;
use super::http::client::{Answer, End, HttpClient, Post};
use super::{Destination, Lane, Request, SendError, Surroundings};
use message::{
    ExportRequest, ExportResponse, KeyValue, KeyValueList, LogRecord, Resource, ResourceLogs,
    Scope, ScopeLogs, Status, Value,
};

/// An answer is much shorter.
const MAX_ANSWER: usize = 64 << 10;
/// What a record needs around it (its length and number), and a source (resource, scope), in bytes.
const RECORD_FRAME: usize = 12;
const SOURCE_FRAME: usize = 128;

/// An OpenTelemetry receiver.
#[derive(Debug)]
pub struct Otlp {
    client: HttpClient,
    url: Url,
    machine: Machine,
}

impl Otlp {
    /// Checks the configuration; connects to nothing yet.
    pub(super) fn new(
        manifest: &OtlpDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let endpoint = manifest.endpoint();
        let client = HttpClient::new(&endpoint, "application/x-protobuf", None, surroundings)?;
        Ok(Self {
            url: client.at(&["v1", "logs"]),
            client,
            machine: surroundings.machine,
        })
    }

    fn record(&self, parcel: &Parcel, record: &Record<'_>, now: u64) -> LogRecord {
        let mut attributes = Vec::new();
        if !record.fields.is_empty() {
            let object = [b"{", record.fields, b"}"].concat();
            attributes = json::members(&object).unwrap_or_default();
        }
        let mut severity = json::severity(&attributes);
        let members = match record.json {
            true => json::members(record.body),
            false => None,
        };
        let body = match members {
            Some(values) => {
                severity = severity.or_else(|| json::severity(&values));
                Value::Members(KeyValueList { values })
            }
            None => Value::Text(String::from_utf8_lossy(record.body).into_owned()),
        };
        let mut own = |key: &str, value: Value| {
            // What the plugin added wins.
            if !attributes.iter().any(|attribute| attribute.key == key) {
                attributes.push(KeyValue::new(key, value));
            }
        };
        let mut id = Vec::new();
        RecordId::of(&self.machine, &parcel.batch, record).push(&mut id);
        let id = String::from_utf8_lossy(&id).into_owned();
        own("log.record.uid", Value::Text(id));
        if record.source.attributes.is_empty() {
            let path = record.source.path.to_string_lossy().into_owned();
            own("log.file.path", Value::Text(path));
        }
        if record.flags & LINE_STDERR != 0 {
            own("log.iostream", Value::Text("stderr".to_owned()));
        } else if !record.source.attributes.is_empty() {
            own("log.iostream", Value::Text("stdout".to_owned()));
        }
        if record.flags & LINE_CUT != 0 {
            own("bulkhead.cut", Value::Bool(true));
        }
        if record.flags & LINE_UNFINISHED != 0 {
            own("bulkhead.unfinished", Value::Bool(true));
        }
        let (severity_number, severity_text) = severity.unwrap_or_default();
        LogRecord {
            time_unix_nano: u64::try_from(record.time).unwrap_or(0),
            severity_number,
            severity_text,
            body: Some(body.into()),
            attributes,
            observed_time_unix_nano: now,
        }
    }
}

fn resource(source: &Source) -> ResourceLogs {
    let attributes = source.attributes.iter();
    ResourceLogs {
        resource: Some(Resource {
            attributes: attributes
                .map(|(name, value)| KeyValue::text(name, value))
                .collect(),
        }),
        scope_logs: vec![ScopeLogs {
            scope: Some(Scope {
                name: "bulkhead".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            log_records: Vec::new(),
        }],
    }
}

impl Destination for Otlp {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(OtlpLane {
            bodies: self.client.bodies(),
            destination: self,
        })
    }
}

struct OtlpLane {
    destination: Arc<Otlp>,
    bodies: Bodies,
}

impl OtlpLane {
    /// As many of `records` as one request takes.
    fn request(&self, parcel: &Parcel, records: &[Record<'_>]) -> (ExportRequest, usize) {
        let limit = self.destination.client.max_body();
        let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
        let mut groups: Vec<(&Arc<Source>, ResourceLogs)> = Vec::new();
        let mut length = 0;
        let mut taken = 0;
        for record in records {
            let encoded = self.destination.record(parcel, record, now);
            let known = groups
                .iter()
                .rposition(|(source, _)| Arc::ptr_eq(source, record.source));
            let mut added = encoded.encoded_len() + RECORD_FRAME;
            let fresh = known.is_none().then(|| resource(record.source));
            if let Some(fresh) = &fresh {
                added += fresh.encoded_len() + SOURCE_FRAME;
            }
            if length + added > limit && taken > 0 {
                break;
            }
            length += added;
            taken += 1;
            let group = known.unwrap_or(groups.len());
            groups.extend(fresh.map(|fresh| (record.source, fresh)));
            let scopes = groups.get_mut(group).map(|(_, logs)| &mut logs.scope_logs);
            if let Some(scope) = scopes.and_then(|scopes| scopes.first_mut()) {
                scope.log_records.push(encoded);
            }
        }
        let resource_logs = groups.into_iter().map(|(_, logs)| logs).collect();
        (ExportRequest { resource_logs }, taken)
    }
}

impl Lane for OtlpLane {
    fn encode(&mut self, parcel: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let (request, taken) = self.request(parcel, records);
        self.bodies.write(body, |plain| {
            // Fails only for buffers that do not grow.
            let _ = request.encode(plain);
        });
        taken
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        self.bodies
            .write(body, |plain| plain.extend_from_slice(payload));
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        let client = &self.destination.client;
        let uncompressed = self.bodies.uncompressed();
        let url = &self.destination.url;
        Box::pin(async move {
            let post = Post {
                url,
                body: request.body,
                compressed: true,
                headers: &HeaderMap::new(),
                read: MAX_ANSWER,
            };
            let mut answer = client.post(post).await?;
            if answer.is_success() {
                return match partial_success(&answer) {
                    Some(note) => Err(SendError::noted(note)),
                    None => Ok(()),
                };
            }
            // Protobuf too; only its message is for people.
            if let Ok(status) = Status::decode(&*answer.body)
                && !status.message.is_empty()
            {
                answer.body = status.message.into_bytes();
            }
            match answer.status.as_u16() {
                // The protocol's list of what may be sent again has no other of the server's.
                500..=599 if !matches!(answer.status.as_u16(), 502..=504) => {
                    Err(SendError::Rejected {
                        reason: client.describe(&answer),
                    })
                }
                _ => client.judge(&answer, uncompressed),
            }
        })
    }
}

/// What a receiver says beside its acknowledgement.
fn partial_success(answer: &Answer) -> Option<String> {
    if answer.end != End::Whole {
        // The status has acknowledged it all; the protocol asks for no more.
        return None;
    }
    let partial = ExportResponse::decode(&*answer.body)
        .ok()?
        .partial_success?;
    let said = answer.quote(&partial.error_message);
    match partial.rejected_log_records {
        0 if said.is_empty() => None,
        0 => Some(format!("the receiver warns: {said}")),
        rejected => Some(format!(
            "the receiver dropped {rejected} records and does not say which: {said}"
        )),
    }
}

#[cfg(test)]
pub(super) mod tests;
