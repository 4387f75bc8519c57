use super::parse::endpoint;
use crate::NodeMetrics;
use crate::hostile::survives;
use bulkhead_sdk::testing::{Files, Harness};

const STATS: &str = "   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
 16AA370 E33656E5        0     51D8C8883AB3                0

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
   4    1FB3C        0          1282A8F                0
";

const BACKENDS: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A80016:0CEA wlc
  -> C0A85216:0CEA      Tunnel  100    248        2
  -> C0A85318:0CEA      Tunnel  50     1          0
UDP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0035 rr
  -> [fd00:0000:0000:0000:0000:0000:0000:000b]:0035      Masq    1      0          7
FWM  10001000 wlc
  -> C0A8321A:0CEA      Route   20     64         1
";

fn collect(config: &str, stats: &str, backends: &str) -> bulkhead_sdk::Result<Vec<String>> {
    let files = Files::new()
        .file("/proc/net/ip_vs_stats", stats)
        .file("/proc/net/ip_vs", backends);
    let mut plugin = Harness::<NodeMetrics>::new(config)?;
    Ok(plugin.collect("ipvs", &files)?.lines())
}

#[test]
fn tells_totals_and_backends() {
    let lines = collect("{}", STATS, BACKENDS).unwrap();
    for line in [
        "node_ipvs_connections_total 23765872",
        "node_ipvs_incoming_packets_total 3811989221",
        "node_ipvs_outgoing_packets_total 0",
        "node_ipvs_incoming_bytes_total 89991519156915",
        "node_ipvs_backend_connections_active{local_address=\"192.168.0.22\",local_mark=\"\",\
         local_port=\"3306\",proto=\"TCP\",remote_address=\"192.168.82.22\",\
         remote_port=\"3306\"} 248",
        "node_ipvs_backend_connections_inactive{local_address=\"fd00::a\",local_mark=\"\",\
         local_port=\"53\",proto=\"UDP\",remote_address=\"fd00::b\",remote_port=\"53\"} 7",
        "node_ipvs_backend_weight{local_address=\"\",local_mark=\"10001000\",local_port=\"0\",\
         proto=\"FWM\",remote_address=\"192.168.50.26\",remote_port=\"3306\"} 20",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
    }
    assert_eq!(lines.len(), 5 + 3 * 4);
}

#[test]
fn what_the_labels_do_not_tell_apart_is_added_up() {
    let config = r#"{"collectors":{"ipvs":{"backendLabels":["proto","local_port"]}}}"#;
    let lines = collect(config, STATS, BACKENDS).unwrap();
    let line = r#"node_ipvs_backend_weight{local_port="3306",proto="TCP"} 150"#;
    assert!(lines.contains(&line.to_owned()), "{lines:?}");
    let wrong = r#"{"collectors":{"ipvs":{"backendLabels":["remote"]}}}"#;
    assert!(collect(wrong, STATS, BACKENDS).is_err());
}

#[test]
fn torn_totals_are_an_error() {
    for torn in [
        "",
        "a\nb\n1 2 3 4 5",
        "a\nb\n1 2 3 4\n\n",
        "a\nb\nx y z v w\n\n",
    ] {
        assert!(collect("{}", torn, BACKENDS).is_err(), "{torn:?}");
    }
    let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
    assert!(plugin.collect("ipvs", &Files::new()).is_err());
}

#[test]
fn addresses_are_understood() {
    assert!(endpoint("C0A80016:0CEA").is_some());
    for wrong in ["", ":", "C0A800:0CEA", "C0A80016:xCEA", "[::1:0050", "ä:1"] {
        assert!(endpoint(wrong).is_none(), "{wrong:?}");
    }
}

#[test]
fn survives_nonsense() {
    let tree = [
        ("/proc/net/ip_vs_stats", STATS),
        ("/proc/net/ip_vs", BACKENDS),
    ];
    survives("ipvs", "{}", &tree);
}
