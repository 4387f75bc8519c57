//! Connections: TLS and the proxy, made anew when what they need changes.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Certificate, Client, Identity, Proxy, Url};

use super::super::lookup::{Lookup, Named};
use super::super::secrets::{Resolved, Secrets, Template};
use super::super::tls_files::{self, TlsFile};
use super::client::chain;
use crate::manifest::Endpoint;

/// A connection that is not made by then will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a looked up secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Tls(TlsFile),
    Proxy,
}

#[derive(Debug, Clone)]
struct Settings {
    plain: bool,
    timeout: Duration,
    concurrency: usize,
    uses: Vec<Use>,
}

impl Settings {
    fn given<'a>(&self, wanted: Use, found: &'a [Resolved]) -> Option<&'a Resolved> {
        let index = self.uses.iter().position(|&purpose| purpose == wanted);
        index.and_then(|index| found.get(index))
    }
}

/// Prepares connections to `url`. An error names the field and the problem.
pub(super) fn lookup(
    endpoint: &Endpoint<'_>,
    url: &Url,
    secrets: &Arc<dyn Secrets>,
) -> Result<Lookup<Client>, (String, String)> {
    let texts = tls_files::named(endpoint.tls, secrets);
    let texts = texts.map_err(|problem| (endpoint.kind.to_owned(), problem))?;
    let texts = texts.into_iter();
    let (mut uses, mut named): (Vec<_>, Vec<_>) =
        texts.map(|(text, named)| (Use::Tls(text), named)).unzip();
    if let Some(proxy) = endpoint.proxy {
        let template = Template::parse(proxy, secrets)
            .map_err(|problem| (format!("{}.proxy", endpoint.kind), problem))?;
        uses.push(Use::Proxy);
        named.push(Named {
            name: "proxy".to_owned(),
            template,
        });
    }
    let settings = Settings {
        plain: url.scheme() == "http",
        timeout: endpoint.timeout.0,
        concurrency: endpoint.concurrency,
        uses,
    };
    // Fails if a provider was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let make = move |found: &[Resolved], hidden: &mut Vec<String>| {
        let proxy = settings.given(Use::Proxy, found);
        hidden.extend(proxy.into_iter().flat_map(|proxy| userinfo(&proxy.text)));
        connect(&settings, found)
    };
    Lookup::new(named, make).map_err(|problem| {
        let field = endpoint.kind.to_owned();
        (field, format!("cannot prepare connections: {problem}"))
    })
}

/// A proxy's password as its URL and as `Proxy-Authorization` hold it.
fn userinfo(proxy: &str) -> Vec<String> {
    let Ok(url) = Url::parse(proxy) else {
        return Vec::new();
    };
    let Some(password) = url.password() else {
        return Vec::new();
    };
    let (user, plain) = (decoded(&url, url.username()), decoded(&url, password));
    let basic = STANDARD.encode(format!("{user}:{plain}"));
    vec![basic, password.to_owned(), plain]
}

/// `text` without its percent-encoding.
fn decoded(url: &Url, text: &str) -> String {
    // As a query's value, in which only these two would mean something else.
    let value = text.replace('+', "%2B").replace('&', "%26");
    let mut url = url.clone();
    url.set_query(Some(&format!("v={value}")));
    let value = url.query_pairs().next();
    value.map_or_else(String::new, |(_, value)| value.into_owned())
}

fn connect(settings: &Settings, found: &[Resolved]) -> Result<Client, String> {
    let given = |wanted: Use| settings.given(wanted, found);
    let mut builder = Client::builder()
        .user_agent(concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
        .pool_max_idle_per_host(settings.concurrency)
        .pool_idle_timeout(Duration::from_secs(30));
    let proxy = given(Use::Proxy);
    if let Some(authorities) = given(Use::Tls(TlsFile::Authorities)) {
        let authorities = Certificate::from_pem_bundle(authorities.text.as_bytes())
            .map_err(|error| format!("tls.ca: {}", chain(&error)))?;
        if authorities.is_empty() {
            return Err("tls.ca: holds no certificate in PEM".to_owned());
        }
        builder = builder.tls_certs_only(authorities);
    } else if settings.plain && proxy.is_none() {
        // Reading the system's certificates costs megabytes that plain HTTP has no use for.
        builder = builder.tls_certs_only([]);
    }
    if let (Some(certificate), Some(key)) = (
        given(Use::Tls(TlsFile::Certificate)),
        given(Use::Tls(TlsFile::Key)),
    ) {
        let pem = format!("{}\n{}\n", certificate.text, key.text);
        let identity = Identity::from_pem(pem.as_bytes())
            .map_err(|error| format!("tls.cert, tls.key: {}", chain(&error)))?;
        builder = builder.identity(identity);
    }
    if let Some(proxy) = proxy {
        // What is wrong with it is not shown: it may hold a password.
        let proxy = Proxy::all(&proxy.text)
            .map_err(|_| "proxy: not an http:// or https:// URL with a host".to_owned())?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| chain(&error))
}
