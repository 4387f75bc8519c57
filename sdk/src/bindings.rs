//! The bindings that `wit-bindgen` generates from `sdk/wit`, and nothing else.
//!
//! The only module with unsafe code: the canonical ABI moves raw pointers between guest and host, and
//! all of it is generated. One `generate!` for what every plugin has, one for each role, because the
//! component's type is the union of the worlds whose `export!` a plugin uses: a role that a plugin
//! does not have leaves no trace in its component.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::panic,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code"
)]

/// The imports, and the exported interface `lifecycle`.
pub mod lifecycle {
    wit_bindgen::generate!({
        world: "plugin",
        path: "wit",
        additional_derives: [serde::Serialize, serde::Deserialize],
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        runtime_path: "bulkhead_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "bulkhead_sdk::__private::bindings::lifecycle",
    });
}

/// The exported interface `logs`, without the lifecycle.
pub mod logs {
    wit_bindgen::generate!({
        inline: "package bulkhead:sdk; world logs-role { export bulkhead:plugin/logs@0.1.1; }",
        path: "wit",
        additional_derives: [serde::Serialize, serde::Deserialize],
        pub_export_macro: true,
        export_macro_name: "export_logs",
        runtime_path: "bulkhead_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "bulkhead_sdk::__private::bindings::logs",
        generate_all,
    });
}

/// The exported interface `metrics`, without the lifecycle.
pub mod metrics {
    wit_bindgen::generate!({
        inline: "package bulkhead:sdk; world metrics-role { export bulkhead:plugin/metrics@0.1.1; }",
        path: "wit",
        additional_derives: [serde::Serialize, serde::Deserialize],
        pub_export_macro: true,
        export_macro_name: "export_metrics",
        runtime_path: "bulkhead_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "bulkhead_sdk::__private::bindings::metrics",
        generate_all,
    });
}

/// The exported interface `enforcement`, without the lifecycle.
pub mod enforcement {
    wit_bindgen::generate!({
        inline: "package bulkhead:sdk; world enforcement-role { export bulkhead:plugin/enforcement@0.1.1; }",
        path: "wit",
        additional_derives: [serde::Serialize, serde::Deserialize],
        pub_export_macro: true,
        export_macro_name: "export_enforcement",
        runtime_path: "bulkhead_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "bulkhead_sdk::__private::bindings::enforcement",
        generate_all,
    });
}

/// The exported interface `scanning`, without the lifecycle.
pub mod scanning {
    wit_bindgen::generate!({
        inline: "package bulkhead:sdk; world scanning-role { export bulkhead:plugin/scanning@0.1.1; }",
        path: "wit",
        additional_derives: [serde::Serialize, serde::Deserialize],
        pub_export_macro: true,
        export_macro_name: "export_scanning",
        runtime_path: "bulkhead_sdk::__private::wit_bindgen::rt",
        default_bindings_module: "bulkhead_sdk::__private::bindings::scanning",
        generate_all,
    });
}
