//! What a plugin wants to see, once it has been checked.

use super::error::Error;
use crate::manifest::{
    GlobPart, Grants, ModuleName, NodeGlob, NodePath, SysctlName, UnitName, is_glob,
};
use crate::node_files::{Look, Refusal, Want as NodeFile};
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;

/// Everything that a plugin wants to see.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    pub(super) wants: Vec<Want>,
}

#[derive(Debug, Clone)]
pub(super) enum Want {
    /// Files of the node.
    Files {
        parts: Vec<GlobPart>,
        /// Relative to the root: what is seen must be in the folder that this leads to. None if the grant
        /// names just this path.
        within: Option<String>,
        content: bool,
    },
    /// Files of the kernel's, read as the role `metrics` reads them.
    Kernels(NodeFile),
    Sysctl(SysctlName),
    KernelModule(ModuleName),
    Unit(UnitName),
}

/// Why something may not be seen.
#[derive(Debug, thiserror::Error)]
pub enum Unseen {
    /// It is no pattern, or not granted.
    #[error(transparent)]
    File(#[from] Refusal),
    /// It is no name.
    #[error("{0}")]
    Name(String),
    /// It is not granted.
    #[error(transparent)]
    NotGranted(#[from] Error),
}

impl Wants {
    /// Checks all against what is granted. Kernel modules and units may be looked at by a plugin that may
    /// change them, or that has the grant `nodeFacts`: whether one is loaded or runs is no secret.
    ///
    /// # Errors
    /// The index of the first that may not be seen, and why.
    pub fn check(wants: &[wit::Want], grants: &Grants) -> Result<Self, (usize, Unseen)> {
        let wants = wants.iter().enumerate();
        let wants = wants.map(|(i, want)| Want::check(want, grants).map_err(|error| (i, error)));
        Ok(Self {
            wants: wants.collect::<Result<_, _>>()?,
        })
    }
}

impl Want {
    fn check(want: &wit::Want, grants: &Grants) -> Result<Self, Unseen> {
        let not_shown = |field: &'static str, subject: &str, look: String| Error::NotShown {
            subject: subject.to_owned(),
            look,
            change: Some((field, subject.to_owned())),
        };
        let facts = || "nodeFacts: true".to_owned();
        Ok(match want {
            wit::Want::File(want) => Self::file(&want.glob, want.content, grants)?,
            wit::Want::Sysctl(name) => {
                let name = SysctlName::parse(name).map_err(Unseen::Name)?;
                if !grants.changes.sysctl(&name) {
                    let path = format!("/proc/sys/{}", name.path());
                    let seen = NodeFile::check(&path, Look::Content, &grants.node_files);
                    seen.map_err(|refusal| match refusal {
                        Refusal::NotGranted { glob } => {
                            let look = format!("nodeFiles:\n  - {glob}");
                            not_shown("sysctls", &name.to_string(), look).into()
                        }
                        refusal => Unseen::File(refusal),
                    })?;
                }
                Self::Sysctl(name)
            }
            wit::Want::KernelModule(name) => {
                let name = ModuleName::parse(name).map_err(Unseen::Name)?;
                match grants.node_facts || grants.changes.kernel_module(&name) {
                    true => Self::KernelModule(name),
                    false => {
                        return Err(not_shown("kernelModules", name.as_str(), facts()).into());
                    }
                }
            }
            wit::Want::Unit(name) => {
                let name = UnitName::parse(name).map_err(Unseen::Name)?;
                match grants.node_facts || grants.changes.unit(&name) {
                    true => Self::Unit(name),
                    false => return Err(not_shown("units", name.as_str(), facts()).into()),
                }
            }
        })
    }

    fn file(glob: &str, content: bool, grants: &Grants) -> Result<Self, Unseen> {
        let refused = |error| {
            Unseen::File(Refusal::Pattern {
                glob: glob.to_owned(),
                error,
            })
        };
        let pattern = NodeGlob::parse(glob).map_err(refused)?;
        let first = pattern.components().next().unwrap_or_default();
        if matches!(first, "proc" | "sys") {
            let look = if content { Look::Content } else { Look::Name };
            return Ok(Self::Kernels(NodeFile::check(
                glob,
                look,
                &grants.node_files,
            )?));
        }
        let changed = grants.changes.files.iter().find(|it| holds(it, &pattern));
        let within = match changed {
            Some(granted) => (granted.as_str() != glob).then(|| granted.inner().to_owned()),
            None => {
                let seen = NodeFile::check(glob, Look::Content, &grants.node_files);
                seen.map_err(|refusal| match refusal {
                    Refusal::NotGranted { glob } => {
                        let not_shown = Error::NotShown {
                            look: format!("nodeFiles:\n  - {glob}"),
                            change: (!glob.contains(['*', '?', '[']))
                                .then(|| ("files", glob.clone())),
                            subject: glob,
                        };
                        not_shown.into()
                    }
                    refusal => Unseen::File(refusal),
                })?;
                let granted = grants.node_files.iter().find(|it| it.holds(&pattern));
                let alone = |it: &NodeGlob| it.text() == glob && !it.components().any(is_glob);
                granted.filter(|it| !alone(it)).map(NodeGlob::fixed)
            }
        };
        Ok(Self::Files {
            parts: pattern.parts().to_vec(),
            within,
            content,
        })
    }
}

/// Whether all that a glob stands for is this path, or below it.
fn holds(granted: &NodePath, glob: &NodeGlob) -> bool {
    let mut parts = glob.components();
    granted
        .inner()
        .split('/')
        .all(|mine| parts.next() == Some(mine) && !is_glob(mine))
}
