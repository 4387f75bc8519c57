//! The HTTP server. Plain HTTP is for loopback only; authenticated TLS comes with the cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::report::{JournalReport, PluginList, Refusal, Reporter};
use super::{metrics, openapi, page};

/// Why the endpoint does not listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others could reach it.
    #[error(
        "--status {0}: the status endpoint has no authentication yet and listens on loopback only; use 127.0.0.1:PORT"
    )]
    NotLoopback(SocketAddr),
    /// The address is taken or not ours.
    #[error(
        "--status {address}: cannot listen: {source}; is another daemon running? Choose another port with --status"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A listening endpoint.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

type Shared = Arc<dyn Reporter>;

impl Server {
    /// Listens on `address`; port 0 takes any.
    ///
    /// # Errors
    /// If the address is not loopback or cannot be listened on.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback(address));
        }
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, reporter: Shared, shutdown: CancellationToken) {
        let router = Router::new()
            .route("/", get(page::index))
            .route("/page.css", get(page::style))
            .route("/page.js", get(page::script))
            .route("/openapi.json", get(openapi::serve))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics_page))
            .route("/v1/node", get(node))
            .route("/v1/plugins", get(plugins))
            .route("/v1/plugins/{namespace}/{name}", get(plugin))
            .route("/v1/plugins/{namespace}/{name}/logs", get(logs))
            .fallback(|| async {
                failure(StatusCode::NOT_FOUND, "NotFound", "no such path; see /")
            })
            .method_not_allowed_fallback(|| async {
                failure(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "MethodNotAllowed",
                    "this endpoint only answers GET",
                )
            })
            .layer(axum::middleware::map_response(page::guard))
            .layer(axum::middleware::from_fn(only_by_address))
            .with_state(reporter);
        let ended = shutdown.clone();
        let serving = axum::serve(self.listener, router)
            .with_graceful_shutdown(async move { ended.cancelled().await });
        // A connection that is kept open must not hold up the end.
        tokio::select! {
            result = serving => if let Err(error) = result {
                tracing::error!("the status endpoint ended: {error}");
            },
            () = async {
                shutdown.cancelled().await;
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            } => {}
        }
    }
}

/// Refuses requests to a host name. A page of another site can have its own name resolve to this
/// machine and read the answers (DNS rebinding); it cannot make a browser send an address.
async fn only_by_address(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let by_address = host.is_none_or(|host| host.to_str().is_ok_and(names_address));
    if by_address {
        return next.run(request).await;
    }
    failure(
        StatusCode::MISDIRECTED_REQUEST,
        "MisdirectedRequest",
        "ask this endpoint by its address or as localhost, not by another name",
    )
}

/// Whether a `Host` header holds an IP address or `localhost`, with or without a port.
fn names_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // An IPv6 address with a port has brackets around it.
        Some((name, _)) if !name.contains(':') || name.ends_with(']') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

async fn ready(State(reporter): State<Shared>) -> Response {
    match reporter.node().not_ready {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

async fn metrics_page(State(reporter): State<Shared>) -> Response {
    let page = metrics::page(&reporter.node(), &reporter.plugins());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}

async fn node(State(reporter): State<Shared>) -> Response {
    Json(reporter.node()).into_response()
}

async fn plugins(State(reporter): State<Shared>) -> Response {
    let items = reporter.plugins();
    Json(PluginList { items }).into_response()
}

async fn plugin(
    State(reporter): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    match reporter.plugin(&namespace, &name) {
        Some(report) => Json(report).into_response(),
        None => no_plugin(&namespace, &name),
    }
}

async fn logs(
    State(reporter): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    match reporter.journal(&namespace, &name) {
        Some((items, dropped)) => Json(JournalReport { items, dropped }).into_response(),
        None => no_plugin(&namespace, &name),
    }
}

fn no_plugin(namespace: &str, name: &str) -> Response {
    failure(
        StatusCode::NOT_FOUND,
        "NotFound",
        &format!("there is no plugin {namespace}/{name}; /v1/plugins lists them"),
    )
}

/// An error in the form of the Kubernetes API's `Status`.
fn failure(code: StatusCode, reason: &'static str, message: &str) -> Response {
    let body = Refusal {
        kind: "Status",
        api_version: "v1",
        status: "Failure",
        reason,
        message: message.to_owned(),
        code: code.as_u16(),
    };
    (code, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_no_names() {
        for host in [
            "127.0.0.1:9720",
            "127.0.0.1",
            "[::1]:9720",
            "::1",
            "localhost:9720",
            "LOCALHOST",
        ] {
            assert!(names_address(host), "{host}");
        }
        for host in [
            "evil.example:9720",
            "evil.example",
            "",
            "localhost.evil.example:80",
        ] {
            assert!(!names_address(host), "{host}");
        }
    }
}
