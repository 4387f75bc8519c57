//! The actor that owns a plugin's instances: state machine, update, probation, roll-back, backoff.
//! It knows nothing of the data that roles pass through it.

mod actor;
mod backoff;
mod check;
mod marks;
mod prepare;
mod schema;
mod status;
mod transition;

pub use actor::{Context, Declaration, Goal, Handle, POLICY_REFUSED, spawn};
pub use check::{check, trial};
pub use marks::{Marks, Slot};
pub use prepare::Rejection;
pub use schema::check_config;
pub(crate) use schema::{COMMAND as CHECK_COMMAND, child as check_child};
pub use status::{Condition, ConditionStatus, Latency, Phase, Revision, Snapshot, Status};
pub use transition::{Observer, Transition};
