//! A server that does as the test says, and an outlet that sends to it.

#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::super::delivery::{Context, Outlet};

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    /// Without its compression.
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body's lines, or JSON values one after the other.
    pub(super) fn values(&self) -> Vec<Value> {
        serde_json::Deserializer::from_slice(&self.body)
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }
}

type Answer = dyn FnMut(&Seen) -> Response + Send;

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Mutex<Box<Answer>>>,
}

/// Ends with its value.
pub(super) struct Fake {
    pub(super) url: String,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(super) async fn start(answer: impl FnMut(&Seen) -> Response + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::on(listener, url, Box::new(answer))
    }

    /// The same by TLS, for each connection as `config` says then.
    pub(super) async fn start_tls(
        config: impl Fn() -> Arc<rustls::ServerConfig> + Send + 'static,
        answer: impl FnMut(&Seen) -> Response + Send + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        Self::on(Tls { listener, config }, url, Box::new(answer))
    }

    fn on<L>(listener: L, url: String, answer: Box<Answer>) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let shared = Shared {
            seen: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        };
        let app = axum::Router::new()
            .fallback(serve)
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, shared, task }
    }

    /// Every request, in the order of arrival.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

struct Tls<F> {
    listener: tokio::net::TcpListener,
    config: F,
}

impl<F> axum::serve::Listener for Tls<F>
where
    F: Fn() -> Arc<rustls::ServerConfig> + Send + 'static,
{
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from((self.config)());
            // A client that does not trust us, or that we do not trust.
            if let Ok(stream) = acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn serve(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let encoding = parts.headers.get("content-encoding");
    let body = match encoding.map(|name| name.to_str().unwrap()) {
        Some("gzip") => {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&body[..]);
            decoder.read_to_end(&mut plain).unwrap();
            plain
        }
        Some("zstd") => zstd::stream::decode_all(&body[..]).unwrap(),
        _ => body.to_vec(),
    };
    // A proxy sees the whole URL.
    let seen = Seen {
        path: match parts.uri.authority() {
            Some(_) => parts.uri.to_string(),
            None => parts.uri.path().to_owned(),
        },
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
    };
    let answer = (shared.answer.lock().unwrap())(&seen);
    shared.seen.lock().unwrap().push(seen);
    answer
}

/// An answer of JSON.
pub(super) fn json(status: u16, value: &Value) -> Response {
    (
        StatusCode::from_u16(status).unwrap(),
        [("content-type", "application/json")],
        value.to_string(),
    )
        .into_response()
}

/// An answer without a body.
pub(super) fn status(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap().into_response()
}

/// Destination 0 of this kind with these fields beside `url`, trying again fast.
pub(super) fn outlet(kind: &str, url: &str, fields: Value, context: &Context) -> Outlet {
    let mut fields = fields;
    let object = fields.as_object_mut().unwrap();
    object.insert("url".to_owned(), url.into());
    object
        .entry("retry")
        .or_insert_with(|| serde_json::json!({"initial": "1ms", "max": "5ms"}));
    let manifest = serde_json::json!({"name": "out", kind: fields});
    let manifest = serde_json::from_value(manifest).unwrap();
    Outlet::start(0, &manifest, context).unwrap()
}

/// The entries of the dead letters: the record's message, and the reason.
pub(super) fn dead_letters(context: &Context) -> Vec<(String, String)> {
    std::fs::read_to_string(context.dead_letters.as_ref().unwrap().path())
        .unwrap_or_default()
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&entry["record"]["message"]), text(&entry["reason"]))
        })
        .collect()
}
