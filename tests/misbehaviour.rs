//! Servers that misbehave, through the real binary: each trouble with each kind of destination that
//! speaks HTTP. Every line is taken in the end, in order, and only what a server may have taken
//! without saying so is sent again. Partial refusals are in `kinds.rs`, syslog's in `syslog.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use support::authority::{Authority, Files};
use support::protocols::{ELASTICSEARCH, HTTP, LOKI, OTLP, Protocol, SPLUNK};
use support::real::left_out;
use support::sink::{Answer, Sink, own_address, status};
use support::{Node, numbered, replace_file};

const KINDS: [Protocol; 5] = [HTTP, ELASTICSEARCH, SPLUNK, LOKI, OTLP];

const FILES: u64 = 3;
const EACH: u64 = 1000;

/// A server of one kind, and what it has taken.
struct Server {
    kind: &'static Protocol,
    address: SocketAddr,
    sink: Option<Sink>,
    taken: Arc<Mutex<Vec<String>>>,
}

/// What a server does to its n-th request instead of taking it.
type Trouble = fn(usize) -> Option<Answer>;

fn no_trouble(_: usize) -> Option<Answer> {
    None
}

impl Server {
    fn all() -> Vec<Self> {
        let wanted = |kind: &&Protocol| !kind.real.is_some_and(|real| left_out(kind.name, real));
        let server = |kind| Self {
            kind,
            address: own_address(),
            sink: None,
            taken: Arc::default(),
        };
        KINDS.iter().filter(wanted).map(server).collect()
    }

    /// Begins, or begins anew.
    fn start(&mut self, tls: Option<&Files>, trouble: Trouble, resets: usize) {
        drop(self.sink.take());
        let (taken, lines) = (Arc::clone(&self.taken), self.kind.lines);
        let (path, success) = (self.kind.path, self.kind.success);
        let sink = Sink::start_with(self.address, tls, move |request| {
            assert_eq!(request.path, path);
            let trouble = trouble(request.number);
            // What is cut short was taken.
            if matches!(trouble, None | Some(Answer::CutShort)) {
                taken.lock().unwrap().extend(lines(request));
            }
            trouble.unwrap_or_else(|| success(lines(request).len()))
        });
        sink.reset(resets);
        self.sink = Some(sink);
    }

    /// A plugin of the kind's name that sends here.
    fn declare(&self, node: &Node, scheme: &str, more: &str) {
        let Protocol { name, fields, .. } = self.kind;
        let url = format!("{scheme}://{}/ingest", self.address);
        let retry = "retry: {initial: 5ms, max: 50ms}";
        let more = format!("url: {url:?}, maxBody: 32Ki, {retry}, {fields}{more}");
        let destination = format!("{name}: {{{more}}}");
        node.manifest(
            &self.plugin(),
            &node.spec_to("fixture-logs", "{}", &destination),
        );
    }

    fn plugin(&self) -> String {
        self.kind.name.to_ascii_lowercase()
    }

    /// The one destination's report.
    fn report(&self, node: &Node) -> Value {
        node.wait_running(&self.plugin())["logs"]["destinations"][0].take()
    }

    /// Waits until the destination is in the trouble that it should be.
    fn wait_trouble(&self, node: &Node, error: &str) {
        node.wait_plugin(&self.plugin(), error, |report| {
            let out = &report["logs"]["destinations"][0];
            let said = out["lastError"].as_str().unwrap_or_default();
            out["state"] == "Retrying" && out["lines"] == 0 && said.contains(error)
        });
    }

    /// Every line was taken, in the order of its file, and came again only if it may.
    fn judge(&self, node: &Node, may_repeat: bool) {
        let name = self.kind.name;
        let accounts = node.assert_accounted(&self.plugin(), FILES * EACH);
        assert_eq!(accounts.acknowledged, FILES * EACH, "{name}");
        assert_eq!(self.report(node)["state"], "Healthy", "{name}");
        let taken = self.taken.lock().unwrap();
        for file in 0..FILES {
            let prefix = format!("f{file} ");
            let numbers = taken.iter().filter_map(|line| line.strip_prefix(&prefix));
            let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
            let mut first = numbers.clone();
            if may_repeat {
                let mut seen = std::collections::HashSet::new();
                first.retain(|number| seen.insert(*number));
            }
            let whole = first.iter().copied().eq(0..EACH);
            assert!(whole, "{name}: lost, doubled or out of order: {numbers:?}");
        }
    }
}

/// Three logs for every plugin.
fn write(node: &Node) {
    for file in 0..FILES {
        node.append(
            &format!("f{file}.log"),
            numbered(&format!("f{file}"), 0..EACH),
        );
    }
}

/// Each kind in one trouble, with an error that says so.
fn survives(trouble: Trouble, resets: usize, timeout: &str, error: &str) {
    let mut node = Node::new();
    let mut servers = Server::all();
    for server in &mut servers {
        server.start(None, trouble, resets);
        server.declare(&node, "http", &format!(", timeout: {timeout}"));
    }
    write(&node);
    node.start();
    let may_repeat = matches!(trouble(0), Some(Answer::CutShort));
    for server in &servers {
        server.judge(&node, may_repeat);
        let out = server.report(&node);
        let (name, said) = (server.kind.name, out["lastError"].to_string());
        if may_repeat && out["retries"] == 0 {
            // The status was the acknowledgement.
            continue;
        }
        assert!(said.contains(error), "{name}: {said}");
        assert_ne!(out["retries"], 0, "{name}");
    }
}

macro_rules! troubles {
    ($($test:ident: $trouble:expr, $resets:literal, $timeout:literal, $error:literal;)*) => {$(
        #[test]
        fn $test() {
            survives($trouble, $resets, $timeout, $error);
        }
    )*};
}

troubles! {
    too_many_requests:
        |n| (n < 3).then(|| Answer::Status(429, "Retry-After: 1\r\n", "slower".to_owned())),
        0, "1m", "429";
    unavailable: |n| (n < 9).then(|| status(503)), 0, "1m", "503";
    resets_in_the_middle_of_a_body: no_trouble, 9, "1m", "the connection failed";
    // Long enough that a slow machine is not taken for a server that stalls.
    stalls: |n| (n < 3).then_some(Answer::Stall), 0, "4s", "within the timeout";
    garbage: |n| (n < 9).then_some(Answer::Garbage), 0, "1m", "failed";
    answers_that_break_off: |n| (n < 9).then_some(Answer::CutShort), 0, "1m", "";
}

/// Each kind with a server whose TLS is wrong, until it is put right.
fn refuses(wrong: impl Fn(&Authority, &Authority, &str) -> Option<Files>, error: &str) {
    let mut node = Node::new();
    let ours = Authority::new(node.path("ours"));
    let other = Authority::new(node.path("other"));
    let ca = ours.ca();
    let mut servers = Server::all();
    for server in &mut servers {
        let address = server.address.ip().to_string();
        server.start(wrong(&ours, &other, &address).as_ref(), no_trouble, 0);
        server.declare(&node, "https", &format!(", tls: {{caFile: {ca:?}}}"));
    }
    write(&node);
    node.start();
    for server in &mut servers {
        server.wait_trouble(&node, error);
        let requests = server.sink.as_ref().unwrap().requests();
        assert_eq!(requests, 0, "nothing is said to a server that is not ours");
        let files = ours.certify(&server.address.ip().to_string());
        server.start(Some(&files), no_trouble, 0);
    }
    for server in &servers {
        server.judge(&node, false);
    }
}

#[test]
fn a_certificate_of_an_unknown_authority() {
    refuses(|_, other, name| Some(other.certify(name)), "UnknownIssuer");
}

#[test]
fn a_certificate_of_another_name() {
    refuses(
        |ours, _, _| Some(ours.certify("other.example")),
        "not valid for name",
    );
}

#[test]
fn a_certificate_that_has_expired() {
    refuses(
        |ours, _, name| Some(ours.certify_until(name, 2001)),
        "expired",
    );
}

#[test]
fn a_server_without_tls() {
    refuses(|_, _, _| None, "cannot connect");
}

/// The trusted authority is changed on disk, as a rotated ConfigMap does, and nothing is restarted.
#[test]
fn an_authority_that_is_put_right() {
    let mut node = Node::new();
    let ours = Authority::new(node.path("ours"));
    let other = Authority::new(node.path("other"));
    let ca = node.path("ca.pem");
    fs::copy(other.ca(), &ca).unwrap();
    let mut servers = Server::all();
    for server in &mut servers {
        let files = ours.certify(&server.address.ip().to_string());
        server.start(Some(&files), no_trouble, 0);
        server.declare(&node, "https", &format!(", tls: {{caFile: {ca:?}}}"));
    }
    write(&node);
    node.start();
    for server in &servers {
        server.wait_trouble(&node, "UnknownIssuer");
    }
    replace_file(&ca, &fs::read(ours.ca()).unwrap());
    for server in &servers {
        server.judge(&node, false);
    }
}
