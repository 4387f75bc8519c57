//! What the sandbox costs: an empty call, a packed batch, a fresh instance, a compilation.
//! Run by `make bench`; a bar that is missed is reported, not failed.

#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bulkhead::manifest::{Grants, Limits};
use bulkhead::sandbox::bindings::logs::exports::bulkhead::plugin::logs as wit;
use bulkhead::sandbox::{Blueprint, Environment, Instance, Journal, NodeFolders, Sandbox, Tap};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use wasmtime::component::Component;

fn module(name: &str) -> Vec<u8> {
    let path = Path::new(env!("BULKHEAD_FIXTURES")).join(format!("{name}.wasm"));
    std::fs::read(path).expect("the build script built it")
}

fn blueprint(sandbox: &Sandbox, module: &[u8]) -> Blueprint {
    let component = Component::new(sandbox.engine(), module).expect("a component");
    sandbox
        .link(&component, &Grants::default(), &Limits::default())
        .expect("it links")
}

fn environment() -> Environment {
    Environment {
        journal: Journal::new("bench/bench"),
        state: None,
        usage: Arc::default(),
        tap: Tap::default(),
        seed: None,
    }
}

async fn start(blueprint: &Blueprint, config: &str) -> Instance {
    let mut instance = blueprint.instantiate(&environment()).await.expect("starts");
    instance
        .init(config.to_owned())
        .await
        .expect("answers")
        .expect("accepts");
    instance
}

/// 327 lines of 200 bytes, about 64 KiB; every tenth contains the needle.
fn batch() -> (Vec<u8>, Vec<wit::Line>) {
    let (mut bytes, mut lines) = (Vec::new(), Vec::new());
    for n in 0..327 {
        let needle = if n % 10 == 0 { "needle" } else { "nothing" };
        let line = format!("{n:06} {needle} {:x<186}", "");
        lines.push(wit::Line {
            time: n,
            offset: bytes.len() as u32,
            length: line.len() as u32,
            source: 0,
            flags: 0,
        });
        bytes.extend_from_slice(line.as_bytes());
    }
    (bytes, lines)
}

async fn process(instance: &mut Instance, bytes: &[u8], lines: &[wit::Line]) -> wit::Verdict {
    let guest = instance.logs().expect("the role");
    let sources = [wit::Source {
        path: "/var/log/x",
        attributes: &[],
    }];
    let sources = &sources;
    instance
        .call("logs.process", move |store, _| {
            Box::pin(async move {
                let batch = wit::Batch {
                    sources,
                    bytes,
                    lines,
                };
                guest.call_process(store, batch).await
            })
        })
        .await
        .expect("answers")
        .expect("decides")
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let sandbox = Sandbox::new(Vec::new(), NodeFolders::bare(Vec::new())).expect("a sandbox");
    let minimal = module("fixture_minimal");
    let plugin = blueprint(&sandbox, &minimal);
    let config = r#"{"contains":"needle"}"#;

    let mut instance = runtime.block_on(start(&plugin, config));
    criterion.bench_function("empty call", |bencher| {
        bencher.iter(|| runtime.block_on(async { instance.snapshot().await.expect("answers") }));
    });
    let (bytes, lines) = batch();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("64 KiB, 327 lines, substring filter", |bencher| {
        bencher.iter(|| black_box(runtime.block_on(process(&mut instance, &bytes, &lines))));
    });
    group.bench_function("64 KiB, 1 line, substring filter", |bencher| {
        let line = [wit::Line {
            length: bytes.len() as u32,
            ..lines[0]
        }];
        bencher.iter(|| black_box(runtime.block_on(process(&mut instance, &bytes, &line))));
    });
    group.finish();
    let environment = environment();
    criterion.bench_function("instance start", |bencher| {
        bencher.iter(|| {
            runtime
                .block_on(plugin.instantiate(&environment))
                .expect("starts")
        });
    });
    criterion.bench_function("instance start and init", |bencher| {
        bencher.iter(|| runtime.block_on(start(&plugin, config)));
    });
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for name in ["fixture_minimal", "log_shipper"] {
        let bytes = module(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| Component::new(sandbox.engine(), &bytes).expect("compiles"));
        });
    }
    group.finish();
}

criterion_group!(sandbox, benches);
criterion_main!(sandbox);
