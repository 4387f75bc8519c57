//! Elasticsearch and OpenSearch, by `POST _bulk`.
//!
//! - Every document has the record's stable id and is written with `create`, so what was sent twice
//!   is stored once: for an id that is there already the server says 409, which is a success.
//! - The server answers item by item. What it had no room or no right for is sent again alone;
//!   what it cannot store becomes a dead letter with its error. Whose fault an error is, is judged
//!   as for the statuses of whole requests.
//! - Documents are the JSON of `encode`, with `@timestamp` for the time, which data streams need.
//!
//! <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>,
//! <https://docs.opensearch.org/latest/api-reference/document-apis/bulk/>,
//! <https://www.elastic.co/docs/manage-data/data-store/data-streams/use-data-stream>

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::manifest::{ElasticsearchDestination, IndexName};
use crate::role::logs::encode::{RecordEncoder, push_string};
use crate::role::logs::output::{Parcel, Record};
use crate::role::logs::record_id::{Machine, RecordId};

use super::http::answer::{Verdict, judge};
use super::http::body::Bodies;
use super::http::client::{Answer, End, HttpClient, Post};
use super::http::headers::Credential;
use super::{Destination, Lane, Request, SendError, Surroundings};

/// Of an answer only what is needed is asked for and read.
const FILTER: &str = "errors,items.*.status,items.*.error.type,items.*.error.reason";
/// The most of an answer that is read, in bytes: thousands of items with long reasons. If it is
/// longer, fewer records are sent at once.
const MAX_ANSWER: usize = 16 << 20;
const HOUR: i64 = 3_600_000_000_000;

/// An Elasticsearch or OpenSearch server.
#[derive(Debug)]
pub struct Elasticsearch {
    client: HttpClient,
    url: Url,
    name: IndexName,
    machine: Machine,
}

impl Elasticsearch {
    /// Checks the configuration; connects to nothing yet.
    pub(super) fn new(
        manifest: &ElasticsearchDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let credential = manifest.api_key.as_deref().map(|secret| Credential {
            field: "apiKey",
            scheme: "ApiKey",
            secret,
        });
        let client = HttpClient::new(
            &manifest.endpoint(),
            "application/x-ndjson",
            credential,
            surroundings,
        )?;
        let name = manifest.index.as_ref().or(manifest.data_stream.as_ref());
        let name = name.cloned().ok_or_else(|| {
            let problem = "missing; write `index:` or `dataStream:`".to_owned();
            ("elasticsearch.index".to_owned(), problem)
        })?;
        let mut url = client.at(&["_bulk"]);
        url.query_pairs_mut().append_pair("filter_path", FILTER);
        Ok(Self {
            client,
            url,
            name,
            machine: surroundings.machine,
        })
    }
}

impl Destination for Elasticsearch {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(ElasticsearchLane {
            encoder: RecordEncoder::for_elasticsearch(),
            bodies: self.client.bodies(),
            index: None,
            destination: self,
        })
    }
}

struct ElasticsearchLane {
    destination: Arc<Elasticsearch>,
    encoder: RecordEncoder,
    bodies: Bodies,
    /// The action up to the id, and the hour since 1970 for which its index name holds.
    index: Option<(i64, Vec<u8>)>,
}

impl Lane for ElasticsearchLane {
    fn encode(&mut self, parcel: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let Self {
            destination,
            encoder,
            bodies,
            index,
        } = self;
        let limit = destination.client.max_body();
        bodies.write(body, |plain| {
            for (taken, record) in records.iter().enumerate() {
                let before = plain.len();
                let hour = record.time.div_euclid(HOUR);
                let action = match index {
                    Some((known, action)) if *known == hour => action,
                    _ => {
                        &mut index
                            .insert((hour, action(&destination.name, record.time)))
                            .1
                    }
                };
                plain.extend_from_slice(action);
                RecordId::of(&destination.machine, &parcel.batch, record).push(plain);
                plain.extend_from_slice(b"\"}}\n");
                encoder.line(record, plain);
                if plain.len() > limit && taken > 0 {
                    plain.truncate(before);
                    return taken;
                }
            }
            records.len()
        })
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        self.bodies.write(body, |plain| {
            plain.extend_from_slice(payload);
            if !payload.ends_with(b"\n") {
                // Or the server refuses it.
                plain.push(b'\n');
            }
        });
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        let destination = &self.destination;
        let uncompressed = self.bodies.uncompressed();
        Box::pin(async move {
            let post = Post {
                url: &destination.url,
                body: request.body,
                compressed: true,
                headers: &HeaderMap::new(),
                read: MAX_ANSWER,
            };
            let answer = destination.client.post(post).await?;
            if !answer.is_success() {
                return destination.client.judge(&answer, uncompressed);
            }
            judge_items(&answer, request.records.len())
        })
    }
}

/// The line before a document, up to its id.
fn action(name: &IndexName, time: i64) -> Vec<u8> {
    let mut action = b"{\"create\":{\"_index\":".to_vec();
    push_string(name.at(time).as_bytes(), &mut action);
    action.extend_from_slice(b",\"_id\":\"");
    action
}

#[derive(Debug, Deserialize)]
struct Bulk {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    // A plugin's own payload may hold other actions.
    #[serde(alias = "index", alias = "update", alias = "delete")]
    create: Outcome,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
}

impl Problem {
    /// Whether an answer 400 is about the state of the cluster, which can be mended without the
    /// documents changing: a closed index, or no room for the shards of a new one.
    fn is_of_cluster(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        self.kind == "index_closed_exception"
            // Not just anywhere: other reasons quote the document.
            || (reason.starts_with("Validation Failed:")
                && reason.contains("this action would add")
                && reason.contains("shards"))
    }
}

/// Reads an answer about `records` records; 0 for a payload, which is settled as a whole.
fn judge_items(answer: &Answer, records: usize) -> Result<(), SendError> {
    let retry = |reason: &str| {
        Err(SendError::Retry {
            after: None,
            reason: reason.to_owned(),
        })
    };
    match answer.end {
        End::Whole => {}
        End::TooLong => {
            return Err(SendError::TooLarge {
                reason: "the answer is too long to be read".to_owned(),
            });
        }
        End::Broken => return retry("the connection failed in the middle of the answer"),
    }
    let Ok(bulk) = serde_json::from_slice::<Bulk>(&answer.body) else {
        return retry("the answer is not one of _bulk; correct `url`");
    };
    if !bulk.errors {
        return Ok(());
    }
    if records > 0 && bulk.items.len() != records {
        return retry("the answer does not speak of each record");
    }
    let mut again = Vec::new();
    let mut rejected = Vec::new();
    let mut why_again = String::new();
    for (index, item) in bulk.items.into_iter().enumerate() {
        let outcome = item.create;
        let status = StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::BAD_GATEWAY);
        // There already: sent before, and the acknowledgement was lost.
        if status == StatusCode::CONFLICT {
            continue;
        }
        let reason = || {
            let said = match &outcome.error {
                Some(Problem { kind, reason }) => {
                    format!("{kind}: {}", reason.as_deref().unwrap_or("no reason given"))
                }
                None => "no error given".to_owned(),
            };
            format!("{status}: {}", answer.quote(&said))
        };
        let verdict = match &outcome.error {
            Some(error) if status == StatusCode::BAD_REQUEST && error.is_of_cluster() => {
                Verdict::Retry(None)
            }
            _ => judge(status, &HeaderMap::new()),
        };
        match verdict {
            Verdict::Accepted => {}
            Verdict::Retry(_) => {
                if again.is_empty() {
                    why_again = reason();
                }
                again.push(index);
            }
            Verdict::TooLarge | Verdict::Rejected => rejected.push((index, reason())),
        }
    }
    if again.is_empty() && rejected.is_empty() {
        return Ok(());
    }
    if records == 0 {
        // Stored items are not harmed by a repeat; dead letters hold payloads only whole.
        return match rejected.into_iter().next() {
            Some((_, reason)) if again.is_empty() => Err(SendError::Rejected { reason }),
            _ => retry(&why_again),
        };
    }
    Err(SendError::Partial {
        retry: again,
        rejected,
        after: None,
        reason: why_again,
    })
}

#[cfg(test)]
mod tests;
