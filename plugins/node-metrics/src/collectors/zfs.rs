//! Counters of OpenZFS, of `/proc/spl/kstat/zfs`.

use std::collections::BTreeSet;

use bulkhead_sdk::metrics::{Entry, Kind};
use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;
use crate::sysfs::{require_class, whole};

const ROOT: &str = "/proc/spl/kstat/zfs";

/// Files, and what their metrics' names begin with.
const FILES: &[(&str, &str)] = &[
    ("abdstats", "zfs_abd"),
    ("arcstats", "zfs_arc"),
    ("dbuf_stats", "zfs_dbuf"),
    ("dmu_tx", "zfs_dmu_tx"),
    ("dnodestats", "zfs_dnode"),
    ("fm", "zfs_fm"),
    ("vdev_cache_stats", "zfs_vdev_cache"),
    ("vdev_mirror_stats", "zfs_vdev_mirror"),
    ("xuio_stats", "zfs_xuio"),
    ("zfetchstats", "zfs_zfetch"),
    ("zil", "zfs_zil"),
];

const STATES: &[&str] = &[
    "online", "degraded", "faulted", "offline", "removed", "unavail",
];

pub(crate) struct Zfs;

impl Collect for Zfs {
    fn wants(&self) -> Collector {
        let collector = Collector::new("zfs").names(ROOT);
        FILES
            .iter()
            .fold(collector, |collector, (file, _)| {
                collector.content(&format!("{ROOT}/{file}"))
            })
            .content("/proc/spl/kstat/zfs/*/io")
            .content("/proc/spl/kstat/zfs/*/objset-*")
            .content("/proc/spl/kstat/zfs/*/state")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, ROOT)?;
        let mut found = false;
        let mut series = Series {
            out,
            told: BTreeSet::new(),
        };
        for file in view.files() {
            let Some(path) = file.path().strip_prefix(ROOT) else {
                continue;
            };
            found |= !path.is_empty();
            let Some(text) = whole(file) else {
                continue;
            };
            match path.trim_start_matches('/').split_once('/') {
                None => tell_file(file, &text, &mut series),
                Some((pool, "io")) => tell_io(pool, &text, &mut series),
                Some((pool, "state")) => tell_state(pool, &text, &mut series),
                Some((pool, _)) => tell_dataset(pool, &text, &mut series),
            }
        }
        match found && series.told.is_empty() {
            true => bail!("nothing in {ROOT} makes sense"),
            false => Ok(()),
        }
    }
}

fn tell_file(file: Entry, text: &str, series: &mut Series) {
    let name = file.name();
    if let Some((_, prefix)) = FILES.iter().find(|(known, _)| *known == name) {
        for (key, value) in counters(text) {
            series.tell(&format!("node_{prefix}"), name, key, &[], value);
        }
    }
}

/// A line of names and a line of numbers, of a pool.
fn tell_io(pool: &str, text: &str, series: &mut Series) {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("nread "));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return;
    };
    let numbers = numbers.split_ascii_whitespace();
    for (key, number) in names.split_ascii_whitespace().zip(numbers) {
        if let Ok(value) = number.parse() {
            series.tell("node_zfs_zpool", "io", key, &[("zpool", pool)], value);
        }
    }
}

fn tell_state(pool: &str, text: &str, series: &mut Series) {
    let actual = text.lines().next().unwrap_or_default();
    for state in STATES {
        let labels = [("zpool", pool), ("state", *state)];
        series.add(
            Kind::Gauge,
            "node_zfs_zpool_state",
            "kstat.zfs.misc.state",
            &labels,
            f64::from(u8::from(actual.eq_ignore_ascii_case(state))),
        );
    }
}

fn tell_dataset(pool: &str, text: &str, series: &mut Series) {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("dataset_name")?.trim().split_once(' '))
        .map(|(_type, name)| name.trim());
    if let Some(name) = name {
        for (key, value) in counters(text) {
            let labels = [("zpool", pool), ("dataset", name)];
            series.tell("node_zfs_zpool_dataset", "objset", key, &labels, value);
        }
    }
}

/// The lines of type 4 (unsigned, 64 bits) after the line `name type data`.
fn counters(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines()
        .skip_while(|line| !line.split_ascii_whitespace().eq(["name", "type", "data"]))
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (key, kind, value) = (fields.next()?, fields.next()?, fields.next()?);
            Some((key, value.parse().ok().filter(|_| kind == "4")?))
        })
}

/// What is told, of which none may come twice.
struct Series<'a> {
    out: &'a mut Families,
    told: BTreeSet<String>,
}

impl Series<'_> {
    /// Adds what `file` has under `key`, unless that cannot be a part of a name.
    fn tell(&mut self, prefix: &str, file: &str, key: &str, labels: &[(&str, &str)], value: u64) {
        let last = key.rsplit('.').next().unwrap_or_default().replace('-', "_");
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !last.is_empty() && last.chars().all(fits) {
            let name = format!("{prefix}_{last}");
            let help = format!("kstat.zfs.misc.{file}.{key}");
            self.add(Kind::Untyped, &name, &help, labels, value as f64);
        }
    }

    fn add(&mut self, kind: Kind, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        if self.told.insert(format!("{name}{labels:?}")) {
            let family = self.out.family(kind, name, help);
            self.out.add(family, labels, value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Found, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/proc/spl/kstat/zfs", ""),
        (
            "/proc/spl/kstat/zfs/arcstats",
            "6 1 0x01 4 4368 5266997922 97951858082072\n\
             name                            type data\n\
             hits                            4    8772612\n\
             l2-size                         4    7\n\
             memory_available_bytes          3    -922337\n",
        ),
        (
            "/proc/spl/kstat/zfs/zil",
            "7 1 0x01 14 672 34118481334 437444452158445\n\
             name                            type data\n\
             zil_commit_count                4    10\n",
        ),
        (
            "/proc/spl/kstat/zfs/tank/io",
            "12 3 0x00 1 80 79205351707403 395818011156865\n\
             nread    nwritten reads    writes   wtime    wlentime wupdate  rtime    rlentime \
             rupdate  wcnt     rcnt    \n\
             1884160  3206144  22       132      7155162  104112268 79210489694949 24168078 \
             104112268 79210489849220 0        0       \n",
        ),
        (
            "/proc/spl/kstat/zfs/tank/objset-0x36",
            "23 1 0x01 7 2160 221578688875 6665999035587\n\
             name                            type data\n\
             dataset_name                    7    tank/my data\n\
             writes                          4    4\n\
             nread                           4    9\n",
        ),
        ("/proc/spl/kstat/zfs/tank/state", "DEGRADED\n"),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Found> {
        Harness::<NodeMetrics>::new("{}")?.collect("zfs", files)
    }

    fn tree() -> Files {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        TREE.iter().fold(Files::new(), add)
    }

    #[test]
    fn tells_of_the_module_its_pools_and_data_sets() {
        let found = collect(&tree()).unwrap();
        for (series, value) in [
            ("node_zfs_arc_hits", 8772612.0),
            ("node_zfs_arc_l2_size", 7.0),
            ("node_zfs_zil_zil_commit_count", 10.0),
            (r#"node_zfs_zpool_nread{zpool="tank"}"#, 1884160.0),
            (r#"node_zfs_zpool_rupdate{zpool="tank"}"#, 79210489849220.0),
            (
                r#"node_zfs_zpool_dataset_nread{dataset="tank/my data",zpool="tank"}"#,
                9.0,
            ),
            (
                r#"node_zfs_zpool_state{state="degraded",zpool="tank"}"#,
                1.0,
            ),
            (r#"node_zfs_zpool_state{state="online",zpool="tank"}"#, 0.0),
        ] {
            assert_eq!(found.value(series), Some(value), "{series}");
        }
        assert_eq!(found.lines().len(), 3 + 12 + 2 + 6);
        assert_eq!(found.kind("node_zfs_arc_hits"), Some("untyped"));
        assert_eq!(found.kind("node_zfs_zpool_state"), Some("gauge"));
    }

    #[test]
    fn without_the_module_is_an_error_and_without_files_is_not() {
        assert!(collect(&Files::new()).is_err());
        let module = Files::new().file("/proc/spl/kstat/zfs", "");
        assert!(collect(&module).unwrap().lines().is_empty());
        let torn = module.file("/proc/spl/kstat/zfs/zil", "7 1 0x01 14");
        assert!(collect(&torn).is_err());
    }

    #[test]
    fn a_key_that_cannot_be_a_name_is_left_out() {
        let text = "name type data\nä 4 1\na.b 4 2\n 4 3\n";
        let files = Files::new()
            .file("/proc/spl/kstat/zfs", "")
            .file("/proc/spl/kstat/zfs/fm", text);
        assert_eq!(collect(&files).unwrap().lines(), ["node_zfs_fm_b 2"]);
    }

    #[test]
    fn what_comes_twice_is_told_once() {
        let io = "nread nread reads writes wtime wlentime wupdate rtime rlentime rupdate wcnt rcnt\n\
                  1 2 3 4 5 6 7 8 9 10 11 12\n";
        let files = Files::new()
            .file("/proc/spl/kstat/zfs", "")
            .file("/proc/spl/kstat/zfs/tank/io", io);
        let found = collect(&files).unwrap();
        let series = r#"node_zfs_zpool_nread{zpool="tank"}"#;
        assert_eq!(found.value(series), Some(1.0));
    }

    #[test]
    fn a_wrong_byte_costs_its_line() {
        let files = Files::new().file("/proc/spl/kstat/zfs", "").file(
            "/proc/spl/kstat/zfs/fm",
            b"name type data\nb\xffd 4 1\nok 4 2\n",
        );
        assert_eq!(collect(&files).unwrap().lines(), ["node_zfs_fm_ok 2"]);
    }

    #[test]
    fn survives_nonsense() {
        survives("zfs", "{}", TREE);
    }
}
