//! Why a change is not made, for the person who can act.

use rustix::io::Errno;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(
        "{subject} is not granted; to grant it, add to the manifest:\ngrants:\n  changes:\n    {field}:\n    - {subject}"
    )]
    NotGranted {
        field: &'static str,
        subject: String,
    },
    #[error(
        "{subject} is not granted; to grant it, add to the manifest:\n{}",
        looked_at(look, change.as_ref())
    )]
    NotShown {
        subject: String,
        look: String,
        /// Under which field of `changes`, if it could be changed at all.
        change: Option<(&'static str, String)>,
    },
    #[error(
        "there is no folder {folder}; make it first, or let this come after the change that makes it"
    )]
    NoFolder { folder: String },
    #[error(
        "{path} leads to {real}, out of what is granted; mend the link, or grant what it leads to"
    )]
    Astray { path: String, real: String },
    #[error(
        "{path} leads to {system}, where writing is as good as being root, and the grant does not say so; grant that folder itself, which needs allowRootEquivalent"
    )]
    RootEquivalent { path: String, system: &'static str },
    #[error(
        "{path} is a link that belongs to user {uid}, who could lead changes elsewhere; give it to root, or grant what it leads to"
    )]
    ForeignLink { path: String, uid: u32 },
    #[error("the role ended before this was begun")]
    Stopped,
    #[error(
        "{0}; some or all of it has been done, or may have been: what was there before is kept"
    )]
    Unfinished(Box<Error>),
    #[error("{path} is in {real}, a file system of the kernel's, where no plugin writes")]
    Kernels { path: String, real: String },
    #[error("{path} is in a folder of the daemon's own, which no plugin may see or change")]
    Private { path: String },
    #[error("{path} is {found}, not {wanted}; move it away by hand if that is no mistake")]
    WrongKind {
        path: String,
        found: &'static str,
        wanted: &'static str,
    },
    #[error(
        "{path} is not there, so it cannot be given other permissions; give its content as well"
    )]
    Absent { path: String },
    #[error(
        "{path} has {links} names, and its permissions are those of all of them, wherever they are; give its content as well, which makes it a file of its own"
    )]
    Linked { path: String, links: u32 },
    #[error("{path} changed meanwhile; it is looked at and planned again")]
    Changed { path: String },
    #[error("{path} is immutable or append-only; take that off with `chattr -i -a` first")]
    Immutable { path: String },
    #[error("the folder {path} is not empty; remove what is in it first")]
    NotEmpty { path: String },
    #[error("there is no room on the file system of {path}; make room there")]
    Full { path: String },
    #[error("{path} is on a file system that is mounted read-only; mount it for writing")]
    ReadOnly { path: String },
    #[error(
        "the system refuses to change {path} ({problem}); see who forbids it: attributes, a security module, or a daemon without privileges"
    )]
    Refused { path: String, problem: String },
    #[error("cannot change {path}: {problem}")]
    Io { path: String, problem: String },
    #[error(
        "{path} has {size} bytes, and what was there before could not be put back: more than {limit} bytes are not kept; raise enforcement.keep.maxSize, or change it by hand"
    )]
    TooLarge { path: String, size: u64, limit: u64 },
    #[error(
        "nothing is changed that could not be put back, and what was there before cannot be kept: {0}"
    )]
    NotKept(String),
    #[error("nothing is changed that is not in the audit log, and it cannot be written: {0}")]
    NotAudited(String),
    #[error(
        "there is no kernel setting {name}; load the module that it belongs to, or leave it out"
    )]
    NoSetting { name: String },
    #[error("the kernel does not take {value:?} for {name}: {problem}")]
    Setting {
        name: String,
        value: String,
        problem: String,
    },
    #[error("{name} was set to {value:?}, but is {found:?}; the kernel takes it otherwise")]
    Unheeded {
        name: String,
        value: String,
        found: String,
    },
    #[error("the kernel module {name} was not {what}: {problem}")]
    KernelModule {
        name: String,
        what: &'static str,
        problem: String,
    },
    #[error(
        "systemd does not answer at {address}: {problem}; mount the node's /run/dbus into the pod"
    )]
    NoBus { address: String, problem: String },
    #[error("systemd: {what} of {name} failed: {problem}")]
    Unit {
        name: String,
        what: &'static str,
        problem: String,
    },
    #[error("there is no change {0} in what is kept; the oldest are dropped first")]
    Unknown(u64),
    #[error("this cannot be put back: {0}")]
    Irrevocable(String),
    #[error(
        "{subject} was changed since by somebody else; look at it, and use --force to put back what was there before"
    )]
    ChangedSince { subject: String },
}

impl Error {
    /// What the system said about a path of the node.
    pub(super) fn of(path: &str, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::Full { path },
            Errno::ROFS => Self::ReadOnly { path },
            Errno::ACCESS | Errno::PERM => Self::Refused {
                path,
                problem: errno.to_string(),
            },
            Errno::NOTEMPTY => Self::NotEmpty { path },
            _ => Self::Io {
                path,
                problem: errno.to_string(),
            },
        }
    }
}

fn looked_at(look: &str, change: Option<&(&'static str, String)>) -> String {
    let look = format!("grants:\n  {look}");
    match change {
        None => look,
        Some((field, subject)) => format!(
            "{look}\nor, if it is to be changed as well:\ngrants:\n  changes:\n    {field}:\n    - {subject}"
        ),
    }
}
