//! Checks of destinations that are reached over HTTP.

use std::path::Path;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::{Check, has_dots, quoted};
use crate::manifest::endpoint::{
    Compression, ElasticsearchDestination, Endpoint, HttpDestination, LokiDestination,
    SplunkHecDestination, Tls,
};
use crate::manifest::identity::is_dns_subdomain;
use crate::manifest::spec::Retry;

impl Check<'_> {
    pub(super) fn http(&self, field: &str, http: &HttpDestination) {
        self.endpoint(field, &http.endpoint());
        if http.gzip && http.compression != Compression::None {
            self.refuse(
                format!("{field}.gzip"),
                "stands beside `compression`, which says the same in another way",
                "keep `compression` and remove `gzip`",
            );
        }
        if let Some(content_type) = &http.content_type
            && HeaderValue::from_str(content_type).is_err()
        {
            self.refuse(
                format!("{field}.contentType"),
                "has characters that no header may have",
                "write for example application/x-ndjson",
            );
        }
    }

    pub(super) fn elasticsearch(&self, field: &str, to: &ElasticsearchDestination) {
        self.endpoint(field, &to.endpoint());
        self.no_zstd(field, &to.endpoint());
        match (&to.index, &to.data_stream) {
            (Some(_), Some(_)) => self.refuse(
                format!("{field}.dataStream"),
                "stands beside `index`",
                "keep the one that records shall go to",
            ),
            (None, None) => self.refuse(
                field,
                "does not say where records go",
                "add `index: logs-%Y.%m.%d` or `dataStream: logs-app-default`",
            ),
            _ => {}
        }
        if let Some(key) = &to.api_key {
            self.secret(&format!("{field}.apiKey"), key);
            self.only_credential(field, "apiKey", &to.endpoint());
        }
    }

    pub(super) fn splunk(&self, field: &str, to: &SplunkHecDestination) {
        self.endpoint(field, &to.endpoint());
        self.no_zstd(field, &to.endpoint());
        self.secret(&format!("{field}.token"), &to.token);
        self.only_credential(field, "token", &to.endpoint());
        if let Some(acknowledgement) = &to.acknowledgement {
            let field = format!("{field}.acknowledgement");
            self.not_zero(format!("{field}.timeout"), acknowledgement.timeout);
            self.not_zero(format!("{field}.interval"), acknowledgement.interval);
        }
    }

    pub(super) fn loki(&self, field: &str, to: &LokiDestination) {
        self.endpoint(field, &to.endpoint());
        self.no_zstd(field, &to.endpoint());
        let names = to.labels.len() + to.label_attributes.len();
        if to.labels.is_empty() {
            self.refuse(
                format!("{field}.labels"),
                "is empty, but a stream has at least one label",
                "add for example `labels: {job: bulkhead}`",
            );
        }
        if names > LokiDestination::MAX_LABELS {
            self.refuse(
                format!("{field}.labelAttributes"),
                format!("makes {names} labels"),
                format!(
                    "keep at most {}, and move others to `structuredMetadata`",
                    LokiDestination::MAX_LABELS
                ),
            );
        }
        for (i, name) in to.label_attributes.iter().enumerate() {
            if name.contains('*') {
                self.refuse(
                    format!("{field}.labelAttributes[{i}]"),
                    format!(
                        "{} would make as many streams as there are values",
                        quoted(name)
                    ),
                    "name single attributes, or put it into `structuredMetadata`",
                );
            }
        }
        for name in to.labels.keys() {
            let mut bytes = name.bytes();
            let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
            if !bytes.next().is_some_and(first)
                || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                self.refuse(
                    format!("{field}.labels.{name}"),
                    format!("{} is no label's name", quoted(name)),
                    "write letters, digits and underscores",
                );
            }
        }
        if let Some(tenant) = &to.tenant
            && HeaderValue::from_str(tenant).is_err()
        {
            self.refuse(
                format!("{field}.tenant"),
                "has characters that no header may have",
                "write the tenant's name as Loki knows it",
            );
        }
    }

    fn no_zstd(&self, field: &str, endpoint: &Endpoint<'_>) {
        if endpoint.compression == Compression::Zstd {
            self.refuse(
                format!("{field}.compression"),
                "is zstd, which this kind of server does not read",
                "write `compression: gzip`",
            );
        }
    }

    /// Refuses a credential beside a kind's own.
    fn only_credential(&self, field: &str, given: &str, endpoint: &Endpoint<'_>) {
        self.only_authorization(field, given, endpoint);
        if endpoint.basic_auth.is_some() {
            self.refuse(
                format!("{field}.{given}"),
                "stands beside `basicAuth`, but a request shows one credential",
                "keep one of them",
            );
        }
    }

    /// What all of them share.
    pub(super) fn endpoint(&self, field: &str, endpoint: &Endpoint<'_>) {
        self.url(&format!("{field}.url"), endpoint.url);
        self.not_zero(format!("{field}.timeout"), endpoint.timeout);
        self.not_zero_size(format!("{field}.maxBody"), endpoint.max_body);
        if !(1..=64).contains(&endpoint.concurrency) {
            self.refuse(
                format!("{field}.concurrency"),
                format!("{} is not between 1 and 64", endpoint.concurrency),
                "write for example 4",
            );
        }
        self.retry(field, endpoint.retry);
        for (name, value) in endpoint.headers {
            let at = format!("{field}.headers.{name}");
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                self.refuse(
                    &at,
                    format!("{} is no header's name", quoted(name)),
                    "write letters, digits and dashes",
                );
            }
            self.secret(&at, value);
        }
        if let Some(auth) = endpoint.basic_auth {
            self.secret(&format!("{field}.basicAuth.user"), &auth.user);
            self.secret(&format!("{field}.basicAuth.password"), &auth.password);
            self.only_authorization(field, "basicAuth", endpoint);
        }
        self.tls(&format!("{field}.tls"), endpoint.tls);
        if let Some(proxy) = endpoint.proxy {
            let at = format!("{field}.proxy");
            // With references it is known only once they are looked up.
            match proxy.contains("${") {
                true => self.secret(&at, proxy),
                false => self.url(&at, proxy),
            }
        }
    }

    pub(super) fn retry(&self, field: &str, retry: &Retry) {
        self.not_zero(format!("{field}.retry.initial"), retry.initial);
        if retry.max < retry.initial {
            self.refuse(
                format!("{field}.retry.max"),
                format!("{} is shorter than `initial`", retry.max),
                format!("write at least {}", retry.initial),
            );
        }
        if retry.attempts == Some(0) {
            self.refuse(
                format!("{field}.retry.attempts"),
                "is zero, so that nothing would ever be sent",
                "leave it out to try for ever, or write at least 1",
            );
        }
    }

    pub(super) fn tls(&self, field: &str, tls: &Tls) {
        for (name, path) in [
            ("caFile", &tls.ca_file),
            ("certFile", &tls.cert_file),
            ("keyFile", &tls.key_file),
        ] {
            let plain = |path: &Path| path.is_absolute() && !has_dots(path);
            if let Some(path) = path
                && !plain(path)
            {
                self.refuse(
                    format!("{field}.{name}"),
                    format!(
                        "{} is not an absolute path without `..`",
                        quoted(&path.to_string_lossy())
                    ),
                    "write for example /etc/bulkhead/ca.pem",
                );
            }
        }
        for (name, text, file, path) in [
            ("ca", &tls.ca, "caFile", &tls.ca_file),
            ("cert", &tls.cert, "certFile", &tls.cert_file),
            ("key", &tls.key, "keyFile", &tls.key_file),
        ] {
            let Some(text) = text else { continue };
            let field = format!("{field}.{name}");
            if path.is_some() {
                let problem = format!("stands beside `{file}`");
                self.refuse(field, problem, "keep one of them");
            } else if let Err(problem) = placeholder(text) {
                self.refuse(field, problem, "write `${secret:NAME/KEY}`");
            } else if name == "key" && !text.contains("${") {
                let problem = "is not a reference, and a manifest is no place for a key";
                self.refuse(field, problem, "write `${secret:NAME/KEY}`");
            }
        }
        let cert = tls.cert.is_some() || tls.cert_file.is_some();
        let key = tls.key.is_some() || tls.key_file.is_some();
        let (missing, given) = match (cert, key) {
            (true, false) if tls.cert.is_some() => ("key", "cert"),
            (true, false) => ("keyFile", "certFile"),
            (false, true) if tls.key.is_some() => ("cert", "key"),
            (false, true) => ("certFile", "keyFile"),
            _ => return,
        };
        self.refuse(
            format!("{field}.{given}"),
            format!("stands without `{missing}`"),
            format!("add `{missing}:`; a certificate is of use only with its key"),
        );
    }

    /// A header's value, or what becomes a part of one. It may be a secret: it is never shown.
    fn secret(&self, at: &str, value: &str) {
        if HeaderValue::from_str(value).is_err() {
            self.refuse(
                at,
                "has a value that no header may have",
                "remove line ends and control characters",
            );
        }
        placeholder(value).unwrap_or_else(|problem| {
            let remedy = "write `${env:NAME}`, `${file:/path}`, `${secret:NAME/KEY}`, `${node:name}` or `${node:label/KEY}`";
            self.refuse(at, problem, remedy);
        });
    }

    /// Refuses a second way of saying who the daemon is.
    fn only_authorization(&self, field: &str, given: &str, endpoint: &Endpoint<'_>) {
        let is_authorization = |name: &String| name.eq_ignore_ascii_case(AUTHORIZATION.as_str());
        if endpoint.headers.keys().any(is_authorization) {
            self.refuse(
                format!("{field}.{given}"),
                "stands beside the header `Authorization`, of which a request has one",
                "keep one of them",
            );
        }
    }

    fn url(&self, field: &str, text: &str) {
        match reqwest::Url::parse(text) {
            // A URL may hold a secret in its query: only what is wrong is shown.
            Err(error) => self.refuse(
                field,
                format!("is no URL, {error}"),
                "write for example https://logs.example.org/ingest",
            ),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => self.refuse(
                field,
                format!("has the scheme {}", quoted(url.scheme())),
                "write http:// or https://",
            ),
            Ok(url) if url.host_str().is_none_or(str::is_empty) => self.refuse(
                field,
                "names no host",
                "write for example https://logs.example.org/ingest",
            ),
            Ok(url) if !url.username().is_empty() || url.password().is_some() => self.refuse(
                field,
                "has credentials in it, which the status would show",
                "use `headers: {Authorization: \"${env:NAME}\"}`",
            ),
            Ok(_) => {}
        }
    }
}

/// Whether it is `NAME/KEY` as the API server takes them.
fn is_secret(reference: &str) -> bool {
    let key = |key: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !key.is_empty() && key.chars().all(plain)
    };
    let parts = reference.split_once('/');
    parts.is_some_and(|(name, of)| is_dns_subdomain(name) && key(of))
}

/// Whether every `${` begins a placeholder that is known.
fn placeholder(value: &str) -> Result<(), &'static str> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once("${") {
        let (inside, next) = after.split_once('}').ok_or("has a `${` without its `}`")?;
        match inside.split_once(':') {
            Some(("env", name)) if !name.is_empty() => {}
            Some(("file", path)) if path.starts_with('/') => {}
            Some(("secret", reference)) if is_secret(reference) => {}
            Some(("node", "name")) => {}
            Some(("node", label)) if label.len() > 6 && label.starts_with("label/") => {}
            _ => return Err("has a placeholder that is not known"),
        }
        rest = next;
    }
    Ok(())
}
