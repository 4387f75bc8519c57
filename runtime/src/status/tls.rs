//! The endpoint's certificate: from a folder as a mounted Secret has it, read again when it changes, or
//! one of our own. Connections that are open keep what they began with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

/// The names that a Secret of the type `kubernetes.io/tls` has.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How often the files are looked at. The kubelet brings a changed Secret within a minute or two.
const LOOK: Duration = Duration::from_secs(2);
/// The most bytes of one file.
const MOST: u64 = 1 << 20;

/// What connections are accepted with.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// Whom to tell of changes; none for a certificate of our own.
    pub(super) folder: Option<Folder>,
}

/// A folder with a certificate and its key.
pub(super) struct Folder {
    path: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    /// The files as they were last tried, good or not.
    tried: Result<Files, String>,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What the next connection gets.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn replace(&self, key: CertifiedKey) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(key);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

impl Tls {
    /// With the certificate in a folder, which must be good at the start.
    pub(super) async fn from_folder(
        path: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let files = Files::read(path).await?;
        let key = files.parse(&provider)?;
        let (acceptor, current) = acceptor(key, &provider)?;
        let folder = Folder {
            path: path.to_owned(),
            provider,
            current,
            tried: Ok(files),
        };
        Ok(Self {
            acceptor,
            folder: Some(folder),
        })
    }

    /// With a certificate that nobody vouches for: what is said is secret, not to whom.
    pub(super) fn self_signed(provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed(["bulkhead".to_owned()]);
        let made = made.map_err(|error| format!("making a certificate: {error}"))?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
        let key = CertifiedKey::from_der(vec![made.cert.der().clone()], key, provider);
        let key = key.map_err(|error| error.to_string())?;
        let (acceptor, _) = acceptor(key, provider)?;
        Ok(Self {
            acceptor,
            folder: None,
        })
    }
}

fn acceptor(
    key: CertifiedKey,
    provider: &Arc<CryptoProvider>,
) -> Result<(TlsAcceptor, Arc<Current>), String> {
    let current = Arc::new(Current(RwLock::new(Arc::new(key))));
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = config
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), current))
}

impl Folder {
    /// Reads the files again when they change. Never ends.
    pub(super) async fn follow(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let found = Files::read(&self.path).await;
            if found == self.tried {
                continue;
            }
            let parsed = match &found {
                Ok(files) => files.parse(&self.provider),
                Err(reason) => Err(reason.clone()),
            };
            let path = self.path.display();
            match parsed {
                Ok(key) => {
                    self.current.replace(key);
                    tracing::info!(
                        "--status-tls {path}: new connections get the changed certificate"
                    );
                }
                Err(reason) => tracing::error!(
                    "--status-tls {path}: the changed certificate cannot be used, and the one before it stays: {reason}"
                ),
            }
            self.tried = found;
        }
    }
}

impl Files {
    /// Reads both of one state: a Secret's files change together, by a link that is renamed.
    async fn read(folder: &Path) -> Result<Self, String> {
        let certificate = read(&folder.join(CERTIFICATE)).await?;
        let key = read(&folder.join(KEY)).await?;
        let again = read(&folder.join(CERTIFICATE)).await?;
        if again == certificate {
            return Ok(Self { certificate, key });
        }
        let key = read(&folder.join(KEY)).await?;
        Ok(Self {
            certificate: again,
            key,
        })
    }

    fn parse(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let certificates = CertificateDer::pem_slice_iter(&self.certificate);
        let certificates: Result<Vec<_>, _> = certificates.collect();
        let certificates = certificates.map_err(|error| format!("{CERTIFICATE}: {error}"))?;
        if certificates.is_empty() {
            return Err(format!("{CERTIFICATE} holds no certificate in PEM"));
        }
        // What is wrong with a key is not shown.
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| format!("{KEY} holds no private key in PEM"))?;
        CertifiedKey::from_der(certificates, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("{KEY} is not the key of the certificate in {CERTIFICATE}")
            }
            other => format!("{CERTIFICATE}, {KEY}: {other}"),
        })
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("reading {}: {error}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let mut file = file.take(MOST);
    file.read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}
