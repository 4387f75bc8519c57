//! A real rsyslogd on a port, and in a folder, of its own.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::authority::Files;
use super::sink::own_address;
use super::{signal_to, wait_for};

/// A message as rsyslog understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub priority: u32,
    pub time: String,
    pub hostname: String,
    pub app_name: String,
    pub proc_id: String,
    pub msg_id: String,
    pub data: String,
    pub text: String,
}

impl Message {
    /// A parameter of the structured data; values in these tests need no escaping.
    pub fn param(&self, name: &str) -> Option<&str> {
        let (_, value) = self.data.split_once(&format!(" {name}=\""))?;
        value.split('"').next()
    }
}

/// rsyslogd; killed with its value.
pub struct Rsyslog {
    pub address: SocketAddr,
    folder: TempDir,
    tls: Option<(Files, &'static str)>,
    process: Option<Child>,
    starts: usize,
}

impl Rsyslog {
    /// Over plain TCP; does not run yet.
    pub fn new() -> Self {
        Self {
            address: own_address(),
            folder: tempfile::tempdir().unwrap(),
            tls: None,
            process: None,
            starts: 0,
        }
    }

    /// Over TLS, with `mode` as rsyslog's `streamDriver.authMode`.
    pub fn with_tls(files: Files, mode: &'static str) -> Self {
        let mut server = Self::new();
        server.tls = Some((files, mode));
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn output(&self, start: usize) -> PathBuf {
        self.path(&format!("out-{start}"))
    }

    fn configuration(&self) -> String {
        let mut global = format!(
            "workDirectory={:?} parser.escapeControlCharactersOnReceive=\"off\" \
             parser.dropTrailingLFOnReception=\"off\"",
            self.folder.path()
        );
        let mut module = String::new();
        if let Some((files, mode)) = &self.tls {
            global.push_str(&format!(
                " defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile={:?} \
                 defaultNetstreamDriverCertFile={:?} defaultNetstreamDriverKeyFile={:?}",
                files.ca, files.certificate, files.key
            ));
            module = format!(
                " streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"{mode}\""
            );
        }
        let properties: String = [
            "pri",
            "timereported",
            "hostname",
            "app-name",
            "procid",
            "msgid",
            "structured-data",
            "msg",
        ]
        .map(|name| {
            let date = match name {
                "timereported" => " dateFormat=\"rfc3339\"",
                _ => "",
            };
            format!("property(name=\"{name}\" outname=\"{name}\" format=\"jsonf\"{date})")
        })
        .join(" constant(value=\",\") ");
        format!(
            // With more than one worker it changes the order by itself.
            "global({global})\nmain_queue(queue.workerThreads=\"1\")\nmodule(load=\"imtcp\"{module})\n\
             template(name=\"json\" type=\"list\") {{ constant(value=\"{{\") {properties} constant(value=\"}}\\n\") }}\n\
             input(type=\"imtcp\" address=\"{}\" port=\"{}\")\n\
             action(type=\"omfile\" file={:?} template=\"json\")\n",
            self.address.ip(),
            self.address.port(),
            self.output(self.starts),
        )
    }

    /// Starts it and waits until it listens.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.starts += 1;
        let (configuration, pid) = (self.path("conf"), self.path("pid"));
        fs::write(&configuration, self.configuration()).unwrap();
        let _ = fs::remove_file(&pid);
        let log = self.path("log");
        let process = Command::new(executable())
            .args(["-n", "-f"])
            .arg(&configuration)
            .arg("-i")
            .arg(&pid)
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(File::options().append(true).open(&log).unwrap())
            .spawn();
        let mut process = process.unwrap_or_else(|error| panic!("{error}: {INSTALL}"));
        wait_for("rsyslogd to listen", || {
            let ended = process.try_wait().unwrap();
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(
                ended.is_none() && !said.contains("could not load module"),
                "rsyslogd does not start: {INSTALL}\n{said}"
            );
            is_listening(self.address).then_some(())
        });
        self.process = Some(process);
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        signal_to(&process, Signal::TERM);
        wait_for("rsyslogd to end", || process.try_wait().unwrap());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// What arrived since start number `start`, from 1.
    pub fn received_by(&self, start: usize) -> Vec<Message> {
        let bytes = fs::read(self.output(start)).unwrap_or_default();
        let end = bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        let whole = std::str::from_utf8(&bytes[..end]).unwrap();
        whole.lines().map(message).collect()
    }

    /// What arrived since the last start.
    pub fn received(&self) -> Vec<Message> {
        self.received_by(self.starts)
    }

    /// Waits until `count` messages have arrived since the last start, and returns them.
    pub fn wait_received(&self, count: usize) -> Vec<Message> {
        wait_for(&format!("{count} messages in rsyslog"), || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

const INSTALL: &str = "these tests ship to a real rsyslogd: run 'make setup', or 'apt-get install rsyslog rsyslog-gnutls'";

fn executable() -> &'static Path {
    let known = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"].map(Path::new);
    let found = known.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("there is no rsyslogd: {INSTALL}"))
}

fn message(line: &str) -> Message {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    Message {
        priority: text("pri").parse().unwrap(),
        time: text("timereported"),
        hostname: text("hostname"),
        app_name: text("app-name"),
        proc_id: text("procid"),
        msg_id: text("msgid"),
        data: text("structured-data"),
        text: text("msg"),
    }
}

/// Whether somebody listens there. Nobody connects: a connection without a handshake is an error to a server
/// that speaks TLS, and in its log. proc_pid_net(5): local address and port in hexadecimal, `0A` is LISTEN.
fn is_listening(address: SocketAddr) -> bool {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("{address} is not of IPv4");
    };
    let ip = u32::from_ne_bytes(ip.octets());
    let expected = format!("{ip:08X}:{:04X}", address.port());
    let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap();
    sockets.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(&*expected) && fields.nth(1) == Some("0A")
    })
}
