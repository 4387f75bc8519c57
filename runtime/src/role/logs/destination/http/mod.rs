//! An HTTP endpoint: newline-delimited records, or the plugin's own payloads, one POST each.
//!
//! - All lanes share one pool of kept-alive connections; `concurrency` bounds the requests in
//!   flight over all of them.
//! - The status line is the acknowledgement. A body after it is read, so that the connection can be
//!   used again, but what goes wrong in it changes nothing.
//! - Redirects are not followed: they would take credentials to a host that the manifest does not
//!   name.
//! - No message holds a secret: URLs are shown without user and query, secrets that a server sends
//!   back are taken out.

mod answer;
mod headers;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_ENCODING, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use tokio::sync::Semaphore;

use crate::manifest::{self, Format};
use crate::role::logs::encode::RecordEncoder;
use crate::role::logs::output::{Parcel, Record};

use super::file::encode_lines;
use super::secrets::redact;
use super::{Destination, Lane, Request, SendError, Surroundings};
use answer::{Verdict, judge};
use headers::Headers;

/// A connection that is not made by then will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below this no server calls a body too large, in bytes; a 413 does not lower the limit further.
const SMALLEST_BODY: usize = 16 << 10;
/// How much of an answer is read, in bytes: enough to keep the connection, or to quote.
const ANSWER: usize = 64 << 10;
/// How long an answer's body may take once its status is known.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Compression of more than this, in bytes, is kept off the other tasks of the thread.
const HEAVY: usize = 256 << 10;

/// An HTTP endpoint that takes records.
#[derive(Debug)]
pub struct HttpDestination {
    client: Client,
    url: Url,
    /// The URL as messages show it.
    shown: String,
    format: Format,
    gzip: bool,
    timeout: Duration,
    headers: Headers,
    in_flight: Semaphore,
    /// Starts as the manifest's `maxBody`; a 413 lowers it, so that it is not asked for again.
    max_body: AtomicUsize,
}

impl HttpDestination {
    /// Checks the configuration; connects to nothing yet.
    pub(super) fn new(
        manifest: &manifest::HttpDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (&'static str, String)> {
        let url = Url::parse(&manifest.url).map_err(|error| {
            let problem = format!("not a URL ({error}); write for example https://logs.example/in");
            ("http.url", problem)
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            let problem = "not an http:// or https:// URL with a host".to_owned();
            return Err(("http.url", problem));
        }
        if manifest.concurrency == 0 {
            let problem = "0 sends nothing; write 1 or more".to_owned();
            return Err(("http.concurrency", problem));
        }
        if manifest.timeout.0.is_zero() {
            let problem = "0 lets no request finish; write for example 30s".to_owned();
            return Err(("http.timeout", problem));
        }
        let content_type = manifest
            .content_type
            .as_deref()
            .unwrap_or(match manifest.format {
                Format::Json => "application/x-ndjson",
                Format::Raw => "text/plain; charset=utf-8",
            });
        let headers = Headers::new(content_type, &manifest.headers, &surroundings.secrets)?;
        let client = client(&url, manifest).map_err(|error| {
            let problem = format!("cannot prepare connections: {}", chain(&error));
            ("http", problem)
        })?;
        Ok(Self {
            client,
            shown: shown(&url),
            url,
            format: manifest.format,
            gzip: manifest.gzip,
            timeout: manifest.timeout.0,
            headers,
            in_flight: Semaphore::new(manifest.concurrency.min(Semaphore::MAX_PERMITS)),
            max_body: AtomicUsize::new(usize::try_from(manifest.max_body.0).unwrap_or(usize::MAX)),
        })
    }

    async fn post(&self, body: &Bytes, uncompressed: usize) -> Result<(), SendError> {
        let retry = |reason| SendError::Retry {
            after: None,
            reason,
        };
        let headers = self
            .headers
            .current()
            .await
            .map_err(|problem| retry(format!("cannot send to {}: {problem}", self.shown)))?;
        let explain = |text: &str| redact(text, &headers.hidden);
        let Ok(_permit) = self.in_flight.acquire().await else {
            return Err(retry("the destination was closed".to_owned()));
        };
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(headers.map.clone())
            .timeout(self.timeout)
            .body(body.clone());
        if self.gzip {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let response = request
            .send()
            .await
            .map_err(|error| retry(explain(&format!("{}: {}", self.shown, self.trouble(error)))))?;
        let status = response.status();
        let verdict = judge(status, response.headers());
        if verdict == Verdict::Accepted {
            drain(response, 0).await;
            return Ok(());
        }
        let location = response
            .headers()
            .get(reqwest::header::LOCATION)
            .and_then(|value| Url::parse(value.to_str().ok()?).ok())
            .map(|url| shown(&url));
        let said = drain(response, 300).await;
        let mut reason = format!("{} answered {status}", self.shown);
        if let Some(remedy) = remedy(status) {
            reason.push_str(": ");
            reason.push_str(remedy);
        }
        if let Some(location) = location {
            reason.push_str(&format!(" (it points to {location})"));
        }
        if !said.is_empty() {
            reason.push_str(&format!(" (it said: {said})"));
        }
        let reason = explain(&reason);
        Err(match verdict {
            Verdict::Accepted => return Ok(()),
            Verdict::Retry(after) => {
                if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
                    self.headers.forget().await;
                }
                SendError::Retry { after, reason }
            }
            Verdict::TooLarge => {
                let smaller = (uncompressed / 2).max(SMALLEST_BODY);
                self.max_body.fetch_min(smaller, Ordering::Relaxed);
                SendError::TooLarge { reason }
            }
            Verdict::Rejected => SendError::Rejected { reason },
        })
    }

    fn trouble(&self, error: reqwest::Error) -> String {
        let error = error.without_url();
        if error.is_timeout() {
            let seconds = self.timeout.as_secs_f64();
            if error.is_connect() {
                return "no connection in time; check address and firewall".to_owned();
            }
            return format!("no answer within the timeout of {seconds} s");
        }
        if error.is_connect() {
            return format!(
                "cannot connect: {}; check address, DNS and TLS",
                chain(&error)
            );
        }
        format!("the connection failed: {}", chain(&error))
    }
}

fn client(url: &Url, manifest: &manifest::HttpDestination) -> reqwest::Result<Client> {
    // Fails if a provider was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT.min(manifest.timeout.0))
        .pool_max_idle_per_host(manifest.concurrency)
        .pool_idle_timeout(Duration::from_secs(30));
    if url.scheme() == "http" {
        // Reading the system's certificates costs megabytes that plain HTTP has no use for.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}

/// Scheme, host, port and path: users and queries carry credentials.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Each fails only for URLs that have no host; those were refused or stay without a user.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

fn remedy(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        300..=399 => "redirects are not followed; put the final URL into the manifest",
        401 => "the credentials are missing or wrong; correct `headers` or the file they name",
        403 => "the credentials do not allow it; correct them or the server's permissions",
        404 | 405 | 410 => "nothing takes logs at this path; correct `url`",
        407 => "a proxy asks for credentials",
        413 => "the body is too large for it; lower `maxBody`",
        415 => "it does not take this content type; correct `contentType` or `format`",
        429 => "it asks to send less",
        _ => return None,
    })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Reads an answer's body to its end, within bounds, and returns its beginning as one clean line.
async fn drain(mut response: reqwest::Response, quote: usize) -> String {
    let mut start = Vec::new();
    let mut read = 0;
    let reading = async {
        while read < ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            read += chunk.len();
            let wanted = quote.saturating_sub(start.len()).min(chunk.len());
            start.extend_from_slice(&chunk[..wanted]);
        }
    };
    // Late or broken, the status stands.
    let _ = tokio::time::timeout(ANSWER_PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&start);
    let clean = text.replace(|c: char| c.is_control() || c == '\u{fffd}', " ");
    clean.trim().to_owned()
}

impl Destination for HttpDestination {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(HttpLane {
            encoder: RecordEncoder::new(self.format),
            plain: Vec::new(),
            uncompressed: 0,
            destination: self,
        })
    }
}

struct HttpLane {
    destination: Arc<HttpDestination>,
    encoder: RecordEncoder,
    /// The body before compression; kept for its memory.
    plain: Vec<u8>,
    /// Length of the body at hand before compression.
    uncompressed: usize,
}

impl HttpLane {
    fn compress(&mut self, plain: &[u8], body: &mut Vec<u8>) {
        let mut encoder = GzEncoder::new(body, Compression::fast());
        // Writing into memory cannot fail; a body cut short would be refused by any server.
        if encoder.write_all(plain).is_err() || encoder.finish().is_err() {
            tracing::error!("compressing in memory failed");
        }
    }
}

impl Lane for HttpLane {
    fn encode(&mut self, _: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let limit = self.destination.max_body.load(Ordering::Relaxed);
        if !self.destination.gzip {
            let taken = encode_lines(&mut self.encoder, records, limit, body);
            self.uncompressed = body.len();
            return taken;
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let taken = encode_lines(&mut self.encoder, records, limit, &mut plain);
        self.uncompressed = plain.len();
        heavy(plain.len(), || self.compress(&plain, body));
        if plain.capacity() <= HEAVY {
            self.plain = plain;
        }
        taken
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        self.uncompressed = payload.len();
        if self.destination.gzip {
            heavy(payload.len(), || self.compress(payload, body));
        } else {
            body.extend_from_slice(payload);
        }
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(self.destination.post(request.body, self.uncompressed))
    }
}

/// Does `work` on `bytes` bytes; if that takes long, other tasks are moved off this thread first.
fn heavy(bytes: usize, work: impl FnOnce()) {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let can_move = Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > HEAVY && can_move {
        tokio::task::block_in_place(work);
    } else {
        work();
    }
}
