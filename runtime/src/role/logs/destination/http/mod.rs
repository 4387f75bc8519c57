//! An HTTP endpoint: newline-delimited records, or the plugin's own payloads, one POST each.
//!
//! The status line is the acknowledgement. A body after it is read, so that the connection can be
//! used again, but what goes wrong in it changes nothing.

pub(super) mod answer;
pub(super) mod body;
pub(super) mod client;
mod connect;
pub(super) mod headers;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;

use crate::manifest::{self, Endpoint, Format};
use crate::role::logs::encode::RecordEncoder;
use crate::role::logs::output::{Parcel, Record};

use super::file::encode_lines;
use super::{Destination, Lane, Request, SendError, Surroundings};
use body::Bodies;
use client::{HttpClient, Post};

/// An HTTP endpoint that takes records.
#[derive(Debug)]
pub struct HttpDestination {
    client: HttpClient,
    format: Format,
}

impl HttpDestination {
    /// Checks the configuration; connects to nothing yet.
    pub(super) fn new(
        manifest: &manifest::HttpDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let content_type = manifest
            .content_type
            .as_deref()
            .unwrap_or(match manifest.format {
                Format::Json => "application/x-ndjson",
                Format::Raw => "text/plain; charset=utf-8",
            });
        let endpoint = Endpoint {
            compression: manifest.compression(),
            ..manifest.endpoint()
        };
        Ok(Self {
            client: HttpClient::new(&endpoint, content_type, None, surroundings)?,
            format: manifest.format,
        })
    }
}

impl Destination for HttpDestination {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(HttpLane {
            encoder: RecordEncoder::new(self.format),
            bodies: self.client.bodies(),
            destination: self,
        })
    }
}

struct HttpLane {
    destination: Arc<HttpDestination>,
    encoder: RecordEncoder,
    bodies: Bodies,
}

impl Lane for HttpLane {
    fn encode(&mut self, _: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let limit = self.destination.client.max_body();
        let encoder = &mut self.encoder;
        self.bodies
            .write(body, |plain| encode_lines(encoder, records, limit, plain))
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        self.bodies
            .write(body, |plain| plain.extend_from_slice(payload));
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        let client = &self.destination.client;
        let uncompressed = self.bodies.uncompressed();
        Box::pin(async move {
            let post = Post {
                url: client.url(),
                body: request.body,
                compressed: true,
                headers: &HeaderMap::new(),
                read: 0,
            };
            let answer = client.post(post).await?;
            client.judge(&answer, uncompressed)
        })
    }
}

#[cfg(test)]
mod tests;
