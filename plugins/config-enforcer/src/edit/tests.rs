//! Edits by example, and with any text.

use proptest::prelude::*;
use serde_json::json;

use super::Edit;

fn setting(config: serde_json::Value) -> Edit {
    let mut config = config;
    config["path"] = "/x".into();
    Edit::setting(&serde_json::from_value(config).unwrap()).unwrap()
}

fn line(config: serde_json::Value) -> Edit {
    let mut config = config;
    config["path"] = "/x".into();
    Edit::line(&serde_json::from_value(config).unwrap()).unwrap()
}

fn refused(config: serde_json::Value) -> String {
    let mut config = config;
    config["path"] = "/x".into();
    let parsed = serde_json::from_value(config.clone());
    let error = match parsed {
        Ok(config) => Edit::setting(&config).err().unwrap(),
        Err(_) => {
            let config = serde_json::from_value(config).unwrap();
            Edit::line(&config).err().unwrap()
        }
    };
    error.to_string()
}

/// What the edit makes of the text, which it leaves alone the second time.
fn edited(edit: &Edit, text: &str) -> String {
    let Some(edited) = edit.apply(text).unwrap() else {
        return text.to_owned();
    };
    assert_ne!(edited.text, text, "it says that it changed something");
    assert!(!edited.found.is_empty());
    assert_eq!(
        edit.apply(&edited.text).unwrap(),
        None,
        "again: {:?}",
        edited.text
    );
    edited.text
}

#[test]
fn puts_a_line() {
    let plain = line(json!({"line": "b"}));
    assert_eq!(edited(&plain, "a\n"), "a\nb\n");
    assert_eq!(edited(&plain, "a"), "a\nb");
    assert_eq!(edited(&plain, ""), "b\n");
    assert_eq!(edited(&plain, "b\na\n"), "b\na\n");
    assert_eq!(edited(&plain, "a\r\nc\r\n"), "a\r\nc\r\nb\r\n");
    let matched = line(json!({"line": "max = 3", "match": r"^#?\s*max\s*="}));
    assert_eq!(
        edited(&matched, "# max = 1\nx\nmax=2\ny\n"),
        "# max = 1\nx\nmax = 3\ny\n"
    );
    assert_eq!(edited(&matched, "x\r\nmax=2"), "x\r\nmax = 3");
    let before = line(json!({"line": "b", "insertBefore": "^c"}));
    assert_eq!(edited(&before, "a\nc\nc\n"), "a\nb\nc\nc\n");
    assert_eq!(edited(&before, "a\n"), "a\nb\n");
    let after = line(json!({"line": "b", "insertAfter": "^a"}));
    assert_eq!(edited(&after, "a\na\nc"), "a\na\nb\nc");
}

#[test]
fn removes_lines() {
    let exact = line(json!({"line": "b", "state": "absent"}));
    assert_eq!(edited(&exact, "a\nb\nbb\nb"), "a\nbb\n");
    let matched = line(json!({"match": "^b", "state": "absent"}));
    assert_eq!(edited(&matched, "\u{feff}b\na\nbb\n"), "\u{feff}a\n");
}

#[test]
fn refuses_lines_that_cannot_be() {
    let why = |config| refused(config);
    assert_eq!(why(json!({"line": "a\nb"})), "line: is not one line");
    assert_eq!(why(json!({"state": "present"})), "line: is missing");
    assert!(why(json!({"line": "a", "match": "b"})).starts_with("match: it does not match"));
    assert!(why(json!({"line": "a", "match": "("})).starts_with("match: no regular expression"));
    assert!(why(json!({"state": "absent"})).starts_with("which lines"));
}

#[test]
fn sets_keys_of_an_ini_file() {
    let edit =
        setting(json!({"format": "ini", "section": "Journal", "set": {"Storage": "persistent"}}));
    assert_eq!(
        edited(
            &edit,
            "# top\n[Journal]\n#Storage=auto\nCompress = yes\n\n[Other]\nStorage=x\n"
        ),
        "# top\n[Journal]\n#Storage=auto\nCompress = yes\nStorage = persistent\n\n[Other]\nStorage=x\n"
    );
    assert_eq!(
        edited(&edit, "[Journal]\nStorage = auto\nStorage=volatile\n"),
        "[Journal]\nStorage = persistent\nStorage=persistent\n"
    );
    assert_eq!(
        edited(&edit, "[Journal]\n[B]\n"),
        "[Journal]\nStorage=persistent\n[B]\n"
    );
    assert_eq!(
        edited(&edit, "[B]\na=1"),
        "[B]\na=1\n\n[Journal]\nStorage=persistent"
    );
    assert_eq!(edited(&edit, ""), "[Journal]\nStorage=persistent\n");
    let global = setting(json!({"format": "ini", "set": {"a": 1}, "unset": ["b"]}));
    assert_eq!(edited(&global, "[S]\nb=1\n"), "a=1\n[S]\nb=1\n");
    assert_eq!(edited(&global, "b=2\na=0\n[S]\nb=1\n"), "a=1\n[S]\nb=1\n");
    let goes_on = global.apply("a=1 \\\n b\n").err().unwrap().to_string();
    assert!(goes_on.contains("goes on in the line below"), "{goes_on}");
}

#[test]
fn sets_keys_and_words() {
    let edit = setting(json!({"format": "keyValue", "set": {"net.ipv4.ip_forward": 0}}));
    assert_eq!(
        edited(&edit, "# x\nnet.ipv4.ip_forward = 1\n"),
        "# x\nnet.ipv4.ip_forward = 0\n"
    );
    assert_eq!(edited(&edit, "a = 1\n"), "a = 1\nnet.ipv4.ip_forward = 0\n");
    assert_eq!(
        edited(&edit, "A=\"[x]\"\n"),
        "A=\"[x]\"\nnet.ipv4.ip_forward=0\n"
    );
    let words = setting(json!({"format": "words", "set": {"PASS_MAX_DAYS": 365, "UMASK": "027"}}));
    assert_eq!(
        edited(&words, "# PASS_MAX_DAYS\nPASS_MAX_DAYS\t99999\nUMASK\n"),
        "# PASS_MAX_DAYS\nPASS_MAX_DAYS\t365\nUMASK 027\n"
    );
}

#[test]
fn sets_keywords_of_sshd() {
    let edit = setting(json!({"format": "sshd", "set": {"PermitRootLogin": "no"}}));
    let default = "# c\nInclude /etc/ssh/sshd_config.d/*.conf\n#PermitRootLogin yes\nMatch User a\n  PermitRootLogin yes\n";
    assert_eq!(
        edited(&edit, default),
        "# c\nPermitRootLogin no\nInclude /etc/ssh/sshd_config.d/*.conf\n#PermitRootLogin yes\nMatch User a\n  PermitRootLogin yes\n"
    );
    assert_eq!(
        edited(&edit, "permitrootlogin=yes\nPermitRootLogin no\n"),
        "PermitRootLogin no\nPermitRootLogin no\n"
    );
    assert_eq!(
        edited(&edit, "PermitRootLogin \"no\" # x\n"),
        "PermitRootLogin \"no\" # x\n"
    );
    assert_eq!(
        edited(&edit, "Include x\nPermitRootLogin no\n"),
        "PermitRootLogin no\nInclude x\nPermitRootLogin no\n"
    );
    assert_eq!(edited(&edit, "Port 22"), "Port 22\nPermitRootLogin no");
    let adds = setting(json!({"format": "sshd", "set": {"Port": 2222}}));
    assert_eq!(
        edited(&adds, "Port 22\nx y\nport 2222\nMatch all\n"),
        "Port 2222\nx y\nMatch all\n"
    );
    let quoted =
        setting(json!({"format": "sshd", "set": {"Banner": "\"/a b\""}, "unset": ["Port"]}));
    assert_eq!(
        edited(&quoted, "Port 1\nBanner none\n"),
        "Banner \"/a b\"\n"
    );
    assert!(
        refused(json!({"format": "sshd", "set": {"Match": "x"}})).contains("is not set this way")
    );
    let twice = json!({"format": "sshd", "set": {"Port": 1, "port": 2}});
    assert!(refused(twice).contains("upper case is lower case"));
}

#[test]
fn sets_keys_of_yaml() {
    let edit =
        setting(json!({"format": "yaml", "set": {"authentication.anonymous.enabled": false}}));
    let text = "# top\nkind: X # kind\nauthentication:\n  anonymous:\n    enabled: true # why\n  webhook:\n    enabled: true\n";
    let after = text.replacen("enabled: true # why", "enabled: false # why", 1);
    assert_eq!(edited(&edit, text), after);
    assert_eq!(
        edited(
            &edit,
            "authentication:\n    webhook: # w\n        enabled: true # e\n\n# end\nz: 1\n"
        ),
        "authentication:\n    webhook: # w\n        enabled: true # e\n    anonymous:\n      enabled: false\n\n# end\nz: 1\n"
    );
    assert_eq!(
        edited(&edit, "authentication: # none yet\nz: 1\n"),
        "authentication: # none yet\n  anonymous:\n    enabled: false\nz: 1\n"
    );
    assert_eq!(
        edited(&edit, "a: 1"),
        "a: 1\nauthentication:\n  anonymous:\n    enabled: false"
    );
    assert_eq!(
        edited(&edit, ""),
        "authentication:\n  anonymous:\n    enabled: false\n"
    );
    assert_eq!(
        edited(&edit, "---\na: |\n  x\n  y\n"),
        "---\na: |\n  x\n  y\nauthentication:\n  anonymous:\n    enabled: false\n"
    );
    assert_eq!(
        edited(&edit, "authentication: {webhook: {enabled: true}}\n"),
        "authentication: {webhook: {enabled: true}, anonymous: {enabled: false}}\n"
    );
    assert_eq!(
        edited(&edit, "authentication: {}\n"),
        "authentication: {anonymous: {enabled: false}}\n"
    );
    assert_eq!(
        edited(&edit, "a: 1\r\nb: 2\r\n"),
        "a: 1\r\nb: 2\r\nauthentication:\r\n  anonymous:\r\n    enabled: false\r\n"
    );
    let list = setting(json!({"format": "yaml", "set": {"tls": ["A", "B"], "s": "on"}}));
    assert_eq!(
        edited(&list, "tls:\n- X\n- Y # no\ns: 'off'\n"),
        "tls:\n- A\n- B # no\ns: 'on'\n"
    );
    assert_eq!(
        edited(&list, "tls: [X]\ns: off\n"),
        "tls: [A, B]\ns: \"on\"\n"
    );
    assert_eq!(
        edited(&list, "tls: [A, 'B']\ns: \"on\"\n"),
        "tls: [A, 'B']\ns: \"on\"\n"
    );
    let gone = setting(json!({"format": "yaml", "unset": ["b.c"]}));
    assert_eq!(
        edited(&gone, "b:\n  c: # x\n  - 1\n  d: 2\n"),
        "b:\n  d: 2\n"
    );
    assert_eq!(edited(&gone, "b: {c: 1, d: 2}\n"), "b: {d: 2}\n");
}

#[test]
fn changes_nothing_where_yaml_is_beyond_it() {
    let edit = setting(json!({"format": "yaml", "set": {"a.b": 1}}));
    let why = |text: &str| edit.apply(text).err().unwrap().to_string();
    assert_eq!(
        why("a: &x {b: 2}\nc: *x\n"),
        "`a.b`: there is an anchor (`&`)"
    );
    assert_eq!(
        why("a: {b: 2}\n---\nb: 1\n"),
        "`a.b`: there is more than one document"
    );
    assert_eq!(why("a: text\n"), "`a.b`: `a` is not a mapping");
    assert_eq!(why("- a\n"), "`a.b`: is not a mapping");
    assert_eq!(
        why("a: {b: 2, b: 3}\n"),
        "`a.b`: the key `b` stands there twice"
    );
    assert!(why("a: [1\n").starts_with("`a.b`: cannot be parsed"));
    assert!(why("a:\n  b:\n    c: 1\n").contains("holds a mapping there"));
    assert!(why("a:\n  b: |\n    c\n").contains("several lines"));
}

#[test]
fn sets_keys_of_json() {
    let edit = setting(json!({"format": "json", "set": {"log.level": "warn", "x": [1, true]}}));
    assert_eq!(
        edited(
            &edit,
            "{\n\t\"log\": {\"level\": \"info\"},\n\t\"x\": []\n}\n"
        ),
        "{\n\t\"log\": {\"level\": \"warn\"},\n\t\"x\": [1,true]\n}\n"
    );
    assert_eq!(
        edited(&edit, "{\n  \"a\": 1\n}"),
        "{\n  \"a\": 1,\n  \"log\": {\"level\":\"warn\"},\n  \"x\": [1,true]\n}"
    );
    assert_eq!(
        edited(&edit, ""),
        "{\n  \"log\": {\"level\":\"warn\"},\n  \"x\": [1,true]\n}\n"
    );
    assert_eq!(
        edited(&edit, "{}\n"),
        "{\n  \"log\": {\"level\":\"warn\"},\n  \"x\": [1,true]\n}\n"
    );
    let why = edit.apply("{\"a\": 1,}").err().unwrap().to_string();
    assert!(why.contains("is no JSON"), "{why}");
    let gone = setting(json!({"format": "json", "unset": ["/a.b"]}));
    assert_eq!(edited(&gone, "{\"a.b\": 1, \"c\": 2}"), "{\"c\": 2}");
    assert_eq!(edited(&gone, "{\"c\": 2, \"a.b\": 1}"), "{\"c\": 2}");
}

#[test]
fn refuses_values_that_the_format_cannot_hold() {
    let why = |config| refused(config);
    assert_eq!(
        why(json!({"format": "ini"})),
        "neither `set` nor `unset` names a key"
    );
    assert!(why(json!({"format": "ini", "set": {"a": [1]}})).starts_with("set.a: is a list"));
    assert!(why(json!({"format": "ini", "set": {"a": "x\ny"}})).contains("is not one line"));
    assert!(why(json!({"format": "ini", "set": {"a=b": 1}})).contains("no key of such a file"));
    assert!(why(json!({"format": "words", "set": {"a b": 1}})).contains("no key of such a file"));
    assert!(why(json!({"format": "yaml", "set": {"a": {"b": 1}}})).contains("one by one"));
    assert!(
        why(json!({"format": "yaml", "set": {"a": 1, "a.b": 1}}))
            .contains("leads through the same key")
    );
    assert!(why(json!({"format": "yaml", "set": {"a..b": 1}})).contains("empty name"));
    assert!(why(json!({"format": "yaml", "set": {"a": null}})).contains("list it in `unset`"));
    assert!(
        why(json!({"format": "json", "section": "s", "set": {"a": 1}})).starts_with("section: ")
    );
    assert!(
        why(json!({"format": "json", "set": {"a": 1}, "unset": ["a"]})).starts_with("unset[0]")
    );
}

fn all() -> Vec<Edit> {
    vec![
        line(json!({"line": "key = b"})),
        line(json!({"line": "key = b", "match": "^key *="})),
        line(json!({"line": "x", "insertBefore": "^k"})),
        line(json!({"match": "k", "state": "absent"})),
        setting(json!({"format": "ini", "section": "s", "set": {"key": "b"}})),
        setting(json!({"format": "ini", "set": {"key": "b"}, "unset": ["k"]})),
        setting(json!({"format": "keyValue", "set": {"key": "b"}})),
        setting(json!({"format": "words", "set": {"key": "b"}})),
        setting(json!({"format": "sshd", "set": {"key": "b", "Port": "1"}})),
        setting(json!({"format": "yaml", "set": {"key": "b", "k.s": 1}})),
        setting(json!({"format": "yaml", "set": {"key": ["b"]}, "unset": ["k"]})),
        setting(json!({"format": "json", "set": {"key": "b", "k.s": 1}})),
        setting(json!({"format": "json", "unset": ["key", "k.s"]})),
    ]
}

/// Lines that the edits care about, in every state of disorder.
fn text() -> impl Strategy<Value = String> {
    const PARTS: &[&str] = &[
        "key",
        "k",
        "s",
        "=",
        " = ",
        ": ",
        ":",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\n\n",
        "b",
        "'b'",
        "\"b\"",
        "[s]",
        "[t]",
        "[",
        "]",
        "{",
        "}",
        ",",
        "#",
        " # c",
        "-",
        "- ",
        "|",
        "\\",
        "Match",
        "Include x",
        "Port 1",
        "port",
        "key: b",
        "key=b",
        "key b",
        "\t",
        "ä",
        "\u{feff}",
        "---",
        "&a",
        "*a",
        "!t",
        "k:\n  s: 2\n",
        "\"key\": \"x\"",
        "{\"k\": {\"s\": 1}}",
        "null",
        "~",
        "1",
        "x",
        "?",
        ">",
    ];
    let part = prop::sample::select(PARTS);
    prop_oneof![
        3 => prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat()),
        1 => any::<String>(),
    ]
}

fn check(edit: &Edit, text: &str) -> Result<(), TestCaseError> {
    // An error is an answer.
    let Ok(Some(edited)) = edit.apply(text) else {
        return Ok(());
    };
    let again = edit.apply(&edited.text);
    prop_assert_eq!(
        &again.map_err(|it| it.to_string()),
        &Ok(None),
        "{:?}: {:?} -> {:?}",
        edit,
        text,
        edited.text
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_is_edited_once_or_refused(text in text()) {
        for edit in all() {
            check(&edit, &text)?;
        }
    }

    #[test]
    fn other_lines_stay(lines in prop::collection::vec("[a-z#; \t=\"]{0,12}", 0..20), at in any::<prop::sample::Index>()) {
        // None of these lines is about the key, and all come out again in their order.
        let mut lines: Vec<String> = lines.into_iter().filter(|it| !it.contains("zz")).collect();
        let without = lines.join("\n");
        lines.insert(at.index(lines.len() + 1), "zz = 1".to_owned());
        let with = lines.join("\n");
        for format in ["ini", "keyValue"] {
            let edit = setting(json!({"format": format, "set": {"zz": "2"}}));
            let replaced = edited(&edit, &with);
            prop_assert_eq!(&replaced, &with.replace("zz = 1", "zz = 2"));
            let added = edited(&edit, &without);
            let kept: Vec<&str> = added.lines().filter(|it| !it.contains("zz")).collect();
            prop_assert_eq!(kept, without.lines().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_document_holds_what_it_held_and_the_change(document in document(), json in any::<bool>(), pretty in any::<bool>()) {
        let text = match (json, pretty) {
            (true, true) => serde_json::to_string_pretty(&document).unwrap(),
            (true, false) => document.to_string(),
            (false, _) => block(&document, 0),
        };
        let format = if json { "json" } else { "yaml" };
        let edit = setting(json!({"format": format, "set": {"a.b": "w v", "c": [1, "x"]}}));
        let Ok(outcome) = edit.apply(&text) else {
            // A list, a text or a number where a mapping is needed, or the other way round.
            let is = |value: Option<&serde_json::Value>| value.is_some_and(|it| !it.is_object() && !it.is_null());
            let inner = document.get("a").and_then(|it| it.get("b"));
            prop_assert!(
                is(document.get("a")) || inner.is_some_and(|it| it.is_object() || it.is_array())
                    || document.get("c").is_some_and(|it| it.is_object() || it.is_array()),
                "{}", text
            );
            return Ok(());
        };
        let after = outcome.map_or(text.clone(), |it| it.text);
        let mut expected = document.clone();
        if expected["a"].is_null() {
            expected["a"] = json!({});
        }
        expected["a"]["b"] = json!("w v");
        expected["c"] = json!([1, "x"]);
        let parsed = crate::yaml::parse(&after).unwrap().root.unwrap().value().unwrap();
        prop_assert_eq!(&parsed, &expected);
        if json {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&after).unwrap(), expected);
        }
    }
}

fn document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        "[a-zA-Z0-9 :#'\"{}\\-]{0,8}".prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            map(inner),
        ]
    });
    map(value)
}

fn map(
    inner: impl Strategy<Value = serde_json::Value>,
) -> impl Strategy<Value = serde_json::Value> {
    prop::collection::btree_map("[abcd]", inner, 0..4)
        .prop_map(|it| serde_json::Value::Object(it.into_iter().collect()))
}

/// YAML in block style.
fn block(value: &serde_json::Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        serde_json::Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| match value {
                serde_json::Value::Object(inner) if !inner.is_empty() => {
                    format!("{indent}{key}:\n{}", block(value, depth + 1))
                }
                serde_json::Value::Array(items) if !items.is_empty() => {
                    let items = items.iter().map(|it| format!("{indent}- {it}\n"));
                    format!("{indent}{key}:\n{}", items.collect::<String>())
                }
                serde_json::Value::Null => format!("{indent}{key}:\n"),
                other => format!("{indent}{key}: {other} # {key}\n"),
            })
            .collect(),
        other => format!("{indent}{other}\n"),
    }
}

#[test]
fn survives_hostile_texts() {
    let long = "key = 1\n".repeat(1 << 19);
    let one_line = "k".repeat(4 << 20);
    let deep = "[".repeat(100_000);
    let nested = "{\"key\":".repeat(100_000);
    for text in [
        long.as_str(),
        &one_line,
        &deep,
        &nested,
        "\0",
        "\n\n\n",
        "\r",
        "\u{feff}",
        "key",
    ] {
        for edit in all() {
            if let Ok(Some(edited)) = edit.apply(text) {
                assert!(edit.apply(&edited.text).unwrap().is_none());
            }
        }
    }
}
