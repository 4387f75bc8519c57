use crate::NodeMetrics;
use crate::hostile::survives;
use bulkhead_sdk::testing::{Files, Harness};

const STAT: &str = "\
cpu  360 40 600 2000 50 60 70 80 90 10
cpu0 301 11 402 1000 25 30 35 40 45 5
cpu2 59 29 198 1000 25 30 35 40 45 5
intr 17 1 2
";
const CPUINFO: &str = "\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 142
model name\t: Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz
stepping\t: 10
microcode\t: 0xb4
cache size\t: 8192 KB
physical id\t: 0
core id\t\t: 1
flags\t\t: fpu aes avx avx2
bugs\t\t: cpu_meltdown mds
power management:

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu sse
";
const CPU0: &str = "/sys/devices/system/cpu/cpu0";
const CPU10: &str = "/sys/devices/system/cpu/cpu10";

const INFO: &str = r#"{"collectors":{"cpu":{"flagsInclude":"^a","bugsInclude":"^m"}}}"#;

fn collect(plugin: &mut Harness<NodeMetrics>, text: &str) -> Vec<String> {
    let files = Files::new().file("/proc/stat", text);
    plugin.collect("cpu", &files).unwrap().lines()
}

fn plugin(config: &str) -> Harness<NodeMetrics> {
    Harness::<NodeMetrics>::new(config).unwrap()
}

#[test]
fn tells_seconds_by_mode() {
    let lines = collect(&mut plugin("{}"), STAT);
    assert_eq!(lines.len(), 20);
    for line in [
        r#"node_cpu_guest_seconds_total{cpu="0",mode="nice"} 0.05"#,
        r#"node_cpu_guest_seconds_total{cpu="2",mode="user"} 0.45"#,
        r#"node_cpu_seconds_total{cpu="0",mode="idle"} 10"#,
        r#"node_cpu_seconds_total{cpu="0",mode="system"} 4.02"#,
        r#"node_cpu_seconds_total{cpu="2",mode="steal"} 0.4"#,
        r#"node_cpu_seconds_total{cpu="2",mode="user"} 0.59"#,
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}");
    }
    let without = r#"{"collectors":{"cpu":{"guest":false}}}"#;
    assert_eq!(collect(&mut plugin(without), STAT).len(), 16);
    assert!(
        plugin("{}")
            .collect("cpu", &Files::new().file("/proc/stat", "intr 1\n"))
            .is_err()
    );
    assert!(plugin("{}").collect("cpu", &Files::new()).is_err());
}

#[test]
fn counters_do_not_step_back_but_after_a_comeback() {
    let of = |idle: u32, iowait: u32| format!("cpu0 1 1 1 {idle} {iowait} 0 0 0 0 0\n");
    let idle = |lines: &[String]| {
        lines
            .iter()
            .find_map(|line| Some(line.split_once("mode=\"idle\"} ")?.1.to_owned()))
    };
    let iowait = |lines: &[String]| {
        lines
            .iter()
            .find_map(|line| Some(line.split_once("mode=\"iowait\"} ")?.1.to_owned()))
    };
    let mut plugin = plugin("{}");
    let told = collect(&mut plugin, &of(1000, 50));
    assert_eq!(idle(&told).unwrap(), "10");
    let told = collect(&mut plugin, &of(990, 40));
    assert_eq!(idle(&told).unwrap(), "10", "a little less is passed over");
    assert_eq!(iowait(&told).unwrap(), "0.5");
    let told = collect(&mut plugin, &of(1010, 40));
    assert_eq!(idle(&told).unwrap(), "10.1");
    let told = collect(&mut plugin, &of(700, 40));
    assert_eq!(idle(&told).unwrap(), "7", "it was away");
    assert_eq!(iowait(&told).unwrap(), "0.4");
    let two = of(600, 30) + "cpu1 1 1 1 1 1 1 1 1 1 1\n";
    let told = collect(&mut plugin, &two);
    assert_eq!(idle(&told).unwrap(), "6", "there are others now");
}

#[test]
fn tells_what_processors_are_if_asked() {
    let files = Files::new()
        .file("/proc/stat", STAT)
        .file("/proc/cpuinfo", CPUINFO);
    let found = plugin(INFO).collect("cpu", &files).unwrap().lines();
    let info: Vec<_> = found
        .iter()
        .filter(|line| line.contains("_info{"))
        .collect();
    assert_eq!(
        info,
        [
            r#"node_cpu_bug_info{bug="mds"} 1"#,
            r#"node_cpu_flag_info{flag="aes"} 1"#,
            r#"node_cpu_flag_info{flag="avx"} 1"#,
            r#"node_cpu_flag_info{flag="avx2"} 1"#,
            concat!(
                r#"node_cpu_info{cachesize="",core="",cpu="1",family="",microcode="",model="","#,
                r#"model_name="",package="",stepping="",vendor="GenuineIntel"} 1"#
            ),
            concat!(
                r#"node_cpu_info{cachesize="8192 KB",core="1",cpu="0",family="6","#,
                r#"microcode="0xb4",model="142","#,
                r#"model_name="Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz",package="0","#,
                r#"stepping="10",vendor="GenuineIntel"} 1"#
            ),
        ]
    );
    let only_info = r#"{"collectors":{"cpu":{"info":true}}}"#;
    let found = plugin(only_info).collect("cpu", &files).unwrap().lines();
    let names = |name: &str| found.iter().filter(|line| line.starts_with(name)).count();
    assert_eq!(names("node_cpu_info"), 2);
    assert_eq!(names("node_cpu_flag_info") + names("node_cpu_bug_info"), 0);
}

#[test]
fn tells_throttles_once_for_what_is_shared() {
    let mut files = Files::new()
        .file("/proc/stat", STAT)
        .file("/sys/devices/system/cpu/isolated", "1,3-5\n");
    for (cpu, package, core, of_core, of_package) in [
        ("0", "0\n", "0\n", "5\n", "30\n"),
        ("1", "0\n", "0\n", "6\n", "31\n"),
        ("2", "0\n", "1\n", "7\n", "32\n"),
        ("3", "1\n", "0\n", "8\n", "6\n"),
        ("4", "-1\n", "0\n", "9\n", "9\n"),
    ] {
        let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
        let throttle = format!("{folder}/thermal_throttle");
        files = files
            .file(&format!("{folder}/topology/physical_package_id"), package)
            .file(&format!("{folder}/topology/core_id"), core)
            .file(&format!("{throttle}/core_throttle_count"), of_core)
            .file(&format!("{throttle}/package_throttle_count"), of_package);
    }
    let found = plugin("{}").collect("cpu", &files).unwrap().lines();
    let found: Vec<_> = found
        .iter()
        .filter(|line| line.contains("throttles") || line.contains("isolated"))
        .collect();
    assert_eq!(
        found,
        [
            r#"node_cpu_core_throttles_total{core="0",package="0"} 5"#,
            r#"node_cpu_core_throttles_total{core="0",package="1"} 8"#,
            r#"node_cpu_core_throttles_total{core="1",package="0"} 7"#,
            r#"node_cpu_isolated{cpu="1"} 1"#,
            r#"node_cpu_isolated{cpu="3"} 1"#,
            r#"node_cpu_isolated{cpu="4"} 1"#,
            r#"node_cpu_isolated{cpu="5"} 1"#,
            r#"node_cpu_package_throttles_total{package="0"} 30"#,
            r#"node_cpu_package_throttles_total{package="1"} 6"#,
        ]
    );
}

#[test]
fn survives_nonsense() {
    let package = format!("{CPU0}/topology/physical_package_id");
    let core = format!("{CPU0}/topology/core_id");
    let throttles = format!("{CPU0}/thermal_throttle/core_throttle_count");
    let other = format!("{CPU10}/topology/core_id");
    survives(
        "cpu",
        INFO,
        &[
            ("/proc/stat", STAT),
            ("/proc/cpuinfo", CPUINFO),
            ("/sys/devices/system/cpu/isolated", "0-99999999,1,3-5\n"),
            (&package, "0\n"),
            (&core, "0\n"),
            (&throttles, "5\n"),
            (&other, "1\n"),
        ],
    );
}
