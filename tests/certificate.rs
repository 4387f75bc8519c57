//! The status endpoint's certificate, and how a daemon with one is asked by `bulkhead status`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use support::authority::{Authority, Files};
use support::{Node, wait_for};

/// A folder as the kubelet mounts a Secret: links to a folder of this state, by a link that is renamed.
struct Secret {
    folder: PathBuf,
    states: usize,
}

impl Secret {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
        Self { folder, states: 0 }
    }

    fn path(&self) -> &str {
        self.folder.to_str().unwrap()
    }

    fn put(&mut self, certificate: &Path, key: &Path) {
        self.states += 1;
        let name = format!("..state-{}", self.states);
        let state = self.folder.join(&name);
        fs::create_dir(&state).unwrap();
        fs::copy(certificate, state.join("tls.crt")).unwrap();
        fs::copy(key, state.join("tls.key")).unwrap();
        let link = self.folder.join("..data_tmp");
        symlink(&name, &link).unwrap();
        fs::rename(link, self.folder.join("..data")).unwrap();
    }
}

type Connection = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// Connects to the daemon, which must show a certificate of this authority for `localhost`.
fn connect(node: &Node, authority: &Authority) -> Connection {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(authority.ca()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut connection = Connection::new(client, stream);
    assert_eq!(healthz(&mut connection), 200);
    connection
}

/// One request on a connection that stays open.
fn healthz(connection: &mut Connection) -> u16 {
    write!(
        connection,
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// What a new connection is shown.
fn shown(node: &Node, authority: &Authority) -> CertificateDer<'static> {
    let connection = connect(node, authority);
    let shown = connection.conn.peer_certificates().unwrap();
    shown[0].clone().into_owned()
}

fn is(files: &Files) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.certificate).unwrap()
}

fn bulkhead(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.args(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_changed_certificate_is_served_without_a_restart() {
    let mut node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let (first, second) = (
        authority.certify_until("localhost", 4001),
        authority.certify_until("localhost", 4002),
    );
    let mut secret = Secret::new(node.path("secret"));
    secret.put(&first.certificate, &first.key);
    node.start_with(&["--status-tls", secret.path()], &[]);
    assert_eq!(shown(&node, &authority), is(&first));
    let mut open = connect(&node, &authority);

    secret.put(&second.certificate, &second.key);
    wait_for("the second certificate", || {
        (shown(&node, &authority) == is(&second)).then_some(())
    });
    // What was open stays so, with what it began with.
    assert_eq!(healthz(&mut open), 200);
    let kept = open.conn.peer_certificates().unwrap();
    assert_eq!(kept[0], is(&first));

    // A pair that is none, files that are none, and none at all.
    let log = |part: &str| {
        let part = part.to_owned();
        wait_for("the daemon to say so", || {
            node.daemon_log().contains(&part).then_some(())
        });
    };
    secret.put(&first.certificate, &second.key);
    log("tls.key is not the key of the certificate in tls.crt");
    assert_eq!(shown(&node, &authority), is(&second));
    secret.put(&first.key, &first.key);
    log("tls.crt holds no certificate");
    assert_eq!(shown(&node, &authority), is(&second));
    fs::remove_file(secret.folder.join("..data")).unwrap();
    log("No such file or directory");
    assert_eq!(shown(&node, &authority), is(&second));
    secret.put(&first.certificate, &first.key);
    wait_for("the first certificate", || {
        (shown(&node, &authority) == is(&first)).then_some(())
    });
    assert_eq!(healthz(&mut open), 200);
    let log = node.daemon_log();
    assert_eq!(log.matches("the one before it stays").count(), 3, "{log}");
    assert!(!log.contains("PRIVATE"), "{log}");
    assert!(node.stop().success());
}

#[test]
fn one_who_says_nothing_holds_up_neither_others_nor_the_end() {
    let mut node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let files = authority.certify("localhost");
    let mut secret = Secret::new(node.path("secret"));
    secret.put(&files.certificate, &files.key);
    node.start_with(&["--status-tls", secret.path()], &[]);
    // Some of them do not even begin with TLS.
    let mut silent: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(node.address()).unwrap())
        .collect();
    silent[0].write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    connect(&node, &authority);
    let begin = std::time::Instant::now();
    assert!(node.stop().success());
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

#[test]
fn a_daemon_that_others_could_read_does_not_start() {
    let node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let (one, other) = (authority.certify("one"), authority.certify("other"));
    let mut mixed = Secret::new(node.path("mixed"));
    mixed.put(&one.certificate, &other.key);
    let (manifests, state) = (node.path("manifests"), node.path("state"));
    let (manifests, state) = (manifests.to_str().unwrap(), state.to_str().unwrap());
    let none = node.path("none");
    for (flags, parts) in [
        (
            &["--status", "0.0.0.0:0", "--status-auth", "none"][..],
            &[
                "--status 0.0.0.0:0",
                "loopback only",
                "--status-auth kubernetes",
            ][..],
        ),
        (
            &[
                "--status",
                "[::]:0",
                "--status-auth",
                "none",
                "--status-tls",
                mixed.path(),
            ],
            &["--status [::]:0", "loopback only"],
        ),
        (
            &["--status", "0.0.0.0:0"],
            &["--status 0.0.0.0:0", "--kubeconfig", "127.0.0.1"],
        ),
        (
            &["--status", "127.0.0.1:0", "--status-auth", "kubernetes"],
            &["--kubeconfig", "--status-auth none"],
        ),
        (
            &["--status", "127.0.0.1:0", "--status-tls", mixed.path()],
            &["--status-tls", mixed.path(), "tls.key is not the key"],
        ),
        (
            &[
                "--status",
                "127.0.0.1:0",
                "--status-tls",
                none.to_str().unwrap(),
            ],
            &[
                "--status-tls",
                "tls.crt",
                "No such file",
                "kubernetes.io/tls",
            ],
        ),
    ] {
        let arguments = [&["run", "--manifests", manifests, "--state", state], flags].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command
            .args(&arguments)
            .env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        for part in parts {
            assert!(error(&output).contains(part), "{part}: {}", error(&output));
        }
    }
}

#[test]
fn the_local_command_asks_by_tls() {
    let mut node = Node::new();
    let authority = Authority::new(node.path("authority"));
    let files = authority.certify("127.0.0.1");
    let mut secret = Secret::new(node.path("secret"));
    secret.put(&files.certificate, &files.key);
    node.start_with(&["--status-tls", secret.path()], &[]);
    let address = node.status_address();
    let ca = authority.ca();
    let ca = ca.to_str().unwrap();
    for flags in [&["--ca", ca][..], &["--insecure-skip-tls-verify"]] {
        let output = bulkhead(&[&["status", "--status", &address], flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", error(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("no plugins"));
    }
    let stranger = Authority::new(node.path("stranger")).ca();
    let stranger = stranger.to_str().unwrap();
    let output = bulkhead(&["status", "--status", &address, "--ca", stranger]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    let output = bulkhead(&["status", "--status", &address]);
    assert_eq!(output.status.code(), Some(3));
    assert!(error(&output).contains("--ca"), "{}", error(&output));

    let token = node.path("token");
    fs::write(&token, "a secret\n").unwrap();
    let token = token.to_str().unwrap();
    let output = bulkhead(&[
        "status",
        "--status",
        &address,
        "--ca",
        ca,
        "--token-file",
        token,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = error(&output);
    assert!(
        said.contains("holds no token") && !said.contains("secret"),
        "{said}"
    );
    let clear = [
        "status",
        "--status",
        "10.255.255.1:1",
        "--token-file",
        token,
    ];
    let output = bulkhead(&clear);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error(&output).contains("in the clear"),
        "{}",
        error(&output)
    );
}
