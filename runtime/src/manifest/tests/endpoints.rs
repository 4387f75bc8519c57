//! Destinations that are reached over HTTP.

use super::*;

/// A manifest with one destination, in YAML's flow form.
pub(super) fn with(destination: &str) -> String {
    config_map(&GOOD.replace(
        "    - name: out\n      stdout: {}\n",
        &format!("    - {{name: out, {destination}}}\n"),
    ))
}

pub(super) fn kind(destination: &str) -> DestinationKind {
    let manifest = good(&with(destination));
    manifest.spec.logs.unwrap().destinations.remove(0).kind
}

#[test]
fn each_kind_is_read_with_its_defaults() {
    let DestinationKind::Http(http) = kind("http: {url: http://a, gzip: true}") else {
        panic!("another kind");
    };
    assert_eq!(http.compression(), Compression::Gzip);
    let endpoint = http.endpoint();
    assert_eq!(endpoint.timeout, Period::seconds(30));
    assert_eq!(endpoint.max_body, ByteSize::mebibytes(4));
    assert_eq!((endpoint.concurrency, endpoint.proxy), (4, None));
    assert_eq!(*endpoint.tls, Tls::default());

    let text = "elasticsearch: {url: https://es:9200, dataStream: logs-%Y, apiKey: '${env:KEY}', \
                tls: {caFile: /ca.pem}, proxy: 'http://${env:PROXY}'}";
    let DestinationKind::Elasticsearch(to) = kind(text) else {
        panic!("another kind");
    };
    assert_eq!(to.data_stream.unwrap().to_string(), "logs-%Y");
    assert_eq!(to.tls.ca_file.unwrap(), Path::new("/ca.pem"));

    let text = "splunkHec: {url: https://s:8088, token: '${file:/t}', acknowledgement: {}}";
    let DestinationKind::SplunkHec(to) = kind(text) else {
        panic!("another kind");
    };
    assert_eq!(to.endpoint, SplunkEndpoint::Event);
    assert_eq!(to.acknowledgement.unwrap().timeout, Period::seconds(300));

    let DestinationKind::Loki(to) = kind("loki: {url: http://loki:3100}") else {
        panic!("another kind");
    };
    assert_eq!(to.labels["job"], "bulkhead");
    assert_eq!(to.label_attributes.len(), 3);
    let text = "otlp: {url: http://c:4318, compression: zstd, basicAuth: {user: u, password: p}}";
    assert!(matches!(kind(text), DestinationKind::Otlp(_)));
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    for (destination, wanted) in [
        (
            "http: {url: http://a, gzip: true, compression: zstd}",
            "http.gzip: stands beside `compression`",
        ),
        (
            "http: {url: http://a, compression: snappy}",
            "http.compression: there is no \"snappy\": known values: none, gzip, zstd",
        ),
        (
            "http: {url: http://a, tls: {certFile: /c}}",
            "http.tls.certFile: stands without `keyFile`: add `keyFile:`",
        ),
        (
            "http: {url: http://a, tls: {keyFile: /c}}",
            "http.tls.keyFile: stands without `certFile`",
        ),
        (
            "http: {url: http://a, tls: {caFile: ca.pem}}",
            "http.tls.caFile: \"ca.pem\" is not an absolute path",
        ),
        (
            "http: {url: http://a, proxy: 'http://me:pw@p:1'}",
            "http.proxy: has credentials in it",
        ),
        (
            "http: {url: http://a, proxy: 'socks5://p:1'}",
            "http.proxy: has the scheme \"socks5\"",
        ),
        (
            "http: {url: http://a, basicAuth: {user: u, password: p}, headers: {authorization: x}}",
            "http.basicAuth: stands beside the header `Authorization`",
        ),
        (
            "http: {url: http://a, basicAuth: {user: u, password: '${vault:x}'}}",
            "http.basicAuth.password: has a placeholder that is not known",
        ),
        (
            "elasticsearch: {url: http://a}",
            "elasticsearch: does not say where records go: add `index:",
        ),
        (
            "elasticsearch: {url: http://a, index: a, dataStream: b}",
            "elasticsearch.dataStream: stands beside `index`",
        ),
        (
            "elasticsearch: {url: http://a, index: Logs}",
            "elasticsearch.index: \"Logs\" is no name that an index may have: write lower-case",
        ),
        (
            "elasticsearch: {url: http://a, index: a-%q}",
            "elasticsearch.index: \"a-%q\" has a `%` that stands for no part of a date",
        ),
        (
            "elasticsearch: {url: http://a, index: a, compression: zstd}",
            "elasticsearch.compression: is zstd",
        ),
        (
            "elasticsearch: {url: http://a, index: a, apiKey: k, basicAuth: {user: u, password: p}}",
            "elasticsearch.apiKey: stands beside `basicAuth`",
        ),
        (
            "elasticsearch: {url: http://a, idx: a}",
            "elasticsearch.idx: unknown field",
        ),
        ("splunkHec: {url: http://a}", "splunkHec: has no `token`"),
        (
            "splunkHec: {url: http://a, token: t, acknowledgement: {interval: 0s}}",
            "splunkHec.acknowledgement.interval: is zero",
        ),
        (
            "splunkHec: {url: http://a, token: t, headers: {Authorization: x}}",
            "splunkHec.token: stands beside the header `Authorization`",
        ),
        (
            "loki: {url: http://a, labels: {}}",
            "loki.labels: is empty, but a stream has at least one label",
        ),
        (
            "loki: {url: http://a, labels: {a-b: c}}",
            "\"a-b\" is no label's name",
        ),
        (
            "loki: {url: http://a, labelAttributes: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o]}",
            "loki.labelAttributes: makes 16 labels",
        ),
        ("otlp: {url: grpc://a}", "otlp.url: has the scheme \"grpc\""),
        (
            "otlp: {url: http://a}, stdout: {}",
            "is several things at once: keep exactly one",
        ),
    ] {
        let errors = refused(&with(destination)).join("\n");
        let wanted = wanted.to_owned();
        assert!(errors.contains(&wanted), "wanted {wanted}\ngot    {errors}");
        assert!(!errors.contains("pw"), "{errors}");
    }
}
