//! Ports that listen, and may or may not.

use std::ops::RangeInclusive;

use bulkhead_sdk::scanning::{Findings, Outline, Severity, Socket, View};
use bulkhead_sdk::{Error, Result};

use super::{Check, rule};

const ID: &str = "posture.port";

/// Ports that may listen on addresses that others can reach.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Config {
    /// `22`, `tcp/10250`, `udp/53`, `tcp/30000-32767`; without a protocol, TCP and UDP.
    allow: Vec<String>,
    /// Whether UDP is looked at. Programs that ask others open UDP ports as well, which is hard to tell
    /// from those that serve.
    udp: bool,
    /// Whether ports that only the node itself can reach are looked at.
    loopback: bool,
}

#[derive(Debug)]
pub(super) struct Ports {
    allowed: Vec<(Option<String>, RangeInclusive<u16>)>,
    udp: bool,
    loopback: bool,
}

impl Ports {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let parse = |(i, text): (usize, &String)| {
            allowed(text).ok_or_else(|| {
                let message = "is a port or a range of ports, maybe with a protocol before it: 22, tcp/10250, udp/30000-32767";
                Error::new(message).at(format!("posture.ports.allow[{i}]"))
            })
        };
        Ok(Self {
            allowed: config
                .allow
                .iter()
                .enumerate()
                .map(parse)
                .collect::<Result<_>>()?,
            udp: config.udp,
            loopback: config.loopback,
        })
    }

    fn is_odd(&self, socket: &Socket) -> bool {
        let protocol = match socket.protocol.as_str() {
            "tcp" | "tcp6" => "tcp",
            "udp" | "udp6" if self.udp => "udp",
            _ => return false,
        };
        let allowed = |(of, ports): &(Option<String>, RangeInclusive<u16>)| {
            of.as_deref().is_none_or(|of| of == protocol) && ports.contains(&socket.port)
        };
        socket.listening
            && (self.loopback || !is_loopback(&socket.address))
            && !self.allowed.iter().any(allowed)
    }
}

fn allowed(text: &str) -> Option<(Option<String>, RangeInclusive<u16>)> {
    let (protocol, ports) = match text.split_once('/') {
        Some((protocol @ ("tcp" | "udp"), ports)) => (Some(protocol.to_owned()), ports),
        Some(_) => return None,
        None => (None, text),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let ports = first.parse().ok()?..=last.parse().ok()?;
    (!ports.is_empty()).then_some((protocol, ports))
}

/// Whether only the node itself can reach the address.
pub(super) fn is_loopback(address: &str) -> bool {
    address
        .parse()
        .is_ok_and(|address: std::net::IpAddr| address.to_canonical().is_loopback())
}

impl Check for Ports {
    fn outline(&mut self, outline: &mut Outline) {
        outline.rule(
            rule(
                ID,
                Severity::Medium,
                "A port listens that nobody has allowed",
                "Whatever listens can be attacked by whoever reaches it, and a door that an intruder leaves open listens as well.",
                "Stop the program, bind it to 127.0.0.1, or allow the port in posture.ports.allow.",
            )
            .reference("https://attack.mitre.org/techniques/T1571/"),
        );
        outline.want_sockets();
    }

    fn assess(&self, view: &View, out: &mut Findings) {
        for socket in view.sockets().iter().filter(|socket| self.is_odd(socket)) {
            let address = match socket.address.contains(':') {
                true => format!("[{}]:{}", socket.address, socket.port),
                false => format!("{}:{}", socket.address, socket.port),
            };
            let subject = format!("socket/{}/{address}", socket.protocol);
            out.other(subject, ID)
                .message(format!("{} {address} listens", socket.protocol))
                .evidence("port", socket.port)
                .evidence("address", &socket.address)
                .evidence("uid", socket.uid)
                .evidence("pid", socket.pid);
        }
    }
}
