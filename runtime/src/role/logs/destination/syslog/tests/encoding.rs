//! Messages, read back by a strict parser.

use std::path::Path;

use proptest::prelude::*;

use super::parser::{Message, message, of_stream};
use super::*;
use crate::role::logs::batch::{Batch, LINE_CUT, LINE_STDERR, LINE_UNFINISHED, Source};
use crate::role::logs::output::{Content, DestinationSet, Output, OutputLine};
use crate::role::logs::testing::batch;

/// All messages of a parcel, request by request, without their frames.
fn messages(fields: &Value, parcel: &Parcel) -> Vec<Vec<u8>> {
    let mut lane = opened("127.0.0.1:1", fields).destination.lane();
    let records: Vec<Record<'_>> = parcel.records(0).collect();
    let mut done = 0;
    let mut all = Vec::new();
    while done < records.len() {
        let mut body = Vec::new();
        let taken = lane.encode(parcel, &records[done..], &mut body);
        assert!(taken > 0 && taken <= records.len() - done);
        assert!(taken == 1 || body.len() <= MAX_REQUEST);
        let found: Vec<&[u8]> = if fields["framing"] == "newline" {
            let lines = body.strip_suffix(b"\n").unwrap();
            lines.split(|&byte| byte == b'\n').collect()
        } else {
            of_stream(&body)
        };
        assert_eq!(found.len(), taken);
        all.extend(found.into_iter().map(<[u8]>::to_vec));
        done += taken;
    }
    all
}

struct Line<'a> {
    body: &'a [u8],
    json: bool,
    fields: &'a str,
    time: i64,
    flags: u32,
    source: &'a Source,
}

fn parcel(lines: &[Line<'_>]) -> Parcel {
    let mut batch: Batch = batch(0, &vec![String::new(); lines.len()]);
    let span = batch.spans.remove(0);
    let mut bytes = Vec::new();
    let mut outputs = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let mut span = span.clone();
        span.source = Arc::new(Source {
            path: Arc::clone(&line.source.path),
            attributes: line.source.attributes.clone(),
        });
        batch.spans.push(span);
        batch.lines[index].source = index as u32;
        batch.lines[index].flags = line.flags;
        batch.positions[index] = index as u64;
        let mut put = |part: &[u8]| {
            let at = bytes.len() as u32;
            bytes.extend_from_slice(part);
            (at, part.len() as u32)
        };
        outputs.push(OutputLine {
            time: line.time,
            line: index as u32,
            ordinal: 0,
            to: DestinationSet(1),
            body: put(line.body),
            body_in_batch: false,
            body_is_json: line.json,
            fields: put(line.fields.as_bytes()),
        });
    }
    Parcel {
        entry: Default::default(),
        batch,
        output: Output {
            bytes,
            content: Content::Lines(outputs),
        },
        delivered: Vec::new(),
        clipped: Vec::new(),
    }
}

fn source(path: &str, attributes: &[(&str, &str)]) -> Source {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Source {
        path: Arc::from(Path::new(path)),
        attributes: attributes.iter().map(pair).collect(),
    }
}

fn pod() -> Source {
    let attributes = [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "cart-0"),
        ("k8s.container.name", "web"),
    ];
    source("/var/log/pods/x/0.log", &attributes)
}

fn line<'a>(body: &'a [u8], source: &'a Source) -> Line<'a> {
    Line {
        body,
        json: false,
        fields: "",
        time: 1_700_000_000_123_456_789,
        flags: 0,
        source,
    }
}

fn one(fields: Value, line: Line<'_>) -> Message {
    message(&messages(&fields, &parcel(&[line]))[0])
}

#[test]
fn the_bytes_of_a_message() {
    let file = source("/var/log/app.log", &[]);
    let both = parcel(&[line(b"hello", &file), line(b"", &file)]);
    let mut lane = opened("127.0.0.1:1", &json!({})).destination.lane();
    let records: Vec<_> = both.records(0).collect();
    let mut body = Vec::new();
    assert_eq!(lane.encode(&both, &records, &mut body), 2);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "123 <14>1 2023-11-14T22:13:20.123456Z node-1 app - - [bulkhead@32473 \
         file=\"/var/log/app.log\" id=\"NJhVUOU5cGN0DN87wZ25ww\"] hello\
         117 <14>1 2023-11-14T22:13:20.123456Z node-1 app - - [bulkhead@32473 \
         file=\"/var/log/app.log\" id=\"nbIi7MAuEy_mnNpwqzZ7jA\"]"
    );
}

#[test]
fn long_names_of_labels_keep_what_tells_them_apart() {
    let attributes = [
        ("k8s.pod.label.app", "cart"),
        ("k8s.pod.label.app.kubernetes.io/name", "cart"),
        ("k8s.pod.label.app.kubernetes.io/version", "2"),
    ];
    let pod = source("/var/log/pods/x/0.log", &attributes);
    let message = one(json!({}), line(b"x", &pod));
    let names = message.data[0].1.iter().map(|(name, _)| &**name);
    let wanted = [
        "k8s.pod.label.app",
        "label.app.kubernetes.io/name",
        "label.app.kubernetes.io/version",
        "id",
    ];
    assert!(names.eq(wanted));
}

#[test]
fn where_a_record_comes_from_is_told() {
    let pod = pod();
    let flags = LINE_STDERR | LINE_CUT | LINE_UNFINISHED;
    let message = one(
        json!({}),
        Line {
            flags,
            ..line(b"x", &pod)
        },
    );
    assert_eq!((message.priority, &*message.app_name), (8 + 3, "web"));
    let (id, params) = &message.data[0];
    assert_eq!(id, "bulkhead@32473");
    let names: Vec<&str> = params.iter().map(|(name, _)| &**name).collect();
    let wanted = "k8s.namespace.name k8s.pod.name k8s.container.name id stream unfinished cut";
    assert_eq!(names.join(" "), wanted);
    assert_eq!(message.param("k8s.pod.name"), Some("cart-0"));
    assert_eq!(message.param("cut"), Some("true"));

    let fields = json!({
        "hostname": "${attribute:k8s.pod.name}.${attribute:k8s.namespace.name}",
        "procId": "${attribute:k8s.pod.uid}", "msgId": "app log", "facility": "local3",
        "structuredDataId": "origin@1.2",
    });
    let message = one(fields, line(b"x", &pod));
    assert_eq!(message.hostname, "cart-0.shop");
    assert_eq!((&*message.proc_id, &*message.msg_id), ("-", "app_log"));
    assert_eq!((message.priority, &*message.data[0].0), (158, "origin@1.2"));

    // Attributes that are not there leave the default.
    let file = source("/var/log/app.log", &[]);
    let fields = json!({"appName": "${attribute:k8s.pod.name}", "structuredData": false});
    let message = one(fields, line(b"x", &file));
    assert_eq!((&*message.app_name, message.data.len()), ("app", 0));
}

#[test]
fn the_severity_is_the_records_or_that_of_its_stream() {
    let pod = pod();
    let severity = |settings: Value, body: &str, json: bool, fields: &str, flags: u32| {
        let line = Line {
            json,
            fields,
            flags,
            ..line(body.as_bytes(), &pod)
        };
        one(settings, line).priority - 8
    };
    let none = json!({});
    let level = |value: &str| {
        severity(
            none.clone(),
            &format!(r#"{{"level":{value}}}"#),
            true,
            "",
            0,
        )
    };
    for (value, wanted) in [
        (r#""WARN""#, 4),
        (r#""error""#, 3),
        (r#""Fatal""#, 2),
        (r#""panic""#, 0),
        (r#""trace""#, 7),
        (r#""5""#, 5),
        ("1", 1),
        ("50", 3),
        (r#""nonsense""#, 6),
        ("null", 6),
        ("99", 6),
        ("{\"a\":1}", 6),
    ] {
        assert_eq!(level(value), wanted, "{value}");
    }
    let both = r#"{"lvl":"debug","a":{"level":"crit"},"Severity" : "alert"}"#;
    assert_eq!(severity(none.clone(), both, true, "", 0), 1);
    // What the plugin added wins; text that looks like JSON is text.
    let added = r#""level":"notice""#;
    assert_eq!(severity(none.clone(), both, true, added, 0), 5);
    assert_eq!(severity(none.clone(), both, false, "", LINE_STDERR), 3);
    let named = json!({"severityField": "prio", "severity": "debug"});
    let body = r#"{"level":"crit","prio":"warning"}"#;
    assert_eq!(severity(named.clone(), body, true, "", 0), 4);
    assert_eq!(severity(named, "{}", true, "", LINE_STDERR), 7);
}

#[test]
fn a_long_message_is_cut_at_a_characters_end_and_says_so() {
    let pod = pod();
    let body = "é".repeat(3000);
    for (fields, limit) in [
        (json!({"maxMessage": 2048}), 2048),
        (json!({"maxMessage": 2049, "bom": true}), 2049),
        (json!({"maxMessage": 3000, "structuredData": false}), 3000),
        (json!({"maxMessage": 3001, "framing": "newline"}), 3001),
    ] {
        let bytes = &messages(&fields, &parcel(&[line(body.as_bytes(), &pod)]))[0];
        assert!(
            (limit - 1..=limit).contains(&bytes.len()),
            "{}",
            bytes.len()
        );
        let message = message(bytes);
        let text = message.text().trim_start_matches('\u{feff}');
        let kept = match message.data.is_empty() {
            true => text.strip_suffix("...").unwrap(),
            false => text,
        };
        assert!(kept.len() > 1000 && body.starts_with(kept));
        let cut = (!message.data.is_empty()).then_some("true");
        assert_eq!(message.param("cut"), cut);
    }
    // What just fits is not cut.
    let around = messages(&json!({}), &parcel(&[line(b"", &pod)]))[0].len() + 1;
    for (length, cut) in [(8096 - around, None), (8097 - around, Some("true"))] {
        let body = vec![b'x'; length];
        let bytes = &messages(&json!({}), &parcel(&[line(&body, &pod)]))[0];
        assert_eq!((bytes.len(), message(bytes).param("cut")), (8096, cut));
    }
}

#[test]
fn text_is_as_it_was_and_framing_survives_it() {
    let pod = pod();
    let body = b"two\nlines \x00\t\"]\\ \xc3\xa9";
    assert_eq!(one(json!({}), line(body, &pod)).text.unwrap(), body);
    let newline = one(json!({"framing": "newline"}), line(body, &pod));
    assert_eq!(newline.text(), "two#012lines \x00\t\"]\\ é");
    let json = one(json!({"format": "json"}), line(body, &pod));
    let value: Value = serde_json::from_slice(&json.text.unwrap()).unwrap();
    assert_eq!(value["message"], "two\nlines \u{0}\t\"]\\ é");
    // The mark stands for UTF-8 and nothing else.
    let bom = json!({"bom": true});
    assert_eq!(one(bom.clone(), line(b"a", &pod)).text(), "\u{feff}a");
    assert_eq!(one(bom.clone(), line(b"", &pod)).text, None);
    assert_eq!(one(bom, line(b"\xff", &pod)).text.unwrap(), b"\xff");
    let false_claim = one(json!({}), line(b"\xef\xbb\xbf\xff", &pod));
    assert_eq!(false_claim.text.unwrap(), b"\xff");
}

#[test]
fn a_payload_gets_its_frame_and_nothing_else() {
    let framed = |framing: &str, payload: &[u8]| {
        let fields = json!({"framing": framing});
        let mut lane = opened("127.0.0.1:1", &fields).destination.lane();
        let mut body = Vec::new();
        lane.encode_payload(payload, &mut body);
        String::from_utf8(body).unwrap()
    };
    let octets = |payload| framed("octetCounting", payload);
    assert_eq!(octets(b"<1>1 - a\n"), "9 <1>1 - a\n");
    assert_eq!(octets(b""), "");
    assert_eq!(framed("newline", b"a"), "a\n");
    assert_eq!(framed("newline", b"a\n"), "a\n");
    assert_eq!(framed("newline", b""), "");
}

prop_compose! {
    fn sources()(
        path in "(/[^/]{1,40}){1,9}",
        attributes in prop::collection::vec(
            (
                prop_oneof![
                    Just("k8s.container.name".to_owned()),
                    Just("k8s.pod.name".to_owned()),
                    any::<String>(),
                ],
                prop_oneof![any::<String>(), "[\"\\\\\\]x]{0,400}"],
            ),
            0..7,
        ),
    ) -> Source {
        Source { path: Arc::from(Path::new(&path)), attributes }
    }
}

prop_compose! {
    fn settings()(
        newline in any::<bool>(),
        json in any::<bool>(),
        data in any::<bool>(),
        bom in any::<bool>(),
        limit in 2048..5000,
        names in prop::collection::vec("[^$]{0,60}", 4),
    ) -> Value {
        json!({
            "framing": if newline { "newline" } else { "octetCounting" },
            "format": if json { "json" } else { "raw" },
            "structuredData": data, "bom": bom, "maxMessage": limit,
            "hostname": format!("${{attribute:k8s.pod.name}}{}", names[0]),
            "appName": names[1], "procId": names[2],
            "msgId": format!("{}${{attribute:k8s.container.name}}", names[3]),
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_a_record_holds_its_message_is_well_formed(
        settings in settings(),
        lines in prop::collection::vec(
            (
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..80),
                    any::<String>().prop_map(String::into_bytes),
                    "[é\n]{0,4000}".prop_map(String::into_bytes),
                    Just(br#"{"level":"WARN","a":{"b":[1,null]}}"#.to_vec()),
                ],
                any::<bool>(), any::<i64>(), 0u32..8, sources(),
            ),
            1..12,
        ),
    ) {
        let given: Vec<Line<'_>> = lines
            .iter()
            .map(|(body, claim, time, flags, source)| Line {
                json: *claim
                    && serde_json::from_slice::<serde_json::Map<_, Value>>(body).is_ok(),
                body, fields: "", time: *time, flags: *flags, source,
            })
            .collect();
        let messages = messages(&settings, &parcel(&given));
        prop_assert_eq!(messages.len(), lines.len());
        let mut ids = std::collections::HashSet::new();
        for (bytes, line) in messages.iter().zip(&given) {
            prop_assert!(bytes.len() as u64 <= settings["maxMessage"].as_u64().unwrap());
            let message = message(bytes);
            prop_assert_eq!(message.data.len(), usize::from(settings["structuredData"] == true));
            if let Some(id) = message.param("id") {
                prop_assert!(ids.insert(id.to_owned()));
            }
            // With nothing in its way the body is there as it was.
            if settings["format"] == "raw" && settings["framing"] == "octetCounting"
                && message.param("cut").is_none() && settings["structuredData"] == true
            {
                let text = message.text.unwrap_or_default();
                let text = match settings["bom"] == true && !line.body.starts_with(b"\xef\xbb\xbf") {
                    true => text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text).to_vec(),
                    false => text,
                };
                let body = match std::str::from_utf8(line.body) {
                    Ok(_) => line.body,
                    Err(_) => line.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line.body),
                };
                prop_assert_eq!(text, body);
            }
        }
    }
}
