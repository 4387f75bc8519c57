//! What a manifest means, as a digest: two manifests with one digest need no update between them.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::identity::Identity;
use super::spec::{Module, Plugin};

/// SHA-256 over what a manifest means.
pub(super) fn digest(
    identity: &Identity,
    spec: &Plugin,
    binary_data: &BTreeMap<String, Vec<u8>>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(identity.to_string());
    // Types whose serialization cannot fail: text keys, and no foreign code.
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    // Where it runs says nothing of how.
    if let Some(fields) = value.as_object_mut() {
        fields.remove("nodeSelector");
        fields.remove("nodeExpressions");
    }
    hash_value(&value, &mut hash);
    if let Module::BinaryData { key, .. } = &spec.module
        && let Some(bytes) = binary_data.get(key)
    {
        hash.update(bytes);
    }
    hash.finalize().into()
}

/// Hashes a value so that the order of keys makes no difference and no two values look alike.
fn hash_value(value: &serde_json::Value, hash: &mut Sha256) {
    use serde_json::Value;
    let length = |hash: &mut Sha256, kind: u8, n: usize| {
        hash.update([kind]);
        hash.update((n as u64).to_le_bytes());
    };
    match value {
        Value::Object(members) => {
            length(hash, b'{', members.len());
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            for (key, value) in members {
                length(hash, b'k', key.len());
                hash.update(key);
                hash_value(value, hash);
            }
        }
        Value::Array(items) => {
            length(hash, b'[', items.len());
            items.iter().for_each(|item| hash_value(item, hash));
        }
        Value::String(text) => {
            length(hash, b'"', text.len());
            hash.update(text);
        }
        scalar => {
            let text = scalar.to_string();
            length(hash, b'#', text.len());
            hash.update(text);
        }
    }
}
