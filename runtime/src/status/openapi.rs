//! The API's description in OpenAPI 3.1. The schemas are made from the types that the endpoint
//! answers with, so they cannot fall behind; `tests/page.rs` holds the paths against a daemon.
//! <https://spec.openapis.org/oas/v3.1.1.html>

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::auth::PROBES;
use super::changes::RuleList;
use super::findings::PARAMETERS;
use super::refusal::Refusal;
use super::report::{JournalReport, NodeReport, PluginList, PluginReport};
use crate::role::enforcement::History;
use crate::role::metrics::Format;
use crate::role::scanning::findings::FindingList;

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// Answers with the description.
pub(super) async fn serve() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, DOCUMENT.to_string()).into_response()
}

/// The paths, for a person without a browser.
pub(super) fn index() -> String {
    let paths = DOCUMENT["paths"].as_object().into_iter().flatten();
    paths.fold(
        "bulkhead status endpoint\n\n".to_owned(),
        |text, (path, item)| {
            let summary = item["get"]["summary"].as_str().unwrap_or("");
            text + &format!("{path:<36} {summary}\n")
        },
    )
}

fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let node = json_of::<NodeReport>(&mut schemas, "The daemon.");
    let plugins = json_of::<PluginList>(&mut schemas, "The plugins.");
    let plugin = json_of::<PluginReport>(&mut schemas, "The plugin.");
    let journal = json_of::<JournalReport>(&mut schemas, "The plugin's journal.");
    let changes = json_of::<History>(&mut schemas, "Changes, latest first.");
    let rules = json_of::<RuleList>(&mut schemas, "The rules.");
    let findings = json_of::<FindingList>(&mut schemas, "The findings.");
    let mut refusal = |description: &str| json_of::<Refusal>(&mut schemas, description);
    let missing = refusal("There is no such plugin.");
    let bad = refusal("A filter makes no sense.");
    let refusals = [
        (
            "401",
            refusal("No token, or one that the cluster does not know."),
        ),
        ("403", refusal("The token's owner may not get this path.")),
        ("503", refusal("The cluster does not tell who may.")),
    ];
    let text = |kind: &str, description: &str| json!({"description": description, "content": {kind: {"schema": {"type": "string"}}}});
    let plain = "text/plain; charset=utf-8";
    let mut index = text(
        plain,
        "The page if `text/html` is accepted, else this list.",
    );
    index["content"]["text/html; charset=utf-8"] = json!({"schema": {"type": "string"}});
    let mut scraped = text(
        "text/plain; version=0.0.4; charset=utf-8",
        "By what is accepted: the text format 0.0.4, OpenMetrics 1.0 or the protobuf format.",
    );
    for format in [Format::OpenMetrics, Format::Protobuf] {
        scraped["content"][format.content_type()] = json!({"schema": {"type": "string"}});
    }
    let paths = [
        get("/", "the page for people, or this list", [("200", index)]),
        get(
            "/openapi.json",
            "this API's description",
            [(
                "200",
                json!({
                    "description": "An OpenAPI 3.1 document.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                }),
            )],
        ),
        get(
            "/healthz",
            "whether the daemon answers",
            [("200", text(plain, "It does."))],
        ),
        get(
            "/readyz",
            "whether every declared plugin has been tried",
            [
                ("200", text(plain, "They have.")),
                ("503", text(plain, "Not yet, and why.")),
            ],
        ),
        get(
            "/metrics",
            "the daemon's metrics for Prometheus",
            [(
                "200",
                text(
                    "text/plain; version=0.0.4; charset=utf-8",
                    "The text format 0.0.4.",
                ),
            )],
        ),
        get(
            "/metrics/plugins",
            "what plugins measure, in the formats of Prometheus",
            [("200", scraped.clone())],
        ),
        get(
            "/metrics/plugins/{namespace}/{name}",
            "what one plugin measures",
            [("200", scraped), ("404", missing.clone())],
        ),
        filtered(get(
            "/v1/findings",
            "what plugins found, latest first",
            [("200", findings), ("400", bad)],
        )),
        get("/v1/node", "the daemon", [("200", node)]),
        get("/v1/plugins", "every plugin", [("200", plugins)]),
        get(
            "/v1/plugins/{namespace}/{name}",
            "one plugin",
            [("200", plugin), ("404", missing.clone())],
        ),
        get(
            "/v1/plugins/{namespace}/{name}/logs",
            "what a plugin said lately",
            [("200", journal), ("404", missing.clone())],
        ),
        paged(get(
            "/v1/plugins/{namespace}/{name}/changes",
            "what a plugin has changed, latest first",
            [("200", changes), ("404", missing.clone())],
        )),
        get(
            "/v1/plugins/{namespace}/{name}/rules",
            "the rules of a plugin, and what was found of each",
            [("200", rules), ("404", missing)],
        ),
    ];
    let paths = paths.map(|(path, mut item)| {
        let get = &mut item["get"];
        if PROBES.contains(&&*path) {
            get["security"] = json!([]);
        } else {
            for (code, refusal) in &refusals {
                get["responses"][code] = refusal.clone();
            }
        }
        (path, item)
    });
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Bulkhead status endpoint",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "How the plugins of one node are. It reads and never changes anything. Fields may be added; programs must ignore those that they do not know.",
        },
        "paths": paths.into_iter().collect::<Map<_, _>>(),
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Of the cluster, with `--status-auth kubernetes`; without, none.",
            }},
        },
        "security": [{"token": []}, {}],
    })
}

/// One path, which answers GET only.
fn get<const N: usize>(
    path: &str,
    summary: &str,
    responses: [(&str, Value); N],
) -> (String, Value) {
    let parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": "Of the plugin's manifest.",
                "schema": {"type": "string"},
            })
        })
        .collect();
    let responses: Map<_, _> = responses
        .into_iter()
        .map(|(code, response)| (code.to_owned(), response))
        .collect();
    let mut operation = json!({"summary": summary, "responses": responses});
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    (path.to_owned(), json!({ "get": operation }))
}

/// With the parameters of a page.
fn paged((path, mut item): (String, Value)) -> (String, Value) {
    let parameters = [
        ("limit", "At most so many; 100 unless given."),
        ("before", "Only those before this number."),
    ];
    let parameters = parameters.map(|(name, description)| {
        json!({
            "name": name,
            "in": "query",
            "description": description,
            "schema": {"type": "integer", "minimum": 1},
        })
    });
    if let Some(known) = item["get"]["parameters"].as_array_mut() {
        known.extend(parameters);
    }
    (path, item)
}

/// With the filters of findings.
fn filtered((path, mut item): (String, Value)) -> (String, Value) {
    let parameters = PARAMETERS.iter().map(|(name, kind, description)| {
        json!({
            "name": name,
            "in": "query",
            "description": description,
            "schema": {"type": kind},
        })
    });
    item["get"]["parameters"] = parameters.collect();
    (path, item)
}

fn json_of<T: JsonSchema>(schemas: &mut SchemaGenerator, description: &str) -> Value {
    let schema = schemas.subschema_for::<T>();
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}
