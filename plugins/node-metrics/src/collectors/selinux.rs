//! Whether SELinux is on, of `/sys/fs/selinux` and `/etc/selinux/config`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;

/// There if, and only if, SELinux is on.
const ENFORCE: &str = "/sys/fs/selinux/enforce";
const CONFIG: &str = "/etc/selinux/config";

const ENFORCING: f64 = 1.0;
const PERMISSIVE: f64 = 0.0;
const DISABLED: f64 = -1.0;

pub(crate) struct Selinux;

impl Collect for Selinux {
    fn wants(&self) -> Collector {
        Collector::new("selinux").content(ENFORCE).content(CONFIG)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let is_on = view.get(ENFORCE).is_some();
        let enabled = out.gauge(
            "node_selinux_enabled",
            "SELinux is enabled, 1 is true, 0 is false",
        );
        out.add(enabled, &[], f64::from(u8::from(is_on)));
        if is_on {
            let text = |path| view.get(path).and_then(|file| file.text());
            let configured = out.gauge(
                "node_selinux_config_mode",
                "Configured SELinux enforcement mode",
            );
            let mode = text(CONFIG).map_or(DISABLED, configured_mode);
            out.add(configured, &[], mode);
            let current = out.gauge(
                "node_selinux_current_mode",
                "Current SELinux enforcement mode",
            );
            let mode = text(ENFORCE).and_then(|text| text.trim().parse::<i32>().ok());
            out.add(current, &[], mode.map_or(DISABLED, f64::from));
        }
        Ok(())
    }
}

fn configured_mode(config: &str) -> f64 {
    let mode = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("SELINUX="))
        .unwrap_or_default();
    match mode.trim_matches('"') {
        "enforcing" => ENFORCING,
        "permissive" => PERMISSIVE,
        _ => DISABLED,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const CONFIG: &str = "# SELINUX=disabled\n\nSELINUX=permissive\nSELINUXTYPE=targeted\n";

    fn collect(files: &Files) -> Vec<String> {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        plugin.collect("selinux", files).unwrap().lines()
    }

    #[test]
    fn tells_what_is_and_what_is_configured() {
        let files = Files::new()
            .file("/sys/fs/selinux/enforce", "1")
            .file("/etc/selinux/config", CONFIG);
        assert_eq!(
            collect(&files),
            [
                "node_selinux_config_mode 0",
                "node_selinux_current_mode 1",
                "node_selinux_enabled 1"
            ]
        );
        let files = Files::new().file("/sys/fs/selinux/enforce", "0");
        assert_eq!(
            collect(&files)[..2],
            ["node_selinux_config_mode -1", "node_selinux_current_mode 0"]
        );
    }

    #[test]
    fn where_it_is_off_nothing_else_is_told() {
        let files = Files::new().file("/etc/selinux/config", CONFIG);
        assert_eq!(collect(&files), ["node_selinux_enabled 0"]);
    }

    #[test]
    fn survives_nonsense() {
        let tree = [
            ("/sys/fs/selinux/enforce", "1"),
            ("/etc/selinux/config", CONFIG),
        ];
        survives("selinux", "{}", &tree);
    }
}
