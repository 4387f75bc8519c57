//! The engine against a destination whose answers the test scripts.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::*;
use crate::manifest::{Period, Retry};
use crate::role::logs::batch::Joined;
use crate::role::logs::destination::{Lane, Opened, Request, SendError};
use crate::role::logs::output::{DestinationSet, Record};
use crate::role::logs::testing::{FIRST, context, numbered, parcel, payload, until};

type Answer = Box<dyn Fn(&[String]) -> Result<(), SendError> + Send>;

/// Takes up to `fits` records a request, answers from the script, then says yes.
struct Scripted {
    fits: usize,
    script: Mutex<VecDeque<Answer>>,
    /// Every request, in the order of arrival, and whether it was acknowledged in whole.
    seen: Mutex<Vec<(Vec<String>, bool)>>,
}

impl Scripted {
    fn new(fits: usize, script: Vec<Answer>) -> Arc<Self> {
        Arc::new(Self {
            fits,
            script: Mutex::new(script.into()),
            seen: Mutex::default(),
        })
    }

    fn requests(&self) -> Vec<Vec<String>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(lines, _)| lines.clone()).collect()
    }

    fn acknowledged(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let whole = seen.iter().filter(|(_, whole)| *whole);
        whole.flat_map(|(lines, _)| lines.clone()).collect()
    }
}

struct ScriptedLane(Arc<Scripted>);

impl Destination for Scripted {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(ScriptedLane(self))
    }
}

impl Lane for ScriptedLane {
    fn encode(&mut self, _: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let taken = records.len().min(self.0.fits);
        for record in &records[..taken] {
            body.extend_from_slice(record.body);
            body.push(b'\n');
        }
        taken
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let body: &Bytes = request.body;
            let lines: Vec<String> = String::from_utf8_lossy(body)
                .lines()
                .map(str::to_owned)
                .collect();
            let answer = self.0.script.lock().unwrap().pop_front();
            let result = answer.map_or(Ok(()), |answer| answer(&lines));
            let mut seen = self.0.seen.lock().unwrap();
            seen.push((lines, result.is_ok()));
            result
        })
    }
}

fn fast(attempts: Option<u32>) -> Retry {
    Retry {
        initial: Period::millis(1),
        max: Period::millis(2),
        attempts,
    }
}

fn start(destination: &Arc<Scripted>, retry: Retry, context: &Context) -> Outlet {
    let opened = Opened {
        destination: Arc::clone(destination) as Arc<dyn Destination>,
        retry,
        kind: "scripted",
    };
    Outlet::with(0, "out", None, opened, context)
}

fn retry() -> Answer {
    Box::new(|_| {
        Err(SendError::Retry {
            after: None,
            reason: "busy".to_owned(),
        })
    })
}

fn rejected() -> Answer {
    Box::new(|_| {
        Err(SendError::Rejected {
            reason: "nonsense".to_owned(),
        })
    })
}

fn dead_letters(context: &Context) -> Vec<Value> {
    std::fs::read_to_string(context.dead_letters.as_ref().unwrap().path())
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn parcels_are_settled_in_order_even_with_nothing_for_this_destination() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 2);
    let destination = Scripted::new(3, vec![retry(), retry()]);
    let outlet = start(&destination, fast(None), &context);
    for number in 0..20 {
        let to = DestinationSet(u64::from(number % 3 != 1));
        let lane = number % 2;
        let parcel = parcel(lane, &numbered(lane, number * 10, 10), to);
        outlet.send(parcel).await.unwrap();
    }
    assert!(outlet.drain(Duration::from_secs(60)).await);
    for lane in 0..2 {
        let of_lane = |line: &String| line.starts_with(&format!("{lane}:"));
        let settled: Vec<String> = ledger.calls().into_iter().flat_map(|c| c.lines).collect();
        let expected: Vec<String> = (0..20)
            .filter(|number| number % 2 == lane)
            .flat_map(|number| numbered(lane, number * 10, 10))
            .collect();
        let settled: Vec<String> = settled.into_iter().filter(of_lane).collect();
        assert_eq!(settled, expected);
        let sent: Vec<String> = (0..20)
            .filter(|number| number % 2 == lane && number % 3 != 1)
            .flat_map(|number| numbered(lane, number * 10, 10))
            .collect();
        let seen: Vec<String> = destination
            .acknowledged()
            .into_iter()
            .filter(of_lane)
            .collect();
        assert_eq!(seen, sent);
    }
    let status = outlet.status();
    assert_eq!((status.lines, status.retries), (130, 2));
    assert_eq!(
        (status.state, status.in_flight, status.waiting),
        (State::Healthy, 0, 0)
    );
}

#[tokio::test]
async fn what_is_given_up_or_rejected_is_in_the_dead_letters_before_it_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let destination = Scripted::new(2, vec![retry(), retry(), retry(), rejected()]);
    let outlet = start(&destination, fast(Some(3)), &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 6), FIRST))
        .await
        .unwrap();
    let settled = ledger.wait_for(1).await;
    assert_eq!(settled[0].dead_lettered, [0, 1, 2, 3]);
    assert_eq!(destination.acknowledged(), ["0:4", "0:5"]);
    let letters = dead_letters(&context);
    let messages: Vec<&str> = letters
        .iter()
        .map(|letter| letter["record"]["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["0:0", "0:1", "0:2", "0:3"]);
    assert_eq!(letters[0]["reason"], "given up after 3 attempts: busy");
    assert_eq!(letters[3]["reason"], "nonsense");
    assert_eq!(letters[0]["destination"], "out");
    let status = serde_json::to_value(outlet.status()).unwrap();
    assert_eq!(status["deadLettered"], 4);
    assert_eq!(status["state"], "Healthy");
    assert_eq!(status["lastError"], "nonsense");
}

#[tokio::test]
async fn what_is_too_large_is_split_down_to_the_record_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let never: fn() -> Answer = || {
        Box::new(|lines| match lines.iter().any(|line| line == "0:5") {
            true => Err(SendError::TooLarge {
                reason: "large".to_owned(),
            }),
            false => Ok(()),
        })
    };
    let destination = Scripted::new(100, (0..50).map(|_| never()).collect());
    let outlet = start(&destination, fast(None), &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 10), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [5]);
    let mut expected = numbered(0, 0, 10);
    expected.remove(5);
    assert_eq!(destination.acknowledged(), expected);
}

#[tokio::test]
async fn only_the_failed_items_of_a_request_are_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let partial: Answer = Box::new(|_| {
        Err(SendError::Partial {
            retry: vec![1, 3],
            rejected: vec![(2, "bad type".to_owned())],
            after: None,
            reason: "busy".to_owned(),
        })
    });
    let again: Answer = Box::new(|_| {
        Err(SendError::Partial {
            retry: vec![1],
            rejected: vec![],
            after: None,
            reason: "busy".to_owned(),
        })
    });
    let destination = Scripted::new(4, vec![partial, again]);
    let outlet = start(&destination, fast(None), &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 5), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [2]);
    assert_eq!(
        destination.requests(),
        [
            vec!["0:0", "0:1", "0:2", "0:3"],
            vec!["0:1", "0:3"],
            vec!["0:3"],
            vec!["0:4"]
        ]
    );
    assert_eq!(outlet.status().lines, 4);
}

#[tokio::test]
async fn a_panic_is_reported_and_what_went_before_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let fine: Answer = Box::new(|_| Ok(()));
    let panics: Answer = Box::new(|_| panic!("off by one"));
    let destination = Scripted::new(2, vec![fine, panics]);
    let outlet = start(&destination, fast(None), &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 6), FIRST))
        .await
        .unwrap();
    ledger.wait_for(1).await;
    assert_eq!(destination.acknowledged(), numbered(0, 0, 6));
    let error = outlet.status().last_error.unwrap();
    assert!(error.contains("off by one"), "{error}");
    assert_eq!(outlet.status().state, State::Healthy);
}

#[tokio::test]
async fn a_payload_is_sent_as_it_is_and_dead_lettered_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let destination = Scripted::new(1, vec![retry(), rejected()]);
    let outlet = start(&destination, fast(None), &context);
    outlet.send(payload(0, b"first", 3)).await.unwrap();
    outlet.send(payload(0, b"second", 2)).await.unwrap();
    let settled = ledger.wait_for(2).await;
    assert_eq!(settled[0].dead_lettered, [0, 1, 2]);
    assert_eq!(settled[1].dead_lettered, [0; 0]);
    assert_eq!(destination.acknowledged(), ["second"]);
    assert_eq!(dead_letters(&context)[0]["payloadBase64"], "Zmlyc3Q=");
    assert_eq!(outlet.status().lines, 2);
}

#[tokio::test]
async fn a_dead_destination_holds_a_few_parcels_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let destination = Scripted::new(1, (0..100_000).map(|_| retry()).collect());
    let outlet = start(&destination, fast(None), &context);
    let mut taken = 0;
    let patience = Duration::from_millis(200);
    loop {
        let parcel = parcel(0, &numbered(0, 0, 1), FIRST);
        match tokio::time::timeout(patience, outlet.send(parcel)).await {
            Ok(sent) => sent.unwrap(),
            Err(_) => break,
        }
        taken += 1;
        assert!(taken <= WAITING + 1);
    }
    until("in trouble", || outlet.status().state == State::Retrying).await;
    assert_eq!(outlet.status().waiting, WAITING);
    assert!(outlet.status().since.is_some());
    assert!(!outlet.drain(Duration::from_millis(20)).await);
    assert_eq!(ledger.calls(), []);
    let late = parcel(0, &numbered(0, 0, 1), FIRST);
    assert_eq!(outlet.send(late).await, Err(Closed));
}

#[tokio::test]
async fn lines_wait_while_dead_letters_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    // A file where the folder should be.
    let blocker = folder.path().join("dead-letter");
    std::fs::write(&blocker, "").unwrap();
    let destination = Scripted::new(9, vec![rejected()]);
    let outlet = start(&destination, fast(None), &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 1), FIRST))
        .await
        .unwrap();
    until("in trouble", || outlet.status().attempts > 2).await;
    assert_eq!(ledger.calls(), []);
    let error = outlet.status().last_error.unwrap();
    assert!(error.contains("dead letters"), "{error}");
    std::fs::remove_file(&blocker).unwrap();
    ledger.wait_for(1).await;
    assert_eq!(dead_letters(&context).len(), 1);
}

#[tokio::test]
async fn lines_delivered_before_a_restart_are_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let destination = Scripted::new(9, vec![]);
    let outlet = start(&destination, fast(None), &context);
    let mut parcel = parcel(0, &numbered(0, 0, 4), FIRST);
    let inner = Arc::get_mut(&mut parcel).unwrap();
    inner.delivered = vec![vec![(0, inner.batch.positions[2])]];
    outlet.send(parcel).await.unwrap();
    ledger.wait_for(1).await;
    assert_eq!(destination.acknowledged(), ["0:2", "0:3"]);
}

/// Handed on at the time-out and acknowledged; read again it has the lines that were written since.
#[tokio::test]
async fn a_record_that_has_grown_since_it_was_delivered_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let destination = Scripted::new(9, vec![]);
    let outlet = start(&destination, fast(None), &context);
    let mut parcel = parcel(0, &numbered(0, 0, 4), FIRST);
    let inner = Arc::get_mut(&mut parcel).unwrap();
    let acknowledged = inner.batch.positions[2];
    let joined = |last| Joined { lines: 1, last };
    inner.batch.joined = vec![joined(acknowledged - 1), joined(acknowledged)];
    inner.delivered = vec![vec![(0, acknowledged)]];
    outlet.send(parcel).await.unwrap();
    ledger.wait_for(1).await;
    assert_eq!(destination.acknowledged(), ["0:1", "0:2", "0:3"]);
}
