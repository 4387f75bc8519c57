//! Calls what no plugin may call: runtimes of other languages import it, too.
use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result};

/// In the name of `wasi:http`, in a version that the linker has no definitions of.
#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, unreachable_pub, missing_docs, reason = "generated code")]
mod bindings {
    wit_bindgen::generate!({
        inline: "package wasi:http@0.9.0; interface client { send: func(); }
                 world network { import client; }",
        generate_all,
    });
}

struct Network;

impl Plugin for Network {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Network)
    }
}

impl Logs for Network {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        #[cfg(target_arch = "wasm32")]
        bindings::wasi::http::client::send();
        out.keep_all(batch);
        Ok(())
    }
}

bulkhead_sdk::export!(Network: Logs);
