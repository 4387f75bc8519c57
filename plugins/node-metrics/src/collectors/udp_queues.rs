//! Datagrams that wait: `/proc/net/udp` and `/proc/net/udp6`.

use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::hex;

const TABLES: [(&str, &str); 2] = [("/proc/net/udp", "v4"), ("/proc/net/udp6", "v6")];

/// The column `tx_queue:rx_queue`.
const QUEUES: usize = 4;

pub(crate) struct UdpQueues;

impl Collect for UdpQueues {
    fn wants(&self) -> Collector {
        TABLES
            .iter()
            .fold(Collector::new("udp_queues"), |collector, (path, _)| {
                collector.content(path)
            })
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        if view.files().next().is_none() {
            bail!("neither {} nor {} is there", TABLES[0].0, TABLES[1].0);
        }
        for (path, ip) in TABLES {
            if view.get(path).is_none() {
                continue;
            }
            let (mut sending, mut received) = (0_u64, 0_u64);
            // A line of names, and one for each socket.
            for line in whole_at(view, path)?.lines().skip(1) {
                let column = line.split_ascii_whitespace().nth(QUEUES);
                if let Some((tx, rx)) = column.and_then(|column| column.split_once(':')) {
                    sending = sending.saturating_add(hex(tx).unwrap_or_default());
                    received = received.saturating_add(hex(rx).unwrap_or_default());
                }
            }
            for (queue, bytes) in [("tx", sending), ("rx", received)] {
                let family = out.gauge(
                    "node_udp_queues",
                    "Number of allocated memory in the kernel for UDP datagrams in bytes.",
                );
                out.add(family, &[("queue", queue), ("ip", ip)], bytes as f64);
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

    const UDP: &str = "   \
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
    0: 00000000:0016 00000000:0000 0A 00000015:00000000 00:00000000 00000000     0        0 2740 1 ffff88003d3af3c0 0
    1: 00000000:0016 00000000:0000 0A 00000001:000000ff 00:00000000 00000000     0        0 2741 1 ffff88003d3af3c1 0
    2: 00000000:0016
";

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("udp_queues", files)?.lines())
    }

    #[test]
    fn adds_up_queues() {
        let v4 = Files::new().file("/proc/net/udp", UDP);
        assert_eq!(
            collect(&v4).unwrap(),
            [
                r#"node_udp_queues{ip="v4",queue="rx"} 255"#,
                r#"node_udp_queues{ip="v4",queue="tx"} 22"#,
            ]
        );
        let both = v4.file("/proc/net/udp6", "  sl  local_address\n");
        assert_eq!(
            collect(&both).unwrap()[2..],
            [
                r#"node_udp_queues{ip="v6",queue="rx"} 0"#,
                r#"node_udp_queues{ip="v6",queue="tx"} 0"#,
            ]
        );
        assert!(collect(&Files::new()).is_err());
    }

    #[test]
    fn survives_nonsense() {
        let tree = [("/proc/net/udp", UDP), ("/proc/net/udp6", UDP)];
        survives("udp_queues", "{}", &tree);
    }
}
