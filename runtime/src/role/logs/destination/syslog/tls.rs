//! TLS: who is trusted, who the daemon is, and what went wrong in words.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::TlsConnector;

use super::super::http::client::chain;
use super::super::lookup::Lookup;
use super::super::secrets::{Resolved, Secrets};
use super::super::tls_files::{self, TlsFile};
use crate::manifest::SyslogTls;

/// Prepares connections, anew when what they need changes.
pub(super) fn lookup(
    tls: &SyslogTls,
    secrets: &Arc<dyn Secrets>,
) -> Result<Lookup<TlsConnector>, String> {
    let texts = tls_files::named(&tls.files(), secrets)?;
    let (uses, named): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
    Lookup::new(named, move |found, _| connector(&uses, found))
}

fn connector(uses: &[TlsFile], found: &[Resolved]) -> Result<TlsConnector, String> {
    let given = |wanted: TlsFile| {
        let index = uses.iter().position(|&purpose| purpose == wanted)?;
        found.get(index).map(|file| file.text.as_bytes())
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| chain(&error))?;
    let builder = match given(TlsFile::Authorities) {
        Some(text) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("tls.ca", text)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("tls.ca: {}", chain(&error)))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder
            .with_platform_verifier()
            .map_err(|error| format!("the system's authorities: {}", chain(&error)))?,
    };
    let config = match (given(TlsFile::Certificate), given(TlsFile::Key)) {
        (Some(certificate), Some(key)) => {
            let chain_of = certificates("tls.cert", certificate)?;
            // What is wrong with a key is not shown.
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| "tls.key: holds no private key in PEM".to_owned())?;
            builder
                .with_client_auth_cert(chain_of, key)
                .map_err(|error| format!("tls.cert, tls.key: {}", chain(&error)))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(name: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("{name}: holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// What went wrong with TLS to a server of this name, and what to do.
pub(super) fn explain(error: &io::Error, name: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(inner) = inner else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => format!(
                "it closed the connection instead of TLS ({error}); check that it speaks TLS on this \
                 port, and with us"
            ),
            _ => format!("TLS failed: {error}"),
        };
    };
    let remedy = match inner {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "name the authority that signed its certificate in `tls.ca` or `tls.caFile`".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "its certificate is not for {name}; correct `address`, or set `tls.serverName` to a name \
             that it is for"
        ),
        rustls::Error::InvalidCertificate(_) => "renew its certificate".to_owned(),
        rustls::Error::AlertReceived(_) => {
            "it refuses us; check `tls.cert` and what it asks of clients".to_owned()
        }
        rustls::Error::InvalidMessage(_) => {
            "check that it speaks TLS on this port, or remove `tls`".to_owned()
        }
        _ => "check `tls`, and what it asks of clients".to_owned(),
    };
    format!("TLS failed: {}; {remedy}", chain(inner))
}
