//! Bonded network interfaces, of `/sys/class/net`.

use std::collections::BTreeSet;

use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;
use crate::sysfs::folders;

const MASTERS: &str = "/sys/class/net/bonding_masters";

pub(crate) struct Bonding;

impl Collect for Bonding {
    fn wants(&self) -> Collector {
        Collector::new("bonding")
            .content(MASTERS)
            .content("/sys/class/net/*/bonding/slaves")
            // Both `lower_eth0` and, as old kernels have it, `slave_eth0`, looked for once.
            .content("/sys/class/net/*/[ls][lo][aw][ev][er]_*/bonding_slave/mii_status")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let masters = view.text(MASTERS)?;
        let masters: BTreeSet<&str> = masters.split_ascii_whitespace().collect();
        let mut told = false;
        for interface in folders(view, "/sys/class/net/") {
            let master = interface.name;
            let slaves = interface.get("bonding/slaves").and_then(|file| file.text());
            let Some(slaves) = slaves.filter(|_| masters.contains(master)) else {
                continue;
            };
            told = true;
            let slaves: BTreeSet<&str> = slaves.split_ascii_whitespace().collect();
            let statuses: Vec<_> = slaves
                .iter()
                .filter_map(|slave| {
                    ["lower", "slave"].iter().find_map(|prefix| {
                        interface.text(&format!("{prefix}_{slave}/bonding_slave/mii_status"))
                    })
                })
                .collect();
            let up = statuses.iter().filter(|status| *status == "up").count();
            let all = out.gauge(
                "node_bonding_slaves",
                "Number of configured slaves per bonding interface.",
            );
            out.add(all, &[("master", master)], statuses.len() as f64);
            let active = out.gauge(
                "node_bonding_active",
                "Number of active slaves per bonding interface.",
            );
            out.add(active, &[("master", master)], up as f64);
        }
        match !masters.is_empty() && !told {
            true => bail!("no interface named in {MASTERS} can be read"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/net/bonding_masters", "bond0 dmz old\n"),
        ("/sys/class/net/bond0/bonding/slaves", "\n"),
        ("/sys/class/net/cni0/lower_veth1/mtu", "1500\n"),
        ("/sys/class/net/dmz/bonding/slaves", "eth0 eth4 eth5\n"),
        (
            "/sys/class/net/dmz/lower_eth0/bonding_slave/mii_status",
            "up\n",
        ),
        (
            "/sys/class/net/dmz/lower_eth4/bonding_slave/mii_status",
            "down\n",
        ),
        (
            "/sys/class/net/dmz/lower_eth5/bonding_slave/mii_status",
            "up\n",
        ),
        ("/sys/class/net/old/bonding/slaves", "eth1\n"),
        (
            "/sys/class/net/old/slave_eth1/bonding_slave/mii_status",
            "up\n",
        ),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("bonding", files)?.lines())
    }

    #[test]
    fn tells_all_and_active_slaves() {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        assert_eq!(
            collect(&TREE.iter().fold(Files::new(), add)).unwrap(),
            [
                r#"node_bonding_active{master="bond0"} 0"#,
                r#"node_bonding_active{master="dmz"} 2"#,
                r#"node_bonding_active{master="old"} 1"#,
                r#"node_bonding_slaves{master="bond0"} 0"#,
                r#"node_bonding_slaves{master="dmz"} 3"#,
                r#"node_bonding_slaves{master="old"} 1"#,
            ]
        );
    }

    #[test]
    fn without_the_module_is_an_error_and_without_bonds_is_not() {
        assert!(collect(&Files::new()).is_err());
        let masters = |text| Files::new().file("/sys/class/net/bonding_masters", text);
        assert!(collect(&masters("\n")).unwrap().is_empty());
        assert!(collect(&masters("bond0\n")).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("bonding", "{}", TREE);
    }
}
