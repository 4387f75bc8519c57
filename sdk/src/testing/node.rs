//! A node out of nothing, which changes can be made on.

mod scanned;

use std::collections::BTreeMap;

use globset::GlobBuilder;

use super::planned::Planned;
use crate::bail;
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;
use crate::enforcement::{Module, ModuleChange, Sysctl, Unit, UnitChange};
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
    /// bulkhead_sdk::testing::Node::new();
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
    /// bulkhead_sdk::testing::Node::new().file("/etc/motd", "Hello\n");
    /// ```
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref().to_vec();
        self.put(path, Item::new(What::File(content), 0o644))
    }

    /// Adds a folder.
    ///
    /// ```
    /// bulkhead_sdk::testing::Node::new().directory("/var/log/audit");
    /// ```
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.put(path, Item::new(What::Directory, 0o755))
    }

    /// Adds a symbolic link.
    ///
    /// ```
    /// bulkhead_sdk::testing::Node::new().link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
    /// ```
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.put(path, Item::new(What::Link(target.to_owned()), 0o777))
    }

    /// Adds a device.
    ///
    /// ```
    /// bulkhead_sdk::testing::Node::new().device("/dev/null");
    /// ```
    #[must_use]
    pub fn device(self, path: &str) -> Self {
        self.put(path, Item::new(What::Device, 0o666))
    }

    /// Adds a file that cannot be read, with the number of the error.
    ///
    /// ```
    /// bulkhead_sdk::testing::Node::new().unreadable("/etc/broken", 5);
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
    /// bulkhead_sdk::testing::Node::new().file("/etc/shadow", "").mode("/etc/shadow", 0o640);
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
    /// bulkhead_sdk::testing::Node::new().file("/etc/shadow", "").owner("/etc/shadow", 0, 42);
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
    /// bulkhead_sdk::testing::Node::new().sysctl("kernel.panic", "0");
    /// ```
    #[must_use]
    pub fn sysctl(mut self, name: &str, value: &str) -> Self {
        let sysctl = Sysctl {
            want: 0,
            value: Some(value.to_owned()),
            persisted: None,
        };
        self.sysctls.insert(name.to_owned(), sysctl);
        self
    }

    /// Adds a kernel module that can be loaded, and whether it is.
    ///
    /// ```
    /// bulkhead_sdk::testing::Node::new().module("br_netfilter", false);
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
    /// bulkhead_sdk::testing::Node::new().unit("ssh.service", "enabled", "active");
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
    /// bulkhead_sdk::testing::Node::new().unknown_unit("ssh.service", "systemd does not answer");
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
    /// bulkhead_sdk::testing::Node::new().user("app", 1000);
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
    /// bulkhead_sdk::testing::Node::new().group("shadow", 42);
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
    /// bulkhead_sdk::testing::Node::new().fact("os.id", "debian").fact("labels.zone", "a");
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
        let known = self.sysctls.get(name);
        (
            known.and_then(|it| it.value.as_deref()),
            known.and_then(|it| it.persisted.as_deref()),
        )
    }

    /// What was applied, in order, by the changes' ids; handlers too.
    ///
    /// ```
    /// assert!(bulkhead_sdk::testing::Node::new().done().is_empty());
    /// ```
    pub fn done(&self) -> &[String] {
        &self.done
    }

    pub(super) fn view(&self, wants: &[raw::Want]) -> Result<raw::View> {
        let mut view = raw::View {
            bytes: Vec::new(),
            files: Vec::new(),
            sysctls: Vec::new(),
            kernel_modules: Vec::new(),
            units: Vec::new(),
            users: self.users.clone(),
            groups: self.groups.clone(),
            facts: self.facts.clone(),
        };
        for (index, want) in wants.iter().enumerate() {
            let want_index = index as u32;
            match want {
                raw::Want::File(file) => self.look_at(want_index, file, &mut view)?,
                raw::Want::Sysctl(name) => {
                    let known = self.sysctls.get(&name.replace('/', ".")).cloned();
                    let mut sysctl = known.unwrap_or(Sysctl {
                        want: 0,
                        value: None,
                        persisted: None,
                    });
                    sysctl.want = want_index;
                    view.sysctls.push(sysctl);
                }
                raw::Want::KernelModule(name) => {
                    let known = self.modules.get(name).cloned();
                    let mut module = known.unwrap_or_else(no_module);
                    module.want = want_index;
                    view.kernel_modules.push(module);
                }
                raw::Want::Unit(name) => {
                    let mut unit = self.units.get(name).cloned().unwrap_or_else(no_unit);
                    unit.want = want_index;
                    view.units.push(unit);
                }
            }
        }
        Ok(view)
    }

    fn look_at(&self, want: u32, file: &raw::FileWant, view: &mut raw::View) -> Result<()> {
        let glob = file.glob.as_str();
        if !glob.contains(['*', '?', '[']) {
            show(want, glob, self.files.get(glob), file.content, view);
            return Ok(());
        }
        let matcher = GlobBuilder::new(glob)
            .literal_separator(true)
            .build()
            .context(format_args!("the glob {glob}"))?
            .compile_matcher();
        let found = self.files.iter().filter(|(path, _)| matcher.is_match(path));
        for (path, item) in found {
            show(want, path, Some(item), file.content, view);
        }
        Ok(())
    }

    /// Makes the changes, and sets off handlers, as the host would in the mode `enforce`.
    ///
    /// # Errors
    /// If one of them cannot be made, which the host would report. Those before it are made.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Result, testing::{Node, Planned}};
    /// # fn test(mut node: Node, planned: Planned) -> Result<()> {
    /// node.apply(&planned)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply(&mut self, planned: &Planned) -> Result<()> {
        for change in planned.changes().iter().chain(planned.set_off()) {
            self.make(&change.action).context(&change.id)?;
            self.done.push(change.id.clone());
        }
        Ok(())
    }

    fn make(&mut self, action: &raw::Action) -> Result<()> {
        match action {
            raw::Action::WriteFile(write) => self.write(write),
            raw::Action::MakeDirectory(make) => {
                let folder = self.place(&make.path, What::Directory, 0o755)?;
                if !matches!(folder.what, What::Directory) {
                    bail!("{} is no folder", make.path);
                }
                folder.set(&make.permissions);
                Ok(())
            }
            raw::Action::MakeSymlink(make) => {
                let link = self.place(&make.path, What::Link(String::new()), 0o777)?;
                if matches!(link.what, What::Directory) {
                    bail!("{} is a folder", make.path);
                }
                *link = Item::new(What::Link(make.target.clone()), 0o777);
                Ok(())
            }
            raw::Action::Remove(path) => {
                let inside = format!("{path}/");
                if self.files.keys().any(|other| other.starts_with(&inside)) {
                    bail!("{path} is not empty");
                }
                match self.files.remove(path) {
                    Some(_) => Ok(()),
                    None => bail!("{path} is not there"),
                }
            }
            raw::Action::SetSysctl(set) => {
                let Some(known) = self.sysctls.get_mut(&set.name.replace('/', ".")) else {
                    bail!("there is no setting {}", set.name);
                };
                if set.now {
                    known.value = Some(set.value.clone());
                }
                if set.persist {
                    known.persisted = Some(set.value.clone());
                }
                Ok(())
            }
            raw::Action::ChangeModule(it) => self.change_module(&it.name, it.change),
            raw::Action::ChangeUnit(it) => self.change_unit(&it.name, it.change),
        }
    }

    /// What is at the path, or a new one of what should be.
    fn place(&mut self, path: &str, what: What, mode: u32) -> Result<&mut Item> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let in_folder = match self.files.get(parent) {
            Some(item) => matches!(item.what, What::Directory),
            None => parent.is_empty(),
        };
        if !in_folder {
            bail!("there is no folder {parent}");
        }
        let item = self.files.entry(path.to_owned());
        Ok(item.or_insert_with(|| Item::new(what, mode)))
    }

    fn write(&mut self, write: &raw::WriteFile) -> Result<()> {
        let path = &write.path;
        if write.content.is_none() && !self.files.contains_key(path) {
            bail!("{path} is not there");
        }
        let file = self.place(path, What::File(Vec::new()), 0o644)?;
        match (&write.content, &file.what) {
            (_, What::Directory | What::Device) => bail!("{path} is no file"),
            (Some(content), What::Link(_)) => {
                *file = Item::new(What::File(content.clone()), 0o644);
            }
            (Some(content), _) => file.what = What::File(content.clone()),
            (None, What::Link(_)) => bail!("{path} is a link"),
            (None, _) => {}
        }
        file.set(&write.permissions);
        Ok(())
    }

    fn change_module(&mut self, name: &str, change: ModuleChange) -> Result<()> {
        let module = self
            .modules
            .entry(name.to_owned())
            .or_insert_with(no_module);
        match change {
            ModuleChange::Load if !module.available => bail!("there is no module {name}"),
            ModuleChange::Load => module.loaded = true,
            ModuleChange::LoadAtStart => (module.at_start, module.blacklisted) = (true, false),
            ModuleChange::Blacklist => (module.at_start, module.blacklisted) = (false, true),
        }
        Ok(())
    }

    fn change_unit(&mut self, name: &str, change: UnitChange) -> Result<()> {
        let unit = self.units.entry(name.to_owned()).or_insert_with(no_unit);
        let found = unit.load_state == "loaded";
        match change {
            UnitChange::Mask => set_states(unit, "masked", "masked"),
            UnitChange::Unmask => set_states(unit, "loaded", "disabled"),
            _ if !found => bail!("the unit {name} is {}", unit.load_state),
            UnitChange::Enable => "enabled".clone_into(&mut unit.file_state),
            UnitChange::Disable => "disabled".clone_into(&mut unit.file_state),
            UnitChange::Start | UnitChange::Restart => "active".clone_into(&mut unit.active_state),
            UnitChange::Stop => "inactive".clone_into(&mut unit.active_state),
            UnitChange::Reload if unit.active_state != "active" => bail!("{name} does not run"),
            UnitChange::Reload => {}
        }
        sub_state(&unit.active_state).clone_into(&mut unit.sub_state);
        Ok(())
    }
}

fn set_states(unit: &mut Unit, load: &str, file: &str) {
    load.clone_into(&mut unit.load_state);
    file.clone_into(&mut unit.file_state);
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

fn show(want: u32, path: &str, item: Option<&Item>, content: bool, view: &mut raw::View) {
    const LONGEST: usize = 4 << 20;
    let path_offset = view.bytes.len() as u32;
    view.bytes.extend_from_slice(path.as_bytes());
    let empty: &[u8] = b"";
    let (kind, data, error) = match item.map(|item| &item.what) {
        None => (raw::FileKind::Absent, empty, 0),
        Some(What::File(content)) => (raw::FileKind::File, content.as_slice(), 0),
        Some(What::Directory) => (raw::FileKind::Directory, empty, 0),
        Some(What::Link(target)) => (raw::FileKind::Symlink, target.as_bytes(), 0),
        Some(What::Device) => (raw::FileKind::Other, empty, 0),
        Some(What::Unreadable(errno)) => (raw::FileKind::File, empty, *errno),
    };
    let size = data.len() as u64;
    let is_cut = content && data.len() > LONGEST;
    let data = match kind {
        raw::FileKind::File if !content => empty,
        _ => &data[..data.len().min(LONGEST)],
    };
    let offset = view.bytes.len() as u32;
    view.bytes.extend_from_slice(data);
    view.files.push(raw::File {
        modified: 0,
        size,
        want,
        path_offset,
        path_length: path.len() as u32,
        offset,
        length: data.len() as u32,
        mode: item.map_or(0, |item| item.mode),
        uid: item.map_or(0, |item| item.uid),
        gid: item.map_or(0, |item| item.gid),
        error,
        kind,
        flags: u32::from(is_cut),
    });
}
