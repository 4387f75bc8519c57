//! Fibre Channel host adapters, of `/sys/class/fc_host`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::{Folder, folders, require_class, require_told};

const CLASS: &str = "/sys/class/fc_host";

/// Files with text, and the labels that they become.
const TEXTS: [&str; 10] = [
    "speed",
    "port_state",
    "port_type",
    "port_id",
    "port_name",
    "fabric_name",
    "symbolic_name",
    "supported_classes",
    "supported_speeds",
    "dev_loss_tmo",
];

/// Files with a counter, the metric's name, and its help text.
const COUNTERS: &[(&str, &str, &str)] = &[
    (
        "dumped_frames",
        "dumped_frames_total",
        "Number of dumped frames",
    ),
    (
        "error_frames",
        "error_frames_total",
        "Number of errors in frames",
    ),
    (
        "invalid_crc_count",
        "invalid_crc_total",
        "Invalid Cyclic Redundancy Check count",
    ),
    ("rx_frames", "rx_frames_total", "Number of frames received"),
    (
        "rx_words",
        "rx_words_total",
        "Number of words received by host port",
    ),
    (
        "tx_frames",
        "tx_frames_total",
        "Number of frames transmitted by host port",
    ),
    (
        "tx_words",
        "tx_words_total",
        "Number of words transmitted by host port",
    ),
    (
        "seconds_since_last_reset",
        "seconds_since_last_reset_total",
        "Number of seconds since last host port reset",
    ),
    (
        "invalid_tx_word_count",
        "invalid_tx_words_total",
        "Number of invalid words transmitted by host port",
    ),
    (
        "link_failure_count",
        "link_failure_total",
        "Number of times the host port link has failed",
    ),
    (
        "loss_of_sync_count",
        "loss_of_sync_total",
        "Number of failures on either bit or transmission word boundaries",
    ),
    (
        "loss_of_signal_count",
        "loss_of_signal_total",
        "Number of times signal has been lost",
    ),
    (
        "nos_count",
        "nos_total",
        "Number Not_Operational Primitive Sequence received by host port",
    ),
    (
        "fcp_packet_aborts",
        "fcp_packet_aborts_total",
        "Number of aborted packets",
    ),
];

pub(crate) struct FibreChannel;

impl Collect for FibreChannel {
    fn wants(&self) -> Collector {
        let collector = Collector::new("fibrechannel").names(CLASS);
        TEXTS
            .iter()
            .fold(collector, |collector, file| {
                collector.content(&format!("{CLASS}/*/{file}"))
            })
            // All but `reset_statistics`, which is for writing.
            .content("/sys/class/fc_host/*/statistics/[a-qs-z]*")
            .content("/sys/class/fc_host/*/statistics/rx_*")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, CLASS)?;
        let hosts = folders(view, "/sys/class/fc_host/");
        let mut told = 0;
        for host in &hosts {
            told += usize::from(tell_texts(host, out).is_some());
            let statistics = host.folder("statistics");
            if statistics.files().next().is_some() {
                told += tell_counters(&statistics, host.name, out);
            }
        }
        require_told(&hosts, told)
    }
}

fn tell_texts(host: &Folder, out: &mut Families) -> Option<()> {
    let texts: Option<Vec<_>> = TEXTS.iter().map(|file| host.text(file)).collect();
    let texts = texts?;
    let mut labels = vec![("fc_host", host.name)];
    for (file, text) in TEXTS.into_iter().zip(&texts) {
        let text = match file {
            // Written as `0x...`.
            "port_id" | "port_name" | "fabric_name" if text.len() > 2 => text.get(2..)?,
            _ => text,
        };
        labels.push((file, text));
    }
    let info = out.gauge(
        "node_fibrechannel_info",
        "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
    );
    out.add(info, &labels, 1.0);
    Some(())
}

/// Adds each counter: 0 if its file is not there, and none that the firmware does not count, for which
/// all bits are set.
fn tell_counters(statistics: &Folder, host: &str, out: &mut Families) -> usize {
    let mut told = 0;
    for (file, name, help) in COUNTERS {
        let count = match statistics.get(file) {
            Some(_) => statistics.integer(file),
            None => Some(0),
        };
        if let Some(count) = count {
            told += 1;
            if (0..i128::from(u64::MAX)).contains(&count) {
                let family = out.counter(&format!("node_fibrechannel_{name}"), help);
                out.add(family, &[("fc_host", host)], count as f64);
            }
        }
    }
    told
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/fc_host", ""),
        ("/sys/class/fc_host/host1/dev_loss_tmo", "30\n"),
        ("/sys/class/fc_host/host1/fabric_name", "0x0\n"),
        ("/sys/class/fc_host/host1/port_id", "0x000002\n"),
        ("/sys/class/fc_host/host1/port_name", "0x1000e0071bce95f2\n"),
        ("/sys/class/fc_host/host1/port_state", "Online\n"),
        ("/sys/class/fc_host/host1/port_type", "Point-To-Point\n"),
        ("/sys/class/fc_host/host1/speed", "16 Gbit\n"),
        (
            "/sys/class/fc_host/host1/statistics/dumped_frames",
            "0xffffffffffffffff\n",
        ),
        (
            "/sys/class/fc_host/host1/statistics/reset_statistics",
            "9\n",
        ),
        ("/sys/class/fc_host/host1/statistics/rx_frames", "0x3\n"),
        ("/sys/class/fc_host/host1/statistics/tx_words", "0x1f\n"),
        ("/sys/class/fc_host/host1/supported_classes", "Class 3\n"),
        (
            "/sys/class/fc_host/host1/supported_speeds",
            "8 Gbit, 16 Gbit\n",
        ),
        ("/sys/class/fc_host/host1/symbolic_name", "ACME FC1 \n"),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("fibrechannel", files)?.lines())
    }

    #[test]
    fn tells_of_each_host() {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        let lines = collect(&TREE.iter().fold(Files::new(), add)).unwrap();
        for line in [
            "node_fibrechannel_info{dev_loss_tmo=\"30\",fabric_name=\"0\",fc_host=\"host1\",\
             port_id=\"000002\",port_name=\"1000e0071bce95f2\",port_state=\"Online\",\
             port_type=\"Point-To-Point\",speed=\"16 Gbit\",supported_classes=\"Class 3\",\
             supported_speeds=\"8 Gbit, 16 Gbit\",symbolic_name=\"ACME FC1\"} 1",
            r#"node_fibrechannel_rx_frames_total{fc_host="host1"} 3"#,
            r#"node_fibrechannel_tx_words_total{fc_host="host1"} 31"#,
            r#"node_fibrechannel_nos_total{fc_host="host1"} 0"#,
        ] {
            assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
        }
        // Dumped frames are not counted by this firmware.
        assert_eq!(lines.len(), 1 + 13);
    }

    #[test]
    fn without_the_class_is_an_error_and_a_host_that_cannot_be_read_too() {
        assert!(collect(&Files::new()).is_err());
        let class = Files::new().file("/sys/class/fc_host", "");
        assert!(collect(&class).unwrap().is_empty());
        let broken = class.unreadable("/sys/class/fc_host/host1/speed", 5);
        assert!(collect(&broken).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("fibrechannel", "{}", TREE);
    }
}
