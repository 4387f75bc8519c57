//! The daemon's side.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Ask, Order, RecordOrder, Refusal, Request, ScanOrder, recording, scanning, socket,
};
use crate::plugin::Status;
use crate::role::enforcement::{EnforcementReport, EnforcementStatus, Revert};
use crate::role::scanning::ScanningStatus;
use crate::role::scanning::findings::Findings;

/// Who finds the plugin that an order is for.
pub trait Controls: Send + Sync + 'static {
    /// The plugins with the role `enforcement` of this name, `NAMESPACE/NAME` or `NAME`, by their
    /// full names.
    fn enforcement(&self, name: &str) -> Vec<(String, EnforcementStatus)>;

    /// The plugins that scan or have findings, by their full names: those of this name, or all.
    fn scanning(&self, name: Option<&str>) -> Vec<(String, ScanningStatus)>;

    /// The plugins of this name, by their full names; `None` if this daemon lets nobody record.
    fn recordable(&self, name: &str) -> Option<Vec<(String, Status)>>;

    /// What was found, if any plugin scans or did.
    fn findings(&self) -> Option<Findings>;
}

/// The socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot listen: {source}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Listens in the state folder, which belongs to this daemon alone by its lock. Answers until `shutdown`.
///
/// # Errors
/// If the socket cannot be made.
pub fn listen(
    state: &Path,
    controls: Arc<dyn Controls>,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
    let path = socket(state);
    let failed = |source| Error {
        path: path.clone(),
        source,
    };
    match std::fs::remove_file(&path) {
        // Left by a daemon that was killed.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let router = Router::new()
        .route(Request::PATH, post(enforcement))
        .route(ScanOrder::PATH, post(scanning::answer))
        .route(RecordOrder::PATH, post(recording::answer))
        .with_state(controls);
    Ok(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::error!("{}: {error}", path.display());
            },
            // An order may take longer than the end of the daemon.
            () = shutdown.cancelled() => {}
        }
        let _ = std::fs::remove_file(&path);
    })
}

async fn enforcement(
    State(controls): State<Arc<dyn Controls>>,
    Json(request): Json<Request>,
) -> Response {
    let name = request.plugin;
    let found = controls.enforcement(&name);
    let (plugin, status) = match only(found, &name, "enforcement") {
        Ok(found) => found,
        Err((code, message)) => return refuse(code, message),
    };
    let answered = match request.order {
        Order::Check {} => status.check().await.map(reported),
        Order::Resume {} => status.resume().await.map(reported),
        Order::Revert { change, force } => {
            tracing::warn!(plugin, ?change, force, "an operator puts changes back");
            let reverted = status.revert(Revert { change, force }).await;
            reverted.map(|reverted| Answer {
                failed: reverted.iter().filter(|it| !it.done).count() as u64,
                lines: reverted.into_iter().map(|it| it.line).collect(),
                ..Answer::default()
            })
        }
        Order::History { limit, before } => {
            let limit = limit as usize;
            let read = tokio::task::spawn_blocking(move || status.history(before, limit)).await;
            read.map_err(|error| error.to_string())
                .map(|history| Answer {
                    history: serde_json::to_value(history).unwrap_or_default(),
                    ..Answer::default()
                })
        }
    };
    match answered {
        Ok(answer) => Json(Answer { plugin, ..answer }).into_response(),
        Err(message) => refuse(StatusCode::UNPROCESSABLE_ENTITY, message),
    }
}

/// The one that is meant by a name.
pub(super) fn only<T>(
    mut found: Vec<T>,
    name: &str,
    role: &str,
) -> Result<T, (StatusCode, String)> {
    match (found.pop(), found.is_empty()) {
        (Some(found), true) => Ok(found),
        (None, _) => Err((
            StatusCode::NOT_FOUND,
            format!(
                "there is no plugin {name:?} with the role {role} on this node; `bulkhead status` lists them"
            ),
        )),
        (Some(_), false) => Err((
            StatusCode::CONFLICT,
            format!("more than one plugin has the name {name:?}; say NAMESPACE/{name}"),
        )),
    }
}

fn reported(report: EnforcementReport) -> Answer {
    Answer {
        report: serde_json::to_value(report).unwrap_or_default(),
        ..Answer::default()
    }
}

pub(super) fn refuse(code: StatusCode, message: String) -> Response {
    (code, Json(Refusal { message })).into_response()
}
