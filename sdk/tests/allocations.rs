//! Readers and builders allocate for a batch, never for a line of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unsafe_code, reason = "there is no other way to write an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bulkhead_sdk::__private::{Instance, logs, metrics, scanning};
use bulkhead_sdk::scanning::{FileKind, Outline};
use bulkhead_sdk::{
    Batch, Collector, Families, Findings, Logs, Metrics, NoConfig, Output, Plugin, Result,
    Scanning, View,
};

thread_local! {
    /// How often this thread asked for memory. Has no destructor and is there from the start, so that it
    /// takes no memory itself.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    ASKED.set(ASKED.get() + 1);
}

// SAFETY: it is the system's allocator, which is given what this one is given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller promises what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; the memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the memory is the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often memory was asked for in `what`.
fn asked<R>(what: impl FnOnce() -> R) -> (usize, R) {
    let before = ASKED.get();
    let result = what();
    (ASKED.get() - before, result)
}

/// What `what` asks of memory must not grow with what it is about, of which there is ten times as much the
/// second time: only buffers do, and each of at most four doubles four times more.
fn check(name: &str, what: impl Fn(usize) -> usize) {
    let (few, many) = (what(1_000), what(10_000));
    assert!(
        many < 50 && many.saturating_sub(few) <= 16,
        "{name}: asked for memory {few} times for 1,000, and {many} times for 10,000"
    );
}

macro_rules! plugin {
    ($name:ident) => {
        struct $name;
        impl Plugin for $name {
            type Config = NoConfig;
            fn new(_: NoConfig) -> Result<Self> {
                Ok(Self)
            }
        }
    };
    ($name:ident, $process:expr) => {
        plugin!($name);
        impl Logs for $name {
            fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
                let process: fn(&Batch, &mut Output) = $process;
                process(batch, out);
                Ok(())
            }
        }
    };
}

plugin!(Filter, |batch, out| {
    out.keep_if(batch, |line| {
        line.text().is_some_and(|text| text.contains(" warn "))
    });
});
plugin!(Rewriter, |batch, out| for line in batch {
    out.rewrite_with(line, |body| {
        body.extend(line.bytes());
        body.make_ascii_uppercase();
    });
});
plugin!(Cutter, |batch, out| for line in batch {
    out.edit(line)
        .part(21..line.bytes().len())
        .time(line.time() + 1);
});
plugin!(Enricher, |batch, out| for line in batch {
    out.edit(line)
        .field("pod", line.source().attribute("k8s.pod.name"))
        .field("length", line.bytes().len())
        .field("share", line.bytes().len() as f64 / 3.0)
        .field("cut", line.is_cut());
});
plugin!(Router, |batch, out| for line in batch {
    let destination = if line.index() % 2 == 0 { "even" } else { "odd" };
    out.enrich(line, br#""zone":"b""#).route(&[destination]);
});
plugin!(Encoder, |batch, out| {
    let mut payload = out.payload();
    for line in batch {
        payload.take(line);
        payload.body().json(line.bytes());
        payload.body().push(b'\n');
    }
});

fn initialised<P: Plugin>() -> Instance<P> {
    let mut instance = Instance::default();
    instance.init("{}").unwrap();
    instance
}

/// How often memory is asked for in a call about so many lines, the first of its instance.
fn processing<P: Logs>(lines: usize) -> usize {
    let mut batch = logs::Batch {
        sources: vec![logs::Source {
            path: "/var/log/a.log".to_owned(),
            attributes: vec![("k8s.pod.name".to_owned(), "web-0".to_owned())],
        }],
        bytes: Vec::new(),
        lines: Vec::new(),
    };
    for index in 0..lines {
        let level = if index % 3 == 0 { "warn" } else { "info" };
        let text =
            format!("2026-01-01T00:00:00Z {level} line {index} of a service that has much to say");
        batch.lines.push(logs::Line {
            time: index as i64,
            offset: batch.bytes.len() as u32,
            length: text.len() as u32,
            source: 0,
            flags: 0,
        });
        batch.bytes.extend_from_slice(text.as_bytes());
    }
    let mut instance = initialised::<P>();
    let (asked, verdict) = asked(|| instance.process(batch));
    verdict.unwrap();
    asked
}

#[test]
fn no_line_costs_an_allocation() {
    check("filter", processing::<Filter>);
    check("rewrite", processing::<Rewriter>);
    check("cut", processing::<Cutter>);
    check("fields", processing::<Enricher>);
    check("route", processing::<Router>);
    check("encode", processing::<Encoder>);
}

plugin!(Meter);
impl Metrics for Meter {
    fn collectors(&mut self) -> Result<Vec<Collector>> {
        Ok(vec![Collector::new("mtu").content("/sys/class/net/*/mtu")])
    }

    fn collect(&mut self, _: usize, view: &View, out: &mut Families) -> Result<()> {
        for file in view.files() {
            let mtu = out.gauge("node_network_mtu_bytes", "How long packets are.");
            let device = file.path().split('/').nth(4).unwrap_or_default();
            out.add(
                mtu,
                &[("device", device)],
                file.text().unwrap().trim().parse()?,
            );
        }
        Ok(())
    }
}

#[test]
fn no_series_costs_an_allocation() {
    check("series", |files| {
        let mut view = metrics::View {
            bytes: Vec::new(),
            files: Vec::new(),
            outcomes: Vec::new(),
        };
        for index in 0..files {
            let path = format!("/sys/class/net/eth{index}/mtu");
            let path_offset = view.bytes.len() as u32;
            view.bytes.extend_from_slice(path.as_bytes());
            view.files.push(metrics::File {
                want: 0,
                path_offset,
                path_length: path.len() as u32,
                offset: view.bytes.len() as u32,
                length: 5,
                error: 0,
                flags: 0,
                modified: 0,
            });
            view.bytes.extend_from_slice(b"1500\n");
        }
        let mut instance = initialised::<Meter>();
        let (asked, families) = asked(|| instance.collect(0, view));
        assert_eq!(families.unwrap().series.len(), files);
        asked
    });
}

plugin!(Seeker);
impl Scanning for Seeker {
    fn outline(&mut self) -> Result<Outline> {
        Ok(Outline::new())
    }

    fn scan(&mut self, batch: &bulkhead_sdk::scanning::Batch, out: &mut Findings) -> Result<()> {
        let mut programs = 0;
        for file in batch {
            let starts = file
                .pieces()
                .any(|piece| piece.bytes().starts_with(b"\x7fELF"));
            let has_capabilities = file
                .attributes()
                .any(|(name, _)| name == b"security.capability");
            programs += u64::from(starts && file.path().starts_with(b"/usr/") && !has_capabilities);
        }
        if let Some(file) = batch.files().next() {
            out.file(&file, "programs").evidence("count", programs);
        }
        Ok(())
    }
}

#[test]
fn no_file_costs_an_allocation() {
    check("files", |files| {
        let mut batch = scanning::Batch {
            bytes: b"/usr/bin/a\x7fELF".to_vec(),
            files: Vec::new(),
            pieces: Vec::new(),
        };
        for index in 0..files as u32 {
            batch.files.push(scanning::File {
                device: 1,
                inode: u64::from(index),
                size: 4,
                modified: 0,
                changed: 0,
                path_offset: 0,
                path_length: 10,
                digests_offset: 0,
                digests_length: 0,
                attributes_offset: 0,
                attributes_length: 0,
                mode: 0o755,
                uid: 0,
                gid: 0,
                links: 1,
                error: 0,
                kind: FileKind::File,
                flags: 0,
            });
            batch.pieces.push(scanning::Piece {
                position: 0,
                file: index,
                offset: 10,
                length: 4,
                last: true,
            });
        }
        let mut instance = initialised::<Seeker>();
        let (asked, findings) = asked(|| instance.scan(batch));
        assert_eq!(
            findings.unwrap()[0].evidence,
            format!("{{\"count\":{files}}}")
        );
        asked
    });
}
