//! Sizes of mounted file systems.

use std::collections::BTreeSet;

use bulkhead_sdk::node_stats::filesystems;
use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Pattern;
use crate::text::{lines, require};

const PATH: &str = "/proc/mounts";

/// How many mount points the host is asked for at once.
const AT_ONCE: usize = 4096;

/// The collector `filesystem`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of the mount points not to tell of.
    pub mount_points_exclude: String,
    /// Regular expression of the types of file systems not to tell of.
    pub fs_types_exclude: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            mount_points_exclude: "^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+|\
                                   var/lib/containers/storage/.+)($|/)"
                .to_owned(),
            fs_types_exclude: "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|\
                               fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|\
                               rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
                .to_owned(),
        }
    }
}

pub(crate) struct Filesystem {
    mount_points_exclude: Pattern,
    fs_types_exclude: Pattern,
}

impl Filesystem {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            mount_points_exclude: Pattern::new(
                &options.mount_points_exclude,
                "collectors.filesystem.mountPointsExclude",
            )?,
            fs_types_exclude: Pattern::new(
                &options.fs_types_exclude,
                "collectors.filesystem.fsTypesExclude",
            )?,
        })
    }
}

impl Collect for Filesystem {
    fn wants(&self) -> Collector {
        Collector::new("filesystem").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let mut known = BTreeSet::new();
        let mounts: Vec<Mount> = lines(view, PATH)?
            .filter_map(Mount::parse)
            .filter(|mount| {
                known.insert((mount.device, mount.point.clone(), mount.kind))
                    && !self.mount_points_exclude.is_match(&mount.point)
                    && !self.fs_types_exclude.is_match(mount.kind)
            })
            .collect();
        for mounts in mounts.chunks(AT_ONCE) {
            let points: Vec<&str> = mounts.iter().map(|mount| mount.point.as_str()).collect();
            for (mount, sizes) in mounts.iter().zip(filesystems(&points)) {
                mount.tell(sizes.ok(), out);
            }
        }
        require(!known.is_empty(), PATH)
    }
}

struct Mount<'a> {
    device: &'a str,
    point: String,
    kind: &'a str,
    read_only: bool,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        Some(Self {
            device: words.next()?,
            point: unescape(words.next()?),
            kind: words.next()?,
            read_only: words.next()?.split(',').any(|option| option == "ro"),
        })
    }

    fn tell(&self, sizes: Option<bulkhead_sdk::node_stats::Filesystem>, out: &mut Families) {
        let labels = [
            ("device", self.device),
            ("mountpoint", &self.point),
            ("fstype", self.kind),
        ];
        let mut gauge = |name: &str, help: &str, value: f64| {
            let family = out.gauge(name, help);
            out.add(family, &labels, value);
        };
        gauge(
            "node_filesystem_device_error",
            "Whether an error occurred while getting statistics for the given device.",
            f64::from(u8::from(sizes.is_none())),
        );
        let Some(sizes) = sizes else {
            return;
        };
        gauge(
            "node_filesystem_size_bytes",
            "Filesystem size in bytes.",
            sizes.size as f64,
        );
        gauge(
            "node_filesystem_free_bytes",
            "Filesystem free space in bytes.",
            sizes.free as f64,
        );
        gauge(
            "node_filesystem_avail_bytes",
            "Filesystem space available to non-root users in bytes.",
            sizes.available as f64,
        );
        gauge(
            "node_filesystem_files",
            "Filesystem total file nodes.",
            sizes.files as f64,
        );
        gauge(
            "node_filesystem_files_free",
            "Filesystem total free file nodes.",
            sizes.files_free as f64,
        );
        gauge(
            "node_filesystem_readonly",
            "Filesystem read-only status.",
            f64::from(u8::from(self.read_only)),
        );
    }
}

/// The kernel writes blanks, line ends, backslashes and number signs as octal numbers.
fn unescape(path: &str) -> String {
    let mut path = path.to_owned();
    // The backslash last, because what follows it is no escape then.
    for (escape, character) in [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\043", "#"),
        (r"\134", r"\"),
    ] {
        if path.contains('\\') {
            path = path.replace(escape, character);
        }
    }
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::unescape;
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::node_stats::Filesystem;
    use bulkhead_sdk::testing::{Files, Harness, set_filesystems};

    const MOUNTS: &str = r"rootfs / rootfs rw 0 0
sysfs /sys sysfs rw,nosuid 0 0
tmpfs /dev/shm tmpfs rw 0 0
/dev/dm-2 / ext4 ro,relatime,data=ordered 0 0
/dev/sda3 /boot ext2 rw,relatime 0 0
/dev/sda3 /boot ext2 rw,relatime 0 0
/dev/sdb1 /srv/with\040blank xfs rw,errors=remount-ro 0 0
nfs:/x /net/stale nfs rw 0 0
torn /torn
";

    fn lines(config: &str) -> Vec<String> {
        let sizes = Filesystem {
            size: 1000,
            free: 500,
            available: 400,
            files: 10,
            files_free: 9,
            read_only: false,
        };
        set_filesystems(&[
            ("/", sizes),
            ("/boot", sizes),
            ("/srv/with blank", sizes),
            ("/sys", sizes),
        ]);
        let files = Files::new().file("/proc/mounts", MOUNTS);
        let mut plugin = Harness::<NodeMetrics>::new(config).unwrap();
        plugin.collect("filesystem", &files).unwrap().lines()
    }

    #[test]
    fn tells_sizes() {
        let lines = lines("{}");
        let of = |device: &str| {
            let label = format!("device=\"{device}\"");
            let lines = lines.iter().filter(move |line| line.contains(&label));
            lines.map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(
            of("/dev/dm-2"),
            [
                r#"node_filesystem_avail_bytes{device="/dev/dm-2",fstype="ext4",mountpoint="/"} 400"#,
                r#"node_filesystem_device_error{device="/dev/dm-2",fstype="ext4",mountpoint="/"} 0"#,
                r#"node_filesystem_files_free{device="/dev/dm-2",fstype="ext4",mountpoint="/"} 9"#,
                r#"node_filesystem_files{device="/dev/dm-2",fstype="ext4",mountpoint="/"} 10"#,
                r#"node_filesystem_free_bytes{device="/dev/dm-2",fstype="ext4",mountpoint="/"} 500"#,
                r#"node_filesystem_readonly{device="/dev/dm-2",fstype="ext4",mountpoint="/"} 1"#,
                r#"node_filesystem_size_bytes{device="/dev/dm-2",fstype="ext4",mountpoint="/"} 1000"#,
            ]
        );
        assert_eq!(of("/dev/sda3").len(), 7, "mounted twice");
        assert_eq!(of("rootfs").len(), 7);
        assert!(of("/dev/sdb1")[5].ends_with(r#"mountpoint="/srv/with blank"} 0"#));
        assert_eq!(
            of("nfs:/x"),
            [
                r#"node_filesystem_device_error{device="nfs:/x",fstype="nfs",mountpoint="/net/stale"} 1"#
            ]
        );
        assert_eq!(lines.len(), 4 * 7 + 1, "{lines:#?}");
    }

    #[test]
    fn exclusions_are_chosen() {
        let none = r#"{"collectors":{"filesystem":{
            "mountPointsExclude":"^/boot$","fsTypesExclude":"^(ext4|tmpfs|nfs|xfs)$"}}}"#;
        let lines = lines(none);
        assert_eq!(lines.len(), 2 * 7);
        assert!(
            lines
                .iter()
                .all(|line| line.contains("rootfs") || line.contains("sysfs"))
        );
    }

    #[test]
    fn one_odd_path_is_no_reason_to_fail() {
        let mut mounts = b"/dev/a /\xff ext4 rw 0 0\n".to_vec();
        mounts.extend(MOUNTS.as_bytes());
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        let files = Files::new().file("/proc/mounts", mounts);
        let found = plugin.collect("filesystem", &files).unwrap();
        assert_eq!(found.lines().len(), 5);
        assert_eq!(unescape(r"/a\040\134040\011b\043"), "/a \\040\tb#");
    }

    #[test]
    fn survives_nonsense() {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("filesystem", &Files::new()).is_err());
        survives("filesystem", "{}", &[("/proc/mounts", MOUNTS)]);
    }
}
