//! One plugin's lines to a file, over HTTP and into Elasticsearch, once as they come and once through a
//! queue on the disk, and what has arrived at each.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::elastic::Elastic;
use super::history::{History, number, number_in};
use super::sink::{Sink, ok};
use super::{Node, PATIENCE};

/// Lines that the plugin drops.
pub fn is_filtered(line: u64) -> bool {
    line % 50 == 9
}

/// Lines that Elasticsearch refuses, so that they become dead letters.
fn is_bad(line: u64) -> bool {
    line % 50 == 7
}

/// The lines at each destination, in the order in which they arrived.
pub type Arrived = [(&'static str, Vec<u64>); 4];

/// Servers that outlive the daemon.
pub struct Peers {
    http: Sink,
    /// What HTTP took, in order.
    taken: Arc<Mutex<Vec<u64>>>,
    elastic: Elastic,
    /// Is mostly busy, so that its queue has something in it.
    queued: Elastic,
    /// How many lines it was sent before the daemon at hand was started.
    queued_before: usize,
}

impl Peers {
    pub fn start() -> Self {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let http = Sink::start({
            let taken = Arc::clone(&taken);
            move |request| {
                let text = request.text();
                taken.lock().unwrap().extend(text.lines().map(number_in));
                ok()
            }
        });
        Self {
            http,
            taken,
            elastic: Elastic::start(|message| is_bad(number(message))),
            queued: Elastic::start_busy(|_| false, {
                let asked = AtomicUsize::new(0);
                move || !asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(4)
            }),
            queued_before: 0,
        }
    }

    /// The destinations of a manifest, for [`Node::spec_with`]; the file is rotated at `size`.
    pub fn destinations(&self, node: &Node, size: &str) -> String {
        let retry = "retry: {initial: 5ms, max: 50ms}";
        let file = node.outputs.join("out-app");
        let (http, elastic) = (self.http.url(), self.elastic.url());
        let queued = self.queued.url();
        [
            format!("file: {{path: {file:?}, format: raw, maxSize: {size}, keep: 100000}}"),
            format!("- name: http\n    http: {{url: {http:?}, {retry}}}"),
            format!("- name: es\n    elasticsearch: {{url: {elastic:?}, index: app, {retry}}}"),
            format!(
                "- name: queued\n    queue: {{maxSize: 1Mi}}\n    elasticsearch: {{url: {queued:?}, index: app, {retry}}}"
            ),
        ]
        .join("\n  ")
    }

    pub fn arrived(&self, node: &Node, history: &History) -> Arrived {
        let sent = |elastic: &Elastic| {
            let index = elastic.index();
            index.sent.iter().map(|message| number(message)).collect()
        };
        [
            ("out", history.shipped(node)),
            ("http", self.taken.lock().unwrap().clone()),
            ("es", sent(&self.elastic)),
            ("queued", sent(&self.queued)),
        ]
    }

    /// The lines that are missing, by destination; empty if none is. One that Elasticsearch refused is
    /// there once it is in the dead letters.
    pub fn missing(&self, node: &Node, history: &History) -> Vec<(&'static str, Vec<u64>)> {
        let missing = |(name, lines): (_, Vec<u64>)| (name, history.missing(&lines));
        let mut all: Vec<_> = self.arrived(node, history).map(missing).into();
        let buried: Vec<u64> = letters(node).iter().map(letter).collect();
        let unburied = history.missing(&buried).into_iter();
        all.push((
            "dead letters",
            unburied.filter(|line| is_bad(*line)).collect(),
        ));
        all.retain(|(_, lines)| !lines.is_empty());
        all
    }

    /// The daemon has died.
    pub fn crashed(&mut self, node: &Node, history: &mut History) {
        // Until all that it sent was read.
        self.http.drain();
        self.elastic.sink.drain();
        self.queued.sink.drain();
        let [direct @ .., (name, queued)] = self.arrived(node, history);
        history.crashed(node, &direct);
        let since = std::mem::replace(&mut self.queued_before, queued.len());
        history.crashed_with_queue(node, name, &queued[since..]);
    }

    /// Waits until all that was written has arrived, or the daemon has ended.
    pub fn wait_arrived(&self, node: &mut Node, history: &History) {
        let begin = Instant::now();
        while !node.has_ended()
            && let missing = self.missing(node, history)
            && !missing.is_empty()
        {
            let (written, log) = (history.written(), node.daemon_log());
            let report = node.plugin("app").unwrap_or_default();
            assert!(
                begin.elapsed() < PATIENCE,
                "lost of {written}: {missing:?}\n{report:#}\n{log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a daemon has delivered all that was written, and judges what arrived.
    pub fn conclude(&self, node: &mut Node, history: &History) {
        self.wait_arrived(node, history);
        let report = node.wait_plugin("app", "nothing left", |report| {
            let logs = &report["logs"];
            logs["lag"]["bytes"] == 0 && logs["lines"]["inFlight"] == 0
        });
        let read = report["logs"]["lines"]["read"].as_u64().unwrap();
        let accounts = node.assert_accounted("app", read);
        assert_eq!(accounts.given_up(), 0);
        self.judge(node, history);
    }

    /// Judges each destination by the history. Elasticsearch holds every line once that it does not
    /// refuse; the others are dead letters.
    fn judge(&self, node: &Node, history: &History) {
        let written = history.written();
        for (name, lines) in self.arrived(node, history) {
            let again = history.judge(name, &lines);
            eprintln!("{name}: of {written} lines {again} came again");
        }
        let (bad, good): (Vec<u64>, Vec<u64>) = history.kept().partition(|line| is_bad(*line));
        let all: Vec<u64> = history.kept().collect();
        for (elastic, wanted) in [(&self.elastic, &good), (&self.queued, &all)] {
            let index = elastic.index();
            let documents = index.documents.values().map(|text| number(text));
            let mut documents: Vec<u64> =
                documents.filter(|line| !history.is_lost(*line)).collect();
            documents.sort_unstable();
            assert!(
                documents == *wanted,
                "documents are missing or there twice: {} for {} lines",
                documents.len(),
                wanted.len()
            );
        }
        let index = self.elastic.index();
        let mut dead: BTreeMap<u64, usize> = BTreeMap::new();
        for one in &letters(node) {
            assert_eq!(one["destination"], "es");
            *dead.entry(letter(one)).or_default() += 1;
        }
        let buried = dead.keys().copied().filter(|line| !history.is_lost(*line));
        assert_eq!(buried.collect::<Vec<_>>(), bad, "dead letters");
        let mut sent: BTreeMap<u64, usize> = BTreeMap::new();
        for text in &index.sent {
            *sent.entry(number(text)).or_default() += 1;
        }
        let often = dead.iter().find(|(line, times)| sent[line] < **times);
        assert_eq!(often, None, "buried more often than refused");
    }
}

/// The dead letters, without what is being written.
fn letters(node: &Node) -> Vec<Value> {
    let path = node.state.join("dead-letter/local/app.jsonl");
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse =
        |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("a torn letter: {line}"));
    whole.lines().map(parse).collect()
}

/// The number of the line in a dead letter.
fn letter(letter: &Value) -> u64 {
    number(letter["record"]["message"].as_str().unwrap())
}
