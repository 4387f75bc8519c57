//! What this node does as an NFS server, of `/proc/net/rpc/nfsd`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use super::rpc::{Lines, NFS2, NFS3};
use crate::sysfs::whole_at;

const PATH: &str = "/proc/net/rpc/nfsd";

/// Operations of NFS 4 by their numbers. Those without a name are not told.
#[rustfmt::skip]
const NFS4: &[&str] = &[
    "", "", "", "Access", "Close", "Commit", "Create", "DelegPurge", "DelegReturn", "GetAttr", "GetFH",
    "Link", "Lock", "Lockt", "Locku", "Lookup", "LookupRoot", "Nverify", "Open", "OpenAttr",
    "OpenConfirm", "OpenDgrd", "PutFH", "", "", "Read", "ReadDir", "ReadLink", "Remove", "Rename",
    "Renew", "RestoreFH", "SaveFH", "SecInfo", "SetAttr", "Verify", "Write", "RelLockOwner",
];

/// The server's kernel counts one more, which has no name.
const LEAST_NFS4: usize = NFS4.len() + 1;

pub(crate) struct Nfsd;

impl Collect for Nfsd {
    fn wants(&self) -> Collector {
        Collector::new("nfsd").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let words = ["rc", "fh", "io", "th", "ra", "net", "rpc", "proc3"];
        let text = whole_at(view, PATH)?;
        let lines = Lines::new(&text, &words)?;
        tell_cache_and_files(lines, out);
        tell_network(lines, out);
        let requests = out.counter(
            "node_nfsd_requests_total",
            "Total number NFSd Requests by method and protocol.",
        );
        let named = |methods: &[&'static str]| -> Vec<&'static str> {
            // The server is not asked for nothing.
            let hide_null = |method: &&'static str| if *method == "Null" { "" } else { *method };
            methods.iter().map(hide_null).collect()
        };
        lines.tell_methods(("proc2", "2"), &named(NFS2), NFS2.len(), requests, out);
        lines.tell_methods(("proc3", "3"), &named(NFS3), NFS3.len(), requests, out);
        lines.tell_methods(("proc4ops", "4"), NFS4, LEAST_NFS4, requests, out);
        Ok(())
    }
}

fn tell_cache_and_files(lines: Lines, out: &mut Families) {
    if let Some([hits, misses, nocache]) = lines.numbers("rc") {
        for (name, help, count) in [
            (
                "node_nfsd_reply_cache_hits_total",
                "Total number of NFSd Reply Cache hits (client lost server response).",
                hits,
            ),
            (
                "node_nfsd_reply_cache_misses_total",
                "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
                misses,
            ),
            (
                "node_nfsd_reply_cache_nocache_total",
                "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
                nocache,
            ),
        ] {
            let family = out.counter(name, help);
            out.add(family, &[], count as f64);
        }
    }
    if let Some([stale, ..]) = lines.numbers::<5>("fh") {
        let family = out.counter(
            "node_nfsd_file_handles_stale_total",
            "Total number of NFSd stale file handles",
        );
        out.add(family, &[], stale as f64);
    }
    if let Some([read, written]) = lines.numbers("io") {
        let family = out.counter("node_nfsd_disk_bytes_read_total", "Total NFSd bytes read.");
        out.add(family, &[], read as f64);
        let family = out.counter(
            "node_nfsd_disk_bytes_written_total",
            "Total NFSd bytes written.",
        );
        out.add(family, &[], written as f64);
    }
    if let Some([threads, _]) = lines.numbers("th") {
        let family = out.gauge(
            "node_nfsd_server_threads",
            "Total number of NFSd kernel threads that are running.",
        );
        out.add(family, &[], threads as f64);
    }
    if let Some([size, .., not_found]) = lines.numbers::<12>("ra") {
        let family = out.gauge(
            "node_nfsd_read_ahead_cache_size_blocks",
            "How large the read ahead cache is in blocks.",
        );
        out.add(family, &[], size as f64);
        let family = out.counter(
            "node_nfsd_read_ahead_cache_not_found_total",
            "Total number of NFSd read ahead cache not found.",
        );
        out.add(family, &[], not_found as f64);
    }
}

fn tell_network(lines: Lines, out: &mut Families) {
    if let Some([_, udp, tcp, connections]) = lines.numbers("net") {
        let packets = out.counter(
            "node_nfsd_packets_total",
            "Total NFSd network packets (sent+received) by protocol type.",
        );
        out.add(packets, &[("proto", "udp")], udp as f64);
        out.add(packets, &[("proto", "tcp")], tcp as f64);
        let family = out.counter(
            "node_nfsd_connections_total",
            "Total number of NFSd TCP connections.",
        );
        out.add(family, &[], connections as f64);
    }
    if let Some([calls, _, format, auth, client]) = lines.numbers("rpc") {
        let errors = out.counter(
            "node_nfsd_rpc_errors_total",
            "Total number of NFSd RPC errors by error type.",
        );
        out.add(errors, &[("error", "fmt")], format as f64);
        out.add(errors, &[("error", "auth")], auth as f64);
        out.add(errors, &[("error", "cInt")], client as f64);
        let family = out.counter("node_nfsd_server_rpcs_total", "Total number of NFSd RPCs.");
        out.add(family, &[], calls as f64);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Found, Harness};

    const NFSD: &str = "\
rc 1 6 18622
fh 3 0 0 0 0
io 157286400 72864
th 8 0 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000
ra 32 0 0 0 0 0 0 0 0 0 0 12
net 18628 10 18618 4
rpc 18628 9 1 2 3
proc2 18 2 69 0 0 4410 0 0 0 0 0 0 0 0 0 0 0 99 2
proc3 22 2 112 0 2719 111 0 0 0 0 0 0 0 0 0 0 0 27 216 0 2 1 7
proc4 2 2 10853
proc4ops 40 0 0 0 1098 2 0 0 0 0 8179 5896 0 0 0 0 5900 0 0 2 0 2 0 9609 0 2 150 1272 0 0 0 1236 0 0 0 0 3 4 5 0 6
wdeleg_getattr 0
";

    fn collect(text: &str) -> bulkhead_sdk::Result<Found> {
        let files = Files::new().file("/proc/net/rpc/nfsd", text);
        Harness::<NodeMetrics>::new("{}")?.collect("nfsd", &files)
    }

    #[test]
    fn tells_all_lines() {
        let found = collect(NFSD).unwrap();
        for (series, value) in [
            ("node_nfsd_reply_cache_hits_total", 1.0),
            ("node_nfsd_reply_cache_misses_total", 6.0),
            ("node_nfsd_reply_cache_nocache_total", 18622.0),
            ("node_nfsd_file_handles_stale_total", 3.0),
            ("node_nfsd_disk_bytes_read_total", 157286400.0),
            ("node_nfsd_disk_bytes_written_total", 72864.0),
            ("node_nfsd_server_threads", 8.0),
            ("node_nfsd_read_ahead_cache_size_blocks", 32.0),
            ("node_nfsd_read_ahead_cache_not_found_total", 12.0),
            (r#"node_nfsd_packets_total{proto="tcp"}"#, 18618.0),
            ("node_nfsd_connections_total", 4.0),
            (r#"node_nfsd_rpc_errors_total{error="fmt"}"#, 1.0),
            (r#"node_nfsd_rpc_errors_total{error="cInt"}"#, 3.0),
            ("node_nfsd_server_rpcs_total", 18628.0),
            (
                r#"node_nfsd_requests_total{method="GetAttr",proto="2"}"#,
                69.0,
            ),
            (
                r#"node_nfsd_requests_total{method="Commit",proto="3"}"#,
                7.0,
            ),
            (
                r#"node_nfsd_requests_total{method="Access",proto="4"}"#,
                1098.0,
            ),
            (r#"node_nfsd_requests_total{method="Write",proto="4"}"#, 4.0),
            (
                r#"node_nfsd_requests_total{method="RelLockOwner",proto="4"}"#,
                5.0,
            ),
        ] {
            assert_eq!(found.value(series), Some(value), "{series}");
        }
        assert_eq!(found.lines().len(), 16 + 17 + 21 + 33);
        assert!(!found.lines().iter().any(|line| line.contains("Null")));
    }

    #[test]
    fn without_a_known_line_is_an_error() {
        assert!(collect("").is_err());
        assert!(collect("unknown 1").is_err());
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("nfsd", &Files::new()).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("nfsd", "{}", &[("/proc/net/rpc/nfsd", NFSD)]);
    }
}
