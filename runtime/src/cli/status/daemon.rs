//! One running daemon: where it listens, as whom it is asked, and one question.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::super::{Failed, UNREACHABLE};

/// How a daemon is reached.
#[derive(Args)]
pub(super) struct Daemon {
    /// Where the daemon's status endpoint listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9720")]
    status: SocketAddr,
    /// A file with a token of the cluster, for a daemon with --status-auth kubernetes.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Ask by TLS, and trust the certificates of these authorities (PEM).
    #[arg(long, value_name = "FILE", conflicts_with = "insecure_skip_tls_verify")]
    ca: Option<PathBuf>,
    /// Ask by TLS, and trust whoever answers, also with the token.
    #[arg(long)]
    insecure_skip_tls_verify: bool,
}

impl Daemon {
    pub(super) fn url(&self) -> String {
        let tls = self.ca.is_some() || self.insecure_skip_tls_verify;
        let scheme = if tls { "https" } else { "http" };
        format!("{scheme}://{}", self.status)
    }

    /// What it answers to a GET.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failed> {
        let unreachable = |error: reqwest::Error| Failed {
            message: format!(
                "no daemon answers at {}: {}; start one with `bulkhead run`, or name its address with --status{}",
                self.url(),
                innermost(&error),
                self.hint()
            ),
            code: UNREACHABLE,
        };
        let client = self.client()?.build().map_err(unreachable)?;
        let mut request = client.get(self.url() + path);
        if let Some(token) = self.token()? {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let code = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| self.stranger(&error))?;
        if !code.is_success() && answer["kind"] == "Status" {
            let message = answer["message"].as_str().unwrap_or_default();
            let remedy = match code.as_u16() {
                401 if self.token_file.is_none() => "; --token-file takes a token",
                _ => "",
            };
            let url = self.url();
            return Err(Failed::new(format!(
                "{url} refuses ({code}): {message}{remedy}"
            )));
        }
        Ok(answer)
    }

    fn client(&self) -> Result<reqwest::ClientBuilder, Failed> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .no_proxy();
        let Some(path) = &self.ca else {
            return Ok(client.tls_danger_accept_invalid_certs(self.insecure_skip_tls_verify));
        };
        let failed = |error: &dyn std::fmt::Display| {
            Failed::new(format!("--ca {}: {error}", path.display()))
        };
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&text);
        let authorities = authorities.map_err(|error| failed(&error))?;
        if authorities.is_empty() {
            return Err(failed(&"it holds no certificate in PEM"));
        }
        Ok(client.tls_certs_only(authorities))
    }

    fn token(&self) -> Result<Option<String>, Failed> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        if self.url().starts_with("http:") && !self.status.ip().is_loopback() {
            return Err(Failed::new(
                "--token-file: a token is not sent in the clear; give --ca too",
            ));
        }
        let failed = |error: &dyn std::fmt::Display| {
            Failed::new(format!("--token-file {}: {error}", path.display()))
        };
        let token = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let token = token.trim();
        // What is wrong with it is not shown.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(failed(&"it holds no token"));
        }
        Ok(Some(token.to_owned()))
    }

    /// What is likely, where an error does not tell it.
    fn hint(&self) -> &'static str {
        if self.url().starts_with("https:") {
            ""
        } else {
            "; if it has TLS, say --ca"
        }
    }

    pub(super) fn stranger(&self, why: &dyn std::fmt::Display) -> Failed {
        Failed::new(format!(
            "what answers at {} is not a bulkhead daemon: {why}; name the daemon's address with --status",
            self.url()
        ))
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
