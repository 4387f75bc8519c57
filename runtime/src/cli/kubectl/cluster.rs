//! What the API server tells: where the daemons are, and the token to ask them with.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::super::{Failed, UNREACHABLE};
use super::Place;
use crate::kubernetes::watch::chain;

/// Which pods are daemons.
const LABEL: &str = "app.kubernetes.io/name=bulkhead";
/// As whom the daemons are asked.
const VIEWER: &str = "bulkhead-viewer";
/// How long the token lives: the shortest that the API server grants.
const LIFE: i64 = 600;
/// Pods of one page of the list.
const PAGE: u32 = 500;
/// The container port of the status endpoint.
const PORT_NAME: &str = "status";
const PORT: u16 = 9720;
/// How long one answer of the API server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster, as its user sees it.
pub(super) struct Cluster<'a> {
    place: &'a Place,
    client: Client,
    pods: Api<Pod>,
}

/// A daemon's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Daemon {
    pub(super) node: String,
    pub(super) pod: String,
    pub(super) port: u16,
    /// `Running`, unless something is wrong.
    pub(super) phase: String,
}

/// What the daemons are asked with. It is shown nowhere.
pub(super) struct Token(pub(super) String);

impl<'a> Cluster<'a> {
    pub(super) async fn new(place: &'a Place) -> Result<Self, Failed> {
        let options = KubeConfigOptions {
            context: place.context.clone(),
            ..KubeConfigOptions::default()
        };
        let failed = |error: &dyn std::fmt::Display| {
            Failed::new(format!(
                "the kubeconfig cannot be used: {error}; name another with --kubeconfig or KUBECONFIG"
            ))
        };
        let config = match &place.kubeconfig {
            None => Config::from_kubeconfig(&options).await,
            Some(path) => match Kubeconfig::read_from(path) {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                Err(error) => Err(error),
            },
        };
        let mut config = config.map_err(|error| failed(&error))?;
        config.connect_timeout = Some(PATIENCE);
        let client = Client::try_from(config).map_err(|error| failed(&error))?;
        Ok(Self {
            place,
            pods: Api::namespaced(client.clone(), &place.namespace),
            client,
        })
    }

    pub(super) fn pods(&self) -> &Api<Pod> {
        &self.pods
    }

    /// The daemons, by node.
    pub(super) async fn daemons(&self) -> Result<Vec<Daemon>, Failed> {
        let mut params = ListParams::default().labels(LABEL).limit(PAGE);
        let mut daemons = Vec::new();
        loop {
            let page = answer("list the daemons' pods", self.pods.list(&params)).await?;
            daemons.extend(page.items.into_iter().map(Daemon::of));
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => break,
            }
        }
        if daemons.is_empty() {
            return Err(Failed::new(format!(
                "no pod in the namespace {} has the label {LABEL}; name the daemons' namespace with --namespace",
                self.place.namespace
            )));
        }
        daemons.sort_by(|one, other| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
        Ok(daemons)
    }

    /// A token of the viewer, for the daemons only.
    pub(super) async fn token(&self) -> Result<Token, Failed> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![self.place.audience.clone()],
                expiration_seconds: Some(LIFE),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.client.clone(), &self.place.namespace);
        let params = PostParams::default();
        let granted = accounts.create_token_request(VIEWER, &params, &request);
        let what = format!("get a token of the ServiceAccount {VIEWER}");
        let granted = answer(&what, granted).await?;
        let token = granted.status.map(|status| status.token);
        let token = token.filter(|token| !token.is_empty());
        token
            .map(Token)
            .ok_or_else(|| Failed::new(format!("cannot {what}: the API server's answer has none")))
    }
}

impl Daemon {
    fn of(pod: Pod) -> Self {
        let spec = pod.spec.unwrap_or_default();
        let mut ports = spec
            .containers
            .iter()
            .flat_map(|one| one.ports.iter().flatten());
        let port = ports.find(|port| port.name.as_deref() == Some(PORT_NAME));
        let port = port.and_then(|port| u16::try_from(port.container_port).ok());
        let phase = pod.status.and_then(|status| status.phase);
        Self {
            node: spec.node_name.unwrap_or_else(|| "-".to_owned()),
            pod: pod.metadata.name.unwrap_or_default(),
            port: port.unwrap_or(PORT),
            phase: phase.unwrap_or_else(|| "Unknown".to_owned()),
        }
    }
}

/// Waits for the API server, and says what it refuses.
async fn answer<T>(
    what: &str,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failed> {
    let Ok(answer) = tokio::time::timeout(PATIENCE, asked).await else {
        let seconds = PATIENCE.as_secs();
        return Err(Failed {
            message: format!("cannot {what}: the API server did not answer within {seconds} s"),
            code: UNREACHABLE,
        });
    };
    answer.map_err(|error| {
        let code = match error {
            kube::Error::Api(_) => 1,
            _ => UNREACHABLE,
        };
        Failed {
            message: format!("cannot {what}: {}", explain(&error)),
            code,
        }
    })
}

/// What went wrong, and what to do.
pub(super) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{} (403); the Role bulkhead-status of deploy/kustomize/base/rbac.yaml allows it, once it is bound to you",
            status.message
        ),
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
}
