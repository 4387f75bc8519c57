//! What can be asked of plugins with the role `scanning`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Ask;
use super::server::{Controls, only, refuse};
use crate::role::scanning::feed::PassKind;
use crate::role::scanning::findings::{Asked, FindingList};

const ROLE: &str = "scanning";

/// What is sent to plugins with the role `scanning`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ScanOrder {
    /// Tell how it goes: of one, or of all.
    Status {
        /// `NAMESPACE/NAME`, or the name alone if there is one of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plugin: Option<String>,
    },
    /// Begin a pass as soon as none is under way.
    Scan {
        /// See there.
        plugin: String,
        /// Over all files, also those that have not changed.
        full: bool,
    },
    /// Tell a page of what was found: by one, or by all.
    Findings {
        /// See there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plugin: Option<String>,
        /// Which.
        asked: Box<Asked>,
    },
}

impl Ask for ScanOrder {
    const PATH: &'static str = "/v1/scanning";
    type Answer = ScanAnswer;
}

/// An answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScanAnswer {
    /// How it goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Scanned>,
    /// The number that the pass will have that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<u64>,
    /// What was found, and where the next page begins, as the status endpoint has it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub findings: Value,
}

/// One plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scanned {
    /// `NAMESPACE/NAME`.
    pub plugin: String,
    /// The role's report, as the status endpoint has it.
    pub scanning: Value,
}

pub(super) async fn answer(
    State(controls): State<Arc<dyn Controls>>,
    Json(order): Json<ScanOrder>,
) -> Response {
    let answered = match order {
        ScanOrder::Status { plugin } => status(&*controls, plugin.as_deref()),
        ScanOrder::Scan { plugin, full } => scan(&*controls, &plugin, full),
        ScanOrder::Findings { plugin, asked } => findings(&*controls, plugin, *asked).await,
    };
    match answered {
        Ok(answer) => Json(answer).into_response(),
        Err((code, message)) => refuse(code, message),
    }
}

type Answered = Result<ScanAnswer, (StatusCode, String)>;

fn stands_still(plugin: &str) -> (StatusCode, String) {
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("{plugin} does not scan now; `bulkhead status {plugin}` says why"),
    )
}

fn status(controls: &dyn Controls, name: Option<&str>) -> Answered {
    let mut found = controls.scanning(name);
    if let Some(name) = name {
        let (plugin, status) = only(found, name, ROLE)?;
        if status.report().is_none() {
            return Err(stands_still(&plugin));
        }
        found = vec![(plugin, status)];
    }
    let plugins = found.into_iter().filter_map(|(plugin, status)| {
        let scanning = serde_json::to_value(status.report()?).unwrap_or_default();
        Some(Scanned { plugin, scanning })
    });
    Ok(ScanAnswer {
        plugins: plugins.collect(),
        ..ScanAnswer::default()
    })
}

fn scan(controls: &dyn Controls, name: &str, full: bool) -> Answered {
    let (plugin, status) = only(controls.scanning(Some(name)), name, ROLE)?;
    let Some(report) = status.report() else {
        return Err(stands_still(&plugin));
    };
    let kind = match full {
        true => PassKind::Full,
        false => PassKind::Changed,
    };
    let Some(pass) = status.request(kind) else {
        let why = report.problem.unwrap_or_else(|| {
            "it is granted none (grants.scan.files), wants none, or has only just started"
                .to_owned()
        });
        return Err((
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{plugin} is shown no files: {why}"),
        ));
    };
    tracing::info!(plugin, full, pass, "an operator asks for a pass");
    Ok(ScanAnswer {
        pass: Some(pass),
        ..ScanAnswer::default()
    })
}

async fn findings(controls: &dyn Controls, name: Option<String>, mut asked: Asked) -> Answered {
    if let Some(name) = name {
        let (plugin, _) = only(controls.scanning(Some(&name)), &name, ROLE)?;
        let (namespace, name) = plugin.split_once('/').unwrap_or_default();
        asked.namespace = Some(namespace.to_owned());
        asked.name = Some(name.to_owned());
    }
    let query = asked
        .read()
        .map_err(|problem| (StatusCode::BAD_REQUEST, problem))?;
    let list = match controls.findings() {
        Some(findings) => findings.query(query).await.map(FindingList::from),
        None => Ok(FindingList::default()),
    };
    let list = list.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(ScanAnswer {
        findings: serde_json::to_value(list).unwrap_or_default(),
        ..ScanAnswer::default()
    })
}
