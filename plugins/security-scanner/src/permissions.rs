//! Permission bits that give away more than they should.

use bulkhead_sdk::scanning::{File, FileKind, Findings, Outline, Rule, Severity};

use crate::integrity::Integrity;
use crate::paths;

const SETID: &str = "permissions.set-id";
const WRITABLE: &str = "permissions.world-writable";

/// Permission bits of files that are scanned.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Programs that run as their owner or group, whoever starts them.
    set_id: Option<SetId>,
    /// What everybody may write.
    world_writable: Option<WorldWritable>,
}

/// Programs with the bits set-user-id or set-group-id.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SetId {
    /// Files and folders where they may be. Those that have the same bits in the baseline of `integrity`
    /// are fine as well.
    allow: Vec<String>,
}

/// Files and folders that everybody may write.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct WorldWritable {
    /// Where there must be none.
    paths: Vec<String>,
    /// Where there may be some after all.
    allow: Vec<String>,
}

impl Default for WorldWritable {
    fn default() -> Self {
        let paths = [
            "/bin",
            "/boot",
            "/etc",
            "/lib",
            "/lib64",
            "/opt",
            "/root",
            "/sbin",
            "/usr",
            "/var/lib/kubelet",
            "/var/spool/cron",
        ];
        Self {
            paths: paths.map(str::to_owned).into(),
            allow: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn is_empty(&self) -> bool {
        self.set_id.is_none() && self.world_writable.is_none()
    }

    pub(crate) fn outline(&self, outline: &mut Outline) {
        if self.set_id.is_some() {
            outline.rule(
                Rule::new(SETID, "A program runs as somebody else, and nobody has allowed it")
                    .severity(Severity::High)
                    .rationale("Whoever starts it has the rights of its owner or group. It is the simplest way to keep root once one had it.")
                    .remediation("Take the bit away (`chmod u-s,g-s FILE`), or allow the file in permissions.setId.allow.")
                    .reference("https://attack.mitre.org/techniques/T1548/001/"),
            );
        }
        if self.world_writable.is_some() {
            outline.rule(
                Rule::new(WRITABLE, "Everybody may write to a part of the system")
                    .severity(Severity::High)
                    .rationale("What root runs or reads there can be replaced by any user, and by any container that gets at it.")
                    .remediation("Take the permission away: `chmod o-w PATH`. In a folder for all, set the sticky bit."),
            );
        }
        if !self.is_empty() {
            outline.rule_set(format!("{self:?}"));
        }
    }

    /// Judges a file of which everything is known.
    pub(crate) fn scan(&self, file: &File<'_>, integrity: Option<&Integrity>, out: &mut Findings) {
        let (path, mode) = (file.path(), file.mode());
        if let Some(set_id) = &self.set_id
            && mode & 0o6000 != 0
            && file.kind() == FileKind::File
            && !paths::holds(&set_id.allow, path)
        {
            let known = integrity.is_some_and(|integrity| {
                let before = integrity.mode(path);
                integrity.is_learning()
                    || before.is_some_and(|before| before & 0o6000 == mode & 0o6000)
            });
            if !known {
                out.file(file, SETID)
                    .message(format!(
                        "mode {mode:04o}, owner {}, group {}",
                        file.uid(),
                        file.gid()
                    ))
                    .evidence("mode", format!("{mode:04o}"))
                    .evidence("uid", file.uid())
                    .evidence("gid", file.gid());
            }
        }
        let is_shared = file.kind() == FileKind::Directory && mode & 0o1000 != 0;
        if let Some(writable) = &self.world_writable
            && matches!(file.kind(), FileKind::File | FileKind::Directory)
            && mode & 0o002 != 0
            && !is_shared
            && paths::holds(&writable.paths, path)
            && !paths::holds(&writable.allow, path)
        {
            out.file(file, WRITABLE)
                .message(format!("mode {mode:04o}"))
                .evidence("mode", format!("{mode:04o}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bulkhead_sdk::scanning::FileKind;
    use bulkhead_sdk::testing::{Harness, Node, reset_state};

    use crate::SecurityScanner;

    fn node() -> Node {
        Node::new()
            .file("/usr/bin/sudo", "s")
            .mode("/usr/bin/sudo", 0o4755)
            .file("/usr/bin/ls", "l")
            .mode("/usr/bin/ls", 0o755)
            .file("/etc/open", "o")
            .mode("/etc/open", 0o666)
            .directory("/usr/share/open")
            .mode("/usr/share/open", 0o777)
            .directory("/usr/share/tmp")
            .mode("/usr/share/tmp", 0o1777)
            .file("/tmp/open", "o")
            .mode("/tmp/open", 0o666)
            .special("/etc/fifo", FileKind::Fifo)
            .mode("/etc/fifo", 0o666)
    }

    #[test]
    fn bits_are_told_unless_they_are_allowed() {
        let config =
            r#"{"permissions": {"setId": {"allow": ["/usr/bin/sudo"]}, "worldWritable": {}}}"#;
        let mut plugin = Harness::<SecurityScanner>::new(config).unwrap();
        let node = node().file("/usr/bin/x", "x").mode("/usr/bin/x", 0o2711);
        let found = plugin.scan(&node).unwrap();
        assert_eq!(found.subjects("permissions.set-id"), ["/usr/bin/x"]);
        assert_eq!(
            found.subjects("permissions.world-writable"),
            ["/etc/open", "/usr/share/open"]
        );
    }

    #[test]
    fn what_is_in_the_baseline_is_fine() {
        reset_state(None);
        let config = r#"{"permissions": {"setId": {}}, "integrity": {"baseline": "1"}}"#;
        let mut plugin = Harness::<SecurityScanner>::new(config).unwrap();
        let found = plugin.scan(&node()).unwrap();
        assert!(found.subjects("permissions.set-id").is_empty());
        let found = plugin.scan(&node().mode("/usr/bin/ls", 0o4755)).unwrap();
        assert_eq!(found.subjects("permissions.set-id"), ["/usr/bin/ls"]);
    }
}
