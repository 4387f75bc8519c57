//! Logs of numbered lines, and whether they came whole and in order.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Node;

/// Appends lines `range` to a log, long enough for a few to fill what waits for a destination.
pub fn append(node: &Node, log: &str, range: std::ops::Range<u64>) {
    let filler = "x".repeat(400);
    node.append(
        &format!("{log}.log"),
        range.map(|n| format!("{log} {n} {filler}")),
    );
}

/// The numbers of each log's lines, in the order in which they came.
pub fn sequences(records: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in records {
        let message = record["message"].as_str().unwrap();
        let (log, rest) = message.split_once(' ').unwrap();
        let number = rest.split(' ').next().unwrap().parse().unwrap();
        sequences.entry(log.to_owned()).or_default().push(number);
    }
    sequences
}

/// Each log's lines `0..each` are there once, in order.
pub fn assert_exact(records: &[Value], logs: &[&str], each: u64) {
    let sequences = sequences(records);
    assert_eq!(sequences.len(), logs.len());
    for log in logs {
        let wrong = (0..each).zip(&sequences[*log]).find(|(n, got)| n != *got);
        assert_eq!(wrong, None, "{log}: lost, doubled or out of order");
        assert_eq!(sequences[*log].len() as u64, each, "{log}");
    }
}

/// A destination in a plugin's report; null if it is not there yet.
pub fn destination<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["logs"]["destinations"].as_array();
    let mut all = all.into_iter().flatten();
    all.find(|one| one["name"] == name).unwrap_or(&Value::Null)
}
