//! Servers that the environment names instead of those of our own; see `tests/README.md`.

use std::env;
use std::fs;

use reqwest::{Certificate, Method, Url};
use tokio::runtime::{Builder, Runtime};

/// A server and how to get in.
#[derive(Debug, Clone, Default)]
pub struct Real {
    pub url: String,
    /// `user:password`.
    pub auth: Option<String>,
    /// A PEM file of authorities.
    pub ca: Option<String>,
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl Real {
    pub fn at(url: String) -> Self {
        Self {
            url,
            ..Self::default()
        }
    }

    /// What `BULKHEAD_TEST_NAME_URL`, `_AUTH` and `_CA_FILE` say, if the first does.
    pub fn of_environment(name: &str) -> Option<Self> {
        let url = variable(&format!("BULKHEAD_TEST_{name}_URL"))?;
        eprintln!("against the server at {url}");
        Some(Self {
            url: url.trim_end_matches('/').to_owned(),
            auth: variable(&format!("BULKHEAD_TEST_{name}_AUTH")),
            ca: variable(&format!("BULKHEAD_TEST_{name}_CA_FILE")),
        })
    }

    /// `url` and what else an endpoint takes in a manifest.
    pub fn fields(&self) -> String {
        let mut fields = format!("url: {:?}", self.url);
        if let Some((user, password)) = self.auth.as_ref().and_then(|auth| auth.split_once(':')) {
            fields += &format!(", basicAuth: {{user: {user:?}, password: {password:?}}}");
        }
        if let Some(ca) = &self.ca {
            fields += &format!(", tls: {{caFile: {ca:?}}}");
        }
        fields
    }
}

/// Whether a test that needs a server to misbehave is left out, because the environment names a
/// real one; says so.
pub fn left_out(kind: &str, name: &str) -> bool {
    let variable_name = format!("BULKHEAD_TEST_{name}_URL");
    let left_out = variable(&variable_name).is_some();
    if left_out {
        eprintln!(
            "{kind}: LEFT OUT: {variable_name} names a real server, which does not misbehave when told to"
        );
    }
    left_out
}

/// Asks a server's API.
pub struct Client {
    pub real: Real,
    client: reqwest::Client,
    runtime: Runtime,
}

impl Client {
    pub fn new(real: Real) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder().no_proxy();
        if let Some(ca) = &real.ca {
            let pem = fs::read(ca).unwrap();
            let authorities = Certificate::from_pem_bundle(&pem).unwrap();
            client = client.tls_certs_only(authorities);
        }
        Self {
            real,
            client: client.build().unwrap(),
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// The text of a successful answer. A body that begins with a brace is JSON, others are forms.
    pub fn call(&self, method: &str, path: &str, body: &str) -> String {
        let url: Url = format!("{}{path}", self.real.url).parse().unwrap();
        let kind = match body.starts_with('{') {
            true => "application/json",
            false => "application/x-www-form-urlencoded",
        };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url);
        if let Some((user, password)) = self.real.auth.as_ref().and_then(|it| it.split_once(':')) {
            request = request.basic_auth(user, Some(password));
        }
        if !body.is_empty() {
            request = request.header("content-type", kind).body(body.to_owned());
        }
        self.runtime.block_on(async {
            let answer = request.send().await;
            let answer = answer.unwrap_or_else(|error| panic!("{path}: {error:?}"));
            let code = answer.status();
            let text = answer.text().await.unwrap();
            assert!(code.is_success(), "{path}: {code}: {text}");
            text
        })
    }
}
