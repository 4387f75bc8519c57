//! Memory errors that were corrected or not, of `/sys/devices/system/edac`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::{Folder, folders, require_told};

pub(crate) struct Edac;

impl Collect for Edac {
    fn wants(&self) -> Collector {
        Collector::new("edac")
            .content("/sys/devices/system/edac/mc/mc[0-9]*/[cu]e_count")
            .content("/sys/devices/system/edac/mc/mc[0-9]*/[cu]e_noinfo_count")
            .content("/sys/devices/system/edac/mc/mc[0-9]*/csrow[0-9]*/[cu]e_count")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let controllers = folders(view, "/sys/devices/system/edac/mc/");
        let mut told = 0;
        for controller in &controllers {
            let number = number_after("mc", controller.name);
            told += tell(
                controller,
                ["ce_count", "ue_count"],
                [
                    (
                        "node_edac_correctable_errors_total",
                        "Total correctable memory errors.",
                    ),
                    (
                        "node_edac_uncorrectable_errors_total",
                        "Total uncorrectable memory errors.",
                    ),
                ],
                &[("controller", number)],
                out,
            );
            let names = ["ce_noinfo_count", "ue_noinfo_count"];
            let labels = [("controller", number), ("csrow", "unknown")];
            told += tell(controller, names, OF_CSROW, &labels, out);
            for csrow in controller.folders() {
                let names = ["ce_count", "ue_count"];
                let csrow_number = number_after("csrow", csrow.name);
                let labels = [("controller", number), ("csrow", csrow_number)];
                told += tell(&csrow, names, OF_CSROW, &labels, out);
            }
        }
        require_told(&controllers, told)
    }
}

const OF_CSROW: [(&str, &str); 2] = [
    (
        "node_edac_csrow_correctable_errors_total",
        "Total correctable memory errors for this csrow.",
    ),
    (
        "node_edac_csrow_uncorrectable_errors_total",
        "Total uncorrectable memory errors for this csrow.",
    ),
];

/// Adds a series for each of two files; says how many could be read.
fn tell(
    folder: &Folder,
    files: [&str; 2],
    families: [(&str, &str); 2],
    labels: &[(&str, &str)],
    out: &mut Families,
) -> usize {
    let mut told = 0;
    for (file, (name, help)) in files.into_iter().zip(families) {
        if let Some(count) = folder.number::<u64>(file) {
            let family = out.counter(name, help);
            out.add(family, labels, count as f64);
            told += 1;
        }
    }
    told
}

fn number_after<'a>(prefix: &str, name: &'a str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/devices/system/edac/mc/mc0/ce_count", "5\n"),
        ("/sys/devices/system/edac/mc/mc0/ce_noinfo_count", "2\n"),
        ("/sys/devices/system/edac/mc/mc0/csrow0/ce_count", "3\n"),
        ("/sys/devices/system/edac/mc/mc0/csrow0/ch0_ce_count", "3\n"),
        ("/sys/devices/system/edac/mc/mc0/csrow0/ue_count", "0\n"),
        ("/sys/devices/system/edac/mc/mc0/csrow11/ce_count", "0\n"),
        ("/sys/devices/system/edac/mc/mc0/csrow11/ue_count", "1\n"),
        ("/sys/devices/system/edac/mc/mc0/ue_count", "7\n"),
        ("/sys/devices/system/edac/mc/mc0/ue_noinfo_count", "6\n"),
        ("/sys/devices/system/edac/mc/mc1/ce_count", "0\n"),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("edac", files)?.lines())
    }

    #[test]
    fn tells_of_controllers_and_rows() {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        assert_eq!(
            collect(&TREE.iter().fold(Files::new(), add)).unwrap(),
            [
                r#"node_edac_correctable_errors_total{controller="0"} 5"#,
                r#"node_edac_correctable_errors_total{controller="1"} 0"#,
                r#"node_edac_csrow_correctable_errors_total{controller="0",csrow="0"} 3"#,
                r#"node_edac_csrow_correctable_errors_total{controller="0",csrow="11"} 0"#,
                r#"node_edac_csrow_correctable_errors_total{controller="0",csrow="unknown"} 2"#,
                r#"node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="0"} 0"#,
                r#"node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="11"} 1"#,
                r#"node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="unknown"} 6"#,
                r#"node_edac_uncorrectable_errors_total{controller="0"} 7"#,
            ]
        );
    }

    #[test]
    fn no_controller_is_no_error_but_a_broken_one_is() {
        assert!(collect(&Files::new()).unwrap().is_empty());
        let broken = Files::new().file("/sys/devices/system/edac/mc/mc0/ce_count", "?");
        assert!(collect(&broken).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("edac", "{}", TREE);
    }
}
