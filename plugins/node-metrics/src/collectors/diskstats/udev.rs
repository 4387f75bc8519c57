//! What udev found out about a block device: lines `E:NAME=value` in its database.

use std::collections::BTreeMap;

use bulkhead_sdk::{Families, View};

/// Told for ATA disks if they have them.
const ATA: [(&str, &str, &str); 3] = [
    (
        "ID_ATA_WRITE_CACHE",
        "node_disk_ata_write_cache",
        "ATA disk has a write cache.",
    ),
    (
        "ID_ATA_WRITE_CACHE_ENABLED",
        "node_disk_ata_write_cache_enabled",
        "ATA disk has its write cache enabled.",
    ),
    (
        "ID_ATA_ROTATION_RATE_RPM",
        "node_disk_ata_rotation_rate_rpm",
        "ATA disk rotation rate in RPMs (0 for SSDs).",
    ),
];

/// By name. There are none where udev does not run.
pub(super) struct Properties<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Properties<'a> {
    pub(super) fn find(view: &'a View, major: u32, minor: u32) -> Self {
        let bytes = view
            .get(&format!("/run/udev/data/b{major}:{minor}"))
            .map(|file| file.bytes())
            .unwrap_or_default();
        let lines = bytes.split(|&byte| byte == b'\n');
        let property = |line| {
            let line: &str = std::str::from_utf8(line).ok()?;
            line.strip_prefix("E:")?.split_once('=')
        };
        Self(lines.filter_map(property).collect())
    }

    /// A property; empty if there is none of this name.
    pub(super) fn get(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub(super) fn tell(&self, device: (&str, &str), out: &mut Families) {
        let filesystem = self.get("ID_FS_TYPE");
        if !filesystem.is_empty() {
            let help = "Info about disk filesystem.";
            let family = out.gauge("node_disk_filesystem_info", help);
            let labels = [
                device,
                ("type", filesystem),
                ("usage", self.get("ID_FS_USAGE")),
                ("uuid", self.get("ID_FS_UUID")),
                ("version", self.get("ID_FS_VERSION")),
            ];
            out.add(family, &labels, 1.0);
        }
        let mapped = self.get("DM_NAME");
        if !mapped.is_empty() {
            let help = "Info about disk device mapper.";
            let family = out.gauge("node_disk_device_mapper_info", help);
            let labels = [
                device,
                ("name", mapped),
                ("uuid", self.get("DM_UUID")),
                ("vg_name", self.get("DM_VG_NAME")),
                ("lv_name", self.get("DM_LV_NAME")),
                ("lv_layer", self.get("DM_LV_LAYER")),
            ];
            out.add(family, &labels, 1.0);
        }
        if !self.get("ID_ATA").is_empty() {
            for (property, name, help) in ATA {
                if let Ok(value) = self.get(property).parse() {
                    let family = out.gauge(name, help);
                    out.add(family, &[device], value);
                }
            }
        }
    }
}
