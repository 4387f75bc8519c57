//! What is done with what a plugin with the role `metrics` finds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::{BasicAuth, Compression, Endpoint, Tls};
use super::quantity::{ByteSize, Period};
use super::queue::Queue;
use super::spec::Retry;

/// How a plugin with the role `metrics` is asked, and what becomes of its series. All has defaults.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// The longest that a collection may take. A scraper that gives less time gets what there is.
    pub timeout: Period,
    /// For how long a collection is served again instead of a new one being made; zero for never.
    pub cache: Period,
    /// The most series; what is over it is left out and said.
    pub max_series: u32,
    /// Labels added to every series; none unless given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where series are pushed to; nowhere unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_write: Vec<RemoteWrite>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            timeout: Period::seconds(10),
            cache: Period::millis(0),
            max_series: 10_000,
            labels: BTreeMap::new(),
            remote_write: Vec::new(),
        }
    }
}

/// A server to which series are pushed by Prometheus' remote write.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteWrite {
    /// Its name, by which the status reports.
    pub name: String,
    /// `http://` or `https://`, with the path that takes remote write.
    pub url: String,
    /// How often the plugin is asked, and what it found pushed.
    #[serde(default = "RemoteWrite::default_interval")]
    pub interval: Period,
    /// Labels added to every series that has none of the name, beside `job` and `instance` or in their
    /// place. Values may name the node, `${node:name}` and `${node:label/KEY}`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Further headers. Values may name secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// User and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// How the peer is known, and how the daemon shows who it is.
    #[serde(default)]
    pub tls: Tls,
    /// The proxy that requests go through; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The longest one request may take.
    #[serde(default = "RemoteWrite::default_timeout")]
    pub timeout: Period,
    /// A request body is at most this long, before compression.
    #[serde(default = "RemoteWrite::default_max_body")]
    pub max_body: ByteSize,
    /// What happens after a failure.
    #[serde(default)]
    pub retry: Retry,
    /// The queue on the disk in front of it; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

impl RemoteWrite {
    fn default_interval() -> Period {
        Period::seconds(15)
    }
    fn default_timeout() -> Period {
        Period::seconds(30)
    }
    fn default_max_body() -> ByteSize {
        ByteSize::mebibytes(4)
    }

    /// What it shares with the destinations over HTTP of the role `logs`.
    pub fn endpoint(&self) -> Endpoint<'_> {
        Endpoint {
            kind: "remoteWrite",
            url: &self.url,
            headers: &self.headers,
            basic_auth: self.basic_auth.as_ref(),
            // The protocol has one of its own.
            compression: Compression::None,
            tls: &self.tls,
            proxy: self.proxy.as_deref(),
            timeout: self.timeout,
            // Requests follow each other, so that samples come in order.
            concurrency: 1,
            max_body: self.max_body,
            retry: &self.retry,
        }
    }
}
