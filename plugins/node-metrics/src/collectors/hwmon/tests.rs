use crate::NodeMetrics;
use crate::hostile::survives;
use bulkhead_sdk::testing::{Files, Found, Harness};

const TREE: &[(&str, &str)] = &[
    ("/sys/class/hwmon", ""),
    ("/sys/class/hwmon/hwmon0/name", "coretemp\n"),
    ("/sys/class/hwmon/hwmon0/temp1_crit", "100000\n"),
    ("/sys/class/hwmon/hwmon0/temp1_crit_alarm", "0\n"),
    ("/sys/class/hwmon/hwmon0/temp1_input", "55000\n"),
    ("/sys/class/hwmon/hwmon0/temp1_label", "Package id 0 \n"),
    ("/sys/class/hwmon/hwmon0/temp1_type", "4\n"),
    ("/sys/class/hwmon/hwmon1/beep_enable", "1\n"),
    ("/sys/class/hwmon/hwmon1/curr1_input", "1500\n"),
    ("/sys/class/hwmon/hwmon1/energy1_input", "2500000\n"),
    ("/sys/class/hwmon/hwmon1/fan2_alarm", "0\n"),
    ("/sys/class/hwmon/hwmon1/fan2_beep", "1\n"),
    ("/sys/class/hwmon/hwmon1/fan2_input", "1098\n"),
    ("/sys/class/hwmon/hwmon1/fan2_pulses", "2\n"),
    ("/sys/class/hwmon/hwmon1/humidity1_input", "37500\n"),
    ("/sys/class/hwmon/hwmon1/in0_input", "792\n"),
    ("/sys/class/hwmon/hwmon1/intrusion0_alarm", "1\n"),
    ("/sys/class/hwmon/hwmon1/power1_accuracy", "50000\n"),
    ("/sys/class/hwmon/hwmon1/power1_average_interval", "2000\n"),
    ("/sys/class/hwmon/hwmon1/power1_input", "12500000\n"),
    ("/sys/class/hwmon/hwmon1/pwm1", "98\n"),
    ("/sys/class/hwmon/hwmon1/pwm1_enable", "5\n"),
    ("/sys/class/hwmon/hwmon1/pwm1_input", "7\n"),
    ("/sys/class/hwmon/hwmon1/uevent", "\n"),
    ("/sys/class/hwmon/hwmon1/update_interval", "2000\n"),
    ("/sys/class/hwmon/hwmon1/vrm", "95\n"),
    ("/sys/class/hwmon/hwmon2/device/fan1_manual", "0\n"),
    ("/sys/class/hwmon/hwmon2/device/fan1_min", "2160\n"),
    ("/sys/class/hwmon/hwmon2/device/local_cpus", "3\n"),
];

fn tree() -> Files {
    let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
    TREE.iter()
        .fold(Files::new(), add)
        .link(
            "/sys/class/hwmon/hwmon0/device",
            "/sys/devices/platform/coretemp.0",
        )
        .link(
            "/sys/class/hwmon/hwmon2/device",
            "/sys/devices/platform/Apple-SMC.768",
        )
}

fn collect(config: &str, files: &Files) -> bulkhead_sdk::Result<Found> {
    Harness::<NodeMetrics>::new(config)?.collect("hwmon", files)
}

#[test]
fn tells_each_sensor_in_its_unit() {
    let found = collect("{}", &tree()).unwrap();
    let coretemp = |rest: &str| rest.replace('{', "{chip=\"platform_coretemp_0\",");
    let bare = |rest: &str| rest.replace('{', "{chip=\"hwmon1\",");
    let apple = |rest: &str| rest.replace('{', "{chip=\"platform_apple_smc_768\",");
    assert_eq!(
        found.lines(),
        [
            bare(r#"node_hwmon_beep_enabled{sensor="beep_enable0"} 1"#),
            coretemp(r#"node_hwmon_chip_names{chip_name="coretemp"} 1"#),
            bare(r#"node_hwmon_curr_amps{sensor="curr1"} 1.5"#),
            bare(r#"node_hwmon_energy_joule_total{sensor="energy1"} 2.5"#),
            bare(r#"node_hwmon_fan_alarm{sensor="fan2"} 0"#),
            bare(r#"node_hwmon_fan_beep_enabled{sensor="fan2"} 1"#),
            apple(r#"node_hwmon_fan_manual{sensor="fan1"} 0"#),
            apple(r#"node_hwmon_fan_min_rpm{sensor="fan1"} 2160"#),
            bare(r#"node_hwmon_fan_pulses{sensor="fan2"} 2"#),
            bare(r#"node_hwmon_fan_rpm{sensor="fan2"} 1098"#),
            bare(r#"node_hwmon_humidity{sensor="humidity1"} 0.0375"#),
            bare(r#"node_hwmon_in_volts{sensor="in0"} 0.792"#),
            bare(r#"node_hwmon_intrusion_alarm{sensor="intrusion0"} 1"#),
            bare(r#"node_hwmon_power_accuracy{sensor="power1"} 0.05"#),
            bare(r#"node_hwmon_power_average_interval_seconds{sensor="power1"} 2"#),
            bare(r#"node_hwmon_power_watt{sensor="power1"} 12.5"#),
            bare(r#"node_hwmon_pwm_enable{sensor="pwm1"} 5"#),
            bare(r#"node_hwmon_pwm_input{sensor="pwm1"} 7"#),
            bare(r#"node_hwmon_pwm{sensor="pwm1"} 98"#),
            "node_hwmon_sensor_label{chip=\"platform_coretemp_0\",label=\"Package id 0 \",\
             sensor=\"temp1\"} 1"
                .to_owned(),
            coretemp(r#"node_hwmon_temp_celsius{sensor="temp1"} 55"#),
            coretemp(r#"node_hwmon_temp_crit_alarm_celsius{sensor="temp1"} 0"#),
            coretemp(r#"node_hwmon_temp_crit_celsius{sensor="temp1"} 100"#),
            coretemp(r#"node_hwmon_temp_type{sensor="temp1"} 4"#),
            bare(r#"node_hwmon_update_interval_seconds{sensor="update_interval0"} 2"#),
            bare(r#"node_hwmon_voltage_regulator_version{sensor="vrm0"} 95"#),
        ]
    );
    assert_eq!(found.kind("node_hwmon_energy_joule_total"), Some("counter"));
}

#[test]
fn chips_may_be_chosen() {
    let lines = |config| collect(config, &tree()).unwrap().lines();
    let only = lines(r#"{"collectors":{"hwmon":{"chipInclude":"^platform_apple"}}}"#);
    assert_eq!(only.len(), 2);
    let without = lines(r#"{"collectors":{"hwmon":{"chipExclude":"^platform_"}}}"#);
    assert!(without.iter().all(|line| line.contains(r#"chip="hwmon1""#)));
    assert!(!without.is_empty());
}

#[test]
fn two_folders_of_one_device_give_no_series_twice() {
    let device = "/sys/devices/platform/coretemp.0";
    let files = tree()
        .link("/sys/class/hwmon/hwmon3/device", device)
        .file("/sys/class/hwmon/hwmon3/name", "coretemp\n")
        .file("/sys/class/hwmon/hwmon3/temp1_input", "1000\n")
        .file("/sys/class/hwmon/hwmon3/temp2_input", "2000\n");
    let found = collect("{}", &files).unwrap();
    let value = |sensor: &str| {
        found.value(&format!(
            "node_hwmon_temp_celsius{{chip=\"platform_coretemp_0\",sensor=\"{sensor}\"}}"
        ))
    };
    assert_eq!((value("temp1"), value("temp2")), (Some(55.0), Some(2.0)));
}

#[test]
fn a_driver_names_a_chip_without_a_device() {
    let files = Files::new()
        .file("/sys/class/hwmon", "")
        .file("/sys/class/hwmon/hwmon7/name", "Nct 6779_\n")
        .file("/sys/class/hwmon/hwmon7/in1_input", "1024\n");
    let found = collect("{}", &files).unwrap();
    let series = r#"node_hwmon_in_volts{chip="nct_6779",sensor="in1"}"#;
    assert_eq!(found.value(series), Some(1.024));
}

#[test]
fn without_the_class_is_an_error_and_a_sensor_that_cannot_be_read_is_left_out() {
    assert!(collect("{}", &Files::new()).is_err());
    let broken = Files::new()
        .file("/sys/class/hwmon", "")
        .unreadable("/sys/class/hwmon/hwmon0/temp1_input", 11);
    assert!(collect("{}", &broken).unwrap().lines().is_empty());
}

#[test]
fn file_names_are_split() {
    use super::sensor::split;
    assert_eq!(split("temp1_crit_alarm"), Some(("temp", 1, "crit_alarm")));
    assert_eq!(split("pwm12"), Some(("pwm", 12, "")));
    assert_eq!(split("vrm"), Some(("vrm", 0, "")));
    for other in ["", "1", "1_x", "temp1x", "temp99999999999_x"] {
        assert_eq!(split(other), None, "{other:?}");
    }
}

#[test]
fn survives_nonsense() {
    survives("hwmon", "{}", TREE);
}
