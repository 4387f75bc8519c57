//! Splunk's HTTP Event Collector, by its endpoints `event` and `raw`.
//!
//! - Splunk knows no ids: what is sent again because an answer was lost, or because another event of
//!   the request was refused, may be indexed twice.
//! - It refuses a request at its first bad event and names that one, which becomes a dead letter.
//!   What stands before it was indexed, and what follows is sent again. With `acknowledgement` all
//!   the others are sent again, because the answer has no number by which to ask for the former; so
//!   with the endpoint `raw`, whose events are not our lines.
//! - With `acknowledgement`, a request counts as delivered once the indexers have written it: each
//!   lane asks for it on a channel of its own. A load balancer in between must choose the indexer by
//!   the client's address or the channel's header: no cookies are kept, so stickiness by cookie does
//!   not work.
//!
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/HECRESTendpoints>,
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector>,
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/AboutHECIDXAck>,
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector>

mod answer;

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::manifest::{Acknowledgement, Endpoint, Format, SplunkEndpoint, SplunkHecDestination};
use crate::role::logs::encode::{RecordEncoder, push_string};
use crate::role::logs::output::{Parcel, Record};

use super::file::encode_lines;
use super::http::body::Bodies;
use super::http::client::{End, HttpClient, Post};
use super::http::headers::Credential;
use super::{Destination, Lane, Request, SendError, Surroundings};

/// Names the channel that acknowledgements are counted on.
const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");
/// How soon Splunk is first asked whether a request was indexed; doubled up to the manifest's
/// `interval`.
const FIRST_ASKED: Duration = Duration::from_millis(50);
/// An answer is much shorter.
const MAX_ANSWER: usize = 64 << 10;
const NANOS: i64 = 1_000_000_000;

/// A Splunk server.
#[derive(Debug)]
pub struct SplunkHec {
    client: HttpClient,
    endpoint: SplunkEndpoint,
    format: Format,
    /// Where records go.
    url: Url,
    /// Where acknowledgements are asked for.
    acks: Url,
    acknowledgement: Option<Acknowledgement>,
    source: Option<String>,
    /// The members of every event that never change, each with a comma before it.
    fixed: Vec<u8>,
}

impl SplunkHec {
    /// Checks the configuration; connects to nothing yet.
    pub(super) fn new(
        manifest: &SplunkHecDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let credential = Credential {
            field: "token",
            scheme: "Splunk",
            secret: &manifest.token,
        };
        // Either spelling: the server alone, or with the path of an endpoint.
        let server = manifest.url.split("/services/collector").next();
        let endpoint = Endpoint {
            url: server.unwrap_or(&manifest.url),
            ..manifest.endpoint()
        };
        let content_type = match manifest.endpoint {
            SplunkEndpoint::Event => "application/json",
            SplunkEndpoint::Raw => "text/plain; charset=utf-8",
        };
        let client = HttpClient::new(&endpoint, content_type, Some(credential), surroundings)?;
        let metadata = [
            ("index", &manifest.index),
            ("sourcetype", &manifest.sourcetype),
            ("host", &manifest.host),
        ];
        let mut fixed = Vec::new();
        let mut url = match manifest.endpoint {
            SplunkEndpoint::Event => client.at(&["services", "collector", "event"]),
            SplunkEndpoint::Raw => client.at(&["services", "collector", "raw"]),
        };
        for (name, value) in metadata {
            let Some(value) = value else { continue };
            fixed.push(b',');
            push_string(name.as_bytes(), &mut fixed);
            fixed.push(b':');
            push_string(value.as_bytes(), &mut fixed);
            if manifest.endpoint == SplunkEndpoint::Raw {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        if let (SplunkEndpoint::Raw, Some(source)) = (manifest.endpoint, &manifest.source) {
            url.query_pairs_mut().append_pair("source", source);
        }
        Ok(Self {
            acks: client.at(&["services", "collector", "ack"]),
            client,
            endpoint: manifest.endpoint,
            format: manifest.format,
            url,
            acknowledgement: manifest.acknowledgement.clone(),
            source: manifest.source.clone(),
            fixed,
        })
    }

    /// Appends `record` as an event of its own.
    fn event(&self, encoder: &mut RecordEncoder, record: &Record<'_>, out: &mut Vec<u8>) {
        let seconds = record.time.div_euclid(NANOS);
        let nanos = record.time.rem_euclid(NANOS);
        // Writing into memory does not fail.
        let _ = write!(out, "{{\"time\":{seconds}.{nanos:09}");
        out.extend_from_slice(&self.fixed);
        out.extend_from_slice(b",\"source\":");
        match &self.source {
            Some(source) => push_string(source.as_bytes(), out),
            None => push_string(record.source.path.as_os_str().as_bytes(), out),
        }
        out.extend_from_slice(b",\"event\":");
        match self.format {
            Format::Json => encoder.object(record, out),
            // Splunk refuses a blank event (code 13).
            Format::Raw if record.body.is_empty() => encoder.object(record, out),
            Format::Raw => push_string(record.body, out),
        }
        out.extend_from_slice(b"}\n");
    }

    /// Waits until the indexers have written what was sent as `id`.
    async fn indexed(
        &self,
        id: u64,
        headers: &HeaderMap,
        how: &Acknowledgement,
    ) -> Result<(), SendError> {
        let deadline = Instant::now() + how.timeout.0;
        let body = Bytes::from(format!("{{\"acks\":[{id}]}}"));
        let mut wait = FIRST_ASKED;
        let mut trouble = String::new();
        loop {
            tokio::time::sleep(wait.min(how.interval.0)).await;
            wait = wait.saturating_mul(2);
            let post = Post {
                url: &self.acks,
                body: &body,
                compressed: false,
                headers,
                read: MAX_ANSWER,
            };
            match self.client.post(post).await {
                Ok(answer) if answer.is_success() => {
                    if answer::is_indexed(&answer.body, id) {
                        return Ok(());
                    }
                }
                Ok(answer) => {
                    if let Some(remedy) = answer::remedy(answer::code(&answer.body)) {
                        let reason = format!("{}: {remedy}", self.client.describe(&answer));
                        return Err(retry(reason));
                    }
                    trouble = format!(": {}", self.client.describe(&answer));
                }
                Err(SendError::Retry { reason, .. }) => trouble = format!(": {reason}"),
                Err(other) => return Err(other),
            }
            if Instant::now() >= deadline {
                return Err(retry(format!(
                    "sent, but not acknowledged by the indexers within {}{trouble}",
                    how.timeout
                )));
            }
        }
    }
}

fn retry(reason: String) -> SendError {
    SendError::Retry {
        after: None,
        reason,
    }
}

impl Destination for SplunkHec {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        let mut headers = HeaderMap::new();
        if self.endpoint == SplunkEndpoint::Raw || self.acknowledgement.is_some() {
            // Hexadecimal digits and dashes can stand in a header.
            if let Ok(channel) = HeaderValue::from_str(&random_uuid()) {
                headers.insert(CHANNEL, channel);
            }
        }
        Box::new(SplunkLane {
            encoder: RecordEncoder::new(self.format),
            bodies: self.client.bodies(),
            headers,
            destination: self,
        })
    }
}

/// A random UUID (RFC 9562, version 4).
fn random_uuid() -> String {
    let random = fastrand::u128(..) & !(0xf000 << 64) & !(0xc000 << 48);
    let uuid = random | (0x4000 << 64) | (0x8000 << 48);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        uuid >> 96,
        (uuid >> 80) & 0xffff,
        (uuid >> 64) & 0xffff,
        (uuid >> 48) & 0xffff,
        uuid & 0xffff_ffff_ffff
    )
}

struct SplunkLane {
    destination: Arc<SplunkHec>,
    encoder: RecordEncoder,
    bodies: Bodies,
    /// The lane's channel, where one is needed.
    headers: HeaderMap,
}

impl Lane for SplunkLane {
    fn encode(&mut self, _: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let (destination, encoder) = (&self.destination, &mut self.encoder);
        let limit = destination.client.max_body();
        self.bodies.write(body, |plain| {
            if destination.endpoint == SplunkEndpoint::Raw {
                return encode_lines(encoder, records, limit, plain);
            }
            for (taken, record) in records.iter().enumerate() {
                let before = plain.len();
                destination.event(encoder, record, plain);
                if plain.len() > limit && taken > 0 {
                    plain.truncate(before);
                    return taken;
                }
            }
            records.len()
        })
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        self.bodies
            .write(body, |plain| plain.extend_from_slice(payload));
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        let (destination, headers) = (&self.destination, &self.headers);
        let uncompressed = self.bodies.uncompressed();
        Box::pin(async move {
            let post = Post {
                url: &destination.url,
                body: request.body,
                compressed: true,
                headers,
                read: MAX_ANSWER,
            };
            let answer = destination.client.post(post).await?;
            if !answer.is_success() {
                let described = destination.client.describe(&answer);
                let records = request.records.len();
                let indexed = destination.acknowledgement.is_none()
                    && destination.endpoint == SplunkEndpoint::Event;
                if let Some(refusal) = answer::refusal(&answer.body, records, indexed, &described) {
                    return Err(refusal);
                }
                let judged = destination.client.judge(&answer, uncompressed);
                let full_from = answer::full_from(&answer.body, records).filter(|_| indexed);
                return match (judged, full_from) {
                    (Err(SendError::Retry { after, reason }), Some(from)) => {
                        Err(SendError::Partial {
                            retry: (from..records).collect(),
                            rejected: Vec::new(),
                            after,
                            reason,
                        })
                    }
                    (judged, _) => judged,
                };
            }
            let Some(how) = &destination.acknowledgement else {
                return Ok(());
            };
            if answer.end != End::Whole {
                let reason = "the connection failed in the middle of the answer";
                return Err(retry(reason.to_owned()));
            }
            match answer::ack_id(&answer.body) {
                Some(id) => destination.indexed(id, headers, how).await,
                // Not Splunk's: nothing says that the indexers will ever see it.
                None if answer::code(&answer.body) != Some(0) => Err(retry(format!(
                    "{}: no answer of the HTTP Event Collector; correct `url`",
                    destination.client.describe(&answer)
                ))),
                // Taken, if with less of a promise; sending it again would only repeat it.
                None => Err(SendError::noted(
                    "the token has no indexer acknowledgement: switch it on in Splunk, or remove \
                     `acknowledgement`",
                )),
            }
        })
    }
}

#[cfg(test)]
mod tests;
