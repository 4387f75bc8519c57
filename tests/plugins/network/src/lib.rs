//! Calls what no plugin may call: runtimes of other languages import it, too.
use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result};

/// A part of `wasi:http`: its interface by name, with a function that takes nothing.
#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, unreachable_pub, missing_docs, reason = "generated code")]
mod bindings {
    wit_bindgen::generate!({
        inline: "package wasi:http@0.2.3; interface outgoing-handler { handle: func(); }
                 world network { import outgoing-handler; }",
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
        bindings::wasi::http::outgoing_handler::handle();
        out.keep_all(batch);
        Ok(())
    }
}

bulkhead_sdk::export!(Network: Logs);
