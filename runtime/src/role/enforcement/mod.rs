//! The role `enforcement`: look at the node for a plugin, ask it what should be changed, check each change
//! against what is granted, and make it, or only report it.

mod change;
pub mod effects;

pub use change::{Action, Change, Handler, Permissions, UnitVerb};
