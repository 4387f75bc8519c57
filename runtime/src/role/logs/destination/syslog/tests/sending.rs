//! Connections that break, stall and are refused: nothing is lost that a kernel has not taken.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::role::logs::delivery::{Context, Outlet, State};
use crate::role::logs::testing::{FIRST, context as context_of, numbered, parcel, payload, until};

fn outlet_to(address: &str, fields: Value, context: &Context) -> Outlet {
    let mut fields = fields;
    fields["address"] = address.into();
    fields["retry"] = json!({"initial": "1ms", "max": "5ms"});
    let manifest = json!({"name": "out", "syslog": fields});
    Outlet::start(0, &serde_json::from_value(manifest).unwrap(), context).unwrap()
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Reads up to and with the message that ends in `last`.
async fn read_to(stream: &mut TcpStream, last: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(last.as_bytes()) {
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "closed");
    }
    String::from_utf8(text).unwrap()
}

/// What stands behind the structured data of each message.
fn texts(stream: &str) -> Vec<String> {
    let mut rest = stream;
    let mut texts = Vec::new();
    while let Some((length, message)) = rest.split_once(' ') {
        let (message, after) = message.split_at(length.parse().unwrap());
        texts.push(message.rsplit_once("] ").unwrap().1.to_owned());
        rest = after;
    }
    texts
}

#[tokio::test]
async fn a_connection_that_was_closed_is_noticed_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context_of(folder.path(), 1);
    let (listener, address) = listen().await;
    let outlet = outlet_to(&address, json!({}), &context);
    for round in 0..2 {
        let lines = numbered(0, 10 * round, 10);
        outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = read_to(&mut stream, &lines[9]).await;
        assert_eq!(texts(&text), lines);
        ledger.wait_for(round + 1).await;
        // Closes it, after the probation.
        drop(stream);
    }
    assert_eq!(outlet.status().retries, 0);
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once_has_taken_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context_of(folder.path(), 1);
    let (listener, address) = listen().await;
    let outlet = outlet_to(&address, json!({}), &context);
    let lines = numbered(0, 0, 10);
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    // Without a look, and with all of it read.
    drop(listener.accept().await.unwrap());
    let (mut stream, _) = listener.accept().await.unwrap();
    read_to(&mut stream, "0:9").await;
    drop(stream);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(ledger.calls(), []);
    let error = outlet.status().last_error.unwrap();
    assert!(error.contains("closed the connection at once"), "{error}");
    assert_eq!(texts(&read_to(&mut stream, "0:9").await), lines);
    ledger.wait_for(1).await;
}

#[tokio::test]
async fn what_was_taken_counts_only_after_the_probation() {
    let (listener, address) = listen().await;
    let manifest = serde_json::from_value(json!({"address": address})).unwrap();
    let mut syslog = Syslog::new(&manifest, &surroundings()).unwrap();
    syslog.peer.probation = Duration::from_secs(3600);
    let mut lane = Arc::new(syslog).lane();
    let sending = tokio::spawn(async move {
        let body = Bytes::from_static(b"6 <1>1 -");
        let request = Request {
            body: &body,
            records: &[],
            attempt: 1,
        };
        lane.send(request).await
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    read_to(&mut stream, "<1>1 -").await;
    // Time to be wrong in.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    let Err(SendError::Retry { reason, .. }) = sending.await.unwrap() else {
        panic!("it counts");
    };
    assert!(reason.contains("closed the connection at once"), "{reason}");
}

#[tokio::test]
async fn a_server_that_takes_nothing_for_a_while_gets_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context_of(folder.path(), 1);
    let (listener, address) = listen().await;
    let outlet = outlet_to(
        &address,
        json!({"timeout": "20ms", "maxMessage": "1Mi"}),
        &context,
    );
    // More than both kernels hold.
    let lines: Vec<String> = (0..64)
        .map(|n| format!("{n:02}{}", "x".repeat(500_000)))
        .collect();
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    until("more than one wait", || outlet.status().retries >= 3).await;
    let status = outlet.status();
    assert_eq!(status.state, State::Retrying);
    let error = status.last_error.unwrap();
    assert!(error.contains("has taken nothing for 0.02 s"), "{error}");
    assert_eq!(ledger.calls(), []);
    assert_eq!(texts(&read_to(&mut stream, &lines[63]).await), lines);
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [0; 0]);
}

#[tokio::test]
async fn nothing_counts_that_the_peers_kernel_has_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context_of(folder.path(), 1);
    let (listener, address) = listen().await;
    let outlet = outlet_to(&address, json!({"maxMessage": "1Mi"}), &context);
    // Less than our own kernel takes, more than the peer's, which has been told to take little.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 2048).unwrap();
    let lines = vec!["x".repeat(100_000) + "end"];
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    // Another connection, made later, that passes its probation.
    let (other_context, other_ledger) = context_of(folder.path(), 1);
    let (other_listener, other_address) = listen().await;
    let other = outlet_to(&other_address, json!({}), &other_context);
    other
        .send(parcel(0, &numbered(0, 0, 1), FIRST))
        .await
        .unwrap();
    let (mut taken, _) = other_listener.accept().await.unwrap();
    read_to(&mut taken, "0:0").await;
    other_ledger.wait_for(1).await;
    assert_eq!(ledger.calls(), []);
    // What it has not read makes its kernel reset the connection.
    drop(stream);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(texts(&read_to(&mut stream, "end").await), lines);
    ledger.wait_for(1).await;
}

#[tokio::test]
async fn payloads_go_out_in_their_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context_of(folder.path(), 1);
    let (listener, address) = listen().await;
    let outlet = outlet_to(&address, json!({}), &context);
    outlet.send(payload(0, b"", 1)).await.unwrap();
    ledger.wait_for(1).await;
    outlet.send(payload(0, b"<1>1 - own", 2)).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(read_to(&mut stream, "own").await, "10 <1>1 - own");
    ledger.wait_for(2).await;
}

#[tokio::test]
async fn what_is_wrong_is_told_with_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context_of(folder.path(), 1);
    let (listener, address) = listen().await;
    drop(listener);
    let plain = outlet_to(&address, json!({}), &context);
    let no_file = json!({"tls": {"caFile": "/no/such/file"}});
    let tls = outlet_to(&address, no_file, &context);
    for (outlet, wanted) in [
        (plain, "cannot connect: "),
        (tls, "tls.caFile: cannot read"),
    ] {
        let lines = numbered(0, 0, 1);
        outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
        until("trouble", || outlet.status().last_error.is_some()).await;
        let error = outlet.status().last_error.unwrap();
        assert!(error.contains(&format!("{address}: {wanted}")), "{error}");
        assert!(!outlet.drain(Duration::from_millis(5)).await);
    }
    assert_eq!(ledger.calls(), []);
}
