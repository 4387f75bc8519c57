//! InfiniBand and other RDMA adapters, of `/sys/class/infiniband`.

mod counters;

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::{Folder, folders, require_class, require_told};
use counters::{COUNTERS, OF_WORDS};

const CLASS: &str = "/sys/class/infiniband";

const BYTES_IN_GIGABIT: f64 = 125_000_000.0;

pub(crate) struct Infiniband;

impl Collect for Infiniband {
    fn wants(&self) -> Collector {
        Collector::new("infiniband")
            .names(CLASS)
            .content("/sys/class/infiniband/*/board_id")
            .content("/sys/class/infiniband/*/fw_ver")
            .content("/sys/class/infiniband/*/hca_type")
            .content("/sys/class/infiniband/*/ports/*/state")
            .content("/sys/class/infiniband/*/ports/*/phys_state")
            .content("/sys/class/infiniband/*/ports/*/rate")
            .content("/sys/class/infiniband/*/ports/*/counters/*")
            .content("/sys/class/infiniband/*/ports/*/counters_ext/*")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, CLASS)?;
        let devices = folders(view, "/sys/class/infiniband/");
        let mut told = 0;
        for device in &devices {
            told += usize::from(tell_info(device, out).is_some());
            for port in device.folder("ports").folders() {
                let is_number = port.name.bytes().all(|byte| byte.is_ascii_digit());
                if is_number && tell_port(&port, device.name, out).is_some() {
                    told += 1;
                }
            }
        }
        require_told(&devices, told)
    }
}

fn tell_info(device: &Folder, out: &mut Families) -> Option<()> {
    let labels = [
        ("device", device.name),
        ("board_id", &device.text("board_id")?),
        ("firmware_version", &device.text("fw_ver")?),
        // Not all drivers have it.
        ("hca_type", &device.text("hca_type").unwrap_or_default()),
    ];
    let info = out.gauge(
        "node_infiniband_info",
        "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
    );
    out.add(info, &labels, 1.0);
    Some(())
}

fn tell_port(port: &Folder, device: &str, out: &mut Families) -> Option<()> {
    let state = id(&port.text("state")?)?;
    let physical_state = id(&port.text("phys_state")?)?;
    let rate = bytes_per_second(&port.text("rate")?)?;
    let labels = [("device", device), ("port", port.name)];
    for (name, help, value) in [
        (
            "node_infiniband_state_id",
            "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, \
             5: act defer)",
            state,
        ),
        (
            "node_infiniband_physical_state_id",
            "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, \
             4: shift, 5: link up, 6: link error recover, 7: phytest)",
            physical_state,
        ),
        (
            "node_infiniband_rate_bytes_per_second",
            "Maximum signal transfer rate",
            rate,
        ),
    ] {
        let family = out.gauge(name, help);
        out.add(family, &labels, value as f64);
    }
    for (file, name, help) in COUNTERS {
        let count = port
            .integer(file)
            .and_then(|count| u64::try_from(count).ok());
        let Some(mut count) = count else {
            continue;
        };
        if OF_WORDS.contains(file) {
            count = count.wrapping_mul(4);
        }
        let family = out.counter(&format!("node_infiniband_{name}"), help);
        out.add(family, &labels, count as f64);
    }
    Some(())
}

/// The number of `4: ACTIVE`.
fn id(state: &str) -> Option<u64> {
    let (id, _) = state.split_once(':')?;
    id.trim().parse::<u32>().ok().map(u64::from)
}

/// Of `40 Gb/sec (4X QDR)`.
fn bytes_per_second(rate: &str) -> Option<u64> {
    let gigabits: f32 = rate.split_once(' ')?.0.parse().ok()?;
    let bytes = f64::from(gigabits) * BYTES_IN_GIGABIT;
    (bytes >= 0.0).then_some(bytes as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/infiniband", ""),
        ("/sys/class/infiniband/irdma0/fw_ver", "1.2\n"),
        ("/sys/class/infiniband/irdma0/board_id", "B\n"),
        ("/sys/class/infiniband/irdma0/ports/1/state", "1: DOWN\n"),
        (
            "/sys/class/infiniband/irdma0/ports/1/phys_state",
            "3: Disabled\n",
        ),
        (
            "/sys/class/infiniband/irdma0/ports/1/rate",
            "2.5 Gb/sec (1X SDR)\n",
        ),
        (
            "/sys/class/infiniband/irdma0/ports/1/counters/symbol_error",
            "N/A (no PMA)\n",
        ),
        (
            "/sys/class/infiniband/mlx4_0/board_id",
            "SM_1141000001000\n",
        ),
        ("/sys/class/infiniband/mlx4_0/fw_ver", "2.31.5050\n"),
        ("/sys/class/infiniband/mlx4_0/hca_type", "MT4099\n"),
        (
            "/sys/class/infiniband/mlx4_0/ports/2/counters/VL15_dropped",
            "3\n",
        ),
        (
            "/sys/class/infiniband/mlx4_0/ports/2/counters/port_rcv_data",
            "4631917\n",
        ),
        (
            "/sys/class/infiniband/mlx4_0/ports/2/counters/port_xmit_wait",
            "0x10\n",
        ),
        (
            "/sys/class/infiniband/mlx4_0/ports/2/counters_ext/port_xmit_data_64",
            "5\n",
        ),
        (
            "/sys/class/infiniband/mlx4_0/ports/2/counters_ext/port_unicast_rcv_packets",
            "6\n",
        ),
        (
            "/sys/class/infiniband/mlx4_0/ports/2/phys_state",
            "5: LinkUp\n",
        ),
        (
            "/sys/class/infiniband/mlx4_0/ports/2/rate",
            "40 Gb/sec (4X QDR)\n",
        ),
        ("/sys/class/infiniband/mlx4_0/ports/2/state", "4: ACTIVE\n"),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("infiniband", files)?.lines())
    }

    #[test]
    fn tells_of_devices_and_ports() {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        let irdma = |name: &str| format!("node_infiniband_{name}{{device=\"irdma0\",port=\"1\"}}");
        let mlx = |name: &str| format!("node_infiniband_{name}{{device=\"mlx4_0\",port=\"2\"}}");
        assert_eq!(
            collect(&TREE.iter().fold(Files::new(), add)).unwrap(),
            [
                "node_infiniband_info{board_id=\"B\",device=\"irdma0\",firmware_version=\"1.2\",\
                 hca_type=\"\"} 1"
                    .to_owned(),
                "node_infiniband_info{board_id=\"SM_1141000001000\",device=\"mlx4_0\",\
                 firmware_version=\"2.31.5050\",hca_type=\"MT4099\"} 1"
                    .to_owned(),
                mlx("legacy_data_transmitted_bytes_total") + " 20",
                mlx("legacy_unicast_packets_received_total") + " 6",
                irdma("physical_state_id") + " 3",
                mlx("physical_state_id") + " 5",
                mlx("port_data_received_bytes_total") + " 18527668",
                mlx("port_transmit_wait_total") + " 16",
                irdma("rate_bytes_per_second") + " 312500000",
                mlx("rate_bytes_per_second") + " 5000000000",
                irdma("state_id") + " 1",
                mlx("state_id") + " 4",
                mlx("vl15_dropped_total") + " 3",
            ]
        );
    }

    #[test]
    fn without_the_class_is_an_error_and_a_device_that_cannot_be_read_too() {
        assert!(collect(&Files::new()).is_err());
        let class = Files::new().file("/sys/class/infiniband", "");
        assert!(collect(&class).unwrap().is_empty());
        let broken = class.unreadable("/sys/class/infiniband/mlx5_0/fw_ver", 5);
        assert!(collect(&broken).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("infiniband", "{}", TREE);
    }
}
