//! From what a guest answered to an [`Output`] that can be trusted: every index, span, route and
//! JSON text is checked here, once.

use std::collections::HashMap;

use serde::de::IgnoredAny;

use super::batch::Batch;
use super::output::{Content, DestinationIndex, DestinationSet, Output, OutputLine, Payload};
use crate::manifest::{Logs, Receives};
use crate::sandbox::bindings::logs::exports::bulkhead::plugin::logs as wit;

/// `route` of a line that has none.
const NO_ROUTE: u32 = u32::MAX;
const BODY_IN_BATCH: u32 = 1;
const BODY_IS_JSON: u32 = 1 << 1;
/// One input line may become this many.
const FAN_OUT: usize = 1024;
/// The most distinct routes in one answer.
const ROUTES: usize = 4096;
/// Spans may overlap, so few bytes could stand for a flood: all spans of an answer together are at
/// most this long beyond the batch, in bytes.
const EXPANSION: usize = 64 << 20;

/// The manifest's destinations, as answers refer to them.
#[derive(Debug, Clone)]
pub(super) struct Routing {
    default: DestinationSet,
    names: HashMap<String, DestinationIndex>,
}

impl Routing {
    pub(super) fn new(logs: &Logs) -> Self {
        let mut default = DestinationSet::default();
        let mut names = HashMap::new();
        for (index, destination) in logs.destinations.iter().enumerate() {
            names.insert(destination.name.clone(), index);
            if destination.receives == Receives::All {
                default.insert(index);
            }
        }
        Self { default, names }
    }

    fn resolve(&self, routes: &[Vec<String>]) -> Result<Vec<DestinationSet>, String> {
        if routes.len() > ROUTES {
            return Err(format!(
                "returned {} routes, more than {ROUTES}",
                routes.len()
            ));
        }
        let set = |names: &Vec<String>| {
            let mut set = DestinationSet::default();
            for name in names {
                let Some(&index) = self.names.get(name) else {
                    let mut known: Vec<_> = self.names.keys().map(String::as_str).collect();
                    known.sort_unstable();
                    return Err(format!(
                        "routed to the destination {name:?}, and the manifest's logs.destinations are: {}",
                        known.join(", ")
                    ));
                };
                set.insert(index);
            }
            Ok(set)
        };
        routes.iter().map(set).collect()
    }
}

/// Checks a verdict about `batch`.
///
/// # Errors
/// Which promise of the contract the guest broke.
pub(super) fn check(
    batch: &Batch,
    verdict: wit::Verdict,
    routing: &Routing,
) -> Result<Output, String> {
    let count = batch.lines.len();
    match verdict {
        wit::Verdict::KeepAll => Ok(Output {
            bytes: Vec::new(),
            content: Content::All(routing.default),
        }),
        wit::Verdict::Keep(keep) => {
            ascending("keep", keep.iter().copied(), count, true)?;
            Ok(Output {
                bytes: Vec::new(),
                content: Content::Keep(keep, routing.default),
            })
        }
        wit::Verdict::Rewrite(rewrite) => {
            let lines = check_lines(batch, &rewrite, routing)?;
            Ok(Output {
                bytes: rewrite.bytes,
                content: Content::Lines(lines),
            })
        }
        wit::Verdict::Encoded(encoded) => {
            let payloads = check_payloads(batch, &encoded, routing)?;
            Ok(Output {
                bytes: encoded.bytes,
                content: Content::Payloads(payloads),
            })
        }
    }
}

fn check_lines(
    batch: &Batch,
    rewrite: &wit::Rewrite,
    routing: &Routing,
) -> Result<Vec<OutputLine>, String> {
    let count = batch.lines.len();
    let routes = routing.resolve(&rewrite.routes)?;
    if rewrite.lines.len() > count.saturating_mul(FAN_OUT) {
        return Err(format!("made {} lines of {count}", rewrite.lines.len()));
    }
    ascending(
        "rewrite.lines",
        rewrite.lines.iter().map(|line| line.line),
        count,
        false,
    )?;
    let lengths = rewrite
        .lines
        .iter()
        .flat_map(|line| [line.body_length, line.fields_length]);
    bounded("rewrite.lines", batch, lengths)?;
    let mut lines: Vec<OutputLine> = Vec::with_capacity(rewrite.lines.len());
    let mut scratch = Vec::new();
    for line in &rewrite.lines {
        if line.flags & !(BODY_IN_BATCH | BODY_IS_JSON) != 0 {
            return Err(format!("rewrite.lines: unknown flags {:#x}", line.flags));
        }
        let body_in_batch = line.flags & BODY_IN_BATCH != 0;
        let body_is_json = line.flags & BODY_IS_JSON != 0;
        let holder = if body_in_batch {
            &batch.bytes
        } else {
            &rewrite.bytes
        };
        let body = slice(holder, line.body_offset, line.body_length)
            .ok_or("rewrite.lines: a body lies outside its bytes")?;
        if body_is_json && !is_json_object(body) {
            return Err("rewrite.lines: a body marked as JSON is not a JSON object".into());
        }
        let fields = slice(&rewrite.bytes, line.fields_offset, line.fields_length)
            .ok_or("rewrite.lines: fields lie outside rewrite.bytes")?;
        if !fields.is_empty() {
            scratch.clear();
            scratch.push(b'{');
            scratch.extend_from_slice(fields);
            scratch.push(b'}');
            if !is_json_object(&scratch) {
                return Err("rewrite.lines: fields are not members of a JSON object".into());
            }
        }
        let ordinal = match lines.last() {
            Some(last) if last.line == line.line => last.ordinal + 1,
            _ => 0,
        };
        lines.push(OutputLine {
            time: line.time,
            line: line.line,
            ordinal,
            to: route(&routes, line.route, routing)?,
            body: (line.body_offset, line.body_length),
            body_in_batch,
            body_is_json,
            fields: (line.fields_offset, line.fields_length),
        });
    }
    Ok(lines)
}

fn check_payloads(
    batch: &Batch,
    encoded: &wit::Encoded,
    routing: &Routing,
) -> Result<Vec<Payload>, String> {
    let count = batch.lines.len();
    let routes = routing.resolve(&encoded.routes)?;
    let lengths = encoded.payloads.iter().map(|payload| payload.length);
    bounded("encoded.payloads", batch, lengths)?;
    let mut rest = encoded.lines.as_slice();
    let mut payloads = Vec::with_capacity(encoded.payloads.len().min(count));
    for payload in &encoded.payloads {
        slice(&encoded.bytes, payload.offset, payload.length)
            .ok_or("encoded.payloads: a payload lies outside encoded.bytes")?;
        let (lines, after) = usize::try_from(payload.line_count)
            .ok()
            .and_then(|taken| rest.split_at_checked(taken))
            .ok_or("encoded.payloads: line-count runs past encoded.lines")?;
        if lines.is_empty() {
            return Err("encoded.payloads: a payload holds no line".into());
        }
        ascending("encoded.lines", lines.iter().copied(), count, true)?;
        rest = after;
        payloads.push(Payload {
            span: (payload.offset, payload.length),
            to: route(&routes, payload.route, routing)?,
            lines: lines.to_vec(),
        });
    }
    if !rest.is_empty() {
        return Err("encoded.lines: not every entry belongs to a payload".into());
    }
    Ok(payloads)
}

fn bounded(what: &str, batch: &Batch, lengths: impl Iterator<Item = u32>) -> Result<(), String> {
    let total: u64 = lengths.map(u64::from).sum();
    let most = batch.bytes.len() + EXPANSION;
    if total > most as u64 {
        return Err(format!(
            "{what}: {total} bytes in all, more than {most}; spans that overlap count each time"
        ));
    }
    Ok(())
}

fn ascending(
    what: &str,
    indices: impl Iterator<Item = u32>,
    count: usize,
    strictly: bool,
) -> Result<(), String> {
    let mut least = 0u64;
    for index in indices {
        if index as usize >= count {
            return Err(format!("{what}: line {index} of a batch of {count}"));
        }
        if u64::from(index) < least {
            return Err(format!("{what}: line {index} out of order"));
        }
        least = u64::from(index) + u64::from(strictly);
    }
    Ok(())
}

fn route(
    routes: &[DestinationSet],
    route: u32,
    routing: &Routing,
) -> Result<DestinationSet, String> {
    if route == NO_ROUTE {
        return Ok(routing.default);
    }
    routes
        .get(route as usize)
        .copied()
        .ok_or_else(|| format!("route {route} of {} routes", routes.len()))
}

fn slice(bytes: &[u8], offset: u32, length: u32) -> Option<&[u8]> {
    bytes.get(offset as usize..)?.get(..length as usize)
}

/// Whether `bytes` are one JSON object on one line: a line feed would break the framing of what
/// is written.
fn is_json_object(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'{')
        && memchr::memchr(b'\n', bytes).is_none()
        && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::role::logs::batch::Line;

    fn batch(lines: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for line in lines {
            batch.lines.push(Line {
                time: 0,
                offset: batch.bytes.len() as u32,
                length: line.len() as u32,
                source: 0,
                flags: 0,
            });
            batch.positions.push(0);
            batch.bytes.extend_from_slice(line.as_bytes());
        }
        batch
    }

    fn routing() -> Routing {
        Routing {
            default: DestinationSet(1),
            names: [("a".to_owned(), 0), ("b".to_owned(), 1)].into(),
        }
    }

    fn line(line: u32, bytes: &str, fields: &str) -> (wit::OutputLine, Vec<u8>) {
        let all = format!("{bytes}{fields}");
        let output = wit::OutputLine {
            time: 1,
            line,
            route: NO_ROUTE,
            body_offset: 0,
            body_length: bytes.len() as u32,
            fields_offset: bytes.len() as u32,
            fields_length: fields.len() as u32,
            flags: 0,
        };
        (output, all.into_bytes())
    }

    fn rewrite(lines: Vec<wit::OutputLine>, bytes: Vec<u8>) -> wit::Verdict {
        wit::Verdict::Rewrite(wit::Rewrite {
            bytes,
            lines,
            routes: vec![vec!["b".into()], vec!["c".into()]],
        })
    }

    #[test]
    fn refuses_each_broken_promise_by_name() {
        let two = batch(&["x", "y"]);
        let check = |verdict| check(&two, verdict, &routing()).map(|_| ()).unwrap_err();
        assert!(check(wit::Verdict::Keep(vec![2])).contains("line 2 of a batch of 2"));
        assert!(check(wit::Verdict::Keep(vec![1, 0])).contains("out of order"));
        assert!(check(wit::Verdict::Keep(vec![0, 0])).contains("out of order"));
        let known = |mut verdict: wit::Verdict| {
            if let wit::Verdict::Rewrite(rewrite) = &mut verdict {
                rewrite.routes.truncate(1);
            }
            verdict
        };
        let (ok, bytes) = line(0, "body", r#""n":1"#);
        assert!(check(rewrite(vec![ok], bytes.clone())).contains("\"c\""));
        let with = |change: fn(&mut wit::OutputLine)| {
            let mut line = ok;
            change(&mut line);
            known(rewrite(vec![line], bytes.clone()))
        };
        assert!(check(with(|line| line.line = 2)).contains("line 2"));
        assert!(check(with(|line| line.route = 1)).contains("route 1"));
        assert!(check(with(|line| line.body_length = 99)).contains("outside"));
        assert!(check(with(|line| line.body_offset = u32::MAX)).contains("outside"));
        assert!(check(with(|line| line.fields_length = 3)).contains("members"));
        assert!(check(with(|line| line.flags = 8)).contains("flags"));
        assert!(check(with(|line| line.flags = BODY_IS_JSON)).contains("JSON object"));
    }

    #[test]
    fn a_few_bytes_cannot_stand_for_a_flood() {
        let two = batch(&["x", "y"]);
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
        let (mut once, bytes) = line(0, &body, "");
        once.flags = BODY_IS_JSON;
        let answer = |times| {
            let verdict = wit::Verdict::Rewrite(wit::Rewrite {
                bytes: bytes.clone(),
                lines: vec![once; times],
                routes: vec![],
            });
            check(&two, verdict, &routing())
        };
        assert!(answer(10).is_ok());
        assert!(answer(70).unwrap_err().contains("bytes in all"));
        let payload = wit::Payload {
            offset: 0,
            length: 40 << 20,
            route: NO_ROUTE,
            line_count: 1,
        };
        let verdict = wit::Verdict::Encoded(wit::Encoded {
            bytes: vec![0; 40 << 20],
            payloads: vec![payload; 2],
            lines: vec![0, 1],
            routes: vec![],
        });
        let refused = check(&two, verdict, &routing()).unwrap_err();
        assert!(refused.contains("encoded.payloads"), "{refused}");
    }

    #[test]
    fn numbers_the_outputs_of_one_line() {
        let two = batch(&["x", "y"]);
        let (first, bytes) = line(1, "body", "");
        let verdict = wit::Verdict::Rewrite(wit::Rewrite {
            bytes,
            lines: vec![wit::OutputLine { line: 0, ..first }, first, first],
            routes: vec![],
        });
        let output = check(&two, verdict, &routing()).unwrap();
        let Content::Lines(lines) = output.content else {
            panic!("expected lines")
        };
        let ordinals: Vec<_> = lines.iter().map(|line| (line.line, line.ordinal)).collect();
        assert_eq!(ordinals, [(0, 0), (1, 0), (1, 1)]);
    }

    #[test]
    fn every_payload_names_its_lines() {
        let two = batch(&["x", "y"]);
        let encoded = |line_count, lines| {
            wit::Verdict::Encoded(wit::Encoded {
                bytes: b"abc".to_vec(),
                payloads: vec![wit::Payload {
                    offset: 0,
                    length: 3,
                    route: NO_ROUTE,
                    line_count,
                }],
                lines,
                routes: vec![],
            })
        };
        assert!(check(&two, encoded(2, vec![0, 1]), &routing()).is_ok());
        for broken in [
            encoded(3, vec![0, 1]),
            encoded(1, vec![0, 1]),
            encoded(0, vec![]),
            encoded(2, vec![1, 0]),
            encoded(1, vec![7]),
        ] {
            assert!(check(&two, broken, &routing()).is_err());
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_is_within_bounds(
            lines in proptest::collection::vec(
                (0u32..4, any::<u32>(), 0u32..20, 0u32..20, 0u32..20, 0u32..20, 0u32..4), 0..6),
            bytes in proptest::collection::vec(any::<u8>(), 0..16),
        ) {
            let three = batch(&["{\"a\":1}", "y", ""]);
            let lines = lines.into_iter().map(|(line, route, a, b, c, d, flags)| wit::OutputLine {
                time: 0, line, route: if route % 2 == 0 { NO_ROUTE } else { route % 3 },
                body_offset: a, body_length: b, fields_offset: c, fields_length: d, flags,
            }).collect();
            let verdict = wit::Verdict::Rewrite(wit::Rewrite {
                bytes, lines, routes: vec![vec!["a".into(), "b".into()]],
            });
            if let Ok(output) = check(&three, verdict, &routing())
                && let Content::Lines(lines) = &output.content {
                for line in lines {
                    let holder = if line.body_in_batch { &three.bytes } else { &output.bytes };
                    prop_assert!(slice(holder, line.body.0, line.body.1).is_some());
                    prop_assert!(slice(&output.bytes, line.fields.0, line.fields.1).is_some());
                    prop_assert!((line.line as usize) < three.lines.len());
                }
            }
        }
    }
}
