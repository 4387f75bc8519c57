//! The flags of the status endpoint.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::AUDIENCE;
use crate::status;

/// Where the endpoint listens, and who may read.
#[derive(Args)]
pub(super) struct Endpoint {
    /// Where the status endpoint listens; beyond loopback with TLS, for those whom the cluster lets.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9720")]
    status: SocketAddr,
    /// Who may read the status; `none` on loopback without a cluster, and `kubernetes` elsewhere, unless
    /// given.
    #[arg(long, value_name = "WHO")]
    status_auth: Option<StatusAuth>,
    /// A folder with the endpoint's certificate, tls.crt, and its key, tls.key; read again when they
    /// change.
    #[arg(long, value_name = "DIR")]
    status_tls: Option<PathBuf>,
    /// The audience that tokens must be for.
    #[arg(long, value_name = "NAME", default_value = AUDIENCE)]
    status_audience: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatusAuth {
    /// Owners of a token who have the verb get on the path, by TokenReview and SubjectAccessReview.
    Kubernetes,
    /// Everybody on this machine.
    None,
}

impl Endpoint {
    /// `cluster` says whether the daemon is part of one.
    pub(super) fn options(self, cluster: bool) -> status::Options {
        let open = self.status.ip().to_canonical().is_loopback() && !cluster;
        let auth = match self.status_auth {
            Some(StatusAuth::None) => status::Auth::None,
            None if open => status::Auth::None,
            Some(StatusAuth::Kubernetes) | None => status::Auth::Kubernetes,
        };
        status::Options {
            address: self.status,
            auth,
            tls: self.status_tls,
            audience: self.status_audience,
        }
    }
}
