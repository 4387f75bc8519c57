//! The manifest's destination `syslog`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::Tls;
use super::quantity::{ByteSize, Period};
use super::spec::{Format, Retry};

/// A syslog server: RFC 5424 over TCP (RFC 6587) or TLS (RFC 5425).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyslogDestination {
    /// `HOST:PORT`; an IPv6 address in brackets.
    pub address: String,
    /// TLS, if given; `tls: {}` trusts the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SyslogTls>,
    /// How the receiver tells one message from the next.
    #[serde(default)]
    pub framing: Framing,
    /// What MSG holds: the body as it is, or the record as JSON.
    #[serde(default = "SyslogDestination::default_format")]
    pub format: Format,
    /// What the records belong to, in syslog's terms.
    #[serde(default)]
    pub facility: Facility,
    /// Of records that name none; `err` for what was written to stderr and `info` for the rest
    /// unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The member of a record that names its severity; unless given the first there is of `level`,
    /// `severity`, `severity_text` and `lvl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity_field: Option<String>,
    /// HOSTNAME; the node's name unless given. This and the next three may name attributes of the
    /// source as `${attribute:NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// APP-NAME; the container's name, or the file's without its extension, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// PROCID; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proc_id: Option<String>,
    /// MSGID; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msg_id: Option<String>,
    /// Whether messages say in structured data where they come from.
    #[serde(default = "SyslogDestination::default_structured_data")]
    pub structured_data: bool,
    /// The SD-ID of that, `NAME@NUMBER` with a private enterprise number.
    #[serde(default = "SyslogDestination::default_structured_data_id")]
    pub structured_data_id: String,
    /// Whether a byte order mark says that MSG is UTF-8, as RFC 5424 asks and few receivers expect.
    #[serde(default)]
    pub bom: bool,
    /// A message is at most this long; MSG is cut to fit, and marked.
    #[serde(default = "SyslogDestination::default_max_message")]
    pub max_message: ByteSize,
    /// The longest that making a connection may take.
    #[serde(default = "SyslogDestination::default_connect_timeout")]
    pub connect_timeout: Period,
    /// The longest that the receiver may take nothing before the status says so.
    #[serde(default = "SyslogDestination::default_timeout")]
    pub timeout: Period,
    /// How long a connection may be idle before the kernel asks whether the peer is there.
    #[serde(default = "SyslogDestination::default_keepalive")]
    pub keepalive: Period,
    /// What happens after a failure.
    #[serde(default)]
    pub retry: Retry,
}

impl SyslogDestination {
    /// Receivers of TLS have to take as much (RFC 5425), and it leaves room for every header.
    pub(crate) const MIN_MESSAGE: ByteSize = ByteSize::kibibytes(2);
    /// The longest message that may be asked for.
    pub(crate) const MAX_MESSAGE: ByteSize = ByteSize::mebibytes(32);

    fn default_format() -> Format {
        Format::Raw
    }
    fn default_structured_data() -> bool {
        true
    }
    fn default_structured_data_id() -> String {
        // The number that RFC 5612 sets aside for examples.
        "bulkhead@32473".to_owned()
    }
    fn default_max_message() -> ByteSize {
        // What rsyslog takes unless told otherwise; it breaks longer ones into pieces.
        ByteSize(8096)
    }
    fn default_connect_timeout() -> Period {
        Period::seconds(10)
    }
    fn default_timeout() -> Period {
        Period::seconds(30)
    }
    fn default_keepalive() -> Period {
        Period::seconds(60)
    }

    /// Host, without brackets, and port of `address`; none if it is not of that form.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.rsplit_once(':')?;
        let port: u16 = match port.bytes().all(|byte| byte.is_ascii_digit()) {
            true => port.parse().ok()?,
            false => return None,
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inside = rest.strip_suffix(']')?;
                inside.parse::<std::net::Ipv6Addr>().ok()?;
                inside
            }
            None => host,
        };
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let known = self.address.starts_with('[') || host.bytes().all(name);
        (!host.is_empty() && known && port > 0).then_some((host, port))
    }

    /// The parts of a header field's value; an error says what is wrong with it.
    pub fn template(text: &str) -> Result<Vec<Part<'_>>, &'static str> {
        const OPEN: &str = "${attribute:";
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            let name = from.strip_prefix(OPEN);
            let name = name.ok_or("has a placeholder that is not known")?;
            let (name, after) = name.split_once('}').ok_or("has a `${` without its `}`")?;
            if name.is_empty() {
                return Err("has a placeholder without a name");
            }
            parts.extend((!before.is_empty()).then_some(Part::Text(before)));
            parts.push(Part::Attribute(name));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then_some(Part::Text(rest)));
        Ok(parts)
    }
}

/// A part of a header field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Stands for itself.
    Text(&'a str),
    /// The value of the source's attribute of this name, or nothing.
    Attribute(&'a str),
}

/// TLS to a syslog server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SyslogTls {
    /// Certificates of the authorities to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The daemon's certificate, with its chain, for servers that ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Certificates of the authorities to trust instead of the system's: the PEM text, or a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The daemon's certificate, with its chain: the PEM text, or a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// The certificate's private key: a reference, `${secret:NAME/KEY}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The name that the server's certificate must be for; the address's host unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl SyslogTls {
    /// The files, as the other kinds have them.
    pub fn files(&self) -> Tls {
        Tls {
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}

/// How the receiver tells one message from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Framing {
    /// Its length before each message: RFC 6587, 3.4.1, and RFC 5425.
    #[default]
    OctetCounting,
    /// A line feed after each message, for receivers that know nothing better: RFC 6587, 3.4.2.
    /// Line feeds within a message become `#012`.
    Newline,
}

/// Syslog's facilities, by the names of RFC 5427.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Facility {
    Kern = 0,
    #[default]
    User = 1,
    Mail = 2,
    Daemon = 3,
    Auth = 4,
    Syslog = 5,
    Lpr = 6,
    News = 7,
    Uucp = 8,
    Cron = 9,
    Authpriv = 10,
    Ftp = 11,
    Ntp = 12,
    Audit = 13,
    Console = 14,
    Cron2 = 15,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}

/// Syslog's severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Severity {
    Emerg = 0,
    Alert = 1,
    Crit = 2,
    Err = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}
