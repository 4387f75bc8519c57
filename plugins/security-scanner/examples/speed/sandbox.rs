//! The engine as the daemon would run it: a component under wasmtime, which yields to its clock.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{Row, cpu, read};

/// How much content goes into one call, if files are small.
const BATCH: usize = 1 << 20;

struct State {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }
}

/// Builds the component and compiles it.
pub(crate) fn compile() -> Component {
    let folder = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let folder = Path::new(&folder).join("guests");
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args([
            "build",
            "--locked",
            "--package",
            "security-scanner",
            "--example",
            "guest",
        ])
        .args([
            "--target",
            "wasm32-wasip2",
            "--profile",
            "guest",
            "--target-dir",
        ])
        .arg(&folder)
        .status()
        .expect("cargo");
    assert!(
        status.success(),
        "the guest could not be built; run: rustup target add wasm32-wasip2"
    );
    let path = folder.join("wasm32-wasip2/guest/examples/guest.wasm");
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(false);
    let engine = Engine::new(&config).expect("an engine");
    let bytes = read(&path);
    println!("the component has {} KiB", bytes.len() / 1024);
    Component::new(&engine, bytes).expect("a component")
}

pub(crate) fn scan(component: &Component, rules: &str, files: &[PathBuf]) -> Row {
    let before = cpu();
    let engine = component.engine();
    let mut linker: Linker<State> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("WASI");
    let state = State {
        ctx: WasiCtx::builder().build(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(engine, state);
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = linker
        .instantiate(&mut store, component)
        .expect("an instance");
    let load = instance
        .get_typed_func::<(&str,), (Result<u32, String>,)>(&mut store, "load")
        .expect("load");
    let scan = instance
        .get_typed_func::<(&[u8], &[u32]), (Vec<(u32, u32, u32)>,)>(&mut store, "scan")
        .expect("scan");
    let (loaded,) = load.call(&mut store, (rules,)).expect("no trap");
    loaded.expect("rules");
    let loading = cpu() - before;
    let mut matches = BTreeSet::new();
    let (mut batch, mut ends, mut first) = (Vec::new(), Vec::new(), 0);
    for (index, path) in files.iter().enumerate() {
        let mut file = std::fs::File::open(path).expect("a file");
        std::io::Read::read_to_end(&mut file, &mut batch).expect("content");
        ends.push(batch.len() as u32);
        if batch.len() < BATCH && index + 1 < files.len() {
            continue;
        }
        let (hits,) = scan.call(&mut store, (&batch, &ends)).expect("no trap");
        matches.extend(
            hits.into_iter()
                .map(|(file, rule, _)| (first + file as usize, format!("generated_{rule}"))),
        );
        first = index + 1;
        batch.clear();
        ends.clear();
    }
    Row {
        name: "sandbox",
        matches,
        cpu: cpu() - before,
        loading,
    }
}
