//! What a plugin wants to see, once it has been checked against what is granted.

use crate::manifest::{Grants, SubjectGlob, SysctlName, Tree};
use crate::node_files::{Look, Refusal, Want as NodeFile};
use crate::role::scanning::withheld::is_withheld;
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;

/// The most that a plugin wants.
const MOST: usize = 4096;

/// Everything that a plugin wants to see.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    pub(super) processes: bool,
    /// Programs whose arguments are shown.
    pub(super) arguments_of: Vec<SubjectGlob>,
    pub(super) sockets: bool,
    pub(super) users: bool,
    pub(super) kernel_modules: bool,
    /// As the plugin spells it, and what that is.
    pub(super) sysctls: Vec<(String, SysctlName)>,
    /// With the index of the want.
    pub(super) files: Vec<(u32, NodeFile)>,
}

/// Why something may not be seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// It is no pattern, nobody's, or not granted.
    #[error(transparent)]
    File(#[from] Refusal),
    /// It is no name.
    #[error("{0}")]
    Name(String),
    /// It is not granted.
    #[error("{what} not granted; to grant it, add to the manifest:\ngrants:\n  scan:\n    {yaml}")]
    NotGranted {
        /// What was wanted, and a verb.
        what: String,
        /// What to add.
        yaml: String,
    },
    /// It is more than anybody gets.
    #[error("{0} things are wanted; there may be {MOST}")]
    TooMany(usize),
}

impl Wants {
    /// Checks all against what is granted.
    ///
    /// # Errors
    /// The index of the first that may not be seen, and why.
    pub fn check(wants: &[wit::Want], grants: &Grants) -> Result<Self, (usize, Unseen)> {
        if wants.len() > MOST {
            return Err((MOST, Unseen::TooMany(wants.len())));
        }
        let mut checked = Self {
            arguments_of: grants.scan.arguments_of.clone(),
            ..Self::default()
        };
        for (index, want) in wants.iter().enumerate() {
            checked
                .add(index as u32, want, grants)
                .map_err(|unseen| (index, unseen))?;
        }
        Ok(checked)
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        let Self {
            processes,
            arguments_of: _,
            sockets,
            users,
            kernel_modules,
            sysctls,
            files,
        } = self;
        !(processes | sockets | users | kernel_modules) && sysctls.is_empty() && files.is_empty()
    }

    fn add(&mut self, index: u32, want: &wit::Want, grants: &Grants) -> Result<(), Unseen> {
        let scan = &grants.scan;
        let granted = |granted: bool, what: &str, yaml: &str| match granted {
            true => Ok(true),
            false => Err(Unseen::NotGranted {
                what: format!("{what} are"),
                yaml: format!("{yaml}: true"),
            }),
        };
        match want {
            wit::Want::Processes => {
                self.processes = granted(scan.processes, "processes", "processes")?;
            }
            wit::Want::Sockets => self.sockets = granted(scan.sockets, "sockets", "sockets")?,
            wit::Want::Users => self.users = granted(scan.users, "users", "users")?,
            wit::Want::KernelModules => {
                let what = "kernel modules";
                self.kernel_modules = granted(scan.kernel_modules, what, "kernelModules")?;
            }
            wit::Want::Sysctl(spelled) => {
                let name = SysctlName::parse(spelled).map_err(Unseen::Name)?;
                let path = format!("/proc/sys/{}", name.path());
                let is_granted = scan.sysctls.iter().any(|glob| glob.matches(&name))
                    || NodeFile::check(&path, Look::Content, &grants.node_files).is_ok();
                if !is_granted {
                    return Err(Unseen::NotGranted {
                        what: format!("the kernel setting {name} is"),
                        yaml: format!("sysctls: [{name}]"),
                    });
                }
                self.sysctls.push((spelled.clone(), name));
            }
            wit::Want::FileContent(glob) => self.file(index, glob, true, grants)?,
            wit::Want::FileEntry(glob) => self.file(index, glob, false, grants)?,
        }
        Ok(())
    }

    fn file(
        &mut self,
        index: u32,
        glob: &str,
        content: bool,
        grants: &Grants,
    ) -> Result<(), Unseen> {
        let look = Look::Entry { content };
        for tree in &grants.scan.files {
            let folder = match tree {
                Tree::Root => "",
                Tree::Below(path) => path.inner(),
            };
            if let Some(file) = NodeFile::check_in(glob, look, folder)? {
                self.files.push((index, file.withholding(is_withheld)));
                return Ok(());
            }
        }
        let file = NodeFile::check(glob, look, &grants.node_files)?;
        self.files.push((index, file.withholding(is_withheld)));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::manifest::{NodeGlob, ScanGrants};

    fn refused(want: wit::Want, grants: &Grants) -> String {
        let (index, unseen) = Wants::check(&[want], grants).unwrap_err();
        assert_eq!(index, 0);
        unseen.to_string()
    }

    #[test]
    fn nothing_is_seen_without_a_grant_and_the_refusal_says_which() {
        let none = Grants::default();
        let content = |glob: &str| wit::Want::FileContent(glob.to_owned());
        for (want, yaml) in [
            (
                wit::Want::Processes,
                "grants:\n  scan:\n    processes: true",
            ),
            (wit::Want::Sockets, "grants:\n  scan:\n    sockets: true"),
            (wit::Want::Users, "grants:\n  scan:\n    users: true"),
            (
                wit::Want::KernelModules,
                "grants:\n  scan:\n    kernelModules: true",
            ),
            (
                wit::Want::Sysctl("net/ipv4/ip_forward".to_owned()),
                "grants:\n  scan:\n    sysctls: [net.ipv4.ip_forward]",
            ),
            (
                content("/etc/ssh/sshd_config"),
                "grants:\n  nodeFiles:\n  - /etc/ssh/sshd_config",
            ),
        ] {
            let said = refused(want, &none);
            assert!(said.ends_with(yaml), "{said}");
        }
        let name = refused(wit::Want::Sysctl("net..x".to_owned()), &none);
        assert!(name.contains("no name of a kernel setting"), "{name}");
        assert!(Wants::check(&[], &none).unwrap().is_empty());
    }

    #[test]
    fn files_are_granted_by_folder_or_by_glob() {
        let content = |glob: &str| wit::Want::FileContent(glob.to_owned());
        let with = |tree: &str| Grants {
            scan: ScanGrants {
                files: vec![Tree::try_from(tree.to_owned()).unwrap()],
                ..ScanGrants::default()
            },
            node_files: vec![NodeGlob::parse("/var/lib/dpkg/*").unwrap()],
            ..Grants::default()
        };
        let etc = with("/etc");
        for glob in ["/etc/ssh/*", "/etc/**/x", "/var/lib/dpkg/status"] {
            let wants = Wants::check(&[content(glob)], &etc).unwrap();
            assert_eq!(wants.files.len(), 1, "{glob}");
        }
        for glob in ["/etcetera/x", "/usr/bin/x", "/var/lib/dpkg"] {
            let said = refused(content(glob), &etc);
            assert!(said.contains("is not granted"), "{glob}: {said}");
        }
        let all = with("/");
        assert!(Wants::check(&[content("/usr/bin/x")], &all).is_ok());
        // The kernel's files are not in any folder that is scanned.
        for glob in ["/proc/1/environ", "/*/1/environ", "/**"] {
            let said = refused(content(glob), &all);
            assert!(said.contains("no plugin may read"), "{glob}: {said}");
        }
        let said = refused(content("/proc/stat"), &all);
        assert!(said.ends_with("  nodeFiles:\n  - /proc/stat"), "{said}");
    }

    #[test]
    fn settings_are_granted_by_glob_or_as_files() {
        let want = [wit::Want::Sysctl("kernel.panic".to_owned())];
        let mut grants = Grants::default();
        grants.scan.sysctls = vec!["kernel.*".to_owned().try_into().unwrap()];
        assert!(Wants::check(&want, &grants).is_ok());
        let grants = Grants {
            node_files: vec![NodeGlob::parse("/proc/sys/kernel").unwrap()],
            ..Grants::default()
        };
        assert!(Wants::check(&want, &grants).is_ok());
    }
}
