//! Checks of the destination `syslog`.

use rustls::pki_types::ServerName;

use super::{Check, quoted};
use crate::manifest::syslog::{SyslogDestination, SyslogTls};

impl Check<'_> {
    pub(super) fn syslog(&self, field: &str, to: &SyslogDestination) {
        if to.host_and_port().is_none() {
            self.refuse(
                format!("{field}.address"),
                format!("{} is no host and port", quoted(&to.address)),
                "write for example logs.example.org:6514 or [2001:db8::1]:6514",
            );
        }
        if let Some(tls) = &to.tls {
            self.syslog_tls(&format!("{field}.tls"), tls);
        }
        if let Some(name) = &to.severity_field
            && name.is_empty()
        {
            self.refuse(
                format!("{field}.severityField"),
                "is empty",
                "write a member's name, for example level",
            );
        }
        for (name, text) in [
            ("hostname", &to.hostname),
            ("appName", &to.app_name),
            ("procId", &to.proc_id),
            ("msgId", &to.msg_id),
        ] {
            if let Some(text) = text
                && let Err(problem) = SyslogDestination::template(text)
            {
                self.refuse(
                    format!("{field}.{name}"),
                    problem,
                    "write text and `${attribute:k8s.pod.name}`",
                );
            }
        }
        let id = &to.structured_data_id;
        if !is_sd_id(id) {
            self.refuse(
                format!("{field}.structuredDataId"),
                format!("{} is no SD-ID of your own", quoted(id)),
                "write a name, `@` and your private enterprise number, at most 32 characters, for \
                 example bulkhead@32473",
            );
        }
        let sizes = SyslogDestination::MIN_MESSAGE..=SyslogDestination::MAX_MESSAGE;
        if !sizes.contains(&to.max_message) {
            self.refuse(
                format!("{field}.maxMessage"),
                format!(
                    "{} is not between {} and {}",
                    to.max_message,
                    sizes.start(),
                    sizes.end()
                ),
                "write what the receiver takes, for example 8Ki",
            );
        }
        self.not_zero(format!("{field}.connectTimeout"), to.connect_timeout);
        self.not_zero(format!("{field}.timeout"), to.timeout);
        if to.keepalive.0.as_secs() == 0 || to.keepalive.0.as_secs() > 32_767 {
            self.refuse(
                format!("{field}.keepalive"),
                format!("{} is not between 1s and 9h", to.keepalive),
                "write for example 60s",
            );
        }
        self.retry(field, &to.retry);
    }

    fn syslog_tls(&self, field: &str, tls: &SyslogTls) {
        self.tls(field, &tls.files());
        if let Some(name) = &tls.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            self.refuse(
                format!("{field}.serverName"),
                format!("{} is no host's name or address", quoted(name)),
                "write the name that the server's certificate is for",
            );
        }
    }
}

/// RFC 5424, 6.3.2: names without an `@` are IANA's to give.
fn is_sd_id(id: &str) -> bool {
    let printable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
    let Some((name, number)) = id.split_once('@') else {
        return false;
    };
    let arcs = |arc: &str| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit());
    id.len() <= 32 && !name.is_empty() && name.bytes().all(printable) && number.split('.').all(arcs)
}
