//! NVMe controllers, of `/sys/class/nvme`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::{folders, require_class, require_told};

const CLASS: &str = "/sys/class/nvme";

pub(crate) struct Nvme;

impl Collect for Nvme {
    fn wants(&self) -> Collector {
        Collector::new("nvme")
            .names(CLASS)
            .content("/sys/class/nvme/*/firmware_rev")
            .content("/sys/class/nvme/*/model")
            .content("/sys/class/nvme/*/serial")
            .content("/sys/class/nvme/*/state")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, CLASS)?;
        let info = out.gauge(
            "node_nvme_info",
            "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
        );
        let devices = folders(view, "/sys/class/nvme/");
        let mut told = 0;
        for device in &devices {
            let (Some(firmware), Some(model), Some(serial), Some(state)) = (
                device.text("firmware_rev"),
                device.text("model"),
                device.text("serial"),
                device.text("state"),
            ) else {
                continue;
            };
            let labels = [
                ("device", device.name),
                ("firmware_revision", &firmware),
                ("model", &model),
                ("serial", &serial),
                ("state", &state),
            ];
            out.add(info, &labels, 1.0);
            told += 1;
        }
        require_told(&devices, told)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use bulkhead_sdk::testing::{Files, Harness};

    fn collect(files: Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        let files = files.file("/sys/class/nvme", "");
        Ok(plugin.collect("nvme", &files)?.lines())
    }

    fn controller(files: Files, name: &str, model: &[u8]) -> Files {
        let path = |file: &str| format!("/sys/class/nvme/{name}/{file}");
        files
            .file(&path("firmware_rev"), "3B2Q    \n")
            .file(&path("model"), model)
            .file(&path("serial"), "S5GX      \n")
            .file(&path("state"), "live\n")
    }

    #[test]
    fn tells_of_each_controller() {
        let files = controller(Files::new(), "nvme0", b"ACME 1\xff\xfe  \n");
        let files = controller(files, "nvme1", b"ACME 2\n");
        assert_eq!(
            collect(files).unwrap(),
            [
                "node_nvme_info{device=\"nvme0\",firmware_revision=\"3B2Q\",\
                 model=\"ACME 1\u{fffd}\",serial=\"S5GX\",state=\"live\"} 1",
                "node_nvme_info{device=\"nvme1\",firmware_revision=\"3B2Q\",\
                 model=\"ACME 2\",serial=\"S5GX\",state=\"live\"} 1",
            ]
        );
    }

    #[test]
    fn without_the_class_is_an_error_and_without_devices_is_not() {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("nvme", &Files::new()).is_err());
        assert!(collect(Files::new()).unwrap().is_empty());
    }

    #[test]
    fn survives_nonsense() {
        let tree = [
            ("/sys/class/nvme", ""),
            ("/sys/class/nvme/nvme0/firmware_rev", "3B2Q    \n"),
            ("/sys/class/nvme/nvme0/model", "ACME\n"),
            ("/sys/class/nvme/nvme0/serial", "S5GX\n"),
            ("/sys/class/nvme/nvme0/state", "live\n"),
        ];
        crate::hostile::survives("nvme", "{}", &tree);
    }

    #[test]
    fn a_controller_that_cannot_be_read_is_left_out() {
        let torn = Files::new().unreadable("/sys/class/nvme/nvme0/model", 5);
        assert!(collect(torn.clone()).is_err());
        let files = controller(torn, "nvme1", b"ACME 2\n");
        assert_eq!(collect(files).unwrap().len(), 1);
    }
}
