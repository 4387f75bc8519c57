//! Modules that travel in ConfigMaps of their own: who can get them, and how often it is tried.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::fetch::MAX_MODULE;

/// Nodes that see a manifest change at once shall not all ask at once.
const SPREAD: Duration = Duration::from_secs(2);
/// How long until a part is asked for again: doubled each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why a part could not be had. Another try may succeed: it may not have been applied yet, or the
/// server may be away.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PartError(pub String);

/// Who gets ConfigMaps.
pub trait Parts: Send + Sync {
    /// The bytes of the one key in the `binaryData` of a ConfigMap.
    fn get<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, PartError>>;
}

/// Gets all parts in their order, however long it takes. `failed` is told why it does not go on.
///
/// # Errors
/// If they are larger together than any module may be.
pub async fn gather(
    parts: &dyn Parts,
    namespace: &str,
    names: &[String],
    failed: impl Fn(&PartError),
) -> Result<Vec<u8>, PartError> {
    tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await;
    let mut bytes = Vec::new();
    for name in names {
        let mut wait = FIRST_WAIT;
        let part = loop {
            match parts.get(namespace, name).await {
                Ok(part) => break part,
                Err(error) => failed(&error),
            }
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        };
        if (bytes.len() + part.len()) as u64 > MAX_MODULE {
            let most = MAX_MODULE >> 20;
            return Err(PartError(format!(
                "module.configMapParts.names: the parts are larger than {most} MiB"
            )));
        }
        bytes.extend(part);
    }
    Ok(bytes)
}
