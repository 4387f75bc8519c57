//! Connections: how many, how long, and with or without TLS. It knows nothing of what is asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at the same time.
const MOST: usize = 512;
/// Of one peer, so that one elsewhere does not take the place of the kubelet's probes, which come from
/// the node itself.
const OF_ONE: usize = 128;
/// How long a peer may take for TLS, and for a request's head; so long it may also say nothing.
const HASTE: Duration = Duration::from_secs(30);
/// How long a connection lives; who reads its answers too slowly keeps no place for ever.
const LIFE: Duration = Duration::from_secs(600);
/// How long what is under way may take in the end.
const LAST: Duration = Duration::from_millis(200);
/// How long to wait when there is no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(500);

/// Answers until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: CancellationToken,
) {
    let peers = Peers::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < MOST => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("the status endpoint cannot take a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // One too many is closed.
        if let Some(place) = peers.take(peer) {
            let (tls, router, shutdown) = (tls.clone(), router.clone(), shutdown.clone());
            connections.spawn(async move {
                let _place = place;
                answer(stream, tls, router, shutdown).await;
            });
        }
    }
    drop(listener);
    // A connection that is kept open must not hold up the end.
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST, ended).await;
}

async fn answer(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: CancellationToken,
) {
    let Some(tls) = tls else {
        return requests(stream, router, shutdown).await;
    };
    let begun = tokio::select! {
        begun = tokio::time::timeout(HASTE, tls.accept(stream)) => begun,
        () = shutdown.cancelled() => return,
    };
    // A peer that does not trust the certificate, or speaks no TLS, knows it by itself.
    if let Ok(Ok(stream)) = begun {
        requests(stream, router, shutdown).await;
    }
}

async fn requests<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HASTE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // An error is the peer's: it went away, or speaks something else.
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(HASTE, connection).await;
}

/// How many connections each peer has.
#[derive(Debug, Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of a peer.
#[derive(Debug)]
struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    fn take(&self, peer: SocketAddr) -> Option<Place> {
        let peer = peer.ip();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        let peers = self.clone();
        Some(Place { peers, peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_peer_does_not_take_anothers_place() {
        let peers = Peers::default();
        let peer: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let mut places: Vec<_> = (0..OF_ONE).map(|_| peers.take(peer).unwrap()).collect();
        assert!(peers.take("10.0.0.1:2".parse().unwrap()).is_none());
        assert!(peers.take("10.0.0.2:1".parse().unwrap()).is_some());
        places.pop();
        assert!(peers.take(peer).is_some());
        drop(places);
        assert!(peers.0.lock().unwrap().is_empty());
    }
}
