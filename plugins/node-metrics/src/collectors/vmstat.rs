//! Counters of memory management, of `/proc/vmstat`.

use std::collections::BTreeSet;

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Pattern;
use crate::sysfs::whole_at;
use crate::text::{is_name_part, pairs};

const PATH: &str = "/proc/vmstat";

/// The collector `vmstat`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of the fields to tell.
    pub fields: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            fields: "^(oom_kill|pgpg|pswp|pg.*fault).*".to_owned(),
        }
    }
}

pub(crate) struct Vmstat {
    fields: Pattern,
}

impl Vmstat {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            fields: Pattern::new(&options.fields, "collectors.vmstat.fields")?,
        })
    }
}

impl Collect for Vmstat {
    fn wants(&self) -> Collector {
        Collector::new("vmstat").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, PATH)?;
        let mut known = BTreeSet::new();
        for (field, value) in pairs(&text) {
            if self.fields.is_match(field)
                && let Ok(value) = value.parse()
                && is_name_part(field)
                && known.insert(field)
            {
                let family = out.untyped(
                    &format!("node_vmstat_{field}"),
                    &format!("/proc/vmstat information field {field}."),
                );
                out.add(family, &[], value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const VMSTAT: &str = "nr_free_pages 977769\npgfault 2320168809\noom_kill 0\npgpgin torn\n";

    #[test]
    fn tells_the_chosen_fields() {
        let files = Files::new().file("/proc/vmstat", VMSTAT);
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        let found = plugin.collect("vmstat", &files).unwrap();
        assert_eq!(
            found.lines(),
            ["node_vmstat_oom_kill 0", "node_vmstat_pgfault 2320168809"]
        );
        assert_eq!(found.kind("node_vmstat_pgfault"), Some("untyped"));
        let config = r#"{"collectors":{"vmstat":{"fields":"^nr_"}}}"#;
        let mut plugin = Harness::<NodeMetrics>::new(config).unwrap();
        let found = plugin.collect("vmstat", &files).unwrap();
        assert_eq!(found.lines(), ["node_vmstat_nr_free_pages 977769"]);
    }

    #[test]
    fn survives_nonsense() {
        let all = r#"{"collectors":{"vmstat":{"fields":""}}}"#;
        survives("vmstat", all, &[("/proc/vmstat", VMSTAT)]);
    }

    #[test]
    fn a_wrong_expression_names_its_field() {
        let config = r#"{"collectors":{"vmstat":{"fields":"("}}}"#;
        let refused = Harness::<NodeMetrics>::new(config).err().unwrap();
        assert_eq!(refused.field(), "collectors.vmstat.fields");
    }
}
