//! What is said instead of an answer.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// Why a request was not answered, in the form of the Kubernetes API's `Status`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Status")]
pub(super) struct Refusal {
    /// `Status`.
    pub kind: &'static str,
    /// `v1`.
    pub api_version: &'static str,
    /// `Failure`.
    pub status: &'static str,
    /// One word for programs, in CamelCase.
    pub reason: &'static str,
    /// For people: what happened and what to do.
    pub message: String,
    /// The HTTP status code.
    pub code: u16,
}

/// An error in the form of the Kubernetes API's `Status`.
pub(super) fn failure(code: StatusCode, reason: &'static str, message: &str) -> Response {
    let body = Refusal {
        kind: "Status",
        api_version: "v1",
        status: "Failure",
        reason,
        message: message.to_owned(),
        code: code.as_u16(),
    };
    (code, Json(body)).into_response()
}
