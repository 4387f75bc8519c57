//! Makes changes on a node out of nothing.

use super::{Item, Node, What, canonical, no_module, no_unit, sub_state};
use crate::bail;
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;
use crate::enforcement::{ModuleChange, Unit, UnitChange};
use crate::error::Result;

impl Node {
    pub(super) fn make(&mut self, action: &raw::Action) -> Result<()> {
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
                let Some(known) = self.sysctls.get_mut(&canonical(&set.name)) else {
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
