#![allow(clippy::unwrap_used, clippy::panic)]
//! Each test has a tree of its own as the node's root. They need root, as the daemon does.

mod crash;
mod files;
mod kernel;
mod look;
mod race;
#[path = "../../../../../../tests/support/systemd1.rs"]
mod systemd1;
mod units;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::manifest::{ByteSize, ModuleName, NodePath, SysctlName};
use crate::role::enforcement::{Action, Change, Permissions};
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;

/// A node, and a plugin that may change some of it.
pub(super) struct Node {
    pub(super) root: PathBuf,
    pub(super) state: PathBuf,
    pub(super) grants: Grants,
    pub(super) keep: Keep,
    pub(super) private: Vec<PathBuf>,
    pub(super) procfs: PathBuf,
    pub(super) buses: Vec<PathBuf>,
    pub(super) executable: PathBuf,
    _folders: Option<[TempDir; 2]>,
}

impl Node {
    /// One whose plugin has these grants, as the manifest has them.
    pub(super) fn new(grants: &str) -> Self {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        std::fs::create_dir(folders[0].path().join("etc")).unwrap();
        let mut node = Self::at_folders(folders[0].path(), folders[1].path(), grants);
        node._folders = Some(folders);
        node
    }

    /// One that another process made.
    pub(super) fn at_folders(root: &Path, state: &Path, grants: &str) -> Self {
        Self {
            root: root.to_owned(),
            state: state.to_owned(),
            grants: serde_json::from_str(grants).unwrap(),
            keep: Keep::default(),
            private: Vec::new(),
            procfs: "/proc".into(),
            buses: Vec::new(),
            executable: "/bin/false".into(),
            _folders: None,
        }
    }

    /// A path of the node as this process sees it.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), content).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    pub(super) fn effects(&self) -> Effects {
        let audit = Arc::new(Audit::open(&self.state).unwrap());
        let folders = NodeFolders {
            root: self.root.as_path().into(),
            private: self.private.clone().into(),
        };
        Effects::open(Setup {
            folders: &folders,
            procfs: &self.procfs,
            state: &self.state,
            plugin: &Identity::new("local", "x").unwrap(),
            grants: &self.grants,
            keep: &self.keep,
            audit,
            buses: self.buses.clone(),
            executable: self.executable.clone(),
        })
        .unwrap()
    }

    /// Every name below a folder that the daemon gave something for the moment.
    pub(super) fn left_over(&self) -> Vec<String> {
        let found = Command::new("find")
            .arg(&self.root)
            .args(["-name", ".bulkhead-*"])
            .output()
            .unwrap();
        let text = String::from_utf8(found.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

pub(super) fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

pub(super) fn change(id: &str, action: Action) -> Change {
    Change {
        id: id.into(),
        rule: Some(0),
        reason: "because".to_owned(),
        action,
        secret: false,
    }
}

pub(super) fn write_file(to: &str, content: &str) -> Action {
    Action::WriteFile {
        path: path(to),
        content: Some(content.as_bytes().to_vec()),
        permissions: Permissions::default(),
    }
}

pub(super) fn chmod(of: &str, mode: u32) -> Action {
    Action::WriteFile {
        path: path(of),
        content: None,
        permissions: Permissions {
            mode: Some(mode),
            ..Permissions::default()
        },
    }
}

/// Makes one change that was not planned on a look.
pub(super) fn make(effects: &Effects, action: Action) -> Result<Made, Error> {
    make_seen(effects, action, None)
}

pub(super) fn make_seen(
    effects: &Effects,
    action: Action,
    seen: Option<&Seen>,
) -> Result<Made, Error> {
    let rules = [Arc::from("rule")];
    let plan = Plan {
        revision: "1",
        rules: &rules,
        seen,
    };
    let change = change("change", action);
    effects.make_all(&[&change], &plan).pop().unwrap()
}

pub(super) fn want(glob: &str) -> wit::Want {
    wit::Want::File(wit::FileWant {
        glob: glob.to_owned(),
        content: true,
    })
}

pub(super) fn look(node: &Node, effects: &Effects, wants: &[wit::Want]) -> Seen {
    let wants = Wants::check(wants, &node.grants).unwrap_or_else(|(_, error)| panic!("{error}"));
    effects.look(&wants).unwrap()
}

pub(super) fn mode(path: impl AsRef<Path>) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::symlink_metadata(path).unwrap();
    found.permissions().mode() & 0o7777
}

pub(super) fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Runs another test of this file in a process of its own, to be killed.
pub(super) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("role::enforcement::effects::tests::{test}");
    command.args(["--exact", &name, "--ignored", "--nocapture"]);
    command
}
