//! Btrfs file systems, of `/sys/fs/btrfs`.
//!
//! What only a system call on the mounted file system tells (errors, unused space and the UUID of a
//! device) is left out: `node_btrfs_device_errors_total`, `node_btrfs_device_unused_bytes` and the label
//! `btrfs_dev_uuid`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::{Folder, folders};

const SECTOR: f64 = 512.0;

/// What space is used for.
const TYPES: [&str; 3] = ["data", "metadata", "system"];

pub(crate) struct Btrfs;

impl Collect for Btrfs {
    fn wants(&self) -> Collector {
        Collector::new("btrfs")
            .content("/sys/fs/btrfs/*-*/label")
            .content("/sys/fs/btrfs/*-*/metadata_uuid")
            .content("/sys/fs/btrfs/*-*/devices/*/size")
            .content("/sys/fs/btrfs/*-*/allocation/global_rsv_size")
            .content("/sys/fs/btrfs/*-*/allocation/*/bytes_reserved")
            .content("/sys/fs/btrfs/*-*/allocation/*/*/total_bytes")
            .content("/sys/fs/btrfs/*-*/allocation/*/*/used_bytes")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let mut told = Vec::new();
        for file_system in folders(view, "/sys/fs/btrfs/") {
            let uuid = file_system.text("metadata_uuid").unwrap_or_default();
            let uuid = match &*uuid {
                "" => file_system.name.to_owned(),
                uuid => uuid.to_owned(),
            };
            if !told.contains(&uuid) {
                tell(&file_system, &uuid, out);
                told.push(uuid);
            }
        }
        Ok(())
    }
}

fn tell(file_system: &Folder, uuid: &str, out: &mut Families) {
    let uuid = ("uuid", uuid);
    let label = file_system.text("label").unwrap_or_default();
    let info = out.gauge("node_btrfs_info", "Filesystem information");
    out.add(info, &[uuid, ("label", &label)], 1.0);
    let devices = file_system.folder("devices").folders();
    for device in &devices {
        if let Some(sectors) = device.number::<u64>("size") {
            let size = out.gauge(
                "node_btrfs_device_size_bytes",
                "Size of a device that is part of the filesystem.",
            );
            let labels = [uuid, ("device", device.name)];
            out.add(size, &labels, sectors as f64 * SECTOR);
        }
    }
    let allocation = file_system.folder("allocation");
    if let Some(size) = allocation.number::<u64>("global_rsv_size") {
        let family = out.gauge(
            "node_btrfs_global_rsv_size_bytes",
            "Size of global reserve.",
        );
        out.add(family, &[uuid], size as f64);
    }
    for kind in TYPES {
        let group = allocation.folder(kind);
        let kind = ("block_group_type", kind);
        if let Some(reserved) = group.number::<u64>("bytes_reserved") {
            let family = out.gauge(
                "node_btrfs_reserved_bytes",
                "Amount of space reserved for a data type",
            );
            out.add(family, &[uuid, kind], reserved as f64);
        }
        for layout in group.folders() {
            let labels = [uuid, kind, ("mode", layout.name)];
            tell_layout(&layout, devices.len(), &labels, out);
        }
    }
}

fn tell_layout(layout: &Folder, devices: usize, labels: &[(&str, &str)], out: &mut Families) {
    if let Some(used) = layout.number::<u64>("used_bytes") {
        let family = out.gauge(
            "node_btrfs_used_bytes",
            "Amount of used space by a layout/data type",
        );
        out.add(family, labels, used as f64);
    }
    if let Some(size) = layout.number::<u64>("total_bytes") {
        let family = out.gauge(
            "node_btrfs_size_bytes",
            "Amount of space allocated for a layout/data type",
        );
        out.add(family, labels, size as f64);
    }
    let ratio = out.gauge(
        "node_btrfs_allocation_ratio",
        "Data allocation ratio for a layout/data type",
    );
    out.add(ratio, labels, copies(layout.name, devices as f64));
}

/// How many bytes of devices a byte takes. 0 for what the node exporter does not know.
fn copies(layout: &str, devices: f64) -> f64 {
    match layout {
        "single" | "raid0" => 1.0,
        "dup" | "raid1" | "raid10" => 2.0,
        "raid5" => devices / (devices - 1.0),
        "raid6" => devices / (devices - 2.0),
        _ => 0.0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        (
            "/sys/fs/btrfs/aa-bb/allocation/data/bytes_reserved",
            "4096\n",
        ),
        (
            "/sys/fs/btrfs/aa-bb/allocation/data/raid5/total_bytes",
            "644087808\n",
        ),
        (
            "/sys/fs/btrfs/aa-bb/allocation/data/raid5/used_bytes",
            "0\n",
        ),
        (
            "/sys/fs/btrfs/aa-bb/allocation/data/total_bytes",
            "644087808\n",
        ),
        (
            "/sys/fs/btrfs/aa-bb/allocation/global_rsv_size",
            "16777216\n",
        ),
        (
            "/sys/fs/btrfs/aa-bb/allocation/metadata/dup/total_bytes",
            "429391872\n",
        ),
        (
            "/sys/fs/btrfs/aa-bb/allocation/metadata/dup/used_bytes",
            "114688\n",
        ),
        ("/sys/fs/btrfs/aa-bb/devices/sda/size", "20971520\n"),
        ("/sys/fs/btrfs/aa-bb/devices/sdb/size", "20971520\n"),
        ("/sys/fs/btrfs/aa-bb/devices/sdc/size", "8\n"),
        ("/sys/fs/btrfs/aa-bb/label", "fixture\n"),
        (
            "/sys/fs/btrfs/aa-bb/metadata_uuid",
            "7f07c59f-6136-449c-ab87-e1cf2328731b\n",
        ),
        ("/sys/fs/btrfs/cc-dd/label", "\n"),
        ("/sys/fs/btrfs/features/raid56", "0\n"),
    ];

    fn collect(files: &Files) -> Vec<String> {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        plugin.collect("btrfs", files).unwrap().lines()
    }

    #[test]
    fn tells_of_devices_and_allocation() {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        let with = |rest: &str| rest.replace('U', "7f07c59f-6136-449c-ab87-e1cf2328731b");
        let data = r#"block_group_type="data",mode="raid5",uuid="U""#;
        let metadata = r#"block_group_type="metadata",mode="dup",uuid="U""#;
        assert_eq!(
            collect(&TREE.iter().fold(Files::new(), add)),
            [
                with(&format!("node_btrfs_allocation_ratio{{{data}}} 1.5")),
                with(&format!("node_btrfs_allocation_ratio{{{metadata}}} 2")),
                with(r#"node_btrfs_device_size_bytes{device="sda",uuid="U"} 10737418240"#),
                with(r#"node_btrfs_device_size_bytes{device="sdb",uuid="U"} 10737418240"#),
                with(r#"node_btrfs_device_size_bytes{device="sdc",uuid="U"} 4096"#),
                with(r#"node_btrfs_global_rsv_size_bytes{uuid="U"} 16777216"#),
                r#"node_btrfs_info{label="",uuid="cc-dd"} 1"#.to_owned(),
                with(r#"node_btrfs_info{label="fixture",uuid="U"} 1"#),
                with(r#"node_btrfs_reserved_bytes{block_group_type="data",uuid="U"} 4096"#),
                with(&format!("node_btrfs_size_bytes{{{data}}} 644087808")),
                with(&format!("node_btrfs_size_bytes{{{metadata}}} 429391872")),
                with(&format!("node_btrfs_used_bytes{{{data}}} 0")),
                with(&format!("node_btrfs_used_bytes{{{metadata}}} 114688")),
            ]
        );
    }

    #[test]
    fn without_file_systems_there_is_nothing_to_tell() {
        assert!(collect(&Files::new()).is_empty());
    }

    #[test]
    fn survives_nonsense() {
        survives("btrfs", "{}", TREE);
    }
}
