//! What a plugin with the role `enforcement` has changed, and what it found of its rules.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusal::failure;
use super::server::{Shared, no_plugin};
use crate::role::enforcement::RuleReport;

/// Changes in one answer: unless asked for, and at most.
const LIMIT: usize = 100;
const MOST: usize = 1000;

/// Which changes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    before: Option<u64>,
}

/// The rules of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RuleList {
    /// In the plugin's order.
    pub items: Vec<RuleReport>,
}

pub(super) async fn history(
    State(reporter): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Response {
    let Some(status) = reporter.enforcement(&namespace, &name) else {
        return no_plugin(&namespace, &name);
    };
    let limit = page.limit.unwrap_or(LIMIT).clamp(1, MOST);
    let read = tokio::task::spawn_blocking(move || status.history(page.before, limit)).await;
    match read {
        Ok(history) => Json(history).into_response(),
        Err(error) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            &error.to_string(),
        ),
    }
}

pub(super) async fn rules(
    State(reporter): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    match reporter.enforcement(&namespace, &name) {
        Some(status) => Json(RuleList {
            items: status.rules(),
        })
        .into_response(),
        None => no_plugin(&namespace, &name),
    }
}
