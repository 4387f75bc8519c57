//! `bulkhead status`: asks a running daemon.

mod daemon;
mod watch;

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::table::{table, tame};
use super::{Failed, OutputFormat, bytes, print};
use daemon::Daemon;

/// Show how the plugins of this node are.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead status\n  bulkhead status local/app-logs\n  bulkhead status --watch\n  bulkhead status --output json"
)]
pub(super) struct Status {
    /// One plugin, NAME or NAMESPACE/NAME; all if not given.
    name: Option<String>,
    /// Show again every second until interrupted, also while the daemon restarts.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

impl Status {
    pub(super) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failed::new(error.to_string()))?;
        runtime.block_on(async {
            if self.watch {
                return watch::run(&self).await;
            }
            let list = self.daemon.get("/v1/plugins").await?;
            match self.output {
                OutputFormat::Json => print(&pretty(self.selected(&list)?)),
                OutputFormat::Text => print(&page(&self, &list)?),
            };
            Ok(ExitCode::SUCCESS)
        })
    }

    /// The plugin that was asked for, or the whole list.
    fn selected<'a>(&self, list: &'a Value) -> Result<&'a Value, Failed> {
        let items = list["items"]
            .as_array()
            .ok_or_else(|| self.daemon.stranger(&"its answer has no list of plugins"))?;
        let Some(name) = &self.name else {
            return Ok(list);
        };
        let mut found = items.iter().filter(|plugin| is_called(plugin, name));
        match (found.next(), found.next()) {
            (Some(plugin), None) => Ok(plugin),
            (None, _) => Err(Failed::new(format!(
                "there is no plugin {name:?} on this node; `bulkhead status` lists them"
            ))),
            (Some(_), Some(_)) => Err(Failed::new(format!(
                "more than one plugin has the name {name:?}; say NAMESPACE/{name}"
            ))),
        }
    }
}

/// For people. What a plugin said must not steer the terminal.
fn page(status: &Status, list: &Value) -> Result<String, Failed> {
    let selected = status.selected(list)?;
    let page = match &status.name {
        Some(_) => detail(selected),
        None => list_of(selected["items"].as_array().map_or(&[], Vec::as_slice)),
    };
    Ok(tame(&page))
}

pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A figure that a daemon of another version may not have.
fn figure(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        value => value.to_string(),
    }
}

fn condition<'a>(plugin: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = plugin["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Whether a plugin's NAME or NAMESPACE/NAME is this.
pub(super) fn is_called(plugin: &Value, name: &str) -> bool {
    let (namespace, own) = (text(&plugin["namespace"]), text(&plugin["name"]));
    own == name || name.split_once('/') == Some((namespace, own))
}

/// What a row of a plugin has; see [`cells`].
pub(super) const HEADING: [&str; 11] = [
    "NAMESPACE",
    "NAME",
    "PHASE",
    "UPDATE",
    "VERSION",
    "DIGEST",
    "RESTARTS",
    "MEMORY",
    "CPU",
    "LINES",
    "LAG",
];

/// A plugin in one row.
pub(super) fn cells(plugin: &Value) -> [String; HEADING.len()] {
    let up_to_date = condition(plugin, "UpToDate");
    let digest = text(&plugin["active"]["digest"]);
    let logs = &plugin["logs"];
    [
        text(&plugin["namespace"]).to_owned(),
        text(&plugin["name"]).to_owned(),
        text(&plugin["phase"]).to_owned(),
        up_to_date
            .map_or("-", |condition| text(&condition["reason"]))
            .to_owned(),
        text(&plugin["active"]["version"]).to_owned(),
        digest.get(..12).unwrap_or(digest).to_owned(),
        figure(&plugin["restarts"]),
        bytes(plugin["memoryBytes"].as_u64().unwrap_or(0)),
        format!("{:.2}s", plugin["cpuSeconds"].as_f64().unwrap_or(0.0)),
        logs["lines"]["read"]
            .as_u64()
            .map_or("-".into(), |lines| lines.to_string()),
        logs["lag"]["bytes"].as_u64().map_or("-".into(), bytes),
    ]
}

fn list_of(items: &[Value]) -> String {
    if items.is_empty() {
        return "no plugins; put a manifest into the daemon's --manifests folder\n".to_owned();
    }
    let heading = HEADING.map(str::to_owned).to_vec();
    let rows = items.iter().map(|plugin| cells(plugin).to_vec());
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

fn detail(plugin: &Value) -> String {
    let mut page = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "{name:<13} {value}");
    };
    line(
        "Plugin",
        &format!("{}/{}", text(&plugin["namespace"]), text(&plugin["name"])),
    );
    line("Phase", text(&plugin["phase"]));
    let active = &plugin["active"];
    if active.is_object() {
        line(
            "Module",
            &format!("{} {}", text(&active["name"]), text(&active["version"])),
        );
        line("Digest", text(&active["digest"]));
        line("Since", text(&active["since"]));
    }
    line("Restarts", &figure(&plugin["restarts"]));
    line(
        "Memory, CPU",
        &format!(
            "{}, {:.3} s in {} calls",
            bytes(plugin["memoryBytes"].as_u64().unwrap_or(0)),
            plugin["cpuSeconds"].as_f64().unwrap_or(0.0),
            figure(&plugin["calls"])
        ),
    );
    for condition in plugin["conditions"].as_array().into_iter().flatten() {
        line(
            text(&condition["type"]),
            &format!(
                "{} ({}): {}",
                text(&condition["status"]),
                text(&condition["reason"]),
                text(&condition["message"])
            ),
        );
    }
    let failure = &plugin["lastFailure"];
    if failure.is_object() {
        line(
            "Last failure",
            &format!(
                "{} {}: {}",
                text(&plugin["lastFailureTime"]),
                text(&failure["call"]),
                text(&failure["message"])
            ),
        );
        for frame in failure["backtrace"].as_array().into_iter().flatten() {
            line("", &format!("  at {}", text(frame)));
        }
    }
    let logs = &plugin["logs"];
    if logs.is_object() {
        let lines = &logs["lines"];
        line(
            "Lines",
            &format!(
                "read {}, acknowledged {}, filtered {}, dead-lettered {}, in flight {}",
                figure(&lines["read"]),
                figure(&lines["acknowledged"]),
                figure(&lines["filtered"]),
                figure(&lines["deadLettered"]),
                figure(&lines["inFlight"])
            ),
        );
        line(
            "Bytes read",
            &bytes(logs["bytes"]["read"].as_u64().unwrap_or(0)),
        );
        line("Given up", &figure(&lines["givenUp"]));
        line(
            "Lag",
            &format!(
                "{}, {:.1} s",
                bytes(logs["lag"]["bytes"].as_u64().unwrap_or(0)),
                logs["lag"]["seconds"].as_f64().unwrap_or(0.0)
            ),
        );
        for destination in logs["destinations"].as_array().into_iter().flatten() {
            let error = destination["lastError"].as_str();
            line(
                "Destination",
                &format!(
                    "{} ({}): {}, {} lines, {}{}",
                    text(&destination["name"]),
                    text(&destination["kind"]),
                    text(&destination["state"]),
                    figure(&destination["lines"]),
                    bytes(destination["bytes"].as_u64().unwrap_or(0)),
                    error.map_or(String::new(), |error| format!("; last error: {error}"))
                ),
            );
            if let Some(queue) = destination.get("queue") {
                line("Queue", &describe(queue, "lines"));
            }
        }
        if let Some(problem) = logs["problem"].as_str() {
            line("Problem", problem);
        }
    }
    let pushed = plugin["metrics"]["remoteWrite"].as_array();
    for server in pushed.into_iter().flatten() {
        line("Remote write", &describe_server(server));
        if let Some(queue) = server.get("queue") {
            line("Queue", &describe(queue, "samples"));
        }
        if let Some(problem) = server["problem"].as_str() {
            line("Problem", problem);
        }
    }
    page
}

/// A server that series are pushed to.
fn describe_server(server: &Value) -> String {
    let mut said = format!(
        "{}: {}, {} samples, {}",
        text(&server["name"]),
        text(&server["state"]),
        figure(&server["samples"]),
        bytes(server["bytes"].as_u64().unwrap_or(0))
    );
    for (field, what) in [
        ("rejectedSamples", "samples rejected"),
        ("missedPushes", "pushes missed"),
    ] {
        let number = server[field].as_u64().unwrap_or(0);
        if number > 0 {
            said += &format!(", {number} {what}");
        }
    }
    if let Some(error) = server["lastError"].as_str() {
        said += &format!("; last error: {error}");
    }
    said
}

/// A destination's queue, of lines or samples.
fn describe(queue: &Value, unit: &str) -> String {
    let number = |field: &str| queue[field].as_u64().unwrap_or(0);
    let mut said = format!(
        "{} {unit}, {} of {}",
        number("lines"),
        bytes(number("bytes")),
        bytes(number("maxBytes"))
    );
    for (field, what) in [("droppedLines", "dropped"), ("damagedLines", "damaged")] {
        if number(field) > 0 {
            said += &format!(", {} {what}", number(field));
        }
    }
    if queue["full"] == true {
        said += "; full";
    }
    if let Some(problem) = queue["problem"].as_str() {
        said += &format!("; {problem}");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plugin_is_called_by_its_name_or_both() {
        let plugin = json!({"namespace": "shop", "name": "logs"});
        for name in ["logs", "shop/logs"] {
            assert!(is_called(&plugin, name), "{name}");
        }
        for name in ["shop", "shop/", "/logs", "other/logs", "shop/logs/x", ""] {
            assert!(!is_called(&plugin, name), "{name}");
        }
    }
}
