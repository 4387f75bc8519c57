//! Plans for nodes in any state.

use bulkhead_sdk::testing::{Harness, Node};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::ConfigEnforcer;

const PATHS: &[&str] = &[
    "/d",
    "/d/whole",
    "/d/lines",
    "/d/ini",
    "/d/sshd",
    "/d/yaml",
    "/d/json",
    "/d/link",
    "/d/many/a",
    "/d/many/b",
    "/d/gone",
    "/d/gone/a/b",
];

fn config() -> String {
    let setting = |id: &str, format: &str, set: serde_json::Value| json!({"id": id, "notify": ["h"], "setting": {"path": format!("/d/{id}"), "format": format, "set": set, "ifMissing": "create"}});
    json!({
        "handlers": [{"id": "h", "unit": "h.service"}],
        "resources": [
            {"id": "d", "directory": {"path": "/d", "mode": "0750"}},
            {"id": "whole", "file": {"path": "/d/whole", "template": "{{ os.id }}\n", "owner": "app"}},
            {"id": "line", "line": {"path": "/d/lines", "line": "a", "ifMissing": "create"}},
            {"id": "other line", "line": {"path": "/d/lines", "line": "b = 1", "match": "^b", "insertBefore": "^a", "ifMissing": "create"}},
            {"id": "no line", "line": {"path": "/d/lines", "match": "^x", "state": "absent"}},
            setting("ini", "ini", json!({"a": "b"})),
            setting("sshd", "sshd", json!({"a": "b"})),
            setting("yaml", "yaml", json!({"a": "b", "b.c": [1]})),
            setting("json", "json", json!({"a": "b", "b.c": [1]})),
            {"id": "link", "symlink": {"path": "/d/link", "target": "whole"}},
            {"id": "many", "permissions": {"path": "/d/many/*", "maxMode": "0600", "group": 7}},
            {"id": "gone", "absent": {"path": "/d/gone", "recursive": true}},
            {"id": "set", "sysctl": {"name": "a.b", "value": 1, "ifMissing": "notApplicable"}},
            {"id": "module", "kernelModule": {"name": "m", "state": "loaded"}},
            {"id": "unit", "unit": {"name": "u.service", "enabled": true, "running": true, "masked": false, "ifMissing": "notApplicable"}},
            {"id": "check", "check": {"path": "/d/*", "noLine": "x"}},
        ]
    })
    .to_string()
}

/// What may be at a path.
#[derive(Debug, Clone)]
enum Thing {
    Nothing,
    File(Vec<u8>),
    Folder,
    Link,
    Device,
    Unreadable,
}

fn thing() -> impl Strategy<Value = Thing> {
    let text = prop::collection::vec(
        prop::sample::select(
            &[
                "a", "b", "x", " = ", ": ", "\n", "\r\n", "{", "}", "[", "]", "#", "1", ",", "\"",
                "  ",
            ][..],
        ),
        0..12,
    );
    prop_oneof![
        2 => Just(Thing::Nothing),
        4 => text.prop_map(|parts| Thing::File(parts.concat().into_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Thing::File),
        1 => Just(Thing::Folder),
        1 => Just(Thing::Link),
        1 => Just(Thing::Device),
        1 => Just(Thing::Unreadable),
    ]
}

fn node(things: &[Thing], state: u8, mode: u32) -> Node {
    let units = ["enabled", "disabled", "masked", "static"];
    let mut node = Node::new().user("app", 5).fact("os.id", "debian");
    node = node.unit("h.service", "enabled", "active");
    if state & 1 == 0 {
        node = node.sysctl("a.b", "0").module("m", state & 2 == 0);
    }
    let active = if state & 4 == 0 { "active" } else { "failed" };
    node = node.unit("u.service", units[usize::from(state >> 3) % 4], active);
    let mut places = vec!["/d"];
    for (path, thing) in PATHS.iter().zip(things) {
        let parent = path.rsplit_once('/').unwrap().0;
        // A tree as there can be one: things are in folders.
        if !parent.is_empty()
            && !places.contains(&parent)
            && parent != "/d/many"
            && parent != "/d/gone/a"
        {
            continue;
        }
        let with = match thing {
            Thing::Nothing => continue,
            Thing::File(content) => node.file(path, content),
            Thing::Folder => {
                places.push(path);
                node.directory(path)
            }
            Thing::Link => node.link(path, "elsewhere"),
            Thing::Device => node.device(path),
            Thing::Unreadable => node.unreadable(path, 5),
        };
        node = with.mode(path, mode);
    }
    node.directory("/d").mode("/d", mode)
}

#[test]
fn any_node_is_brought_as_far_as_it_can_be() {
    let things = prop::collection::vec(thing(), PATHS.len());
    let mut plugin = Harness::<ConfigEnforcer>::new(&config()).unwrap();
    let plugin = std::cell::RefCell::new(&mut plugin);
    TestRunner::new(Config::with_cases(2000))
        .run(
            &(things, any::<u8>(), 0..0o7777u32),
            |(things, state, mode)| {
                let mut node = node(&things, state, mode);
                let planned = plugin.borrow_mut().plan(&node).unwrap();
                prop_assert_eq!(
                    planned
                        .rules()
                        .iter()
                        .filter(|it| planned.verdict(&it.id).is_none())
                        .count(),
                    0
                );
                let applied = node.apply(&planned);
                prop_assert!(applied.is_ok(), "{:?}: {:?}", applied, planned.ids());
                let again = plugin.borrow_mut().plan(&node).unwrap();
                prop_assert!(again.is_empty(), "{:?}", again.ids());
                Ok(())
            },
        )
        .unwrap();
}
