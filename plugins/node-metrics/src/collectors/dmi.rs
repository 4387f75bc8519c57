//! What the firmware says of the machine, of `/sys/class/dmi/id`.

use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;
use crate::sysfs::text;

/// The files, and the labels that they become.
const TEXTS: &[(&str, &str)] = &[
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("sys_vendor", "system_vendor"),
];

pub(crate) struct Dmi;

impl Collect for Dmi {
    fn wants(&self) -> Collector {
        TEXTS
            .iter()
            .fold(Collector::new("dmi"), |collector, (file, _)| {
                collector.content(&format!("/sys/class/dmi/id/{file}"))
            })
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let known = |file: &str| TEXTS.iter().find(|(known, _)| *known == file);
        let texts: Vec<_> = view
            .files()
            .filter_map(|file| Some((known(file.name())?.1, text(file)?)))
            .collect();
        if texts.is_empty() {
            bail!("/sys/class/dmi/id has nothing that may be read");
        }
        let labels: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, &**text)).collect();
        let info = out.gauge(
            "node_dmi_info",
            "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, \
             bios_version, board_asset_tag, board_name, board_serial, board_vendor, board_version, \
             chassis_asset_tag, chassis_serial, chassis_vendor, chassis_version, product_family, \
             product_name, product_serial, product_sku, product_uuid, product_version, \
             system_vendor if provided by DMI.",
        );
        out.add(info, &labels, 1.0);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/dmi/id/bios_date", "04/12/2021\n"),
        ("/sys/class/dmi/id/board_asset_tag", "\n"),
        ("/sys/class/dmi/id/chassis_type", "23\n"),
        ("/sys/class/dmi/id/modalias", "dmi:bvnACME:\n"),
        ("/sys/class/dmi/id/product_name", "Rack 1 \n"),
        ("/sys/class/dmi/id/sys_vendor", "ACME Inc.\n"),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("dmi", files)?.lines())
    }

    #[test]
    fn tells_what_may_be_read() {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        let files = TREE.iter().fold(Files::new(), add);
        let files = files
            .unreadable("/sys/class/dmi/id/product_uuid", 13)
            .file("/sys/class/dmi/id/product_version", b"\xfe\xffv2\n");
        assert_eq!(
            collect(&files).unwrap(),
            [
                "node_dmi_info{bios_date=\"04/12/2021\",board_asset_tag=\"\",\
              product_name=\"Rack 1\",product_version=\"\u{fffd}v2\",system_vendor=\"ACME Inc.\"} 1"
            ]
        );
    }

    #[test]
    fn without_anything_is_an_error() {
        assert!(collect(&Files::new()).is_err());
        let denied = Files::new().unreadable("/sys/class/dmi/id/product_uuid", 13);
        assert!(collect(&denied).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("dmi", "{}", TREE);
    }
}
