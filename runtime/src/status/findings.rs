//! What plugins found on the node.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as QueryString, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::refusal::failure;
use super::server::Shared;
use crate::role::scanning::findings::{Asked, FindingList};

/// Name, JSON type and description of each parameter, for the description of the API.
pub(super) const PARAMETERS: &[(&str, &str, &str)] = &[
    ("namespace", "string", "Of plugins of this namespace."),
    ("name", "string", "Of plugins of this name."),
    (
        "rule",
        "string",
        "Of rules by id; `*` and `?` stand for parts of it.",
    ),
    (
        "severity",
        "string",
        "At least so severe: info, low, medium, high or critical.",
    ),
    (
        "state",
        "string",
        "One or more of open, suppressed and resolved, with commas between; open,suppressed unless given.",
    ),
    ("subject", "string", "Whose path or name begins so."),
    (
        "since",
        "string",
        "Whose state changed then or later (RFC 3339).",
    ),
    (
        "limit",
        "integer",
        "At most so many; 100 unless given, 1000 at most.",
    ),
    ("cursor", "string", "The `next` of the page before."),
];

pub(super) async fn list(
    State(reporter): State<Shared>,
    asked: Result<QueryString<Asked>, QueryRejection>,
) -> Response {
    let asked = asked.map_err(|rejection| rejection.body_text());
    let query = match asked.and_then(|QueryString(asked)| asked.read()) {
        Ok(query) => query,
        Err(problem) => return failure(StatusCode::BAD_REQUEST, "BadRequest", &problem),
    };
    let list = match reporter.findings() {
        Some(findings) => findings.query(query).await.map(FindingList::from),
        None => Ok(FindingList::default()),
    };
    match list {
        Ok(list) => Json(list).into_response(),
        Err(error) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            &error.to_string(),
        ),
    }
}
