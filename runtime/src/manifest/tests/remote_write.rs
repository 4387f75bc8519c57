//! Servers that series are pushed to.

use super::*;

/// A manifest with one server, in YAML's flow form.
fn with(fields: &str) -> String {
    let metrics = format!("metrics: {{remoteWrite: [{{{fields}}}]}}\nlimits:");
    config_map(&GOOD.replacen("limits:", &metrics, 1))
}

const PLAIN: &str = "name: far, url: 'http://a/api/v1/write'";

#[test]
fn a_server_is_read_with_its_defaults() {
    let manifest = good(&with(PLAIN));
    let metrics = manifest.spec.metrics.unwrap();
    let far = &metrics.remote_write[0];
    assert_eq!(far.interval, Period::seconds(15));
    assert_eq!(far.queue, None);
    let endpoint = far.endpoint();
    assert_eq!(endpoint.kind, "remoteWrite");
    assert_eq!(endpoint.timeout, Period::seconds(30));
    assert_eq!((endpoint.concurrency, endpoint.proxy), (1, None));
    let all = "interval: 1h, timeout: 5s, maxBody: 1Mi, proxy: 'http://p:1', \
               labels: {cluster: east, node: '${node:name}', zone: 'z-${node:label/topology.kubernetes.io/zone}'}, \
               headers: {X-Scope-OrgID: a}, basicAuth: {user: u, password: '${secret:a/b}'}, \
               tls: {caFile: /ca.pem}, retry: {initial: 1s, max: 2s, attempts: 3}, \
               queue: {path: /mnt/q, maxSize: 1Mi, whenFull: dropOldest}";
    let manifest = good(&with(&format!("{PLAIN}, {all}")));
    let far = &manifest.spec.metrics.unwrap().remote_write[0];
    assert_eq!(far.retry.attempts, Some(3));
    assert_eq!(far.queue.as_ref().unwrap().when_full, WhenFull::DropOldest);
    // Where nothing is pushed, nothing of it is written, so that no digest changes.
    let none = serde_json::to_value(Metrics::default()).unwrap();
    assert_eq!(none.get("remoteWrite"), None);
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    for (fields, wanted) in [
        ("url: 'http://a'", "has no `name`"),
        ("name: far", "has no `url`"),
        ("name: Far, url: 'http://a'", ".name: \"Far\" is no name"),
        ("name: far, url: 'ftp://a'", ".url: has the scheme \"ftp\""),
        (
            "name: far, url: 'http://u:p@a'",
            ".url: has credentials in it",
        ),
        (
            "name: far, url: 'http://a', interval: 500ms",
            ".interval: 500ms is not between 1s and 1h",
        ),
        (
            "name: far, url: 'http://a', interval: 2h",
            ".interval: 2h is not between 1s and 1h",
        ),
        (
            "name: far, url: 'http://a', timeout: 0s",
            ".timeout: is zero",
        ),
        (
            "name: far, url: 'http://a', labels: {le: a}",
            ".labels: \"le\" is no name of a label",
        ),
        (
            "name: far, url: 'http://a', labels: {a: '${secret:a/b}'}",
            ".labels.a: has a placeholder that a label cannot have",
        ),
        (
            "name: far, url: 'http://a', labels: {a: '${node:name'}",
            ".labels.a: has a placeholder that a label cannot have",
        ),
        (
            "name: far, url: 'http://a', headers: {a: '${vault:x}'}",
            ".headers.a: has a placeholder that is not known",
        ),
        (
            "name: far, url: 'http://a', tls: {certFile: /c}",
            ".tls.certFile: stands without `keyFile`",
        ),
        (
            "name: far, url: 'http://a', queue: {maxSize: 1Ki}",
            ".queue.maxSize: 1Ki is less than 1Mi",
        ),
        (
            "name: far, url: 'http://a', queue: {path: q}",
            ".queue.path: \"q\" is not absolute",
        ),
        (
            "name: far, url: 'http://a', compression: gzip",
            "compression: unknown field",
        ),
        (
            "name: far, url: 'http://a'}, {name: far, url: 'http://b'",
            "metrics.remoteWrite[1].name: two entries are called \"far\"",
        ),
    ] {
        let text = refused(&with(fields)).join("\n");
        assert!(text.contains(wanted), "{fields}: {text}");
        assert!(text.contains("metrics.remoteWrite["), "{fields}: {text}");
    }
    let many = (0..17).map(|i| format!("name: a-{i}, url: 'http://a'"));
    let many = many.collect::<Vec<_>>().join("}, {");
    let text = refused(&with(&many)).join("\n");
    let wanted = "metrics.remoteWrite: has 17 entries: keep at most 16";
    assert!(text.contains(wanted), "{text}");
}
