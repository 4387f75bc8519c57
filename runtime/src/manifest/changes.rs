//! What a plugin with the role `enforcement` may change: the grant `changes`, and the names in it. What
//! a name may stand for can be told from its text alone, which is what the checks rely on.

use std::fmt;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::quoted;
use super::node_glob::covers;

/// What may be changed; nothing unless named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChangeGrants {
    /// Files and folders, each with all below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<NodePath>,
    /// Kernel settings: `net.ipv4.ip_forward`; `*` stands for parts of a name, and at the end for all
    /// below.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<SysctlGlob>,
    /// Kernel modules that may be loaded or blacklisted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernel_modules: Vec<SubjectGlob>,
    /// systemd units that may be started, stopped, enabled and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<SubjectGlob>,
}

impl ChangeGrants {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The entry that lets `path` be changed.
    pub fn file(&self, path: &NodePath) -> Option<&NodePath> {
        self.files.iter().find(|granted| granted.holds(path))
    }

    /// Whether this setting may be changed.
    pub fn sysctl(&self, name: &SysctlName) -> bool {
        self.sysctls.iter().any(|granted| granted.matches(name))
    }

    /// Whether this module may be loaded or blacklisted.
    pub fn kernel_module(&self, name: &ModuleName) -> bool {
        let mut granted = self.kernel_modules.iter();
        // The kernel takes one for the other.
        granted.any(|glob| glob.matches(&name.0) || glob.matches(&name.0.replace('_', "-")))
    }

    /// Whether this unit may be changed.
    pub fn unit(&self, name: &UnitName) -> bool {
        self.units.iter().any(|granted| granted.matches(&name.0))
    }
}

/// An absolute path of the node without `.`, `..` and empty parts; never `/` itself.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct NodePath(String);

impl NodePath {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, and after a line feed what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let normal = text.strip_prefix('/').is_some_and(|inner| {
            let mut parts = inner.split('/');
            parts.all(|part| !matches!(part, "" | "." | ".."))
        });
        let fits = text.len() < 4096 && text.split('/').all(|part| part.len() < 256);
        match normal && fits && !text.contains('\0') {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "{} is no normal absolute path\nwrite one such as `/etc/motd`, without `.`, `..` and a `/` at its end",
                quoted(text)
            )),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Relative to the root: without the first `/`.
    pub fn inner(&self) -> &str {
        self.0.get(1..).unwrap_or_default()
    }

    /// The folder that it is in, relative to the root (empty for the root), and its last component.
    pub fn split(&self) -> (&str, &str) {
        self.inner().rsplit_once('/').unwrap_or(("", self.inner()))
    }

    /// Whether `other` is this, or below it.
    pub fn holds(&self, other: &Self) -> bool {
        let rest = other.0.strip_prefix(&self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The name of a kernel setting below `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysctlName(Vec<String>);

impl SysctlName {
    /// Reads one as sysctl(8) does: if the first separator is a `/`, then `.` is part of a name, and the
    /// other way round.
    ///
    /// # Errors
    /// What is wrong with it, and after a line feed what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = sysctl_parts(text)
            .filter(|parts| !text.contains(['*', '?', '[']) && !parts.is_empty())
            .ok_or_else(|| {
                format!(
                    "{} is no name of a kernel setting\nwrite one such as `net.ipv4.ip_forward`",
                    quoted(text)
                )
            })?;
        Ok(Self(parts))
    }

    /// Relative to `/proc/sys`.
    pub fn path(&self) -> String {
        self.0.join("/")
    }
}

impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "." })?;
            f.write_str(&part.replace('.', "/"))?;
        }
        Ok(())
    }
}

fn sysctl_parts(text: &str) -> Option<Vec<String>> {
    let separator = text.find(['.', '/']).map(|at| text.as_bytes()[at]);
    let parts: Vec<String> = match separator {
        Some(b'/') => text.split('/').map(str::to_owned).collect(),
        _ => text.split('.').map(|part| part.replace('/', ".")).collect(),
    };
    let fits = |part: &String| {
        !matches!(part.as_str(), "" | "." | "..")
            // In a drop-in this is no part of the name: sysctl.d(5).
            && !part.starts_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"/=;#".contains(&byte))
    };
    (text.len() < 256 && parts.iter().all(fits)).then_some(parts)
}

/// Kernel settings by name, with `*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlGlob {
    text: String,
    parts: Vec<String>,
}

impl SysctlGlob {
    /// Whether it stands for this name.
    pub fn matches(&self, name: &SysctlName) -> bool {
        self.covers(&name.0)
    }

    /// Whether it stands for all that `other` does.
    pub fn holds(&self, other: &Self) -> bool {
        self.covers(&other.parts)
    }

    /// Whether there may be a name that both stand for.
    pub fn meets(&self, other: &Self) -> bool {
        let open = |parts: &[String]| parts.last().is_some_and(|last| last == "*");
        let (mine, theirs) = (&self.parts, &other.parts);
        let pairs = mine.iter().zip(theirs);
        let alike = pairs
            .into_iter()
            .all(|(a, b)| covers(a, b) || covers(b, a) || (super::is_glob(a) && super::is_glob(b)));
        let lengths = match mine.len().cmp(&theirs.len()) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Less => open(mine),
            std::cmp::Ordering::Greater => open(theirs),
        };
        alike && lengths
    }

    fn covers(&self, theirs: &[String]) -> bool {
        let (last, before) = match self.parts.split_last() {
            Some(split) => split,
            None => return false,
        };
        let all = |mine: &[String], theirs: &[String]| {
            let mut pairs = mine.iter().zip(theirs);
            mine.len() == theirs.len() && pairs.all(|(mine, theirs)| covers(mine, theirs))
        };
        match theirs.get(..before.len()) {
            Some(head) if last == "*" => theirs.len() > before.len() && all(before, head),
            _ => all(&self.parts, theirs),
        }
    }
}

impl TryFrom<String> for SysctlGlob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = sysctl_parts(&text)
            .filter(|parts| parts.iter().all(|part| Pattern::new(part).is_ok()))
            .ok_or_else(|| {
                format!(
                    "{} names no kernel settings\nwrite for example `net.ipv4.ip_forward` or `net.ipv4.*`",
                    quoted(&text)
                )
            })?;
        Ok(Self { text, parts })
    }
}

/// The name of a kernel module, with `_` instead of `-`, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(String);

impl ModuleName {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, and after a line feed what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let begins = text.bytes().next().is_some_and(|byte| byte != b'-');
        match begins && text.len() <= 64 && text.bytes().all(fits) {
            true => Ok(Self(text.replace('-', "_"))),
            false => Err(format!(
                "{} is no name of a kernel module\nwrite one such as `br_netfilter`",
                quoted(text)
            )),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The full name of a systemd unit (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName(String);

impl UnitName {
    const KINDS: [&str; 8] = [
        "automount",
        "mount",
        "path",
        "service",
        "slice",
        "socket",
        "swap",
        "timer",
    ];

    /// Reads one. Targets and devices are not changed.
    ///
    /// # Errors
    /// What is wrong with it, and after a line feed what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let kind = text.rsplit_once('.');
        let known =
            kind.is_some_and(|(stem, kind)| !stem.is_empty() && Self::KINDS.contains(&kind));
        match known && text.len() < 256 && text.bytes().all(fits) && !text.starts_with('-') {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "{} is no name of a systemd unit\nwrite the full name, such as `ssh.service`; one of the kinds {}",
                quoted(text),
                Self::KINDS.join(", ")
            )),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names of modules or units, with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectGlob {
    text: String,
    pattern: Pattern,
}

impl SubjectGlob {
    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.matches(name)
    }

    /// Whether it stands for all that `other` does, as far as can be told, and never wrongly.
    pub fn holds(&self, other: &Self) -> bool {
        covers(&self.text, &other.text)
    }
}

impl TryFrom<String> for SubjectGlob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = !text.is_empty() && text.len() < 256 && !text.contains(['/', '\0']);
        match (fits, Pattern::new(&text)) {
            (true, Ok(pattern)) => Ok(Self { text, pattern }),
            _ => Err(format!(
                "{} is no name\nwrite for example `ssh.service`, `br_netfilter` or `kube*`",
                quoted(&text)
            )),
        }
    }
}

impl TryFrom<String> for NodePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

macro_rules! text {
    ($type:ty, $field:tt) => {
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.$field
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }
    };
}

text!(NodePath, 0);
text!(ModuleName, 0);
text!(UnitName, 0);
text!(SysctlGlob, text);
text!(SubjectGlob, text);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_absolute_and_normal() {
        let path = NodePath::parse("/etc/ssh/sshd_config").unwrap();
        assert_eq!(path.split(), ("etc/ssh", "sshd_config"));
        assert_eq!(NodePath::parse("/motd").unwrap().split(), ("", "motd"));
        for bad in [
            "",
            "/",
            "etc",
            "/etc/",
            "/etc//x",
            "/etc/../x",
            "/./x",
            "/a\0b",
        ] {
            assert!(NodePath::parse(bad).is_err(), "{bad:?}");
        }
        let grant = NodePath::parse("/etc/ssh").unwrap();
        assert!(grant.holds(&path) && grant.holds(&grant));
        for other in ["/etc/sshd", "/etc", "/etc/ss"] {
            assert!(!grant.holds(&NodePath::parse(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn settings_have_one_name_however_they_are_written() {
        let name = |text| SysctlName::parse(text).unwrap();
        assert_eq!(name("net.ipv4.ip_forward"), name("net/ipv4/ip_forward"));
        let vlan = name("net.ipv4.conf.eth0/1.forwarding");
        assert_eq!(vlan, name("net/ipv4/conf/eth0.1/forwarding"));
        assert_eq!(vlan.path(), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(vlan.to_string(), "net.ipv4.conf.eth0/1.forwarding");
        for bad in [
            "",
            ".",
            "a..b",
            "../x",
            "net.ipv4.*",
            "a b",
            "a=b",
            "net/../../x",
            "-kernel.core_pattern",
        ] {
            assert!(SysctlName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_star_at_the_end_stands_for_all_below() {
        let glob = |text: &str| SysctlGlob::try_from(text.to_owned()).unwrap();
        let matches = |text: &str, name| glob(text).matches(&SysctlName::parse(name).unwrap());
        assert!(matches("net.ipv4.*", "net.ipv4.conf.all.rp_filter"));
        assert!(matches(
            "net.*.conf.*.forwarding",
            "net.ipv4.conf.all.forwarding"
        ));
        assert!(!matches("net.ipv4.*", "net.ipv4"));
        assert!(!matches("net.ipv4.ip_*", "net.ipv4.ip_x.y"));
        assert!(!matches("vm.swappiness", "vm.swap"));
        assert!(glob("net.*").holds(&glob("net.ipv4.*")));
        assert!(!glob("net.ipv4.ip_*").holds(&glob("net.ipv4.*")));
        assert!(!glob("net.ipv4.*").holds(&glob("net.*")));
        for other in [
            "kernel.*",
            "kernel.core_*",
            "*",
            "*.core_pattern",
            "kernel.core_pattern",
        ] {
            assert!(glob("kernel.core_pattern").meets(&glob(other)), "{other}");
        }
        for other in ["kernel.pid_max", "kernel.core_pattern.x", "kernel", "net.*"] {
            assert!(!glob("kernel.core_pattern").meets(&glob(other)), "{other}");
        }
        assert!(glob("fs.binfmt_misc.*").meets(&glob("fs.*")));
    }

    #[test]
    fn names_of_modules_and_units() {
        assert_eq!(
            ModuleName::parse("br-netfilter").unwrap().as_str(),
            "br_netfilter"
        );
        assert!(ModuleName::parse("a b").is_err() && ModuleName::parse("-r").is_err());
        assert!(UnitName::parse("ssh.service").is_ok());
        assert!(UnitName::parse(r"dev-disk-by\x2dlabel.swap").is_ok());
        for bad in [
            "ssh",
            "poweroff.target",
            ".service",
            "--now.service",
            "a/b.service",
        ] {
            assert!(UnitName::parse(bad).is_err(), "{bad:?}");
        }
        let grants = ChangeGrants {
            kernel_modules: vec![SubjectGlob::try_from("br-netfilter".to_owned()).unwrap()],
            units: vec![SubjectGlob::try_from("kube*".to_owned()).unwrap()],
            ..ChangeGrants::default()
        };
        assert!(grants.kernel_module(&ModuleName::parse("br_netfilter").unwrap()));
        assert!(grants.unit(&UnitName::parse("kubelet.service").unwrap()));
        assert!(!grants.unit(&UnitName::parse("ssh.service").unwrap()));
    }
}
