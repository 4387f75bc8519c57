//! What a plugin is shown of a node out of nothing.

use globset::GlobBuilder;

use super::{Item, Node, What, canonical, no_module, no_unit};
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;
use crate::enforcement::Sysctl;
use crate::error::{Context, Result};

impl Node {
    pub(in crate::testing) fn view(&self, wants: &[raw::Want]) -> Result<raw::View> {
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
                    let known = self.sysctls.get(&canonical(name)).cloned();
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
