//! What Splunk's answers mean, by the code in their body.

use std::collections::HashMap;

use serde::Deserialize;

use super::SendError;

#[derive(Debug, Default, Deserialize)]
struct Body {
    code: Option<u32>,
    #[serde(rename = "invalid-event-number")]
    invalid_event: Option<usize>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

fn read(body: &[u8]) -> Body {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Splunk's code.
pub(super) fn code(body: &[u8]) -> Option<u32> {
    read(body).code
}

/// The number to ask for, if the token has acknowledgement switched on.
pub(super) fn ack_id(body: &[u8]) -> Option<u64> {
    read(body).ack_id
}

/// Whether the answer to a question says that `id` is indexed.
pub(super) fn is_indexed(body: &[u8], id: u64) -> bool {
    #[derive(Deserialize)]
    struct Acks {
        acks: HashMap<String, bool>,
    }
    serde_json::from_slice::<Acks>(body)
        .is_ok_and(|answer| answer.acks.get(&id.to_string()) == Some(&true))
}

/// What to do about a code that speaks of the token's or the manifest's settings. They can be mended
/// without the lines changing, so these wait, although the status is a 400.
pub(super) fn remedy(code: Option<u32>) -> Option<&'static str> {
    Some(match code? {
        7 => "the token may not write to this index; correct `index` or the token's indexes",
        10 | 11 => "the channel is not accepted; check what stands between the daemon and Splunk",
        14 => "the token has no indexer acknowledgement; switch it on, or remove `acknowledgement`",
        16 => "the token does not take what the URL holds; remove it from `url`",
        _ => return None,
    })
}

/// From which of `records` records on a server without room takes nothing; those before are indexed.
pub(super) fn full_from(body: &[u8], records: usize) -> Option<usize> {
    let answer = read(body);
    let from = answer.invalid_event.filter(|_| answer.code == Some(9))?;
    (from < records).then_some(from)
}

/// Reads a failure about `records` records (0 for a payload) as far as its code says more than its
/// status.
///
/// `indexed` says whether what stands before the event that Splunk names counts as delivered: it has
/// indexed that, but gives no number by which to ask for it.
pub(super) fn refusal(
    body: &[u8],
    records: usize,
    indexed: bool,
    described: &str,
) -> Option<SendError> {
    let answer = read(body);
    if let Some(remedy) = remedy(answer.code) {
        return Some(SendError::Retry {
            after: None,
            reason: format!("{described}: {remedy}"),
        });
    }
    // Invalid format, no event, a blank event, bad indexed fields: each of one event.
    if !matches!(answer.code, Some(6 | 12 | 13 | 15)) {
        return None;
    }
    let reason = described.to_owned();
    Some(match answer.invalid_event {
        _ if records <= 1 => SendError::Rejected { reason },
        Some(bad) if bad < records => SendError::Partial {
            retry: (0..records)
                .filter(|&index| index > bad || (index < bad && !indexed))
                .collect(),
            rejected: vec![(bad, reason.clone())],
            after: None,
            reason,
        },
        // One of them, and not said which: smaller requests find it.
        _ => SendError::TooLarge { reason },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_judged_by_whose_fault_they_are() {
        let named = |body: &str, records, indexed| {
            super::refusal(body.as_bytes(), records, indexed, "said no")
        };
        let refusal = |body: &str, records| named(body, records, true);
        let reason = || "said no".to_owned();
        let bad = r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#;
        for (indexed, retry) in [(true, vec![2]), (false, vec![0, 2])] {
            assert_eq!(
                named(bad, 3, indexed),
                Some(SendError::Partial {
                    retry,
                    rejected: vec![(1, reason())],
                    after: None,
                    reason: reason(),
                })
            );
        }
        let rejected = Some(SendError::Rejected { reason: reason() });
        assert_eq!(refusal(bad, 1), rejected);
        assert_eq!(refusal(bad, 0), rejected);
        let unnamed = r#"{"text":"Event field is required","code":12}"#;
        let split = Some(SendError::TooLarge { reason: reason() });
        assert_eq!(refusal(unnamed, 2), split);
        for code in [7, 10, 11, 14, 16] {
            let body = format!(r#"{{"code":{code}}}"#);
            assert!(
                matches!(refusal(&body, 2), Some(SendError::Retry { .. })),
                "{code}"
            );
        }
        // By their status: 401, 403, 500, 503, 429, and what is no answer of Splunk's.
        for code in [1, 2, 3, 4, 5, 8, 9, 23, 26] {
            assert_eq!(refusal(&format!(r#"{{"code":{code}}}"#), 2), None);
        }
        assert_eq!(refusal("<html>", 2), None);
    }

    #[test]
    fn a_busy_server_says_how_far_it_came() {
        let busy = br#"{"text":"Server is busy","code":9,"invalid-event-number":2}"#;
        assert_eq!(full_from(busy, 3), Some(2));
        assert_eq!(full_from(busy, 2), None);
        assert_eq!(full_from(br#"{"code":9}"#, 3), None);
        assert_eq!(
            full_from(br#"{"code":6,"invalid-event-number":2}"#, 3),
            None
        );
    }

    #[test]
    fn acknowledgements_are_read() {
        assert_eq!(ack_id(br#"{"text":"Success","code":0,"ackId":7}"#), Some(7));
        assert_eq!(ack_id(br#"{"text":"Success","code":0}"#), None);
        assert!(is_indexed(br#"{"acks":{"7":true}}"#, 7));
        assert!(!is_indexed(br#"{"acks":{"7":false}}"#, 7));
        assert!(!is_indexed(br#"{"acks":{"8":true}}"#, 7));
        assert!(!is_indexed(b"", 7));
    }
}
