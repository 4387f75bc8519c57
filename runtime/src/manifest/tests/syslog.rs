//! The destination `syslog`.

use super::endpoints::{kind, with};
use super::*;

fn syslog(fields: &str) -> SyslogDestination {
    match kind(&format!("syslog: {{{fields}}}")) {
        DestinationKind::Syslog(to) => to,
        other => panic!("{other:?}"),
    }
}

#[test]
fn syslog_is_read_with_its_defaults() {
    let to = syslog("address: 'logs.example.org:601'");
    assert_eq!(to.host_and_port(), Some(("logs.example.org", 601)));
    assert_eq!((to.framing, to.tls), (Framing::OctetCounting, None));
    assert_eq!((to.facility, to.severity), (Facility::User, None));
    assert_eq!(to.structured_data_id, "bulkhead@32473");
    assert_eq!((to.format, to.max_message), (Format::Raw, ByteSize(8096)));
    assert!(to.structured_data && !to.bom);

    let to = syslog(
        "address: '[2001:db8::1]:6514', tls: {serverName: a.example}, facility: local7, \
         severity: warning, appName: 'x-${attribute:k8s.pod.name}'",
    );
    assert_eq!(to.host_and_port(), Some(("2001:db8::1", 6514)));
    assert_eq!(to.facility as u32 * 8 + to.severity.unwrap() as u32, 188);
    let parts = SyslogDestination::template(to.app_name.as_deref().unwrap());
    let wanted = [Part::Text("x-"), Part::Attribute("k8s.pod.name")];
    assert_eq!(parts.unwrap(), wanted);
}

#[test]
fn facilities_have_their_numbers() {
    for (name, number) in [
        ("kern", 0),
        ("user", 1),
        ("daemon", 3),
        ("authpriv", 10),
        ("cron2", 15),
        ("local0", 16),
        ("local7", 23),
    ] {
        let to = syslog(&format!("address: 'a:1', facility: {name}"));
        assert_eq!(to.facility as u32, number, "{name}");
    }
}

#[test]
fn addresses_are_host_and_port() {
    for wrong in [
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:+1",
        "a b:1",
        "::1:514",
        "[a]:1",
        "[::1]",
        "[::1:2",
        "u@a:1",
        "tcp://a:1",
    ] {
        let text = with(&format!("syslog: {{address: '{wrong}'}}"));
        let errors = refused(&text).join("\n");
        let wanted = "syslog.address: ";
        assert!(errors.contains(wanted), "{wrong}: {errors}");
        assert!(errors.contains("is no host and port"), "{wrong}: {errors}");
    }
}

#[test]
fn what_cannot_work_with_syslog_is_refused_with_a_remedy() {
    for (fields, wanted) in [
        ("facility: local8", "there is no \"local8\""),
        ("severity: loud", "there is no \"loud\""),
        ("protocol: udp", "syslog.protocol: unknown field"),
        (
            "tls: {certFile: /c}",
            "syslog.tls.certFile: stands without `keyFile`",
        ),
        ("tls: {caFile: c}", "syslog.tls.caFile: \"c\" is not an abs"),
        (
            "tls: {serverName: 'a b'}",
            "syslog.tls.serverName: \"a b\" is no host's name",
        ),
        ("tls: {verify: false}", "syslog.tls.verify: unknown field"),
        ("severityField: ''", "syslog.severityField: is empty"),
        (
            "appName: '${env:HOME}'",
            "syslog.appName: has a placeholder that is not known: write",
        ),
        ("msgId: '${attribute:a'", "syslog.msgId: has a `${` without"),
        ("structuredDataId: origin", "is no SD-ID of your own"),
        ("structuredDataId: 'a b@1'", "is no SD-ID of your own"),
        ("structuredDataId: 'a@x'", "is no SD-ID of your own"),
        ("structuredDataId: 'a]@1'", "is no SD-ID of your own"),
        (
            "structuredDataId: 'a2345678901234567890123456789@123'",
            "is no SD-ID of your own",
        ),
        ("maxMessage: 2047", "syslog.maxMessage: 2047 is not between"),
        ("maxMessage: 1Gi", "syslog.maxMessage: 1Gi is not between"),
        ("timeout: 0s", "syslog.timeout: is zero"),
        ("connectTimeout: 0s", "syslog.connectTimeout: is zero"),
        ("keepalive: 500ms", "syslog.keepalive: 500ms is not between"),
        ("retry: {attempts: 0}", "syslog.retry.attempts: is zero"),
    ] {
        let text = with(&format!("syslog: {{address: 'a:1', {fields}}}"));
        let errors = refused(&text).join("\n");
        assert!(errors.contains(wanted), "wanted {wanted}\ngot    {errors}");
    }
    let errors = refused(&with("syslog: {}")).join("\n");
    assert!(errors.contains("address"), "{errors}");
}
