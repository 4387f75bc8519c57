#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::role::logs::batch::Source;

fn plain() -> Arc<Source> {
    Arc::new(Source {
        path: Arc::from(Path::new("/var/log/a \"b\".log")),
        attributes: Vec::new(),
    })
}

fn pod() -> Arc<Source> {
    let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Arc::new(Source {
        path: Arc::from(Path::new("/var/log/pods/x/0.log")),
        attributes: vec![
            attribute("k8s.namespace.name", "shop"),
            attribute("k8s.pod.name", "cart-0"),
        ],
    })
}

fn record<'a>(source: &'a Arc<Source>, body: &'a [u8]) -> Record<'a> {
    Record {
        time: 1_700_000_000_000_000_001,
        body,
        json: false,
        fields: b"",
        flags: 0,
        source,
        line: 0,
        ordinal: 0,
    }
}

fn encode(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    RecordEncoder::new(Format::Json).line(record, &mut out);
    String::from_utf8(out).unwrap()
}

fn names(line: &str) -> Vec<String> {
    let inner = members::of_object(line.as_bytes()).unwrap();
    Members::new(inner)
        .map(|member| String::from_utf8_lossy(member.name).into_owned())
        .collect()
}

#[test]
fn text_from_a_plain_file() {
    let source = plain();
    let line = encode(&Record {
        flags: LINE_STDERR | LINE_CUT,
        fields: br#""level":"warn""#,
        ..record(&source, b"say \"hi\"\x01\xff")
    });
    assert_eq!(
        line,
        "{\"time\":\"2023-11-14T22:13:20.000000001Z\",\"message\":\"say \\\"hi\\\"\\u0001\u{fffd}\",\
         \"stream\":\"stderr\",\"file\":\"/var/log/a \\\"b\\\".log\",\"cut\":true,\"level\":\"warn\"}\n"
    );
}

#[test]
fn an_object_is_spliced_in_and_stays_one_line() {
    let source = pod();
    let line = encode(&Record {
        json: true,
        ..record(&source, b" {\n\"a\": 1,\r\n\"b\":\"x\\n\"} ")
    });
    assert_eq!(line.matches('\n').count(), 1);
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        value,
        json!({"time": "2023-11-14T22:13:20.000000001Z", "a": 1, "b": "x\n",
               "k8s.namespace.name": "shop", "k8s.pod.name": "cart-0"})
    );
}

#[test]
fn the_body_wins_over_the_host_and_added_fields_over_both() {
    let source = pod();
    let line = encode(&Record {
        json: true,
        flags: LINE_STDERR,
        fields: br#""b":2,"stream":"x","k8s.pod.name":"mine""#,
        ..record(&source, br#"{"time":"t","b":1,"c":{"time":0}}"#)
    });
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        value,
        json!({"time": "t", "b": 2, "c": {"time": 0}, "k8s.namespace.name": "shop",
               "k8s.pod.name": "mine", "stream": "x"})
    );
    let mut unique = names(&line);
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), names(&line).len(), "{line}");
}

#[test]
fn an_added_message_replaces_the_text() {
    let source = plain();
    let line = encode(&Record {
        fields: br#""message":"parsed""#,
        ..record(&source, b"raw")
    });
    assert_eq!(line.matches("message").count(), 1, "{line}");
    assert!(line.contains(r#""message":"parsed""#), "{line}");
}

#[test]
fn an_empty_object_and_a_false_claim() {
    let source = plain();
    let claim = |body| {
        encode(&Record {
            json: true,
            ..record(&source, body)
        })
    };
    let empty: Value = serde_json::from_str(&claim(b"{}")).unwrap();
    assert!(empty.get("message").is_none());
    let text: Value = serde_json::from_str(&claim(b"[1]")).unwrap();
    assert_eq!(text["message"], "[1]");
}

#[test]
fn raw_is_the_body_and_a_line_feed() {
    let source = plain();
    let mut out = Vec::new();
    RecordEncoder::new(Format::Raw).line(&record(&source, b"a\nb\xff"), &mut out);
    assert_eq!(out, b"a\nb\xff\n");
}

#[test]
fn elasticsearch_gets_names_of_labels_without_dots() {
    let attribute = |name: &str| (name.to_owned(), name.to_owned());
    let source = Arc::new(Source {
        path: Arc::from(Path::new("/var/log/pods/x/0.log")),
        attributes: [
            "k8s.pod.name",
            "k8s.pod.label.app",
            "k8s.pod.label.app.kubernetes.io/name",
            "k8s.pod.label.app_kubernetes_io/name",
            "k8s.pod.annotation.a..b",
        ]
        .map(attribute)
        .into(),
    });
    let mut out = Vec::new();
    RecordEncoder::for_elasticsearch().object(&record(&source, b"x"), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        names(&text)[2..],
        [
            r#""k8s.pod.name""#,
            r#""k8s.pod.label.app""#,
            r#""k8s.pod.label.app_kubernetes_io/name""#,
            r#""k8s.pod.annotation.a__b""#,
        ]
    );
    let elsewhere = encode(&record(&source, b"x"));
    assert!(elsewhere.contains(r#""k8s.pod.label.app.kubernetes.io/name":"#));
}

#[test]
fn a_source_is_never_taken_for_another() {
    let mut encoder = RecordEncoder::new(Format::Json);
    for index in 0..3000 {
        let source = Arc::new(Source {
            path: Arc::from(Path::new(&format!("/log/{index}"))),
            attributes: Vec::new(),
        });
        let mut out = Vec::new();
        encoder.line(&record(&source, b""), &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["file"], format!("/log/{index}"));
    }
}

fn json_object() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let name = prop_oneof![
        Just("time".to_owned()),
        Just("stream".to_owned()),
        Just("k8s.pod.name".to_owned()),
        Just("message".to_owned()),
        ".{0,6}",
    ];
    let value = prop_oneof![
        any::<i32>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!({"time": [1, {"}": "],"}]})),
        Just(Value::Null),
    ];
    prop::collection::vec((name, value), 0..6).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn any_bytes_make_valid_json_and_utf8_comes_back(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            ".{0,120}".prop_map(String::into_bytes),
            "[ -~\n\t\"\\\\]{0,200}".prop_map(String::into_bytes),
        ],
        flags in 0u32..8,
        time in any::<i64>(),
    ) {
        let source = pod();
        let line = encode(&Record { flags, time, ..record(&source, &body) });
        prop_assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        let expected = String::from_utf8_lossy(&body);
        prop_assert_eq!(value["message"].as_str(), Some(expected.as_ref()));
    }

    #[test]
    fn objects_and_fields_merge_by_precedence(
        body in json_object(),
        fields in json_object(),
        flags in 0u32..8,
    ) {
        let source = pod();
        let body_text = serde_json::to_vec(&body).unwrap();
        let fields_text = serde_json::to_string(&fields).unwrap();
        let line = encode(&Record {
            json: true,
            flags,
            fields: &fields_text.as_bytes()[1..fields_text.len() - 1],
            ..record(&source, &body_text)
        });
        let mut expected = serde_json::Map::new();
        expected.insert("time".into(), json!("2023-11-14T22:13:20.000000001Z"));
        expected.insert("k8s.namespace.name".into(), json!("shop"));
        expected.insert("k8s.pod.name".into(), json!("cart-0"));
        for (bit, name, value) in [
            (LINE_STDERR, "stream", json!("stderr")),
            (LINE_CUT, "cut", json!(true)),
            (LINE_UNFINISHED, "unfinished", json!(true)),
        ] {
            if flags & bit != 0 {
                expected.insert(name.into(), value);
            }
        }
        expected.extend(body);
        expected.extend(fields);
        let value: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(value, Value::Object(expected));
        let mut unique = names(&line);
        let all = unique.len();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), all, "{}", line);
    }

    #[test]
    fn a_false_claim_never_panics_and_stays_one_line(
        body in prop::collection::vec(any::<u8>(), 0..80),
        fields in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let source = plain();
        let braced = [b"{", &body[..], b"}"].concat();
        let line = encode(&Record { json: true, fields: &fields, ..record(&source, &braced) });
        prop_assert_eq!(line.matches('\n').count(), 1);
    }
}
