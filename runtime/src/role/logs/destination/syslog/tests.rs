#![allow(clippy::unwrap_used, clippy::panic)]

mod encoding;
mod parser;
mod sending;

use serde_json::{Value, json};

use super::*;
use crate::role::logs::destination::secrets::DaemonSecrets;
use crate::role::logs::destination::{Opened, open};

/// A destination with these fields beside `address`.
fn opened(address: &str, fields: &Value) -> Opened {
    let mut fields = fields.clone();
    fields["address"] = address.into();
    let manifest = json!({"name": "out", "syslog": fields});
    open(&serde_json::from_value(manifest).unwrap(), &surroundings()).unwrap()
}

fn surroundings() -> Surroundings {
    Surroundings {
        node_root: Arc::from(std::path::Path::new("/")),
        secrets: Arc::new(DaemonSecrets::offline()),
        machine: Machine::new("test"),
        node_name: Arc::from("node-1"),
    }
}
