//! Checks of what is done with what a plugin measures.

use std::collections::{BTreeMap, HashSet};

use super::{Check, quoted};
use crate::manifest::identity::is_dns_label;
use crate::manifest::metrics::{Metrics, RemoteWrite};
use crate::manifest::quantity::Period;

/// The longest collection of metrics that may be asked for.
const MAX_COLLECTION: Period = Period::seconds(120);
/// The most series that may be asked for.
const MAX_SERIES: u32 = 1_000_000;
/// The most servers that a plugin's series may be pushed to.
const MAX_REMOTE_WRITE: usize = 16;
/// How often series may be pushed.
const SHORTEST_INTERVAL: Period = Period::seconds(1);
const LONGEST_INTERVAL: Period = Period::seconds(3600);

impl Check<'_> {
    pub(super) fn metrics(&self, metrics: &Metrics) {
        self.not_zero("metrics.timeout", metrics.timeout);
        if metrics.timeout > MAX_COLLECTION {
            self.refuse(
                "metrics.timeout",
                format!("{} is longer than {MAX_COLLECTION}", metrics.timeout),
                "write how long a collection may take, for example 10s",
            );
        }
        if metrics.max_series == 0 || metrics.max_series > MAX_SERIES {
            self.refuse(
                "metrics.maxSeries",
                format!("{} is not between 1 and {MAX_SERIES}", metrics.max_series),
                "write how many series the plugin may have, for example 10000",
            );
        }
        self.label_names("metrics.labels", &metrics.labels);
        if metrics.remote_write.len() > MAX_REMOTE_WRITE {
            self.refuse(
                "metrics.remoteWrite",
                format!("has {} entries", metrics.remote_write.len()),
                format!("keep at most {MAX_REMOTE_WRITE}"),
            );
        }
        let mut names = HashSet::new();
        let targets = metrics.remote_write.iter().take(MAX_REMOTE_WRITE);
        for (i, target) in targets.enumerate() {
            let field = format!("metrics.remoteWrite[{i}]");
            if !names.insert(&target.name) {
                self.refuse(
                    format!("{field}.name"),
                    format!("two entries are called {}", quoted(&target.name)),
                    "give each a name of its own",
                );
            }
            self.remote_write(&field, target);
        }
    }

    fn remote_write(&self, field: &str, target: &RemoteWrite) {
        if !is_dns_label(&target.name) {
            self.refuse(
                format!("{field}.name"),
                format!("{} is no name", quoted(&target.name)),
                "write 1 to 63 lower-case letters, digits and dashes",
            );
        }
        if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&target.interval) {
            self.refuse(
                format!("{field}.interval"),
                format!(
                    "{} is not between {SHORTEST_INTERVAL} and {LONGEST_INTERVAL}",
                    target.interval
                ),
                "write how often series shall be pushed, for example 15s",
            );
        }
        let labels = format!("{field}.labels");
        self.label_names(&labels, &target.labels);
        for (name, value) in &target.labels {
            if !names_only_the_node(value) {
                self.refuse(
                    format!("{labels}.{name}"),
                    "has a placeholder that a label cannot have",
                    "write text, `${node:name}` or `${node:label/KEY}`; everybody who reads a series sees its labels",
                );
            }
        }
        self.endpoint(field, &target.endpoint());
        if let Some(queue) = &target.queue {
            self.queue(&format!("{field}.queue"), queue);
        }
    }

    fn label_names(&self, field: &str, labels: &BTreeMap<String, String>) {
        for name in labels.keys() {
            let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
            let fits = name.bytes().next().is_some_and(begins)
                && name
                    .bytes()
                    .all(|byte| begins(byte) || byte.is_ascii_digit());
            if !fits || name.starts_with("__") || matches!(name.as_str(), "le" | "quantile") {
                self.refuse(
                    field,
                    format!("{} is no name of a label", quoted(name)),
                    "write letters, digits and underscores, not beginning with a digit or `__`",
                );
            }
        }
    }
}

/// Whether every `${` begins a placeholder of the node, which is no secret.
fn names_only_the_node(value: &str) -> bool {
    let mut references = value.split("${");
    // What stands before the first.
    references.next();
    references.all(|after| {
        let inside = after.split_once('}').map(|(inside, _)| inside);
        inside.is_some_and(|inside| {
            let label = inside.strip_prefix("node:label/");
            inside == "node:name" || label.is_some_and(|key| !key.is_empty())
        })
    })
}
