//! What the daemons said, for people and for scripts.

use serde_json::{Value, json};

use super::super::status::{HEADING, cells, is_called, pretty};
use super::super::table::{table, tame};
use super::cluster::Daemon;

/// A daemon and its plugins, or why it does not tell them.
pub(super) struct Row {
    node: String,
    pod: String,
    pub(super) answer: Result<Vec<Value>, String>,
}

impl Row {
    pub(super) fn new(daemon: Daemon, answer: Result<Vec<Value>, String>) -> Self {
        Self {
            node: daemon.node,
            pod: daemon.pod,
            answer,
        }
    }

    /// Leaves out other plugins.
    pub(super) fn only(&mut self, name: &str) {
        if let Ok(plugins) = &mut self.answer {
            plugins.retain(|plugin| is_called(plugin, name));
        }
    }
}

/// A row for each node and plugin.
pub(super) fn table_of(rows: &[Row]) -> String {
    let heading = std::iter::once("NODE").chain(HEADING).map(str::to_owned);
    let mut lines: Vec<Vec<String>> = vec![heading.collect()];
    for row in rows {
        let node = || row.node.clone();
        match &row.answer {
            Ok(plugins) if plugins.is_empty() => lines.push(vec![node(), "no plugins".to_owned()]),
            Ok(plugins) => lines.extend(plugins.iter().map(|plugin| {
                let cells = cells(plugin);
                std::iter::once(node()).chain(cells).collect()
            })),
            Err(reason) => {
                let reason = reason.replace('\n', " ");
                lines.push(vec![node(), format!("error: {reason}")]);
            }
        }
    }
    tame(&table(&lines))
}

/// Everything that the daemons said.
pub(super) fn json(rows: &[Row]) -> String {
    let nodes = rows.iter().map(|row| {
        let mut node = json!({"node": row.node, "pod": row.pod});
        match &row.answer {
            Ok(plugins) => node["plugins"] = plugins.clone().into(),
            Err(reason) => node["error"] = reason.as_str().into(),
        }
        node
    });
    pretty(&json!({"nodes": nodes.collect::<Vec<_>>()}))
}
