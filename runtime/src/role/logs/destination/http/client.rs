//! What all destinations over HTTP share: connections, headers, the bound on requests in flight,
//! and how an answer is read and judged.
//!
//! - All lanes share one pool of kept-alive connections; `concurrency` bounds the requests in
//!   flight over all of them.
//! - Redirects are not followed: they would take credentials to a host that the manifest does not
//!   name.
//! - No message holds a secret: URLs are shown without user and query, secrets that a server sends
//!   back are taken out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use tokio::sync::Semaphore;

use crate::manifest::{Compression, Endpoint};

use super::super::lookup::{Found, Lookup};
use super::super::secrets::redact;
use super::super::{SendError, Surroundings};
use super::answer::{Verdict, is_about_tls, judge};
use super::body::Bodies;
use super::connect;
use super::headers::{self, Credential};

/// Below this no server calls a body too large, in bytes; a 413 does not lower the limit further.
const SMALLEST_BODY: usize = 16 << 10;
/// How much of an answer is read, in bytes: enough to keep the connection, or to quote. More only
/// for kinds that ask for it, of answers that are no failures.
const ANSWER: usize = 64 << 10;
/// How long an answer's body may take once its status is known, if the status says it all.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// The most of an answer that a message quotes, in characters.
const QUOTE: usize = 300;

/// Sends to one server.
#[derive(Debug)]
pub(in super::super) struct HttpClient {
    connections: Lookup<Client>,
    headers: Lookup<HeaderMap>,
    url: Url,
    compression: Compression,
    timeout: Duration,
    in_flight: Semaphore,
    /// Starts as the manifest's `maxBody`; a 413 lowers it, so that it is not asked for again.
    max_body: AtomicUsize,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Post<'a> {
    pub(in super::super) url: &'a Url,
    pub(in super::super) body: &'a Bytes,
    /// Whether the body is compressed as the manifest says.
    pub(in super::super) compressed: bool,
    /// Added to the destination's headers.
    pub(in super::super) headers: &'a HeaderMap,
    /// How much of a success's body is kept, in bytes; 0 if its status says it all.
    pub(in super::super) read: usize,
}

/// A server's answer.
pub(in super::super) struct Answer {
    pub(in super::super) status: StatusCode,
    /// The body, or its beginning.
    pub(in super::super) body: Vec<u8>,
    pub(in super::super) end: End,
    /// The URL as messages show it.
    shown: String,
    verdict: Verdict,
    location: Option<String>,
    secrets: (Arc<Found<Client>>, Arc<Found<HeaderMap>>),
}

/// How reading an answer's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum End {
    /// All of it is there.
    Whole,
    /// It is longer than what was to be read.
    TooLong,
    /// The connection broke, or the time ran out.
    Broken,
}

impl Answer {
    /// Whether the status is a 2xx.
    pub(in super::super) fn is_success(&self) -> bool {
        self.verdict == Verdict::Accepted
    }

    /// Takes secrets out of `text`.
    pub(in super::super) fn redact(&self, text: &str) -> String {
        let (connections, headers) = &self.secrets;
        redact(&redact(text, &headers.hidden), &connections.hidden)
    }

    /// What a peer said, as one clean, short line without secrets.
    pub(in super::super) fn quote(&self, said: &str) -> String {
        let clean = said.replace(|c: char| c.is_control() || c == '\u{fffd}', " ");
        let redacted = self.redact(clean.trim());
        match redacted.char_indices().nth(QUOTE) {
            Some((end, _)) => format!("{}...", &redacted[..end]),
            None => redacted,
        }
    }
}

impl HttpClient {
    /// Checks the configuration; connects to nothing yet. An error names the field and the problem.
    pub(in super::super) fn new(
        endpoint: &Endpoint<'_>,
        content_type: &str,
        credential: Option<Credential<'_>>,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let error = |field: &str, problem: String| (format!("{}.{field}", endpoint.kind), problem);
        let url = Url::parse(endpoint.url).map_err(|wrong| {
            let problem = format!("not a URL ({wrong}); write for example https://logs.example/in");
            error("url", problem)
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            let problem = "not an http:// or https:// URL with a host".to_owned();
            return Err(error("url", problem));
        }
        if endpoint.concurrency == 0 {
            let problem = "0 sends nothing; write 1 or more".to_owned();
            return Err(error("concurrency", problem));
        }
        if endpoint.timeout.0.is_zero() {
            let problem = "0 lets no request finish; write for example 30s".to_owned();
            return Err(error("timeout", problem));
        }
        let content_type = HeaderValue::from_str(content_type).map_err(|_| {
            let problem = format!("{content_type:?} cannot stand in a header");
            error("contentType", problem)
        })?;
        let secrets = &surroundings.secrets;
        Ok(Self {
            connections: connect::lookup(endpoint, &url, secrets)?,
            headers: headers::lookup(endpoint, content_type, credential, secrets)?,
            url,
            compression: endpoint.compression,
            timeout: endpoint.timeout.0,
            in_flight: Semaphore::new(endpoint.concurrency.min(Semaphore::MAX_PERMITS)),
            max_body: AtomicUsize::new(usize::try_from(endpoint.max_body.0).unwrap_or(usize::MAX)),
        })
    }

    /// The manifest's URL.
    pub(in super::super) fn url(&self) -> &Url {
        &self.url
    }

    /// The manifest's URL with a path below it, unless it ends in that already.
    pub(in super::super) fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        let suffix = format!("/{}", path.join("/"));
        if !url.path().trim_end_matches('/').ends_with(&suffix)
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// The most bytes that a body may have before compression.
    pub(in super::super) fn max_body(&self) -> usize {
        self.max_body.load(Ordering::Relaxed)
    }

    /// Makes bodies as this server takes them.
    pub(in super::super) fn bodies(&self) -> Bodies {
        Bodies::new(self.compression)
    }

    /// Sends one request and reads the answer, whatever its status.
    pub(in super::super) async fn post(&self, post: Post<'_>) -> Result<Answer, SendError> {
        let to = shown(post.url);
        let unsent = |problem: String| retry(format!("cannot send to {to}: {problem}"));
        let connections = self.connections.current().await.map_err(unsent)?;
        let headers = self.headers.current().await.map_err(unsent)?;
        let Ok(_permit) = self.in_flight.acquire().await else {
            return Err(retry("the destination was closed".to_owned()));
        };
        let mut request = connections
            .value
            .post(post.url.clone())
            .headers(headers.value.clone())
            .headers(post.headers.clone())
            .timeout(self.timeout)
            .body(post.body.clone());
        if let Some(encoding) = encoding(self.compression).filter(|_| post.compressed) {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let response = request.send().await.map_err(|error| {
            let text = format!("{to}: {}", self.trouble(error));
            retry(redact(&redact(&text, &headers.hidden), &connections.hidden))
        })?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            self.headers.forget().await;
        }
        let verdict = judge(status, response.headers());
        let location = response
            .headers()
            .get(reqwest::header::LOCATION)
            .and_then(|value| Url::parse(value.to_str().ok()?).ok())
            .map(|url| shown(&url));
        let (body, end) = match verdict {
            Verdict::Accepted if post.read > 0 => read(response, post.read).await,
            Verdict::Accepted => drain(response, 0).await,
            _ => drain(response, ANSWER).await,
        };
        let verdict = match is_about_tls(status, &body) {
            true => Verdict::Retry(None),
            false => verdict,
        };
        Ok(Answer {
            status,
            body,
            end,
            shown: to,
            verdict,
            location,
            secrets: (connections, headers),
        })
    }

    /// What an answer means by its status. `uncompressed` is the length of the request's body before
    /// compression.
    pub(in super::super) fn judge(
        &self,
        answer: &Answer,
        uncompressed: usize,
    ) -> Result<(), SendError> {
        let reason = || self.describe(answer);
        match answer.verdict {
            Verdict::Accepted => Ok(()),
            Verdict::Retry(after) => Err(SendError::Retry {
                after,
                reason: reason(),
            }),
            Verdict::TooLarge => {
                let smaller = (uncompressed / 2).max(SMALLEST_BODY);
                self.max_body.fetch_min(smaller, Ordering::Relaxed);
                Err(SendError::TooLarge { reason: reason() })
            }
            Verdict::Rejected => Err(SendError::Rejected { reason: reason() }),
        }
    }

    /// What the server answered and what to do about it.
    pub(in super::super) fn describe(&self, answer: &Answer) -> String {
        let mut reason = format!("{} answered {}", answer.shown, answer.status);
        let remedy = match is_about_tls(answer.status, &answer.body) {
            true => Some("it asks for TLS; correct `url` (https://) or `tls`"),
            false => remedy(answer.status),
        };
        if let Some(remedy) = remedy {
            reason.push_str(": ");
            reason.push_str(remedy);
        }
        if let Some(location) = &answer.location {
            reason.push_str(&format!(" (it points to {location})"));
        }
        let said = answer.quote(&String::from_utf8_lossy(&answer.body));
        if !said.is_empty() {
            reason.push_str(&format!(" (it said: {said})"));
        }
        answer.redact(&reason)
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

fn retry(reason: String) -> SendError {
    SendError::Retry {
        after: None,
        reason,
    }
}

fn encoding(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
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
        401 => "the credentials are missing or wrong; correct them or the file they come from",
        403 => "the credentials do not allow it; correct them or the server's permissions",
        404 | 405 | 410 => "nothing is taken at this path; correct `url`",
        406 => "it has no answer of the kind that is asked for; correct `headers`",
        407 => "a proxy asks for credentials",
        413 => "the body is too large for it; lower `maxBody`",
        415 => "it does not take this content type; correct `contentType` or `format`",
        429 => "it asks to send less",
        431 => "the headers are too large for it; shorten `headers`",
        _ => return None,
    })
}

/// An error with its causes.
pub(in super::super) fn chain(error: &dyn std::error::Error) -> String {
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

/// Reads an answer's body, of which at most `keep` bytes are kept, to its end or to a bound. Late or
/// broken, the status stands.
async fn drain(mut response: reqwest::Response, keep: usize) -> (Vec<u8>, End) {
    let mut start = Vec::new();
    let reading = async {
        let mut seen = 0;
        while seen < ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            seen += chunk.len();
            let wanted = keep.saturating_sub(start.len()).min(chunk.len());
            start.extend_from_slice(&chunk[..wanted]);
        }
    };
    let in_time = tokio::time::timeout(ANSWER_PATIENCE, reading).await.is_ok();
    (start, if in_time { End::Whole } else { End::Broken })
}

/// Reads an answer's body that counts, within the request's timeout.
async fn read(mut response: reqwest::Response, limit: usize) -> (Vec<u8>, End) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => return (body, End::TooLong),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return (body, End::Whole),
            Err(_) => return (body, End::Broken),
        }
    }
}
