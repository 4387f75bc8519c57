#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::role::logs::delivery::State;
use crate::role::logs::destination::testing::{Fake, dead_letters, outlet, status};
use crate::role::logs::testing::{FIRST, context, numbered, parcel, payload, until};

fn messages(values: &[Value]) -> Vec<String> {
    let message = |value: &Value| value["message"].as_str().unwrap().to_owned();
    values.iter().map(message).collect()
}

#[tokio::test]
async fn bodies_are_compressed_as_the_manifest_says() {
    for (fields, encoding) in [
        (json!({}), ""),
        (json!({"gzip": true}), "gzip"),
        (json!({"compression": "gzip"}), "gzip"),
        (json!({"compression": "zstd"}), "zstd"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (context, ledger) = context(folder.path(), 1);
        let server = Fake::start(|_| status(204)).await;
        let outlet = outlet("http", &server.url, fields, &context);
        outlet
            .send(parcel(0, &numbered(0, 0, 100), FIRST))
            .await
            .unwrap();
        outlet.send(payload(0, b"own bytes", 2)).await.unwrap();
        ledger.wait_for(2).await;
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(messages(&seen[0].values()), numbered(0, 0, 100));
        assert_eq!(seen[1].text(), "own bytes");
        for seen in seen {
            assert_eq!(seen.header("content-encoding"), encoding);
        }
    }
}

#[tokio::test]
async fn requests_go_through_the_proxy_that_the_manifest_names() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let password = folder.path().join("password");
    std::fs::write(&password, "pa55word\n").unwrap();
    let proxy = Fake::start(|_| status(204)).await;
    let address = proxy.url.strip_prefix("http://").unwrap();
    let fields = json!({
        "proxy": format!("http://me:${{file:{}}}@{address}", password.display()),
        "basicAuth": {"user": "u", "password": "p"},
    });
    let outlet = outlet("http", "http://logs.invalid/in", fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 1), FIRST))
        .await
        .unwrap();
    ledger.wait_for(1).await;
    let seen = &proxy.seen()[0];
    assert_eq!(seen.path, "http://logs.invalid/in");
    assert_eq!(seen.header("proxy-authorization"), "Basic bWU6cGE1NXdvcmQ=");
    assert_eq!(seen.header("authorization"), "Basic dTpw");
}

#[tokio::test]
async fn what_a_server_repeats_of_a_secret_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let mut answers = vec![
        status(204),
        (
            axum::http::StatusCode::BAD_REQUEST,
            // The header as it was sent, too.
            "who is pa55word, Basic dTpwYTU1d29yZA==",
        )
            .into_response(),
        (axum::http::StatusCode::UNAUTHORIZED, "no pa55word").into_response(),
    ];
    let server = Fake::start(move |_| answers.pop().unwrap()).await;
    let fields = json!({"basicAuth": {"user": "u", "password": "pa55word"}});
    let outlet = outlet("http", &server.url, fields, &context);
    let lines = numbered(0, 0, 2);
    outlet.send(parcel(0, &lines[..1], FIRST)).await.unwrap();
    outlet.send(parcel(0, &lines[1..], FIRST)).await.unwrap();
    let settled = ledger.wait_for(2).await;
    assert_eq!(settled[0].dead_lettered, [0]);
    let letters = dead_letters(&context);
    assert_eq!(letters[0].0, "0:0");
    assert!(
        letters[0].1.contains("who is ***, Basic ***)"),
        "{letters:?}"
    );
    assert_eq!(server.seen().len(), 3);
    let status = serde_json::to_string(&outlet.status()).unwrap();
    assert!(!status.contains("pa55word"), "{status}");
}

#[tokio::test]
async fn what_a_proxy_repeats_of_a_secret_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let said = "no p%40ss, p@ss, Basic bWU6cEBzcw==";
    let proxy =
        Fake::start(move |_| (axum::http::StatusCode::BAD_REQUEST, said).into_response()).await;
    let address = proxy.url.strip_prefix("http://").unwrap();
    let fields = json!({"proxy": format!("http://me:p%40ss@{address}")});
    let outlet = outlet("http", "http://logs.invalid/in", fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 1), FIRST))
        .await
        .unwrap();
    ledger.wait_for(1).await;
    let seen = &proxy.seen()[0];
    assert_eq!(seen.header("proxy-authorization"), "Basic bWU6cEBzcw==");
    let letters = dead_letters(&context);
    assert!(
        letters[0].1.contains("no ***, ***, Basic ***)"),
        "{letters:?}"
    );
}

#[tokio::test]
async fn missing_files_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| status(204)).await;
    let authority = folder.path().join("ca.pem");
    let fields = json!({"tls": {"caFile": authority}});
    let outlet = outlet("http", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 1), FIRST))
        .await
        .unwrap();
    until("in trouble", || outlet.status().state == State::Retrying).await;
    let error = outlet.status().last_error.unwrap();
    assert!(error.contains("tls.caFile: cannot read"), "{error}");
    std::fs::write(&authority, "nonsense").unwrap();
    let named = || outlet.status().last_error.unwrap();
    until("read", || named().contains("holds no certificate")).await;
    assert!(!outlet.drain(Duration::from_millis(5)).await);
    assert_eq!(ledger.calls(), []);
    assert_eq!(server.seen().len(), 0);
}

/// An authority, and what it has certified.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate for 127.0.0.1, and its key.
    fn certify(&self) -> (rcgen::Certificate, rcgen::KeyPair) {
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Of a server that asks its clients for a certificate of the same authority.
    fn server(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let (certificate, key) = self.certify();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }

    /// Writes what a client needs, as Kubernetes replaces files.
    fn write_client(&self, folder: &Path) {
        let (certificate, key) = self.certify();
        for (name, text) in [
            ("ca.pem", self.0.pem()),
            ("client.pem", certificate.pem()),
            ("client.key", key.serialize_pem()),
        ] {
            let new = folder.join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, folder.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn certificates_are_shown_checked_and_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let (first, second) = (Authority::new(), Authority::new());
    first.write_client(folder.path());
    let config = Arc::new(Mutex::new(first.server()));
    let current = Arc::clone(&config);
    let config_now = move || Arc::clone(&current.lock().unwrap());
    // Without keeping connections, so that each request shows what is trusted now.
    let server = Fake::start_tls(config_now, |_| {
        (
            [("connection", "close")],
            axum::http::StatusCode::NO_CONTENT,
        )
            .into_response()
    })
    .await;
    let fields = json!({"tls": {
        "caFile": folder.path().join("ca.pem"),
        "certFile": folder.path().join("client.pem"),
        // By reference it is the same.
        "key": format!("${{file:{}}}", folder.path().join("client.key").display()),
    }});
    let outlet = outlet("http", &server.url, fields, &context);
    let lines = numbered(0, 0, 2);
    outlet.send(parcel(0, &lines[..1], FIRST)).await.unwrap();
    ledger.wait_for(1).await;

    *config.lock().unwrap() = second.server();
    outlet.send(parcel(0, &lines[1..], FIRST)).await.unwrap();
    until("not trusted", || outlet.status().state == State::Retrying).await;
    let error = outlet.status().last_error.unwrap();
    assert!(error.contains("check address, DNS and TLS"), "{error}");
    assert_eq!(server.seen().len(), 1);

    second.write_client(folder.path());
    ledger.wait_for(2).await;
    assert_eq!(server.seen().len(), 2);
    assert_eq!(dead_letters(&context), []);
}
