//! The destination `syslog` against a real rsyslogd, over TCP and TLS: what arrives is what was
//! written, and a server that goes away or refuses us costs nothing that its kernel had not taken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::authority::{Authority, Files};
use support::rsyslog::{Message, Rsyslog};
use support::{Node, numbered};

/// A message is at most this long by default, in bytes.
const MAX_MESSAGE: usize = 8096;

/// A plugin that sends `logs/*.log` as it is to `server`; `more` are fields of `syslog`.
fn send(node: &Node, server: &Rsyslog, more: &str) {
    let retry = "retry: {initial: 5ms, max: 50ms}";
    let syslog = format!("syslog: {{address: '{}', {retry}, {more}}}", server.address);
    node.manifest("app", &node.spec_to("fixture-logs", "{}", &syslog));
}

fn out(node: &Node, what: &str, check: impl Fn(&Value) -> bool) -> Value {
    let mut report = node.wait_plugin("app", what, |report| {
        check(&report["logs"]["destinations"][0])
    });
    report["logs"]["destinations"][0].take()
}

/// Waits until the status says what is wrong, and that nothing was acknowledged.
fn trouble(node: &Node, wanted: &str) {
    let out = out(node, wanted, |out| {
        let error = out["lastError"].as_str();
        out["state"] == "Retrying" && error.is_some_and(|error| error.contains(wanted))
    });
    assert_eq!(out["lines"], 0);
}

fn acknowledged(node: &Node, lines: u64) {
    let accounts = node.assert_accounted("app", lines);
    assert_eq!(accounts.acknowledged, lines);
}

/// The texts of each file's messages, in the order in which they arrived.
fn by_file(messages: &[Message]) -> BTreeMap<String, Vec<&str>> {
    let mut files: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for message in messages {
        let file = message.param("file").unwrap();
        let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
        assert_eq!(message.app_name, name);
        let texts = files.entry(name.to_owned()).or_default();
        texts.push(&message.text);
    }
    files
}

/// Lines of every kind that a log may hold.
fn lines(file: &str) -> Vec<String> {
    let odd = [
        "grüße, 世界 \u{1f980}",
        "say \"hello\" to [brackets] and \\backslashes\\",
        "\ttabs\tand \u{1b}[31mcolours\u{1b}[0m",
        "<14>1 - - - - - - no header",
        "12 counts nothing",
        " leading and trailing ",
        "{\"level\":\"error\",\"text\":\"not parsed by the plugin\"}",
        "",
    ];
    let mut lines: Vec<String> = odd.iter().map(|odd| format!("{file} {odd}")).collect();
    lines.push(format!("{file} {}", "long".repeat(1500)));
    lines.extend(numbered(file, 0..2000));
    lines
}

/// Ships files of every kind of line and compares what arrived.
fn assert_arrives(node: &mut Node, server: &Rsyslog) {
    node.start();
    let files = ["f0", "f1", "f2", "f3", "f4"];
    let mut written = BTreeMap::new();
    for file in files {
        let lines = lines(file);
        node.append(&format!("{file}.log"), lines.clone());
        written.insert(file.to_owned(), lines);
    }
    let count = written.values().map(Vec::len).sum();
    acknowledged(node, count as u64);
    let messages = server.wait_received(count);
    let arrived = by_file(&messages);
    for (file, lines) in &written {
        let wrong = lines
            .iter()
            .zip(&arrived[file])
            .find(|(line, got)| line != *got);
        assert_eq!(wrong, None, "{file}");
    }
    assert_eq!(messages.len(), count);
    let ids: HashSet<_> = messages.iter().map(|one| one.param("id")).collect();
    assert_eq!(ids.len(), count);
    for message in &messages {
        assert!(message.data.starts_with("[bulkhead@32473 file=\""));
        // user.info
        assert_eq!((message.priority, &*message.hostname), (14, "node-7"));
        assert_eq!((&*message.proc_id, &*message.msg_id), ("-", "app"));
        let time: jiff::Timestamp = message.time.parse().unwrap();
        assert!(jiff::Timestamp::now().duration_since(time).as_secs() < 3600);
    }
}

const HEADER: &str = "hostname: node-7, msgId: app";

#[test]
fn what_arrives_over_tcp_is_what_was_written() {
    let (mut node, mut server) = (Node::new(), Rsyslog::new());
    server.start();
    send(&node, &server, HEADER);
    assert_arrives(&mut node, &server);
}

#[test]
fn lines_that_are_too_long_are_cut_and_say_so() {
    let (mut node, mut server) = (Node::new(), Rsyslog::new());
    server.start();
    send(&node, &server, "");
    node.start();
    let long = "é".repeat(20_000);
    let lines = ["f0 0".to_owned(), long.clone(), "f0 1".to_owned()];
    node.append("f0.log", lines.clone());
    acknowledged(&node, 3);
    let messages = server.wait_received(3);
    // rsyslog has not broken it into pieces, as it does with what is too long for it.
    assert_eq!(messages.len(), 3, "{}", server.log());
    assert_eq!(
        [&messages[0].text, &messages[2].text],
        [&lines[0], &lines[2]]
    );
    let text = &messages[1].text;
    assert!(long.starts_with(text.as_str()) && text.len() > MAX_MESSAGE - 300);
    let cuts = messages.iter().map(|message| message.param("cut"));
    assert!(cuts.eq([None, Some("true"), None]));
}

#[test]
fn the_severity_is_that_of_the_record() {
    let (mut node, mut server) = (Node::new(), Rsyslog::new());
    server.start();
    let syslog = format!(
        "syslog: {{address: '{}', format: json, facility: local0, appName: 'shop-${{attribute:x}}'}}",
        server.address
    );
    let spec = node.spec_to("fixture-logs", "{parse: json}", &syslog);
    let module = spec.lines().find(|line| line.contains("file: {path"));
    let spec = spec.replacen(module.unwrap(), "  bundled: log-shipper", 1);
    node.manifest("app", &spec);
    node.start();
    let lines = [
        r#"{"level":"warn","msg":"a"}"#,
        r#"{"level":"fatal","msg":"b"}"#,
        r#"{"msg":"c"}"#,
    ];
    node.append("a.log", lines.map(str::to_owned));
    acknowledged(&node, 3);
    let messages = server.wait_received(3);
    let priorities = messages.iter().map(|message| message.priority);
    assert!(priorities.eq([128 + 4, 128 + 2, 128 + 6]), "{messages:?}");
    for (message, name) in messages.iter().zip(["a", "b", "c"]) {
        let record: Value = serde_json::from_str(&message.text).unwrap();
        assert_eq!(
            (&record["msg"], &*message.app_name),
            (&name.into(), "shop-")
        );
    }
}

#[test]
fn a_server_that_is_restarted_gets_everything_once() {
    let (mut node, mut server) = (Node::new(), Rsyslog::new());
    send(&node, &server, "");
    node.start();
    for round in 0..4 {
        let numbers = 1000 * round..1000 * (round + 1);
        let lines = numbered("f0", numbers.clone());
        // Lines that wait for a server that is down, and lines for one that has another connection.
        if round % 2 == 0 {
            node.append("f0.log", lines);
            let error = out(&node, "trouble", |out| out["state"] == "Retrying");
            let error = error["lastError"].as_str().unwrap();
            assert!(error.contains("cannot connect"), "{error}");
            server.start();
        } else {
            server.start();
            node.append("f0.log", lines);
        }
        acknowledged(&node, numbers.end);
        server.wait_received(1000);
        server.stop();
        let expected: Vec<String> = numbered("f0", numbers).collect();
        assert_eq!(by_file(&server.received())["f0"], expected);
    }
}

/// What the kernel holds at most for a receiver that has not read it: tcp(7).
fn receive_buffer() -> u64 {
    let sizes = fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
    sizes.split_whitespace().last().unwrap().parse().unwrap()
}

/// The number at a message's end.
fn number(text: &str) -> u64 {
    text.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn a_server_that_is_killed_under_load_loses_what_its_kernel_had() {
    const LINES: u64 = 200_000;
    // What rsyslogd has read and not written: its queue of 50000, and what it gathers for it.
    const QUEUE: u64 = 55_000;
    // What is written at once.
    const REQUEST: u64 = 1 << 20;
    let (mut node, mut server) = (Node::new(), Rsyslog::new());
    server.start();
    send(&node, &server, "");
    node.start();
    // A connection that has been there for a while, and then more than the kernels hold.
    node.append("f0.log", numbered("f0", 0..1000));
    acknowledged(&node, 1000);
    node.append("f0.log", numbered("f0", 1000..LINES));
    server.wait_received(2000);
    server.kill();
    server.start();
    node.append("f0.log", numbered("f0", LINES..LINES + 1000));
    acknowledged(&node, LINES + 1000);
    let last = format!("f0 {}", LINES + 999);
    let whole = |messages: &[Message]| messages.last().is_some_and(|one| one.text == last);
    let after = support::wait_for("the last line", || {
        let messages = server.received();
        whole(&messages).then_some(messages)
    });
    let numbers = |messages: &[Message]| -> Vec<u64> {
        messages
            .iter()
            .map(|message| number(&message.text))
            .collect()
    };
    let (before, after) = (numbers(&server.received_by(1)), numbers(&after));
    // Each without a gap; between them what the docs say.
    assert!(before.iter().copied().eq(0..before.len() as u64));
    assert!(after.iter().copied().eq(after[0]..LINES + 1000));
    // Header, structured data and text of the shortest.
    let shortest = 110;
    let lost = after[0].saturating_sub(before.len() as u64);
    assert!(lost <= receive_buffer() / shortest + QUEUE, "{lost} lost");
    let doubled = (before.len() as u64).saturating_sub(after[0]);
    assert!(doubled * shortest <= REQUEST, "{doubled} came twice");
}

/// `tls:` with these files.
fn tls(files: &Files) -> String {
    format!(
        "caFile: {:?}, certFile: {:?}, keyFile: {:?}",
        files.ca, files.certificate, files.key
    )
}

#[test]
fn what_arrives_over_tls_is_what_was_written() {
    let mut node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let server = authority.certify("logs.example.org");
    // Each side asks for the other's certificate.
    let mut server = Rsyslog::with_tls(server, "x509/certvalid");
    server.start();
    let client = tls(&authority.certify("node-7"));
    let tls = format!("tls: {{{client}, serverName: logs.example.org}}");
    send(&node, &server, &format!("{HEADER}, {tls}"));
    assert_arrives(&mut node, &server);
    assert!(node.stop().success());
    // Good-bye was said: rsyslog would call it an error.
    server.stop();
    assert!(!server.log().contains("GnuTLS"), "{}", server.log());
}

#[test]
fn an_authority_that_is_not_trusted_is_named_and_nothing_is_lost() {
    let mut node = Node::new();
    let (ours, theirs) = (node.path("ours"), node.path("theirs"));
    let (ours, theirs) = (Authority::new(ours), Authority::new(theirs));
    let mut server = Rsyslog::with_tls(theirs.certify("logs.example.org"), "anon");
    server.start();
    let ca = ours.ca();
    send(
        &node,
        &server,
        &format!("tls: {{caFile: {ca:?}, serverName: logs.example.org}}"),
    );
    node.start();
    node.append("f0.log", numbered("f0", 0..1000));
    trouble(
        &node,
        "UnknownIssuer; name the authority that signed its certificate in `tls.ca` or `tls.caFile`",
    );
    // As a ConfigMap or a Secret is replaced.
    support::replace_file(&ca, &fs::read(theirs.ca()).unwrap());
    acknowledged(&node, 1000);
    let expected: Vec<String> = numbered("f0", 0..1000).collect();
    assert_eq!(by_file(&server.wait_received(1000))["f0"], expected);
}

#[test]
fn a_certificate_for_another_name_is_refused_and_nothing_is_lost() {
    let mut node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let files = authority.certify("logs.example.org");
    let ca = files.ca.clone();
    let mut server = Rsyslog::with_tls(files, "anon");
    server.start();
    send(&node, &server, &format!("tls: {{caFile: {ca:?}}}"));
    node.start();
    node.append("f0.log", numbered("f0", 0..1000));
    let host = server.address.ip();
    trouble(
        &node,
        &format!("its certificate is not for {host}; correct `address`, or set `tls.serverName`"),
    );
    send(
        &node,
        &server,
        &format!("tls: {{caFile: {ca:?}, serverName: logs.example.org}}"),
    );
    server.wait_received(1000);
    let expected: Vec<String> = numbered("f0", 0..1000).collect();
    assert_eq!(by_file(&server.received())["f0"], expected);
}

/// With TLS 1.3 the client takes the handshake for done before the server has looked at its
/// certificate.
#[test]
fn a_server_that_does_not_take_our_certificate_costs_nothing() {
    let mut node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let stranger = Authority::new(node.path("stranger"));
    let files = authority.certify("logs.example.org");
    let ca = files.ca.clone();
    let mut server = Rsyslog::with_tls(files, "x509/certvalid");
    server.start();
    let client = |files: &Files| {
        let (certificate, key) = (&files.certificate, &files.key);
        format!(
            "tls: {{caFile: {ca:?}, serverName: logs.example.org, certFile: {certificate:?}, keyFile: {key:?}}}"
        )
    };
    send(&node, &server, &client(&stranger.certify("node-7")));
    node.start();
    node.append("f0.log", numbered("f0", 0..1000));
    trouble(&node, "certFile");
    assert_eq!(server.received(), []);
    send(&node, &server, &client(&authority.certify("node-7")));
    let messages = server.wait_received(1000);
    let expected: Vec<String> = numbered("f0", 0..1000).collect();
    assert_eq!(by_file(&messages)["f0"], expected);
}

#[test]
fn tls_where_none_is_spoken_and_none_where_it_is() {
    let mut node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let files = authority.certify("logs.example.org");
    let ca = files.ca.clone();
    let mut secure = Rsyslog::with_tls(files, "anon");
    secure.start();
    send(&node, &secure, "");
    node.start();
    node.append("f0.log", numbered("f0", 0..1000));
    trouble(&node, "that both sides speak TLS or neither does");
    let mut plain = Rsyslog::new();
    plain.start();
    let tls = format!("tls: {{caFile: {ca:?}}}, connectTimeout: 1s");
    send(&node, &plain, &tls);
    trouble(&node, "TLS");
    send(&node, &plain, "");
    let expected: Vec<String> = numbered("f0", 0..1000).collect();
    let arrived = support::wait_for("the lines", || {
        // Before them stands what rsyslog made of the handshakes.
        let messages = plain.received();
        let mut texts: Vec<String> = messages.into_iter().map(|one| one.text).collect();
        texts.retain(|text| text.starts_with("f0 "));
        (texts.len() >= 1000).then_some(texts)
    });
    assert_eq!(arrived, expected);
}
