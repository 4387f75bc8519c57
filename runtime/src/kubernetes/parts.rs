//! Modules in ConfigMaps of their own, by `get`: they have no label, so no watch brings them to nodes
//! that have the module already.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::Access;
use super::watch::said;
use crate::module::{PartError, Parts};

/// See the module.
#[derive(Debug, Clone)]
pub struct ConfigMapParts(pub Access);

impl Parts for ConfigMapParts {
    fn get<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, PartError>> {
        async move {
            let failed = |problem: String| {
                PartError(format!(
                    "module.configMapParts.names: ConfigMap {namespace}/{name}: {problem}"
                ))
            };
            let client = self.0.client().await;
            let client = client.map_err(|error| failed(error.to_string()))?;
            let api: Api<ConfigMap> = Api::namespaced(client, namespace);
            let found = api.get(name).await;
            let rights = "the verb get on configmaps there";
            let found = found.map_err(|error| failed(said(&error, rights)))?;
            let mut parts = found.binary_data.unwrap_or_default().into_iter();
            match (parts.next(), parts.next()) {
                (Some((_, part)), None) => Ok(part.0),
                (None, _) => Err(failed("has no binaryData".to_owned())),
                (Some(_), Some(_)) => Err(failed(
                    "has several keys in binaryData; a part is the only one".to_owned(),
                )),
            }
        }
        .boxed()
    }
}
