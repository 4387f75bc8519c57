//! What the two files say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Connections, packets in and out, bytes in and out: the third line, to the base 16.
pub(super) fn totals(text: &str) -> Option<[u64; 5]> {
    let mut lines = text.lines();
    let mut fields = lines.nth(2)?.split_ascii_whitespace();
    let mut totals = [0; 5];
    for total in &mut totals {
        *total = u64::from_str_radix(fields.next()?, 16).ok()?;
    }
    // A line after it, or it may be torn.
    (fields.next().is_none() && lines.next().is_some()).then_some(totals)
}

/// A virtual server.
pub(super) struct Service<'a> {
    pub(super) proto: &'a str,
    pub(super) mark: &'a str,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

pub(super) struct Backend {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// The weight, active and inactive connections.
    pub(super) numbers: [u64; 3],
}

/// Calls `each` for the lines `-> ...` with the line of the service above them.
pub(super) fn for_each_backend(text: &str, mut each: impl FnMut(&Service, Backend)) {
    let mut service = None;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some("->"), Some(address)) => {
                if let (Some(service), Some(backend)) = (&service, backend(address, fields)) {
                    each(service, backend);
                }
            }
            (Some("FWM"), Some(mark)) => {
                service = Some(Service {
                    proto: "FWM",
                    mark,
                    address: None,
                    port: 0,
                });
            }
            (Some(proto @ ("TCP" | "UDP" | "SCTP")), Some(address)) => {
                service = endpoint(address).map(|(address, port)| Service {
                    proto,
                    mark: "",
                    address: Some(address),
                    port,
                });
            }
            _ => {}
        }
    }
}

/// What follows the arrow: the address, how it is reached, and three numbers.
fn backend<'a>(address: &str, mut fields: impl Iterator<Item = &'a str>) -> Option<Backend> {
    let (address, port) = endpoint(address)?;
    let _how = fields.next()?;
    let mut numbers = [0; 3];
    for number in &mut numbers {
        *number = fields.next()?.parse().ok()?;
    }
    Some(Backend {
        address,
        port,
        numbers,
    })
}

/// `C0A80016:0CEA`, or `[fd00:0000:...:0001]:0050` with all zeros.
pub(super) fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None if address.len() == 8 => {
            IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?))
        }
        None => return None,
    };
    Some((address, port))
}
