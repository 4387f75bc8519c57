//! One daemon, asked by HTTPS through a port-forward to its pod.
//!
//! Whose certificate the daemon shows is not verified: it may be one that the daemon has made itself.
//! The way to it is the API server's, which is verified, and then the kubelet's. Whoever can stand
//! between those two (an API server verifies kubelets only with `--kubelet-certificate-authority`)
//! gets a token that reads the status for ten minutes, and nothing else: no other audience takes it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use futures_util::FutureExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{Daemon, Token, explain};

/// How long one daemon may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the kubelet's word may come after the end of the stream that it explains.
const AFTER: Duration = Duration::from_millis(500);
/// The longest answer that is read.
const MOST: usize = 16 << 20;

/// Its plugins, or why it does not tell them.
pub(super) async fn ask(
    pods: &Api<Pod>,
    daemon: &Daemon,
    token: &Token,
) -> Result<Vec<Value>, String> {
    if daemon.phase != "Running" {
        return Err(format!("its pod {} is {}", daemon.pod, daemon.phase));
    }
    let asked = tokio::time::timeout(PATIENCE, through(pods, daemon, token)).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

/// A port-forward that ends with its value.
struct Forward(Portforwarder);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn through(pods: &Api<Pod>, daemon: &Daemon, token: &Token) -> Result<Vec<Value>, String> {
    let port = daemon.port;
    let forward = pods.portforward(&daemon.pod, &[port]).await;
    let forward = forward.map_err(|error| format!("no port-forward: {}", explain(&error)))?;
    let mut forward = Forward(forward);
    let (Some(stream), Some(word)) = (forward.0.take_stream(port), forward.0.take_error(port))
    else {
        return Err("no port-forward".to_owned());
    };
    let word = word.shared();
    let told = |word: String| format!("no port-forward to port {port}: {}", word.trim());
    let answer = tokio::select! {
        answer = exchange(stream, token) => answer,
        Some(said) = word.clone() => return Err(told(said)),
    };
    if answer.is_err() {
        let said = match tokio::time::timeout(AFTER, word).await {
            Ok(None) => why_it_ends(pods, daemon).await,
            said => said.ok().flatten(),
        };
        if let Some(said) = said {
            return Err(told(said));
        }
    }
    answer
}

/// What a port-forward says when nothing is written to it. A write that finds it at its end is an error in
/// the client, which then drops the word that came with the end.
async fn why_it_ends(pods: &Api<Pod>, daemon: &Daemon) -> Option<String> {
    let forward = pods.portforward(&daemon.pod, &[daemon.port]).await;
    let mut forward = Forward(forward.ok()?);
    let word = forward.0.take_error(daemon.port)?;
    tokio::time::timeout(AFTER, word).await.ok()?
}

/// One request over a stream to the daemon.
async fn exchange<S>(stream: S, token: &Token) -> Result<Vec<Value>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let name = ServerName::try_from("bulkhead").map_err(|error| error.to_string())?;
    let stream = connector()?.connect(name, stream).await.map_err(|error| {
        format!(
            "no TLS: {error}; it listens on the pod's loopback, too, with --status 0.0.0.0:PORT"
        )
    })?;
    let broken = |error: hyper::Error| format!("no answer: {error}");
    let connection = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(broken)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let bearer = HeaderValue::try_from(format!("Bearer {}", token.0));
    let mut bearer = bearer.map_err(|_| "the API server's token is no token".to_owned())?;
    bearer.set_sensitive(true);
    let request = Request::get("/v1/plugins")
        .header(header::HOST, "bulkhead")
        .header(header::AUTHORIZATION, bearer)
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let code = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), MOST).await;
    let body = body.map_err(|error| format!("no answer: {error}"))?;
    read(code, &body)
}

fn read(code: StatusCode, body: &[u8]) -> Result<Vec<Value>, String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body {
        Value::Object(mut body) if code == StatusCode::OK => match body.remove("items") {
            Some(Value::Array(plugins)) => Ok(plugins),
            _ => Err("its answer has no list of plugins; is it a bulkhead daemon?".to_owned()),
        },
        body => {
            let message = body["message"].as_str();
            let message = message.unwrap_or("is it a bulkhead daemon?");
            Err(format!("refused ({code}): {message}"))
        }
    }
}

fn connector() -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any certificate whose key the other side has; see the module.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
