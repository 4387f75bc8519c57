//! What is done with what a plugin with the role `metrics` finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::quantity::Period;

/// How a plugin with the role `metrics` is asked, and what becomes of its series. All has defaults.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            timeout: Period::seconds(10),
            cache: Period::millis(0),
            max_series: 10_000,
            labels: BTreeMap::new(),
        }
    }
}
