//! A server that takes Prometheus' remote write 1.0: a `WriteRequest` in protobuf, compressed with
//! snappy's block format. <https://prometheus.io/docs/specs/prw/remote_write_spec/>
//!
//! It is opened by the role `metrics`. A record is one series with its sample, already as the request
//! has it (see `role::metrics::remote_write`), so that a request is its records one after the other.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};

use crate::manifest::RemoteWrite;
use crate::role::logs::output::{Parcel, Record};

use super::http::client::{HttpClient, Post};
use super::{Destination, Lane, OpenError, Opened, Request, SendError, Surroundings};

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// A server that takes remote write.
#[derive(Debug)]
struct Server {
    client: HttpClient,
    headers: HeaderMap,
}

/// Makes a destination from the manifest. Connects to nothing yet.
pub(in crate::role) fn open(
    manifest: &RemoteWrite,
    surroundings: &Surroundings,
) -> Result<Opened, OpenError> {
    let client = HttpClient::new(
        &manifest.endpoint(),
        "application/x-protobuf",
        None,
        surroundings,
    );
    let client = client.map_err(|(field, problem)| OpenError {
        name: manifest.name.clone(),
        field,
        problem,
    })?;
    let headers = [
        (CONTENT_ENCODING, HeaderValue::from_static("snappy")),
        (VERSION, HeaderValue::from_static("0.1.0")),
    ];
    Ok(Opened {
        destination: Arc::new(Server {
            client,
            headers: headers.into_iter().collect(),
        }),
        retry: manifest.retry.clone(),
        kind: "remoteWrite",
    })
}

impl Destination for Server {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(ServerLane {
            server: self,
            encoder: snap::raw::Encoder::new(),
            plain: Vec::new(),
        })
    }
}

struct ServerLane {
    server: Arc<Server>,
    encoder: snap::raw::Encoder,
    /// The request before compression.
    plain: Vec<u8>,
}

impl ServerLane {
    fn compress(&mut self, body: &mut Vec<u8>) {
        body.resize(snap::raw::max_compress_len(self.plain.len()), 0);
        let length = match self.encoder.compress(&self.plain, body) {
            Ok(length) => length,
            Err(error) => {
                // Only what is longer than 4 GiB cannot be; the server refuses an empty body.
                tracing::error!("compressing in memory failed: {error}");
                0
            }
        };
        body.truncate(length);
    }
}

impl Lane for ServerLane {
    /// Samples of one time at most: a server that refuses one refuses the whole request, and of what was
    /// pushed at one time it may have everything already.
    fn encode(&mut self, _: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let limit = self.server.client.max_body();
        let time = records.first().map(|record| record.time);
        self.plain.clear();
        let mut taken = 0;
        for record in records {
            let full = self.plain.len() + record.body.len() > limit;
            if taken > 0 && (full || Some(record.time) != time) {
                break;
            }
            self.plain.extend_from_slice(record.body);
            taken += 1;
        }
        self.compress(body);
        taken
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        self.plain.clear();
        self.plain.extend_from_slice(payload);
        self.compress(body);
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        let (server, uncompressed) = (&self.server, self.plain.len());
        Box::pin(async move {
            let post = Post {
                url: server.client.url(),
                body: request.body,
                compressed: false,
                headers: &server.headers,
                read: 0,
            };
            let answer = server.client.post(post).await?;
            server.client.judge(&answer, uncompressed)
        })
    }
}

#[cfg(test)]
mod tests;
