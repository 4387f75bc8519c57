//! Kernel modules: loaded now, loaded at the node's start, or never.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Desk, Kind};
use crate::manifest::ModuleName;
use crate::role::enforcement::effects::error::Error;
use crate::role::enforcement::effects::note::Note;
use crate::role::enforcement::effects::place::Tree;
use crate::role::enforcement::effects::state::State;

/// What the kernel and the node know of modules.
#[derive(Debug)]
pub(in super::super) struct Modules {
    procfs: PathBuf,
}

/// Names with `_`, as the kernel has them.
#[derive(Debug, Default)]
pub(in super::super) struct Found {
    pub(in super::super) loaded: HashSet<String>,
    pub(in super::super) built_in: HashSet<String>,
    pub(in super::super) available: HashSet<String>,
}

impl Modules {
    pub(in super::super) fn new(procfs: &Path) -> Self {
        let procfs = procfs.to_owned();
        Self { procfs }
    }

    /// Whether the module is in the kernel, if it is not built in.
    fn is_loaded(&self, name: &ModuleName) -> bool {
        self.loaded().contains(name.as_str())
    }

    fn loaded(&self) -> HashSet<String> {
        // A kernel without modules has no such file.
        let text = std::fs::read_to_string(self.procfs.join("modules")).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect()
    }

    /// All that is known.
    pub(in super::super) fn look(&self, tree: &Tree) -> Found {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy().into_owned();
        let listed = |file: &str| -> HashSet<String> {
            let path = format!("lib/modules/{release}/{file}");
            let text = tree
                .resolve(&path, OFlags::RDONLY | OFlags::NONBLOCK)
                .and_then(|file| {
                    std::io::read_to_string(std::fs::File::from(file))
                        .map_err(|_| rustix::io::Errno::IO)
                })
                .unwrap_or_default();
            text.lines().filter_map(module_name).collect()
        };
        Found {
            loaded: self.loaded(),
            built_in: listed("modules.builtin"),
            available: listed("modules.dep"),
        }
    }
}

/// `kernel/net/bridge/br_netfilter.ko.zst: kernel/...`, as depmod(8) writes it.
fn module_name(line: &str) -> Option<String> {
    let path = line.split(':').next()?;
    let (stem, _) = path.rsplit('/').next()?.split_once(".ko")?;
    Some(stem.replace('-', "_"))
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Load,
    LoadAtStart,
    Blacklist,
    /// As it was: loaded, at the start, never.
    PutBack(bool, bool, bool),
}

pub(super) struct ChangeModule {
    name: ModuleName,
    wanted: Wanted,
    after: Option<(bool, bool, bool)>,
}

impl ChangeModule {
    fn new(name: &ModuleName, wanted: Wanted) -> Self {
        Self {
            name: name.clone(),
            wanted,
            after: None,
        }
    }

    pub(super) fn load(name: &ModuleName) -> Self {
        Self::new(name, Wanted::Load)
    }

    pub(super) fn load_at_start(name: &ModuleName) -> Self {
        Self::new(name, Wanted::LoadAtStart)
    }

    pub(super) fn blacklist(name: &ModuleName) -> Self {
        Self::new(name, Wanted::Blacklist)
    }

    pub(super) fn put_back(name: &ModuleName, state: State) -> Self {
        let wanted = match state {
            State::KernelModule {
                loaded,
                at_start,
                blacklisted,
            } => Wanted::PutBack(loaded, at_start, blacklisted),
            _ => Wanted::PutBack(false, false, false),
        };
        Self::new(name, wanted)
    }
}

impl Kind for ChangeModule {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let (before, built_in) = look(&self.name, desk)?;
        let State::KernelModule {
            loaded,
            at_start,
            blacklisted,
        } = before
        else {
            return Ok((before.clone(), before));
        };
        let after = match self.wanted {
            Wanted::Load => (true, at_start, blacklisted),
            Wanted::LoadAtStart => (loaded, true, false),
            Wanted::Blacklist => (loaded, false, true),
            Wanted::PutBack(loaded, at_start, blacklisted) => {
                (loaded || built_in, at_start, blacklisted)
            }
        };
        self.after = Some(after);
        let (loaded, at_start, blacklisted) = after;
        let after = State::KernelModule {
            loaded,
            at_start,
            blacklisted,
        };
        Ok((before, after))
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        let name = self.name.as_str();
        let (loaded, at_start, blacklisted) = self.after.unwrap_or_default();
        for (note, noted) in [
            (Note::LoadAtStart, at_start),
            (Note::NeverLoad, blacklisted),
        ] {
            let value = noted.then_some("");
            desk.notes.set(&mut desk.folders, note, name, value)?;
        }
        match self.wanted {
            Wanted::Load | Wanted::PutBack(..) => {}
            Wanted::LoadAtStart | Wanted::Blacklist => return Ok(()),
        }
        // What is built in is there for good.
        let is_built_in = desk.modules.look(desk.folders.tree).built_in.contains(name);
        if is_built_in || desk.modules.is_loaded(&self.name) == loaded {
            return Ok(());
        }
        desk.modprobe.run(desk.folders.tree, name, loaded)?;
        match desk.modules.is_loaded(&self.name) == loaded {
            true => Ok(()),
            false => Err(Error::KernelModule {
                name: name.to_owned(),
                what: if loaded { "loaded" } else { "removed" },
                problem: "modprobe says so, but /proc/modules does not; is `install` in its configuration?".to_owned(),
            }),
        }
    }

    fn notes(&self) -> bool {
        true
    }

    /// A module brings along those that it needs.
    fn reaches_further(&self) -> bool {
        matches!(self.wanted, Wanted::Load | Wanted::PutBack(..))
    }
}

/// What a module is, and whether it is built in.
pub(super) fn look(name: &ModuleName, desk: &mut Desk<'_>) -> Result<(State, bool), Error> {
    if !desk.grants.kernel_module(name) {
        return Err(Error::NotGranted {
            field: "kernelModules",
            subject: name.to_string(),
        });
    }
    let name = name.as_str();
    let mut noted = |note| desk.notes.get(&mut desk.folders, note, name);
    let at_start = noted(Note::LoadAtStart)?.is_some();
    let blacklisted = noted(Note::NeverLoad)?.is_some();
    let found = desk.modules.look(desk.folders.tree);
    let built_in = found.built_in.contains(name);
    let state = State::KernelModule {
        loaded: built_in || found.loaded.contains(name),
        at_start,
        blacklisted,
    };
    Ok((state, built_in))
}
