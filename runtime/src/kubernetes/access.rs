//! How the API server is reached: as the pod's ServiceAccount, or by a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// What the kubelet sets in every pod.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";
/// A server that says nothing for so long is gone: a watch is ended by the server before.
const SILENCE: Duration = Duration::from_secs(310);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the API server is, and as whom it is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// In a pod, as its ServiceAccount. The token is read anew, since the kubelet rotates it.
    ServiceAccount,
    /// As a kubeconfig says.
    Kubeconfig(PathBuf),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ServiceAccount's files.
    #[error("the pod's ServiceAccount cannot be used: {0}; is automountServiceAccountToken false?")]
    ServiceAccount(#[from] kube::config::InClusterError),
    /// The kubeconfig.
    #[error("the kubeconfig {path} cannot be used: {source}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// Certificates or keys.
    #[error("no connection to the API server can be set up: {0}")]
    Client(#[from] kube::Error),
}

impl Access {
    /// By `kubeconfig` if there is one, else as the pod's ServiceAccount; none outside of a cluster.
    pub fn find(kubeconfig: Option<&Path>) -> Option<Self> {
        match kubeconfig {
            Some(path) => Some(Self::Kubeconfig(path.to_owned())),
            None => std::env::var_os(IN_CLUSTER).map(|_| Self::ServiceAccount),
        }
    }

    /// A client. Connects to nothing yet.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let mut config = match self {
            Self::ServiceAccount => Config::incluster()?,
            Self::Kubeconfig(path) => {
                let failed = |source| Error::Kubeconfig {
                    path: path.clone(),
                    source,
                };
                let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                config.map_err(failed)?
            }
        };
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        Ok(Client::try_from(config)?)
    }
}
