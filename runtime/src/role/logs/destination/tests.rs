//! What every kind over HTTP promises of its encoding, whatever the records hold.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::role::logs::batch::{Batch, Source};
use crate::role::logs::output::{Content, DestinationSet, Output, OutputLine};
use crate::role::logs::testing::batch;

fn surroundings() -> Surroundings {
    Surroundings {
        node_root: Arc::from(Path::new("/")),
        secrets: Arc::new(secrets::DaemonSecrets::offline()),
        machine: Machine::new("test"),
        node_name: Arc::from("node-1"),
    }
}

/// The bodies of all requests that a kind makes of a parcel.
fn bodies(kind: &str, fields: Value, parcel: &Parcel) -> Vec<Vec<u8>> {
    let mut fields = fields;
    fields["url"] = "http://127.0.0.1".into();
    fields["maxBody"] = 2000.into();
    let manifest = serde_json::from_value(json!({"name": "out", kind: fields})).unwrap();
    let mut lane = open(&manifest, &surroundings()).unwrap().destination.lane();
    let records: Vec<Record<'_>> = parcel.records(0).collect();
    let mut bodies = Vec::new();
    let mut done = 0;
    while done < records.len() {
        let mut body = Vec::new();
        let taken = lane.encode(parcel, &records[done..], &mut body);
        assert!(taken > 0 && taken <= records.len() - done);
        assert!(taken == 1 || body.len() <= 2000, "{kind} {}", body.len());
        done += taken;
        bodies.push(body);
    }
    bodies
}

fn values(body: &[u8]) -> Vec<Value> {
    serde_json::Deserializer::from_slice(body)
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

fn count(value: &Value, path: &str) -> usize {
    let items = value.pointer(path).and_then(Value::as_array);
    items.map_or(0, Vec::len)
}

prop_compose! {
    /// Of two sources, with bodies that may claim wrongly to be JSON.
    fn parcels()(
        lines in prop::collection::vec(
            (
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..80),
                    "[ -~]{0,400}".prop_map(String::into_bytes),
                    Just(br#"{"level":"info","@timestamp":"t","a":{"b":[1,null]}}"#.to_vec()),
                ],
                any::<bool>(),
                prop_oneof![Just(""), Just(r#""level":"warn","message":"m""#)],
                any::<i64>(),
                0u32..8,
                0u32..2,
            ),
            1..30,
        ),
    ) -> Parcel {
        let names = vec![String::new(); lines.len()];
        let mut batch: Batch = batch(0, &names);
        let mut pod = batch.spans[0].clone();
        pod.source = Arc::new(Source {
            path: Arc::from(Path::new("/x")),
            attributes: vec![("k8s.pod.name".to_owned(), "a \"b\"".to_owned())],
        });
        batch.spans.push(pod);
        let mut bytes = Vec::new();
        let mut outputs = Vec::new();
        for (index, (body, claim, fields, time, flags, source)) in lines.into_iter().enumerate() {
            batch.lines[index].source = source;
            batch.lines[index].flags = flags;
            batch.positions[index] = index as u64;
            let body_at = bytes.len() as u32;
            bytes.extend_from_slice(&body);
            let fields_at = bytes.len() as u32;
            bytes.extend_from_slice(fields.as_bytes());
            // What the guest calls an object was checked to be one.
            let is_object = serde_json::from_slice::<serde_json::Map<_, Value>>(&body).is_ok();
            outputs.push(OutputLine {
                time,
                line: index as u32,
                ordinal: 0,
                to: DestinationSet(1),
                body: (body_at, body.len() as u32),
                body_in_batch: false,
                body_is_json: claim && is_object,
                fields: (fields_at, fields.len() as u32),
            });
        }
        Parcel {
            entry: Default::default(),
            batch,
            output: Output { bytes, content: Content::Lines(outputs) },
            delivered: Vec::new(),
        clipped: Vec::new(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_record_is_in_exactly_one_well_formed_request(parcel in parcels()) {
        let records = parcel.records(0).count();

        let search = bodies("elasticsearch", json!({"index": "a-%Y"}), &parcel);
        let lines: Vec<Value> = search.iter().flat_map(|body| values(body)).collect();
        prop_assert_eq!(lines.len(), 2 * records);
        let mut ids: Vec<&str> =
            lines.iter().step_by(2).map(|line| line["create"]["_id"].as_str().unwrap()).collect();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), records);
        let documents = lines.iter().skip(1).step_by(2);
        prop_assert!(documents.clone().all(|document| document["@timestamp"].is_string()));
        for body in &search {
            let lines = body.iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(lines, values(body).len());
        }

        for format in ["json", "raw"] {
            let fields = json!({"token": "t", "format": format});
            let splunk = bodies("splunkHec", fields, &parcel);
            let events: Vec<Value> = splunk.iter().flat_map(|body| values(body)).collect();
            prop_assert_eq!(events.len(), records);
            prop_assert!(events.iter().all(|event| event["time"].is_number()));

            let loki = bodies("loki", json!({"format": format}), &parcel);
            let entries: usize = loki
                .iter()
                .map(|body| serde_json::from_slice::<Value>(body).unwrap())
                .map(|push| (0..2).map(|i| count(&push, &format!("/streams/{i}/values"))).sum::<usize>())
                .sum();
            prop_assert_eq!(entries, records);
        }

        let otlp = bodies("otlp", json!({}), &parcel);
        let logs: usize = otlp.iter().map(|body| otlp::tests::count(body)).sum();
        prop_assert_eq!(logs, records);
    }
}
