//! How long a plan takes: `plan [FILES [LINES]]`, natively, on a node where all is as it should be, and on
//! one where nothing is. For numbers that mean something, build it with `--release`.

use std::time::{Duration, Instant};

use bulkhead_sdk::testing::{Harness, Node};
use bulkhead_sdk::{Context, Result};
use config_enforcer::ConfigEnforcer;
use serde_json::json;

const ROUNDS: u32 = 20;

fn main() -> Result<()> {
    let mut counts = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let files = counts.next().transpose().context("FILES")?.unwrap_or(500);
    let lines = counts.next().transpose().context("LINES")?.unwrap_or(20);
    let path = |index| format!("/etc/app/{index:05}.conf");
    let whole = |index| {
        json!({"id": format!("file {index}"), "file": {"path": path(index), "template":
            format!("# {index}\nnode={{{{ node.name }}}}\n{}", "key = value\n".repeat(40)), "mode": "0640"}})
    };
    let line = |index| {
        json!({"id": format!("line {index}"), "line": {"path": "/etc/login.defs",
            "line": format!("KEY{index} on"), "match": format!("^KEY{index} ")}})
    };
    let resources: Vec<_> = (0..files).map(whole).chain((0..lines).map(line)).collect();
    let folder = json!({"id": "folder", "directory": {"path": "/etc/app"}});
    let resources: Vec<_> = [folder].into_iter().chain(resources).collect();
    let config = json!({ "resources": resources }).to_string();

    let start = Instant::now();
    let mut plugin = Harness::<ConfigEnforcer>::new(&config)?;
    println!("made in {:?}", start.elapsed());
    let long = "# Something about accounts\n".repeat(200);
    let mut node = Node::new()
        .fact("node.name", "node-1")
        .file("/etc/login.defs", long)
        .directory("/etc");
    println!(
        "nothing as it should be: {:?} a plan",
        time(&mut plugin, &node)?
    );
    let planned = plugin.plan(&node)?;
    node.apply(&planned)?;
    let again = plugin.plan(&node)?;
    println!(
        "all as it should be: {:?} a plan",
        time(&mut plugin, &node)?
    );
    println!(
        "{} changes, then {}",
        planned.ids().len(),
        again.ids().len()
    );
    let mut profile = Harness::<ConfigEnforcer>::new(
        r#"{"profiles": [{"name": "host-hardening"}, {"name": "kubelet-hardening"}]}"#,
    )?;
    println!(
        "both profiles on an empty node: {:?} a plan",
        time(&mut profile, &Node::new())?
    );
    Ok(())
}

/// With making the view and checking the answer, which the host does otherwise.
fn time(plugin: &mut Harness<ConfigEnforcer>, node: &Node) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        plugin.plan(node)?;
    }
    Ok(start.elapsed() / ROUNDS)
}
