//! A node out of nothing, which changes can be made on.

mod change;
mod look;
mod scanned;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use std::collections::BTreeMap;

use super::planned::Planned;
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;
use crate::enforcement::{Module, Sysctl, Unit};
use crate::error::{Context, Result};

/// What a plugin may see of a node, and change on it. Files are root's with mode 0644, folders 0755;
/// the folders above each file are there.
///
/// ```
/// use bulkhead_sdk::testing::Node;
/// let node = Node::new()
///     .file("/etc/shadow", "root:*:::::::\n")
///     .owner("/etc/shadow", 0, 42)
///     .mode("/etc/shadow", 0o640)
///     .sysctl("net.ipv4.ip_forward", "0")
///     .unit("ssh.service", "enabled", "active")
///     .fact("os.id", "debian");
/// assert_eq!(node.text("/etc/shadow"), Some("root:*:::::::\n"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Node {
    files: BTreeMap<String, Item>,
    sysctls: BTreeMap<String, Sysctl>,
    modules: BTreeMap<String, Module>,
    units: BTreeMap<String, Unit>,
    users: Vec<raw::Account>,
    groups: Vec<raw::Account>,
    facts: Vec<(String, String)>,
    done: Vec<String>,
    seen: scanned::Seen,
}

#[derive(Debug, Clone)]
struct Item {
    what: What,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone)]
enum What {
    File(Vec<u8>),
    Directory,
    Link(String),
    Device,
    Unreadable(u32),
}

impl Item {
    fn new(what: What, mode: u32) -> Self {
        let (uid, gid) = (0, 0);
        Self {
            what,
            mode,
            uid,
            gid,
        }
    }

    fn set(&mut self, permissions: &raw::Permissions) {
        self.mode = permissions.mode.unwrap_or(self.mode);
        self.uid = permissions.uid.unwrap_or(self.uid);
        self.gid = permissions.gid.unwrap_or(self.gid);
    }
}

impl Node {
    /// A node with a root folder, the user root and the group root.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new();
    /// assert!(node.done().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default().user("root", 0).group("root", 0)
    }

    fn put(mut self, path: &str, item: Item) -> Self {
        for (at, _) in path.match_indices('/').skip(1) {
            let folder = Item::new(What::Directory, 0o755);
            self.files.entry(path[..at].to_owned()).or_insert(folder);
        }
        self.files.insert(path.to_owned(), item);
        self
    }

    /// Adds a file.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().file("/etc/motd", "Hello\n");
    /// assert_eq!(node.permissions("/etc/motd"), Some((0o644, 0, 0)));
    /// ```
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref().to_vec();
        self.put(path, Item::new(What::File(content), 0o644))
    }

    /// Adds a folder.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().directory("/var/log/audit");
    /// assert_eq!(node.permissions("/var/log/audit"), Some((0o755, 0, 0)));
    /// ```
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.put(path, Item::new(What::Directory, 0o755))
    }

    /// Adds a symbolic link.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
    /// assert_eq!(node.target("/etc/localtime"), Some("/usr/share/zoneinfo/Etc/UTC"));
    /// ```
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.put(path, Item::new(What::Link(target.to_owned()), 0o777))
    }

    /// Adds a device.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().device("/dev/null");
    /// assert_eq!(node.permissions("/dev/null"), Some((0o666, 0, 0)));
    /// ```
    #[must_use]
    pub fn device(self, path: &str) -> Self {
        self.put(path, Item::new(What::Device, 0o666))
    }

    /// Adds a file that cannot be read, with the number of the error.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().unreadable("/etc/broken", 5);
    /// # planned!(node, |view, _| assert_eq!(view.file("/etc/broken").unwrap().error(), Some(5)));
    /// ```
    #[must_use]
    pub fn unreadable(self, path: &str, errno: u32) -> Self {
        self.put(path, Item::new(What::Unreadable(errno), 0o644))
    }

    /// Takes away what is at `path`, if anything is.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().file("/etc/motd", "").without("/etc/motd");
    /// assert_eq!(node.text("/etc/motd"), None);
    /// ```
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.files.remove(path);
        self
    }

    /// Sets the mode of what is at `path`.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().file("/etc/shadow", "").mode("/etc/shadow", 0o640);
    /// assert_eq!(node.permissions("/etc/shadow"), Some((0o640, 0, 0)));
    /// ```
    #[must_use]
    pub fn mode(mut self, path: &str, mode: u32) -> Self {
        if let Some(item) = self.files.get_mut(path) {
            item.mode = mode;
        }
        self
    }

    /// Sets whose it is what is at `path`.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().file("/etc/shadow", "").owner("/etc/shadow", 0, 42);
    /// assert_eq!(node.permissions("/etc/shadow"), Some((0o644, 0, 42)));
    /// ```
    #[must_use]
    pub fn owner(mut self, path: &str, uid: u32, gid: u32) -> Self {
        if let Some(item) = self.files.get_mut(path) {
            (item.uid, item.gid) = (uid, gid);
        }
        self
    }

    /// Adds a kernel setting.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().sysctl("kernel.panic", "0");
    /// assert_eq!(node.setting("kernel/panic"), (Some("0"), None));
    /// ```
    #[must_use]
    pub fn sysctl(mut self, name: &str, value: &str) -> Self {
        let sysctl = Sysctl {
            want: 0,
            value: Some(value.to_owned()),
            persisted: None,
        };
        self.sysctls.insert(canonical(name), sysctl);
        self
    }

    /// Adds a kernel module that can be loaded, and whether it is.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().module("br_netfilter", false);
    /// # planned!(node, |outline| { outline.want_module("br_netfilter"); }, |view, _| {
    /// #     let module = view.module("br_netfilter").unwrap();
    /// #     assert!(module.available && !module.loaded);
    /// # });
    /// ```
    #[must_use]
    pub fn module(mut self, name: &str, loaded: bool) -> Self {
        let module = Module {
            loaded,
            available: true,
            ..no_module()
        };
        self.modules.insert(name.to_owned(), module);
        self
    }

    /// Adds a systemd unit with the state of its file (`enabled`, `disabled`, `static`, `masked`) and
    /// its own (`active`, `inactive`, `failed`).
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().unit("ssh.service", "enabled", "active");
    /// # planned!(node, |outline| { outline.want_unit("ssh.service"); }, |view, _| {
    /// #     assert_eq!(view.unit("ssh.service").unwrap().sub_state, "running");
    /// # });
    /// ```
    #[must_use]
    pub fn unit(mut self, name: &str, file_state: &str, active_state: &str) -> Self {
        let masked = file_state == "masked";
        let unit = Unit {
            load_state: if masked { "masked" } else { "loaded" }.to_owned(),
            active_state: active_state.to_owned(),
            sub_state: sub_state(active_state).to_owned(),
            file_state: file_state.to_owned(),
            ..no_unit()
        };
        self.units.insert(name.to_owned(), unit);
        self
    }

    /// Has nobody answer about a unit.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().unknown_unit("ssh.service", "systemd does not answer");
    /// # planned!(node, |outline| { outline.want_unit("ssh.service"); }, |view, _| {
    /// #     assert_eq!(view.unit("ssh.service").unwrap().problem, "systemd does not answer");
    /// # });
    /// ```
    #[must_use]
    pub fn unknown_unit(mut self, name: &str, problem: &str) -> Self {
        let unit = Unit {
            load_state: String::new(),
            active_state: String::new(),
            sub_state: String::new(),
            problem: problem.to_owned(),
            ..no_unit()
        };
        self.units.insert(name.to_owned(), unit);
        self
    }

    /// Adds a user.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().user("app", 1000);
    /// # planned!(node, |view, _| assert_eq!(view.uid_of("app"), Some(1000)));
    /// ```
    #[must_use]
    pub fn user(mut self, name: &str, id: u32) -> Self {
        let name = name.to_owned();
        self.users.push(raw::Account { id, name });
        self
    }

    /// Adds a group.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().group("shadow", 42);
    /// # planned!(node, |view, _| assert_eq!(view.gid_of("shadow"), Some(42)));
    /// ```
    #[must_use]
    pub fn group(mut self, name: &str, id: u32) -> Self {
        let name = name.to_owned();
        self.groups.push(raw::Account { id, name });
        self
    }

    /// Adds a fact, or a label as `labels.NAME`.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().fact("os.id", "debian").fact("labels.zone", "a");
    /// # planned!(node, |view, _| assert_eq!(view.fact("labels.zone"), Some("a")));
    /// ```
    #[must_use]
    pub fn fact(mut self, name: &str, value: &str) -> Self {
        self.facts.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The content of the file at `path`, if it is there and text.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().file("/etc/motd", "Hello\n");
    /// assert_eq!(node.text("/etc/motd"), Some("Hello\n"));
    /// ```
    pub fn text(&self, path: &str) -> Option<&str> {
        match &self.files.get(path)?.what {
            What::File(content) => std::str::from_utf8(content).ok(),
            _ => None,
        }
    }

    /// Where the link at `path` points to.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().link("/a", "/b");
    /// assert_eq!(node.target("/a"), Some("/b"));
    /// ```
    pub fn target(&self, path: &str) -> Option<&str> {
        match &self.files.get(path)?.what {
            What::Link(target) => Some(target),
            _ => None,
        }
    }

    /// Mode, user and group of what is at `path`; none if nothing is.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().directory("/etc");
    /// assert_eq!(node.permissions("/etc"), Some((0o755, 0, 0)));
    /// ```
    pub fn permissions(&self, path: &str) -> Option<(u32, u32, u32)> {
        let item = self.files.get(path)?;
        Some((item.mode, item.uid, item.gid))
    }

    /// The value of a kernel setting, and the one for the next start.
    ///
    /// ```
    /// let node = bulkhead_sdk::testing::Node::new().sysctl("kernel.panic", "10");
    /// assert_eq!(node.setting("kernel.panic"), (Some("10"), None));
    /// ```
    pub fn setting(&self, name: &str) -> (Option<&str>, Option<&str>) {
        let known = self.sysctls.get(&canonical(name));
        (
            known.and_then(|it| it.value.as_deref()),
            known.and_then(|it| it.persisted.as_deref()),
        )
    }

    /// What was applied, in order, by the changes' ids; handlers too.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// # plugin!(|view, plan| { plan.write_file("motd", "/etc/motd", "Hello\n"); });
    /// let mut node = Node::new().directory("/etc");
    /// node.apply(&Harness::<MyPlugin>::new("{}")?.plan(&node)?)?;
    /// assert_eq!(node.done(), ["motd"]);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn done(&self) -> &[String] {
        &self.done
    }

    /// Makes the changes, and sets off handlers, as the host would in the mode `enforce`.
    ///
    /// # Errors
    /// If one of them cannot be made, which the host would report. Those before it are made.
    ///
    /// ```
    #[doc = include_str!("../../enforcement/example.txt")]
    /// # plugin!(|view, plan| { plan.write_file("motd", "/etc/motd", "Hello\n"); });
    /// let mut node = Node::new().directory("/etc");
    /// let planned = Harness::<MyPlugin>::new("{}")?.plan(&node)?;
    /// node.apply(&planned)?;
    /// assert_eq!(node.text("/etc/motd"), Some("Hello\n"));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn apply(&mut self, planned: &Planned) -> Result<()> {
        for change in planned.changes().iter().chain(planned.set_off()) {
            self.make(&change.action).context(&change.id)?;
            self.done.push(change.id.clone());
        }
        Ok(())
    }
}

fn sub_state(active_state: &str) -> &'static str {
    match active_state {
        "active" => "running",
        "failed" => "failed",
        _ => "dead",
    }
}

fn no_module() -> Module {
    Module {
        want: 0,
        loaded: false,
        built_in: false,
        available: false,
        at_start: false,
        blacklisted: false,
    }
}

fn no_unit() -> Unit {
    Unit {
        want: 0,
        load_state: "not-found".to_owned(),
        active_state: "inactive".to_owned(),
        sub_state: "dead".to_owned(),
        file_state: String::new(),
        problem: String::new(),
    }
}

/// The name of a kernel setting with `.` between its parts. As sysctl(8) has it, the first separator of a
/// name says which is which.
fn canonical(name: &str) -> String {
    let swap = |it| match it {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    match name.find(['.', '/']).map(|at| name[at..].starts_with('/')) {
        Some(true) => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}
