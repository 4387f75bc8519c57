use super::names::{container_id, pod_uid};
use crate::NodeMetrics;
use crate::hostile::survives;
use bulkhead_sdk::testing::{Files, Found, Harness};

const UID: &str = "0c1f7f2e-8a52-4b8e-9d3c-6a1f0e2d4b5c";
const APP: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const PAUSE: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// Files of a container in version 2.
const V2: &[(&str, &str)] = &[
    ("cgroup.stat", "nr_descendants 0\n"),
    (
        "cpu.stat",
        "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\nnr_periods 100\n\
         nr_throttled 7\nthrottled_usec 350000\n",
    ),
    (
        "cpu.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n\
         full avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n",
    ),
    (
        "io.pressure",
        "some avg10=1.23 avg60=0.00 avg300=0.00 total=3000000\n\
         full avg10=1.23 avg60=0.00 avg300=0.00 total=2000000\n",
    ),
    (
        "io.stat",
        "7:0 8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n\
         259:7 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    ),
    ("memory.current", "10485760\n"),
    (
        "memory.events",
        "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n",
    ),
    ("memory.max", "20971520\n"),
    (
        "memory.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    ),
    (
        "memory.stat",
        "anon 4194304\nfile 6291456\ninactive_anon 1\ninactive_file 2097152\n",
    ),
];

/// Of the same in version 1, with the hierarchy.
const V1: &[(&str, &str, &str)] = &[
    (
        "cpu",
        "cpu.stat",
        "nr_periods 100\nnr_throttled 7\nthrottled_time 350000000\n",
    ),
    ("cpuacct", "cpuacct.stat", "user 150\nsystem 100\n"),
    ("cpuacct", "cpuacct.usage", "2500000000\n"),
    ("cpuacct", "cpuacct.usage_percpu", "2500000000 0\n"),
    ("memory", "memory.limit_in_bytes", "20971520\n"),
    (
        "memory",
        "memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    ),
    (
        "memory",
        "memory.stat",
        "cache 0\nrss 0\ninactive_file 0\ntotal_cache 6291456\ntotal_rss 4194304\n\
         total_inactive_file 2097152\n",
    ),
    ("memory", "memory.usage_in_bytes", "10485760\n"),
    (
        "blkio",
        "blkio.throttle.io_service_bytes",
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 0\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 12288\n\
         259:7 Read 1\n259:7 Write 2\nTotal 12291\n",
    ),
    (
        "blkio",
        "blkio.throttle.io_serviced",
        "8:0 Read 1\n8:0 Write 2\n259:7 Read 3\n259:7 Write 4\nTotal 10\n",
    ),
];

const DISKS: &str = "   7       0 loop0 0 0\n   8       0 sda 1 2 3 4\n   8       1 sda1 1 2\n";

/// The pod `web-0` of `shop` with the container `app` and its sandbox.
fn logs() -> Files {
    Files::new()
        .file("/proc/diskstats", DISKS)
        .file(&format!("/var/log/pods/shop_web-0_{UID}"), "")
        .file(&format!("/var/log/containers/web-0_shop_app-{APP}.log"), "")
}

fn v2(files: Files, container: &str) -> Files {
    V2.iter().fold(files, |files, (file, text)| {
        files.file(&format!("/sys/fs/cgroup/{container}/{file}"), text)
    })
}

fn v1(files: Files, container: &str) -> Files {
    V1.iter().fold(files, |files, (hierarchy, file, text)| {
        files.file(
            &format!("/sys/fs/cgroup/{hierarchy}/{container}/{file}"),
            text,
        )
    })
}

fn collect(files: &Files) -> bulkhead_sdk::Result<Found> {
    Harness::<NodeMetrics>::new("{}")?.collect("cgroups", files)
}

/// What is told of a container, with its labels left out.
fn usage(container: &str, files: &Files) -> Vec<String> {
    let labels = match container {
        "" => r#"namespace="shop",pod="web-0""#.to_owned(),
        name => format!(r#"container="{name}",device="X",namespace="shop",pod="web-0""#),
    };
    let labels: Vec<&str> = labels
        .split(',')
        .filter(|label| !label.contains('X'))
        .collect();
    collect(files)
        .unwrap()
        .lines()
        .into_iter()
        .filter(|line| line.contains("container=") != container.is_empty())
        .map(|line| {
            let line = labels.iter().fold(line, |line, label| {
                assert!(line.contains(label), "{label} in {line}");
                line.replace(label, "")
            });
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.replace(",,", ",").replace(",,", ",");
            let name = name.replace("{,", "{").replace(",}", "}").replace("{}", "");
            format!("{name} {value}")
        })
        .collect()
}

const USED: &[&str] = &[
    "node_cgroup_cpu_periods_total 100",
    "node_cgroup_cpu_system_seconds_total 1",
    "node_cgroup_cpu_throttled_periods_total 7",
    "node_cgroup_cpu_throttled_seconds_total 0.35",
    "node_cgroup_cpu_usage_seconds_total 2.5",
    "node_cgroup_cpu_user_seconds_total 1.5",
    r#"node_cgroup_io_read_bytes_total{device="259:7"} 1"#,
    r#"node_cgroup_io_read_bytes_total{device="sda"} 4096"#,
    r#"node_cgroup_io_reads_total{device="259:7"} 3"#,
    r#"node_cgroup_io_reads_total{device="sda"} 1"#,
    r#"node_cgroup_io_writes_total{device="259:7"} 4"#,
    r#"node_cgroup_io_writes_total{device="sda"} 2"#,
    r#"node_cgroup_io_written_bytes_total{device="259:7"} 2"#,
    r#"node_cgroup_io_written_bytes_total{device="sda"} 8192"#,
    "node_cgroup_memory_cache_bytes 6291456",
    "node_cgroup_memory_current_bytes 10485760",
    "node_cgroup_memory_limit_bytes 20971520",
    "node_cgroup_memory_oom_kills_total 2",
    "node_cgroup_memory_rss_bytes 4194304",
    "node_cgroup_memory_working_set_bytes 8388608",
];

/// Only version 2 has it.
const PRESSURE: &[&str] = &[
    r#"node_cgroup_pressure_stalled_seconds_total{resource="cpu"} 0.25"#,
    r#"node_cgroup_pressure_stalled_seconds_total{resource="io"} 2"#,
    r#"node_cgroup_pressure_waiting_seconds_total{resource="cpu"} 1.5"#,
    r#"node_cgroup_pressure_waiting_seconds_total{resource="io"} 3"#,
    r#"node_cgroup_pressure_waiting_seconds_total{resource="memory"} 0"#,
];

/// The pod's folder, by class and driver.
fn pods() -> [String; 5] {
    let slice = UID.replace('-', "_");
    [
        format!("kubepods/pod{UID}"),
        format!("kubepods/burstable/pod{UID}"),
        format!("kubepods/besteffort/pod{UID}"),
        format!("kubepods.slice/kubepods-pod{slice}.slice"),
        format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice"),
    ]
}

#[test]
fn version_2_is_told_with_either_driver() {
    let all: Vec<&str> = [USED, PRESSURE].concat();
    for pod in pods() {
        let container = match pod.ends_with(".slice") {
            true => format!("cri-containerd-{APP}.scope"),
            false => APP.to_owned(),
        };
        let files = v2(logs(), &format!("{pod}/{container}"));
        // The pod's own folder, with the sum of all containers, is not asked for.
        let files = v2(files, &pod);
        assert_eq!(usage("app", &files), all, "{pod}");
    }
}

#[test]
fn version_1_is_told_with_either_driver() {
    for pod in pods() {
        let container = match pod.ends_with(".slice") {
            true => format!("docker-{APP}.scope"),
            false => APP.to_owned(),
        };
        let files = v1(v1(logs(), &format!("{pod}/{container}")), &pod);
        assert_eq!(usage("app", &files), USED, "{pod}");
    }
}

#[test]
fn the_sandbox_has_no_container() {
    let [pod, ..] = pods();
    let files = v2(logs(), &format!("{pod}/{APP}"));
    let sandbox = format!("/sys/fs/cgroup/{pod}/{PAUSE}");
    let files = files.file(&format!("{sandbox}/memory.current"), "4096\n");
    assert_eq!(usage("", &files), ["node_cgroup_memory_current_bytes 4096"]);
    // Which of two without a name is the sandbox cannot be told.
    let starting = format!("/sys/fs/cgroup/{pod}/{}", PAUSE.replace('2', "3"));
    let files = files.file(&format!("{starting}/memory.current"), "1\n");
    assert!(usage("", &files).is_empty());
    assert!(!usage("app", &files).is_empty());
}

#[test]
fn without_a_limit_there_is_none() {
    let [pod, ..] = pods();
    for (file, text) in [
        ("memory.max", "max\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
    ] {
        let hierarchy = if file == "memory.max" { "" } else { "memory/" };
        let path = format!("/sys/fs/cgroup/{hierarchy}{pod}/{APP}/{file}");
        let found = collect(&logs().file(&path, text)).unwrap();
        assert!(found.lines().is_empty(), "{:?}", found.lines());
    }
}

#[test]
fn no_pods_are_no_error_but_pods_without_names_are() {
    assert!(collect(&Files::new()).unwrap().lines().is_empty());
    assert!(collect(&logs()).unwrap().lines().is_empty());
    let [pod, ..] = pods();
    assert!(collect(&v2(Files::new(), &format!("{pod}/{APP}"))).is_err());
}

#[test]
fn folders_are_understood() {
    assert_eq!(pod_uid(&format!("pod{UID}")).as_deref(), Some(UID));
    let slice = format!("kubepods-besteffort-pod{}.slice", UID.replace('-', "_"));
    assert_eq!(pod_uid(&slice).as_deref(), Some(UID));
    for other in ["", "burstable", "kubepods-burstable.slice", "pod", "podx"] {
        assert_eq!(pod_uid(other), None, "{other:?}");
    }
    for name in [
        APP.to_owned(),
        format!("crio-{APP}.scope"),
        format!("cri-containerd-{APP}.scope"),
    ] {
        assert_eq!(container_id(&name), Some(APP), "{name:?}");
    }
    for other in [
        "",
        "cpu.stat",
        "-",
        "1234567",
        &format!("crio-conmon-{APP}.scope"),
    ] {
        assert_eq!(container_id(other), None, "{other:?}");
    }
}

#[test]
fn survives_nonsense() {
    let [pod, ..] = pods();
    let logs = [
        ("/proc/diskstats".to_owned(), DISKS),
        (format!("/var/log/pods/shop_web-0_{UID}"), ""),
        (format!("/var/log/containers/web-0_shop_app-{APP}.log"), ""),
    ];
    let of_v2 = V2
        .iter()
        .map(|(file, text)| (format!("/sys/fs/cgroup/{pod}/{APP}/{file}"), *text));
    let of_v1 = V1.iter().map(|(hierarchy, file, text)| {
        (
            format!("/sys/fs/cgroup/{hierarchy}/{pod}/{APP}/{file}"),
            *text,
        )
    });
    for files in [of_v2.collect::<Vec<_>>(), of_v1.collect()] {
        let tree: Vec<(&str, &str)> = logs
            .iter()
            .chain(&files)
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        survives("cgroups", "{}", &tree);
    }
}
