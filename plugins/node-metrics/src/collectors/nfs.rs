//! What this node asks of NFS servers, of `/proc/net/rpc/nfs`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use super::rpc::{Lines, NFS2, NFS3};
use crate::sysfs::whole_at;

const PATH: &str = "/proc/net/rpc/nfs";

/// Methods of NFS 4 as the kernel's client counts them.
#[rustfmt::skip]
const NFS4: &[&str] = &[
    "Null", "Read", "Write", "Commit", "Open", "OpenConfirm", "OpenNoattr", "OpenDowngrade", "Close",
    "Setattr", "FsInfo", "Renew", "SetClientID", "SetClientIDConfirm", "Lock", "Lockt", "Locku",
    "Access", "Getattr", "Lookup", "LookupRoot", "Remove", "Rename", "Link", "Symlink", "Create",
    "Pathconf", "StatFs", "ReadLink", "ReadDir", "ServerCaps", "DelegReturn", "GetACL", "SetACL",
    "FsLocations", "ReleaseLockowner", "Secinfo", "FsidPresent", "ExchangeID", "CreateSession",
    "DestroySession", "Sequence", "GetLeaseTime", "ReclaimComplete", "LayoutGet", "GetDeviceInfo",
    "LayoutCommit", "LayoutReturn", "SecinfoNoName", "TestStateID", "FreeStateID", "GetDeviceList",
    "BindConnToSession", "DestroyClientID", "Seek", "Allocate", "DeAllocate", "LayoutStats", "Clone",
];

pub(crate) struct Nfs;

impl Collect for Nfs {
    fn wants(&self) -> Collector {
        Collector::new("nfs").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let words = ["net", "rpc", "proc2", "proc3", "proc4"];
        let text = whole_at(view, PATH)?;
        let lines = Lines::new(&text, &words)?;
        if let Some([_, udp, tcp, connections]) = lines.numbers("net") {
            let packets = out.counter(
                "node_nfs_packets_total",
                "Total NFSd network packets (sent+received) by protocol type.",
            );
            out.add(packets, &[("protocol", "udp")], udp as f64);
            out.add(packets, &[("protocol", "tcp")], tcp as f64);
            let all = out.counter(
                "node_nfs_connections_total",
                "Total number of NFSd TCP connections.",
            );
            out.add(all, &[], connections as f64);
        }
        if let Some(counts) = lines.numbers::<3>("rpc") {
            let families = [
                ("node_nfs_rpcs_total", "Total number of RPCs performed."),
                (
                    "node_nfs_rpc_retransmissions_total",
                    "Number of RPC transmissions performed.",
                ),
                (
                    "node_nfs_rpc_authentication_refreshes_total",
                    "Number of RPC authentication refreshes performed.",
                ),
            ];
            for ((name, help), count) in families.into_iter().zip(counts) {
                let family = out.counter(name, help);
                out.add(family, &[], count as f64);
            }
        }
        let requests = out.counter(
            "node_nfs_requests_total",
            "Number of NFS procedures invoked.",
        );
        lines.tell_methods(("proc2", "2"), NFS2, NFS2.len(), requests, out);
        lines.tell_methods(("proc3", "3"), NFS3, NFS3.len(), requests, out);
        // Each kernel counts some more than those before it.
        lines.tell_methods(("proc4", "4"), NFS4, 0, requests, out);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Found, Harness};

    const NFS: &str = "\
net 70 30 40 5
rpc 1218785755 374636 1218815394
proc2 18 0 207 0 0 17 0 0 0 0 0 0 0 0 0 0 0 15 16
proc3 22 0 1061909262 48906 4077635 117661341 5 29391916 2570425 2993289 590 0 0 7815 15 1130 0 3983 92385 13332 2 1 23729
proc4 5 98 51 54 83 85
";

    fn collect(text: &str) -> bulkhead_sdk::Result<Found> {
        let files = Files::new().file("/proc/net/rpc/nfs", text);
        Harness::<NodeMetrics>::new("{}")?.collect("nfs", &files)
    }

    #[test]
    fn tells_packets_calls_and_methods() {
        let found = collect(NFS).unwrap();
        for (series, value) in [
            (r#"node_nfs_packets_total{protocol="udp"}"#, 30.0),
            (r#"node_nfs_packets_total{protocol="tcp"}"#, 40.0),
            ("node_nfs_connections_total", 5.0),
            ("node_nfs_rpcs_total", 1218785755.0),
            ("node_nfs_rpc_retransmissions_total", 374636.0),
            ("node_nfs_rpc_authentication_refreshes_total", 1218815394.0),
            (
                r#"node_nfs_requests_total{method="GetAttr",proto="2"}"#,
                207.0,
            ),
            (
                r#"node_nfs_requests_total{method="FsStat",proto="2"}"#,
                16.0,
            ),
            (
                r#"node_nfs_requests_total{method="Commit",proto="3"}"#,
                23729.0,
            ),
            (r#"node_nfs_requests_total{method="Open",proto="4"}"#, 85.0),
            (r#"node_nfs_requests_total{method="Clone",proto="4"}"#, 0.0),
        ] {
            assert_eq!(found.value(series), Some(value), "{series}");
        }
        assert_eq!(found.lines().len(), 6 + 18 + 22 + 59);
    }

    #[test]
    fn a_line_that_is_not_there_is_zero_and_a_torn_one_is_left_out() {
        let lines = collect("net 1 2 3 4\nproc3 22 0 5\n").unwrap().lines();
        assert!(lines.contains(&"node_nfs_rpcs_total 0".to_owned()));
        assert!(!lines.iter().any(|line| line.contains(r#"proto="3""#)));
    }

    #[test]
    fn without_a_known_line_is_an_error() {
        for text in ["", "\n\n", "what 1 2"] {
            assert!(collect(text).is_err(), "{text:?}");
        }
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("nfs", &Files::new()).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("nfs", "{}", &[("/proc/net/rpc/nfs", NFS)]);
    }
}
