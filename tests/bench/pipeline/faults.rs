//! Memory while everything goes wrong: the destinations are down, come back and misbehave, logs are
//! rotated and truncated, and a plugin traps again and again.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Node, fixture_file};
use crate::throughput::PARSE;
use crate::{process, setting};

/// Of each log, while there is room in a second.
const LINES_A_SECOND: u32 = 10_000;
/// What the project allows, in MiB.
const BAR: f64 = 64.0;

/// What the servers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Good,
    Down,
    TooManyRequests,
    Unavailable,
    Partial,
    Garbage,
    Reset,
    Stall,
}

const MODES: [Mode; 8] = [
    Mode::Good,
    Mode::Down,
    Mode::TooManyRequests,
    Mode::Unavailable,
    Mode::Partial,
    Mode::Garbage,
    Mode::Reset,
    Mode::Stall,
];

/// In this order, each for so many parts of the time that one takes. The daemon catches up in
/// between.
const PHASES: [(Mode, &str, u32); 13] = [
    (Mode::Good, "at work", 1),
    (Mode::Down, "destinations down", 4),
    (Mode::Good, "back, catching up", 2),
    (Mode::TooManyRequests, "answering 429", 1),
    (Mode::Unavailable, "answering 503", 1),
    (Mode::Good, "good again", 1),
    (Mode::Partial, "refusing a tenth of the items", 1),
    (Mode::Garbage, "answering garbage", 1),
    (Mode::Good, "good again", 1),
    (Mode::Reset, "resetting connections in a body", 1),
    (Mode::Stall, "not answering", 1),
    (Mode::Down, "down again", 2),
    (Mode::Good, "back, catching up", 2),
];

/// An HTTP server, for `_bulk` and for whatever else is posted, that does as it is told.
struct Peer {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
}

impl Peer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::<AtomicU8>::default();
        std::thread::spawn({
            let mode = mode.clone();
            move || listen(listener, address, &mode)
        });
        Self { address, mode }
    }

    fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }
}

fn now(mode: &AtomicU8) -> Mode {
    MODES[usize::from(mode.load(Ordering::Relaxed))]
}

/// Nobody listens while the server is down.
fn listen(listener: TcpListener, address: SocketAddr, mode: &Arc<AtomicU8>) {
    listener.set_nonblocking(true).unwrap();
    let mut listener = Some(listener);
    loop {
        if now(mode) == Mode::Down {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).ok();
            if let Some(listener) = &listener {
                listener.set_nonblocking(true).unwrap();
            }
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((stream, _))) => {
                let mode = mode.clone();
                std::thread::spawn(move || {
                    stream.set_nonblocking(false).unwrap();
                    // Whoever breaks off comes again.
                    let _ = serve(&stream, &mode);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn serve(mut stream: &TcpStream, mode: &AtomicU8) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let is_bulk = line.contains("/_bulk");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length");
            }
        }
        let mode = now(mode);
        if mode == Mode::Reset {
            // What is left unread makes the kernel reset the connection.
            io::copy(&mut (&mut input).take(length / 2), &mut io::sink())?;
            return Ok(());
        }
        let mut feeds = 0;
        let mut rest = (&mut input).take(length);
        loop {
            let read = rest.fill_buf()?;
            if read.is_empty() {
                break;
            }
            feeds += memchr::memchr_iter(b'\n', read).count();
            let length = read.len();
            rest.consume(length);
        }
        let (status, body) = match mode {
            Mode::Good => ("200 OK", r#"{"errors":false,"items":[]}"#.to_owned()),
            Mode::TooManyRequests => ("429 Too Many Requests", "slower".to_owned()),
            Mode::Unavailable => ("503 Service Unavailable", "later".to_owned()),
            Mode::Partial if is_bulk => ("200 OK", partial(feeds / 2)),
            Mode::Partial => ("200 OK", String::new()),
            Mode::Garbage => {
                write!(stream, "220 this is mail\r\n\r\n")?;
                return Ok(());
            }
            Mode::Stall => {
                let _ = input.read(&mut [0])?;
                return Ok(());
            }
            Mode::Down | Mode::Reset => return Ok(()),
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
    }
}

/// Of each ten items one shall come again, and of each thousand one never.
fn partial(items: usize) -> String {
    let error = |status, kind| {
        format!(
            r#"{{"create":{{"status":{status},"error":{{"type":"{kind}","reason":"as told"}}}}}}"#
        )
    };
    let items = (0..items).map(|item| match item {
        item if item % 1000 == 999 => error(400, "document_parsing_exception"),
        item if item % 10 == 3 && items > 10 => error(429, "es_rejected_execution_exception"),
        _ => r#"{"create":{"status":201}}"#.to_owned(),
    });
    let items: Vec<String> = items.collect();
    format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(","))
}

/// Writes two logs until it is told to stop: one is rotated by name every two seconds, and one is
/// copied and truncated every five.
fn write_logs(folder: &Path, stop: &AtomicBool) {
    let line = |number: u64| {
        format!(
            "{{\"n\":{number},\"level\":\"info\",\"path\":\"/api/v1/orders\",\"status\":200,\"user\":\"someone@example.com\",\"msg\":\"a request came in\"}}\n"
        )
    };
    let (rotated, truncated) = (folder.join("a.log"), folder.join("b.log"));
    let mut b = File::create(&truncated).unwrap();
    let mut number = 0;
    let mut turn = 0_u64;
    let every = Duration::from_millis(50);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let mut a = File::options()
            .append(true)
            .create(true)
            .open(&rotated)
            .unwrap();
        for log in [&mut a, &mut b] {
            let lines = LINES_A_SECOND / 20;
            let text: String = (0..u64::from(lines)).map(|n| line(number + n)).collect();
            number += u64::from(lines);
            log.write_all(text.as_bytes()).unwrap();
        }
        turn += 1;
        if turn.is_multiple_of(40) {
            fs::rename(&rotated, rotated.with_extension(format!("log.{turn}"))).unwrap();
        }
        if turn.is_multiple_of(100) {
            b.set_len(0).unwrap();
            b = File::options().append(true).open(&truncated).unwrap();
        }
        std::thread::sleep(every.saturating_sub(begin.elapsed()));
    }
}

fn declare(node: &Node, peer: &Peer) {
    let logs = node.path("logs/*.log");
    let plugin = |name: &str, spec: &str, destination: &str| {
        let spec = format!(
            "{}\nlogs:\n  startAt: beginning\n  sources:\n  - files: {{include: [{logs:?}]}}\n  destinations:\n  - name: out\n    {destination}",
            spec.trim()
        );
        node.manifest(name, &spec);
    };
    let address = peer.address;
    let retry = "timeout: 5s, retry: {max: 2s}";
    let elastic = format!("elasticsearch: {{url: \"http://{address}\", index: logs, {retry}}}");
    plugin("elastic", PARSE, &elastic);
    let http = format!("http: {{url: \"http://{address}/\", {retry}}}");
    plugin("http", PARSE, &http);
    let traps = format!(
        "module:\n  {}\nconfig: {{faults: [{{do: panic, afterBatches: 50}}]}}",
        fixture_file("fixture-logs")
    );
    let file = format!(
        "file: {{path: {:?}, maxSize: 8Mi, keep: 1}}",
        node.path("traps")
    );
    plugin("traps", &traps, &file);
}

/// Goes through all phases and prints what memory each took.
pub(crate) fn table() {
    let part = Duration::from_secs(setting("BULKHEAD_BENCH_FAULT_SECONDS", 10));
    let mut node = Node::new();
    let peer = Peer::start();
    declare(&node, &peer);
    node.start();
    let pid = node.pid();
    for name in ["elastic", "http", "traps"] {
        node.wait_running(name);
    }
    println!(
        "\n## Memory over faults\n\nTwo log-shippers, to Elasticsearch and HTTP, and a plugin that panics at every 50th batch; two logs of {LINES_A_SECOND} lines a second, one rotated every 2 s and one truncated every 5 s.\n"
    );
    println!("| phase | seconds | first PSS MiB | last | highest |\n|---|---:|---:|---:|---:|");
    let stop = AtomicBool::new(false);
    let mut peak = 0.0_f64;
    let pss = || process::pss(pid).expect("it runs") as f64 / 1024.0;
    std::thread::scope(|scope| {
        scope.spawn(|| write_logs(&node.path("logs"), &stop));
        for (mode, name, parts) in PHASES {
            peer.set(mode);
            let time = part * parts;
            let begin = Instant::now();
            // What the last phase left behind is not this one's.
            std::thread::sleep(part / 5);
            let first = pss();
            let (mut last, mut highest) = (first, first);
            while begin.elapsed() < time {
                std::thread::sleep(Duration::from_millis(200));
                last = pss();
                highest = highest.max(last);
            }
            peak = peak.max(highest);
            let seconds = time.as_secs();
            println!("| {name} | {seconds} | {first:.1} | {last:.1} | {highest:.1} |");
        }
        stop.store(true, Ordering::Relaxed);
    });
    for name in ["elastic", "http"] {
        let report = node.wait_plugin(name, "every line", |report| {
            let logs = &report["logs"];
            logs["lag"]["bytes"] == 0 && logs["lines"]["inFlight"] == 0
        });
        let lines = &report["logs"]["lines"];
        let number = |name: &str| lines[name].as_u64().unwrap();
        let settled = number("acknowledged") + number("filtered") + number("deadLettered");
        assert_eq!(settled, number("read"), "{name}: {lines}");
        println!(
            "\n{name}: {lines}, retries {}",
            report["logs"]["destinations"][0]["retries"]
        );
    }
    let traps = node.plugin("traps").unwrap();
    assert_ne!(traps["restarts"], 0, "it never trapped");
    println!(
        "\ntraps: {} restarts. Peak PSS over all: {peak:.1} MiB, peak RSS {:.1} MiB; the bar is {BAR} MiB.",
        traps["restarts"],
        process::peak_rss(pid) as f64 / 1024.0,
    );
    assert!(node.stop().success());
}
