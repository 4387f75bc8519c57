//! The HTTP server: where it listens, what stands in front of it, and its paths.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::auth::{self, Guard};
use super::refusal::failure;
use super::report::{JournalReport, PluginList, Reporter};
use super::tls::Tls;
use super::{changes, connections, findings, metrics, openapi, page, scrape};
use crate::kubernetes::{Access, ApiReviewer};

/// Where and for whom to listen.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address; port 0 takes any.
    pub address: SocketAddr,
    /// Who may read.
    pub auth: Auth,
    /// The folder of a certificate, `tls.crt`, and its key, `tls.key`.
    pub tls: Option<PathBuf>,
    /// Whom tokens must be for.
    pub audience: String,
}

/// Who may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Whom the cluster lets.
    Kubernetes,
    /// Everybody on this machine.
    None,
}

/// Why the endpoint does not listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others could read it.
    #[error(
        "--status {0}: with --status-auth none the endpoint is for loopback only, since whoever reaches it may read; use 127.0.0.1:PORT, or --status-auth kubernetes"
    )]
    Open(SocketAddr),
    /// Nobody tells who may read.
    #[error(
        "--status {0}: the cluster shall tell who may read, and none is known; give --kubeconfig, or run as a pod with a ServiceAccount; without a cluster the endpoint is for loopback only: --status 127.0.0.1:PORT --status-auth none"
    )]
    NoCluster(SocketAddr),
    /// The certificate cannot be used.
    #[error(
        "--status-tls {path}: {reason}; it takes a folder with tls.crt and tls.key in PEM, as a mounted Secret of the type kubernetes.io/tls has them", path = path.display()
    )]
    Certificate {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something that does not fail.
    #[error("--status {address}: TLS cannot be set up: {reason}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        reason: String,
    },
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
    guard: Option<Arc<Guard>>,
    tls: Option<Tls>,
}

pub(super) type Shared = Arc<dyn Reporter>;

impl Server {
    /// Listens. Beyond loopback there is always TLS, and the cluster at `access` tells who may read.
    ///
    /// # Errors
    /// If others could read what is not for them, or the address cannot be listened on.
    pub async fn bind(options: &Options, access: Option<&Access>) -> Result<Self, Error> {
        let address = options.address;
        let loopback = address.ip().to_canonical().is_loopback();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let broken = |reason: String| Error::Tls { address, reason };
        let guard = match options.auth {
            Auth::None if loopback => None,
            Auth::None => return Err(Error::Open(address)),
            Auth::Kubernetes => {
                let access = access.ok_or(Error::NoCluster(address))?.clone();
                let reviewer = ApiReviewer::new(access, options.audience.clone());
                let guard = Guard::new(Box::new(reviewer), &provider);
                let guard = guard.ok_or_else(|| broken("no random numbers".to_owned()))?;
                Some(Arc::new(guard))
            }
        };
        let tls = match &options.tls {
            Some(path) => {
                let tls = Tls::from_folder(path, provider).await;
                let path = path.clone();
                Some(tls.map_err(|reason| Error::Certificate { path, reason })?)
            }
            None if loopback => None,
            None => {
                tracing::info!(
                    "the status endpoint has made a certificate of its own, which no client can verify; --status-tls takes one"
                );
                Some(Tls::self_signed(&provider).map_err(broken)?)
            }
        };
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            guard,
            tls,
        })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.address)
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, reporter: Shared, shutdown: CancellationToken) {
        let ready = match self.guard {
            None => get(ready),
            // Anybody may ask, and the reason names plugins.
            Some(_) => get(ready_without_reason),
        };
        let router = Router::new()
            .route("/", get(page::index))
            .route("/page.css", get(page::style))
            .route("/page.js", get(page::script))
            .route("/openapi.json", get(openapi::serve))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", ready)
            .route("/metrics", get(metrics_page))
            .route("/metrics/plugins", get(scrape::all))
            .route("/metrics/plugins/{namespace}/{name}", get(scrape::one))
            .route("/v1/findings", get(findings::list))
            .route("/v1/node", get(node))
            .route("/v1/plugins", get(plugins))
            .route("/v1/plugins/{namespace}/{name}", get(plugin))
            .route("/v1/plugins/{namespace}/{name}/logs", get(logs))
            .route(
                "/v1/plugins/{namespace}/{name}/changes",
                get(changes::history),
            )
            .route("/v1/plugins/{namespace}/{name}/rules", get(changes::rules))
            .fallback(|| async {
                failure(StatusCode::NOT_FOUND, "NotFound", "no such path; see /")
            })
            .method_not_allowed_fallback(|| async {
                failure(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "MethodNotAllowed",
                    "this endpoint only answers GET",
                )
            });
        let router = match self.guard {
            // A page of another site cannot make a browser send a token, so the name does not matter.
            Some(guard) => router.layer(from_fn_with_state(guard, auth::require)),
            None => router.layer(from_fn(only_by_address)),
        };
        let router = router.layer(map_response(page::guard)).with_state(reporter);
        let (acceptor, folder) = match self.tls {
            Some(tls) => (Some(tls.acceptor), tls.folder),
            None => (None, None),
        };
        let _follows = folder.map(|folder| AbortOnDropHandle::new(tokio::spawn(folder.follow())));
        connections::serve(self.listener, acceptor, router, shutdown).await;
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

async fn ready_without_reason(State(reporter): State<Shared>) -> Response {
    match reporter.node().not_ready {
        None => "ready\n".into_response(),
        Some(_) => {
            let text = "not ready; /v1/node says why\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn metrics_page(State(reporter): State<Shared>) -> Response {
    let mut page = metrics::page(&reporter.node(), &reporter.plugins());
    if let Some(findings) = reporter.findings() {
        metrics::scanning::write(&mut page, &findings.tallies());
    }
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

pub(super) fn no_plugin(namespace: &str, name: &str) -> Response {
    failure(
        StatusCode::NOT_FOUND,
        "NotFound",
        &format!("there is no plugin {namespace}/{name}; /v1/plugins lists them"),
    )
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
