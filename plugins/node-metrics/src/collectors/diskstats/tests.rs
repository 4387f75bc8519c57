use crate::NodeMetrics;
use crate::hostile::survives;
use bulkhead_sdk::testing::{Files, Harness};

/// A kernel before 4.18, one before 5.5, and one after.
const DISKSTATS: &str = "\
   7       0 loop0 1 0 2 0 0 0 0 0 0 0 0
   8       0 sda 25354637 34367663 1003346126 18492372 28444756 11134226 505697032 63877960 3 9653880 82621804
   8       1 sda1 250 0 2000 36 0 0 0 0 0 36 36
 254       0 vda 1775784 15386 32670882 8655768 6038856 20711856 213637440 2069221364 0 41614592 2077872228 11 12 13 14
 259       0 nvme0n1 47114 4 4643973 21650 1078320 43950 39451633 1011053 0 222766 1032546 15 16 17 18 19 20
   9       0 md0 1 2 3
";
const UDEV_SDA: &str = "\
S:disk/by-id/ata-SuperMicro_SSD_SMC0E1B88ABC
I:5432109
E:ID_ATA=1
E:ID_ATA_WRITE_CACHE=1
E:ID_ATA_WRITE_CACHE_ENABLED=0
E:ID_ATA_ROTATION_RATE_RPM=7200
E:ID_MODEL=SuperMicro_SSD
E:ID_SERIAL_SHORT=SMC0E1B88ABC
E:ID_PATH=pci-0000:00:1f.2-ata-1
E:ID_REVISION=0R
E:ID_WWN=0x5000000000000001
E:ID_TYPE
G:systemd
";
const UDEV_VDA: &str = "\
E:DM_NAME=system-root
E:DM_UUID=LVM-abc
E:DM_VG_NAME=system
E:DM_LV_NAME=root
E:ID_FS_TYPE=ext4
E:ID_FS_USAGE=filesystem
E:ID_FS_UUID=1-2-3
E:ID_FS_VERSION=1.0
E:ID_ATA_WRITE_CACHE=1
";
const TREE: &[(&str, &str)] = &[
    ("/proc/diskstats", DISKSTATS),
    ("/run/udev/data/b8:0", UDEV_SDA),
    ("/run/udev/data/b254:0", UDEV_VDA),
];

fn collect(config: &str) -> Vec<String> {
    let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
    let files = TREE.iter().fold(Files::new(), add);
    let mut plugin = Harness::<NodeMetrics>::new(config).unwrap();
    plugin.collect("diskstats", &files).unwrap().lines()
}

fn only(lines: &[String], part: &str) -> Vec<String> {
    let chosen = lines.iter().filter(|line| line.contains(part));
    chosen.cloned().collect()
}

#[test]
fn tells_what_the_kernel_has() {
    let lines = collect("{}");
    assert!(only(&lines, "loop0").is_empty() && only(&lines, "sda1").is_empty());
    assert!(only(&lines, "md0").is_empty(), "torn");
    let of = |device: &str| only(&lines, &format!("{{device=\"{device}\"}}"));
    // With three of ATA.
    assert_eq!(
        (of("sda").len(), of("vda").len(), of("nvme0n1").len()),
        (11 + 3, 15, 17)
    );
    for line in [
        r#"node_disk_io_now{device="sda"} 3"#,
        r#"node_disk_io_time_weighted_seconds_total{device="sda"} 82621.804"#,
        r#"node_disk_read_bytes_total{device="sda"} 513713216512"#,
        r#"node_disk_write_time_seconds_total{device="nvme0n1"} 1011.053"#,
        r#"node_disk_discarded_sectors_total{device="vda"} 13"#,
        r#"node_disk_flush_requests_total{device="nvme0n1"} 19"#,
        r#"node_disk_flush_requests_time_seconds_total{device="nvme0n1"} 0.02"#,
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}");
    }
}

#[test]
fn tells_what_udev_knows() {
    let lines = collect("{}");
    assert_eq!(
        only(&lines, "_info{"),
        [
            concat!(
                r#"node_disk_device_mapper_info{device="vda",lv_layer="",lv_name="root","#,
                r#"name="system-root",uuid="LVM-abc",vg_name="system"} 1"#
            ),
            concat!(
                r#"node_disk_filesystem_info{device="vda",type="ext4",usage="filesystem","#,
                r#"uuid="1-2-3",version="1.0"} 1"#
            ),
            concat!(
                r#"node_disk_info{device="nvme0n1",major="259",minor="0",model="",path="","#,
                r#"revision="",serial="",wwn=""} 1"#
            ),
            concat!(
                r#"node_disk_info{device="sda",major="8",minor="0",model="SuperMicro_SSD","#,
                r#"path="pci-0000:00:1f.2-ata-1",revision="0R",serial="SMC0E1B88ABC","#,
                r#"wwn="0x5000000000000001"} 1"#
            ),
            concat!(
                r#"node_disk_info{device="vda",major="254",minor="0",model="",path="","#,
                r#"revision="",serial="",wwn=""} 1"#
            ),
        ]
    );
    assert_eq!(
        only(&lines, "_ata_"),
        [
            r#"node_disk_ata_rotation_rate_rpm{device="sda"} 7200"#,
            r#"node_disk_ata_write_cache_enabled{device="sda"} 0"#,
            r#"node_disk_ata_write_cache{device="sda"} 1"#,
        ]
    );
}

#[test]
fn devices_are_chosen() {
    let config = r#"{"collectors":{"diskstats":{"deviceInclude":"^sd","deviceExclude":""}}}"#;
    let infos = only(&collect(config), "node_disk_info");
    assert_eq!(infos.len(), 2, "{infos:?}");
    assert!(infos.iter().all(|info| info.contains("device=\"sda")));
}

#[test]
fn survives_nonsense() {
    let collect = |text: &str| {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        let files = Files::new().file("/proc/diskstats", text);
        plugin.collect("diskstats", &files)
    };
    assert!(collect("8 0 sda 1 2\n").is_err());
    assert!(
        collect("").unwrap().lines().is_empty(),
        "a node without disks"
    );
    survives("diskstats", "{}", TREE);
}
