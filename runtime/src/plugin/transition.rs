//! What becomes of a plugin, told once each, for those who tell people. Who they are is not known here.

/// What has become of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// It runs, and did not before.
    Loaded,
    /// A new revision runs.
    Updated,
    /// A new revision does not come to work; the one before goes on.
    UpdateFailed,
    /// A new revision failed in its probation; the one before is at work again.
    RolledBack,
    /// It fails, and is started anew with growing pauses.
    Crashing,
    /// What is declared is not run.
    Refused,
    /// Its manifest is gone, and it has ended.
    Unloaded,
}

impl Transition {
    /// One word, in CamelCase.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Loaded => "Loaded",
            Self::Updated => "Updated",
            Self::UpdateFailed => "UpdateFailed",
            Self::RolledBack => "RolledBack",
            Self::Crashing => "Crashing",
            Self::Refused => "Refused",
            Self::Unloaded => "Unloaded",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_warning(self) -> bool {
        !matches!(self, Self::Loaded | Self::Updated | Self::Unloaded)
    }
}

/// Is told of transitions. Must not block.
pub trait Observer: Send + Sync {
    /// One has come about; `message` is for people.
    fn transition(&self, transition: Transition, message: &str);
}

/// Nobody listens.
impl Observer for () {
    fn transition(&self, _: Transition, _: &str) {}
}
