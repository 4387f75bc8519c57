//! What changes and standing still cost: the pause of an update, a start, memory when idle.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::Node;
use crate::{median, p99, process};

const UPDATES: u64 = 200;
const STARTS: usize = 10;

fn shipper(node: &Node, number: u64) -> String {
    format!(
        "module: {{bundled: log-shipper}}\nconfig: {{add: {{revision: {number}}}}}\nupdate: {{probation: 10ms}}\nlogs:\n  sources:\n  - files: {{include: [{:?}]}}\n  destinations:\n  - name: out\n    file: {{path: {:?}}}",
        node.path("logs/*.log"),
        node.path("out"),
    )
}

/// Polls every half millisecond: what is measured here takes few.
fn spin<T>(mut check: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = check() {
            return found;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Updates of a cached module while lines flow.
pub(crate) fn updates() {
    let mut node = Node::new();
    node.manifest("bench", &shipper(&node, 0));
    node.start();
    node.wait_running("bench");
    let stop = AtomicBool::new(false);
    let log = node.path("logs/a.log");
    let (mut seen, mut served, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::create(&log).unwrap();
            let lines = "{\"level\":\"info\",\"msg\":\"a request came in\"}\n".repeat(500);
            while !stop.load(Ordering::Relaxed) {
                file.write_all(lines.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        for number in 1..=UPDATES {
            let begin = Instant::now();
            node.manifest("bench", &shipper(&node, number));
            let report = spin(|| {
                let report = node.plugin("bench")?;
                (report["updates"] == number).then_some(report)
            });
            seen.push(begin.elapsed().as_secs_f64() * 1e3);
            let figure = |name: &str| report[name].as_f64().expect("a figure") * 1e3;
            served.push(figure("lastUpdateSeconds"));
            pauses.push(figure("lastUpdatePauseSeconds"));
            // Out of its probation, so that the next update finds a good revision.
            node.wait_plugin("bench", "good", |report| report["probation"] == false);
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "\n## Updates under load\n\n{UPDATES} updates of the cached log-shipper, 50,000 lines/s\n"
    );
    println!("| what | median ms | p99 ms |\n|---|---:|---:|");
    for (name, figures) in [
        (
            "manifest renamed into place → status shows the new revision at work",
            seen,
        ),
        (
            "declared to the plugin's actor → new revision at work",
            served,
        ),
        ("pause of the data path", pauses),
    ] {
        println!(
            "| {name} | {:.2} | {:.2} |",
            median(figures.clone()),
            p99(figures)
        );
    }
}

/// From the process's start to `/readyz`, with compiled code in the cache.
pub(crate) fn starts() {
    let mut node = Node::new();
    node.manifest("bench", &shipper(&node, 0));
    node.start();
    node.wait_running("bench");
    assert!(node.stop().success());
    let figures = (0..STARTS).map(|_| {
        let begin = Instant::now();
        node.start();
        spin(|| node.get("/readyz").filter(|(code, _)| *code == 200));
        let took = begin.elapsed().as_secs_f64() * 1e3;
        assert!(node.stop().success());
        took
    });
    println!(
        "\n## Start\n\nProcess start to `/readyz` 200, warm code cache, median of {STARTS}: {:.0} ms",
        median(figures.collect())
    );
}

/// Memory of a daemon with nothing to do.
pub(crate) fn idle() {
    let mut node = Node::new();
    node.manifest("bench", &shipper(&node, 0));
    node.append("a.log", ["one".to_owned()]);
    node.start();
    node.wait_running("bench");
    let pid = node.pid();
    std::thread::sleep(Duration::from_secs(5));
    let before = process::cpu_seconds(pid);
    std::thread::sleep(Duration::from_secs(10));
    println!(
        "\n## Idle\n\nlog-shipper loaded, nothing written: PSS {:.1} MiB, CPU {:.3}% of a core",
        process::pss(pid).expect("it runs") as f64 / 1024.0,
        (process::cpu_seconds(pid) - before) * 10.0
    );
}
