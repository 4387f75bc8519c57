//! The manifest's destinations that are reached over HTTP. Each kind has fields of its own beside
//! those that all of them share; serde cannot refuse unknown fields across a flattened structure,
//! so a macro writes the shared ones into each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::index_name::IndexName;
use super::quantity::{ByteSize, Period};
use super::spec::{Format, Retry};

/// What all destinations over HTTP share, as a view of one of them.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint<'a> {
    /// The kind as the manifest writes it.
    pub kind: &'static str,
    /// `http://` or `https://`.
    pub url: &'a str,
    /// Further headers, with references to secrets.
    pub headers: &'a BTreeMap<String, String>,
    /// User and password.
    pub basic_auth: Option<&'a BasicAuth>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// How the peer is known, and how the daemon shows who it is.
    pub tls: &'a Tls,
    /// The proxy that requests go through.
    pub proxy: Option<&'a str>,
    /// The longest one request may take.
    pub timeout: Period,
    /// How many requests may be in flight.
    pub concurrency: usize,
    /// A request body is at most this long, before compression.
    pub max_body: ByteSize,
    /// What happens after a failure.
    pub retry: &'a Retry,
}

/// User and password of HTTP basic authentication.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// Either may be a reference, `${env:NAME}` or `${file:/path}`.
    pub user: String,
    /// A reference, so that it stays out of the manifest.
    pub password: String,
}

/// How a request body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, which every server that takes compressed bodies knows.
    Gzip,
    /// Zstandard: less work for a better result, where the server knows it.
    Zstd,
}

/// What TLS needs, in PEM, from files or by reference; read anew when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
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
}

fn default_timeout() -> Period {
    Period::seconds(30)
}
fn default_concurrency() -> usize {
    4
}
fn default_max_body() -> ByteSize {
    ByteSize::mebibytes(4)
}

/// Defines a kind: its own fields as written, then the shared ones.
macro_rules! endpoint {
    ($(#[$meta:meta])* $name:ident is $kind:literal {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            /// `http://` or `https://`.
            pub url: String,
            $($(#[$field_meta])* pub $field: $type,)*
            /// Further headers. Values may name an environment variable as `${env:NAME}` or a file
            /// as `${file:/path}`, so that credentials stay out of the manifest.
            #[serde(default)]
            pub headers: BTreeMap<String, String>,
            /// User and password, by reference as in `headers`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub basic_auth: Option<BasicAuth>,
            /// How bodies are compressed.
            #[serde(default)]
            pub compression: Compression,
            /// How the peer is known, and how the daemon shows who it is.
            #[serde(default)]
            pub tls: Tls,
            /// The proxy that requests go through, `http://` or `https://`; none unless given,
            /// whatever the environment says.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub proxy: Option<String>,
            /// The longest one request may take.
            #[serde(default = "default_timeout")]
            pub timeout: Period,
            /// How many requests may be in flight; each lane has one at most.
            #[serde(default = "default_concurrency")]
            pub concurrency: usize,
            /// A request body is at most this long, before compression.
            #[serde(default = "default_max_body")]
            pub max_body: ByteSize,
            /// What happens after a failure.
            #[serde(default)]
            pub retry: Retry,
        }

        impl $name {
            /// What it shares with the other kinds.
            pub fn endpoint(&self) -> Endpoint<'_> {
                Endpoint {
                    kind: $kind,
                    url: &self.url,
                    headers: &self.headers,
                    basic_auth: self.basic_auth.as_ref(),
                    compression: self.compression,
                    tls: &self.tls,
                    proxy: self.proxy.as_deref(),
                    timeout: self.timeout,
                    concurrency: self.concurrency,
                    max_body: self.max_body,
                    retry: &self.retry,
                }
            }
        }
    };
}

endpoint! {
    /// An HTTP endpoint that takes newline-delimited records, or the plugin's own payloads.
    HttpDestination is "http" {
        /// How records are written.
        #[serde(default)]
        pub format: Format,
        /// Of the request; `application/x-ndjson` for JSON and `text/plain` for raw unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub content_type: Option<String>,
        /// Short for `compression: gzip`.
        #[serde(default)]
        pub gzip: bool,
    }
}

impl HttpDestination {
    /// How bodies are compressed, by either spelling.
    pub fn compression(&self) -> Compression {
        match self.gzip {
            true => Compression::Gzip,
            false => self.compression,
        }
    }
}

endpoint! {
    /// Elasticsearch or OpenSearch, by its `_bulk` interface.
    ElasticsearchDestination is "elasticsearch" {
        /// The index, whose name may hold the record's date; this or `dataStream`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub index: Option<IndexName>,
        /// The data stream; this or `index`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub data_stream: Option<IndexName>,
        /// An API key as the server shows it in the form `encoded`, by reference as in `headers`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub api_key: Option<String>,
    }
}

endpoint! {
    /// Splunk's HTTP Event Collector.
    SplunkHecDestination is "splunkHec" {
        /// The collector's token, by reference as in `headers`.
        pub token: String,
        /// Which of the collector's endpoints.
        #[serde(default)]
        pub endpoint: SplunkEndpoint,
        /// How records are written.
        #[serde(default)]
        pub format: Format,
        /// The index; the token's own unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub index: Option<String>,
        /// The source; for events the file's path unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub source: Option<String>,
        /// The source type; the token's own unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub sourcetype: Option<String>,
        /// The host; what Splunk sees unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub host: Option<String>,
        /// Waits until the indexers have acknowledged; the token must have it switched on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub acknowledgement: Option<Acknowledgement>,
    }
}

/// Which of Splunk's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SplunkEndpoint {
    /// Each record an event of its own, with time and source.
    #[default]
    Event,
    /// Text, which Splunk breaks into events by the source type's rules.
    Raw,
}

/// How the indexers' acknowledgement is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Acknowledgement {
    /// How long before the same is sent again.
    pub timeout: Period,
    /// How often Splunk is asked.
    pub interval: Period,
}

impl Default for Acknowledgement {
    fn default() -> Self {
        Self {
            // Splunk may gather a request with others for minutes before it writes them.
            timeout: Period::seconds(300),
            interval: Period::seconds(1),
        }
    }
}

endpoint! {
    /// An OpenTelemetry receiver, by OTLP over HTTP. The URL is the one before `/v1/logs`.
    OtlpDestination is "otlp" {}
}

endpoint! {
    /// Grafana Loki, by its push interface.
    LokiDestination is "loki" {
        /// Labels that every stream has.
        #[serde(default = "LokiDestination::default_labels")]
        pub labels: BTreeMap<String, String>,
        /// Attributes of the source that become labels, dots as underscores. Each combination of
        /// values is a stream: name few.
        #[serde(default = "LokiDestination::default_label_attributes")]
        pub label_attributes: Vec<String>,
        /// Attributes of the source that become structured metadata.
        #[serde(default)]
        pub structured_metadata: Vec<String>,
        /// The tenant, if Loki has several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tenant: Option<String>,
        /// How records are written.
        #[serde(default)]
        pub format: Format,
    }
}

impl LokiDestination {
    /// Loki refuses streams with more labels, unless its limit was raised.
    pub(crate) const MAX_LABELS: usize = 15;

    fn default_labels() -> BTreeMap<String, String> {
        [("job".to_owned(), "bulkhead".to_owned())].into()
    }
    fn default_label_attributes() -> Vec<String> {
        ["k8s.namespace.name", "k8s.pod.name", "k8s.container.name"]
            .map(str::to_owned)
            .into()
    }
}
