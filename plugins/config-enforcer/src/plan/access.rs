//! Modes and owners.

use bulkhead_sdk::enforcement::{Change, Entry, View};
use bulkhead_sdk::{Context, Result, bail};

use crate::compile::PermissionRule;
use crate::config::Owner;

/// Permissions of something new.
pub(super) const NEW_FILE: u32 = 0o644;
pub(super) const NEW_DIRECTORY: u32 = 0o755;

/// What is wanted, with the node's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mode: Option<u32>,
    /// Bits that may be there.
    max_mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// What has to be set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needed {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Wanted {
    pub(super) fn new(rule: &PermissionRule, view: &View) -> Result<Self> {
        let id = |owner: &Option<Owner>, of: &dyn Fn(&str) -> Option<u32>, what: &str| match owner {
            None => Ok(None),
            Some(Owner::Number(number)) => Ok(Some(*number)),
            Some(Owner::Name(name)) => match of(name) {
                Some(number) => Ok(Some(number)),
                None => bail!("the node has no {what} `{name}`"),
            },
        };
        Ok(Self {
            mode: rule.mode,
            max_mode: rule.max_mode,
            uid: id(&rule.owner, &|name| view.uid_of(name), "user")?,
            gid: id(&rule.group, &|name| view.gid_of(name), "group")?,
        })
    }

    /// The same, whatever the mode.
    pub(super) fn any_mode(mut self) -> Self {
        (self.mode, self.max_mode) = (None, None);
        self
    }

    /// Both together; an error if they cannot be had together.
    pub(super) fn and(self, other: Self) -> Result<Self> {
        let both = |one: Option<u32>, other: Option<u32>| match (one, other) {
            (Some(one), Some(other)) if one != other => None,
            (one, other) => Some(one.or(other)),
        };
        let max_mode = match (self.max_mode, other.max_mode) {
            (Some(one), Some(other)) => Some(one & other),
            (one, other) => one.or(other),
        };
        let mode = both(self.mode, other.mode).context("another rule wants another mode")?;
        if mode
            .zip(max_mode)
            .is_some_and(|(mode, most)| mode & !most != 0)
        {
            bail!("another rule wants another mode");
        }
        Ok(Self {
            mode,
            max_mode,
            uid: both(self.uid, other.uid).context("another rule wants another owner")?,
            gid: both(self.gid, other.gid).context("another rule wants another group")?,
        })
    }

    /// What is to be set so that `mode`, `uid` and `gid` become what is wanted, and what is wrong.
    pub(super) fn needed(&self, mode: u32, uid: u32, gid: u32) -> (Needed, Vec<String>) {
        let mut needed = Needed::default();
        let mut wrong = Vec::new();
        let right = self.mode.unwrap_or(mode) & self.max_mode.unwrap_or(0o7777);
        if right != mode {
            needed.mode = Some(right);
            wrong.push(match self.mode {
                Some(_) => format!("its mode is {mode:04o}, not {right:04o}"),
                None => format!(
                    "its mode is {mode:04o}, which is more than {:04o}",
                    self.max_mode.unwrap_or(right)
                ),
            });
        }
        if let Some(wanted) = self.uid.filter(|wanted| *wanted != uid) {
            needed.uid = Some(wanted);
            wrong.push(format!("it belongs to user {uid}, not {wanted}"));
        }
        if let Some(wanted) = self.gid.filter(|wanted| *wanted != gid) {
            needed.gid = Some(wanted);
            wrong.push(format!("it belongs to group {gid}, not {wanted}"));
        }
        (needed, wrong)
    }

    /// The same for what is there.
    pub(super) fn needed_by(&self, entry: Entry<'_>) -> (Needed, Vec<String>) {
        self.needed(entry.mode(), entry.uid(), entry.gid())
    }

    /// The same for something new, which is root's.
    pub(super) fn needed_by_new(&self, mode: u32) -> Needed {
        self.needed(mode, 0, 0).0
    }
}

impl Needed {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn set(self, mut change: Change<'_>) -> Change<'_> {
        if let Some(mode) = self.mode {
            change = change.mode(mode);
        }
        if let Some(uid) = self.uid {
            change = change.uid(uid);
        }
        if let Some(gid) = self.gid {
            change = change.gid(gid);
        }
        change
    }
}
