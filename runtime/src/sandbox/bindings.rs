//! Bindings to the contract in `sdk/wit`, generated; nothing is written by hand here.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
#![allow(
    unsafe_code,
    reason = "generated: typed functions looked up with the types of the WIT"
)]

/// The lifecycle, and every import of the contract.
pub mod plugin {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "bulkhead:plugin/plugin@0.1.1",
        imports: { default: async | trappable },
        exports: { default: async },
        additional_derives: [serde::Serialize],
    });
}

/// The role `logs`. Batches are passed by reference, so that a call copies them once, into the guest.
pub mod logs {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "bulkhead:plugin/logs-role@0.1.1",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        additional_derives: [PartialEq, serde::Serialize],
    });
}

/// The role `enforcement`. Files are passed by reference, so that a call copies them once, into the guest.
pub mod enforcement {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "bulkhead:plugin/enforcement-role@0.1.1",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        additional_derives: [PartialEq, serde::Serialize],
    });
}

/// The role `metrics`. Files are passed by reference, so that a call copies them once, into the guest.
pub mod metrics {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "bulkhead:plugin/metrics-role@0.1.1",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        additional_derives: [PartialEq, serde::Serialize],
    });
}

/// The role `scanning`. Files are passed by reference, so that a call copies them once, into the guest.
pub mod scanning {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "bulkhead:plugin/scanning-role@0.1.1",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        additional_derives: [PartialEq, serde::Serialize],
    });
}
