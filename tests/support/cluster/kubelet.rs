//! What a kubelet does for a port-forward: it ends the WebSocket that the API server passes on and joins
//! it to a port. Two channels a port, one for data and one for its word on why there is none; each begins
//! with the port's number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// What a pod does with its port.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// It listens, there.
    At(SocketAddr),
    /// Nobody hears of it again.
    Silent,
}

/// One that serves all nodes; it ends with its value.
pub struct Kubelet {
    pub address: SocketAddr,
    pods: Pods,
    _runtime: tokio::runtime::Runtime,
}

/// By `NAMESPACE/NAME`.
type Pods = Arc<Mutex<HashMap<String, Target>>>;

impl Kubelet {
    pub fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["kubelet".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let pods = Pods::default();
        let known = pods.clone();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, known) = (acceptor.clone(), known.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        forward(stream, &known).await;
                    }
                });
            }
        });
        Self {
            address,
            pods,
            _runtime: runtime,
        }
    }

    pub fn put(&self, namespace: &str, pod: &str, target: Target) {
        let mut pods = self.pods.lock().unwrap();
        pods.insert(format!("{namespace}/{pod}"), target);
    }
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

async fn forward(stream: Tls, pods: &Pods) {
    let mut found = None;
    let accepted = tokio_tungstenite::accept_hdr_async(
        stream,
        #[allow(clippy::result_large_err, reason = "the callback's type is not ours")]
        |request: &Request, mut response: Response| {
            let pod = request.uri().path().strip_prefix("/portForward/").unwrap();
            let target = *pods.lock().unwrap().get(pod).unwrap();
            let query = request.uri().query().unwrap();
            let port: u16 = query.strip_prefix("port=").unwrap().parse().unwrap();
            found = Some((target, port));
            let protocol = "v4.channel.k8s.io";
            let offered = request.headers()["sec-websocket-protocol"]
                .to_str()
                .unwrap();
            assert!(offered.contains(protocol), "{offered}");
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
            Ok(response)
        },
    )
    .await;
    let (Ok(mut socket), Some((target, port))) = (accepted, found) else {
        return;
    };
    for channel in [0, 1] {
        send(&mut socket, channel, &port.to_le_bytes()).await;
    }
    let Target::At(address) = target else {
        return std::future::pending().await;
    };
    // A pod listens on the port that was asked for, in a network of its own; here they share one.
    assert_eq!(address.port(), port);
    match TcpStream::connect(address).await {
        Ok(stream) => join(socket, stream).await,
        Err(error) => {
            let word = format!("error forwarding port {port}: {error}");
            send(&mut socket, 1, word.as_bytes()).await;
            let _ = socket.close(None).await;
        }
    }
}

async fn join(mut socket: WebSocketStream<Tls>, mut stream: TcpStream) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(count) if count > 0 => send(&mut socket, 0, &buffer[..count]).await,
                _ => break,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&0) => {
                    if stream.write_all(&bytes[1..]).await.is_err() {
                        break;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = socket.close(None).await;
}

async fn send(socket: &mut WebSocketStream<Tls>, channel: u8, bytes: &[u8]) {
    let message = [&[channel], bytes].concat();
    let _ = socket.send(Message::binary(message)).await;
}
