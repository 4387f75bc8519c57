//! Recording what a plugin is called with and answers, while it works.
//!
//! A recording holds what the plugin is shown: log lines, files, settings, with whatever secrets are in them.
//! Nothing is left out, because the same calls could not be made again then. So it takes the node's administrator
//! twice: the daemon must run with `--allow-recording`, and the order comes over the socket that is root's. The
//! daemon's log says who is recorded and for how long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::server::{Controls, refuse};
use crate::plugin::Status;
use crate::sandbox::{Calls, Tap, Told};

/// Calls that may wait for whoever records. More are lost, and counted.
const QUEUE: usize = 256;
/// As good as for ever, and no overflow.
const LONGEST: u64 = 100 * 365 * 24 * 3600;
/// The form of a recording.
const VERSION: u32 = 1;

/// What is sent to record a plugin. The answer is a line of JSON for each [`Recorded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordOrder {
    /// `NAMESPACE/NAME`, or the name alone if there is one of it.
    pub plugin: String,
    /// For how long.
    pub seconds: u64,
    /// At most so many bytes.
    pub bytes: u64,
}

impl RecordOrder {
    pub(super) const PATH: &'static str = "/v1/recording";
}

/// A line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Recorded {
    /// The first.
    Recording(Head),
    /// Each call, as it ends.
    Call(Box<Told>),
    /// The last; without it the recording was cut off.
    End(End),
}

/// What is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The form of the recording.
    pub version: u32,
    /// `NAMESPACE/NAME`.
    pub plugin: String,
    /// SHA-256 of the component.
    pub module: String,
    /// When it began (UTC).
    pub started: String,
    /// What whoever reads it should know.
    pub note: String,
}

/// How it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Why it is over.
    pub reason: String,
    /// Calls in it.
    pub calls: u64,
    /// Calls that are missing, because they came faster than they were taken; none if nobody knows.
    pub lost: Option<u64>,
}

const NOTE: &str =
    "holds what the plugin was shown, unredacted: handle it like the logs and files of the node";

pub(super) async fn answer(
    State(controls): State<Arc<dyn Controls>>,
    Json(order): Json<RecordOrder>,
) -> Response {
    let Some(mut found) = controls.recordable(&order.plugin) else {
        return refuse(
            StatusCode::FORBIDDEN,
            "this daemon lets nobody record: a recording holds log lines and files of the node as the plugin is shown them. Start it with --allow-recording to permit it".to_owned(),
        );
    };
    let name = &order.plugin;
    let (plugin, status) = match (found.pop(), found.is_empty()) {
        (Some(found), true) => found,
        (None, _) => {
            let message =
                format!("there is no plugin {name:?} on this node; `bulkhead status` lists them");
            return refuse(StatusCode::NOT_FOUND, message);
        }
        (Some(_), false) => {
            let message =
                format!("more than one plugin has the name {name:?}; say NAMESPACE/{name}");
            return refuse(StatusCode::CONFLICT, message);
        }
    };
    let Some(calls) = status.tap.listen(QUEUE) else {
        let message = format!("{plugin} is being recorded already");
        return refuse(StatusCode::CONFLICT, message);
    };
    tracing::warn!(
        plugin,
        seconds = order.seconds,
        "an operator records what the plugin is shown"
    );
    // So that the recording begins with the begin of an instance, and its calls can be made again.
    status.renew();
    let recording = Recording::new(&order, plugin, &status, calls);
    let lines = stream::unfold(recording, |mut recording| async {
        let line = recording.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(line)), recording))
    });
    Body::from_stream(lines).into_response()
}

/// Nobody listens any more: an instance whose random numbers are not written down anywhere takes over.
struct Renews(Status);

impl Drop for Renews {
    fn drop(&mut self) {
        self.0.renew();
    }
}

/// One under way.
struct Recording {
    head: Option<Head>,
    tap: Tap,
    calls: Calls,
    /// Dropped after the calls.
    _after: Renews,
    /// The instance that it began with.
    begun: bool,
    until: Instant,
    room: u64,
    count: u64,
    over: bool,
}

impl Recording {
    fn new(order: &RecordOrder, plugin: String, status: &Status, calls: Calls) -> Self {
        let active = status.snapshot().active;
        let head = Head {
            version: VERSION,
            plugin,
            module: active.map_or(String::new(), |active| active.digest.to_string()),
            started: Timestamp::now().to_string(),
            note: NOTE.to_owned(),
        };
        Self {
            head: Some(head),
            tap: status.tap.clone(),
            calls,
            _after: Renews(status.clone()),
            begun: false,
            until: Instant::now() + Duration::from_secs(order.seconds.min(LONGEST)),
            room: order.bytes,
            count: 0,
            over: false,
        }
    }

    async fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(line(&Recorded::Recording(head)));
        }
        if self.over {
            return None;
        }
        let reason = loop {
            let told = match tokio::time::timeout_at(self.until, self.calls.recv()).await {
                Ok(Some(told)) => told,
                Ok(None) => break "the plugin is gone",
                Err(_) => break "the time is over",
            };
            // Calls of an instance whose begin was not heard say nothing.
            self.begun |= told.call == "instantiate";
            if !self.begun {
                continue;
            }
            let line = line(&Recorded::Call(Box::new(told)));
            let Some(room) = self.room.checked_sub(line.len() as u64) else {
                break "it is as long as it may become";
            };
            self.room = room;
            self.count += 1;
            return Some(line);
        };
        self.over = true;
        Some(line(&Recorded::End(End {
            reason: reason.to_owned(),
            calls: self.count,
            lost: Some(self.tap.lost()),
        })))
    }
}

fn line(recorded: &Recorded) -> String {
    serde_json::to_string(recorded).unwrap_or_default() + "\n"
}
