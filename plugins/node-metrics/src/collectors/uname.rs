//! The system's name, as uname(2) has it.

use bulkhead_sdk::{Collector, Families, Result, View, node_stats};

use super::Collect;

pub(crate) struct Uname;

impl Collect for Uname {
    fn wants(&self) -> Collector {
        Collector::new("uname")
    }

    fn collect(&mut self, _: &View, out: &mut Families) -> Result<()> {
        let name = node_stats::system_name();
        let family = out.gauge(
            "node_uname_info",
            "Labeled system information as provided by the uname system call.",
        );
        let labels = [
            ("sysname", name.sysname.as_str()),
            ("release", &name.release),
            ("version", &name.version),
            ("machine", &name.machine),
            ("nodename", &name.nodename),
            ("domainname", &name.domainname),
        ];
        out.add(family, &labels, 1.0);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use bulkhead_sdk::node_stats::SystemName;
    use bulkhead_sdk::testing::{Files, Harness, set_system_name};

    #[test]
    fn tells_the_name() {
        set_system_name(SystemName {
            sysname: "Linux".to_owned(),
            nodename: "node-7".to_owned(),
            release: "6.1.0-13-amd64".to_owned(),
            version: "#1 SMP Debian 6.1.55-1".to_owned(),
            machine: "x86_64".to_owned(),
            domainname: "(none)".to_owned(),
        });
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert_eq!(
            plugin.collect("uname", &Files::new()).unwrap().lines(),
            [concat!(
                r#"node_uname_info{domainname="(none)",machine="x86_64",nodename="node-7","#,
                r##"release="6.1.0-13-amd64",sysname="Linux",version="#1 SMP Debian 6.1.55-1"} 1"##
            )]
        );
    }
}
