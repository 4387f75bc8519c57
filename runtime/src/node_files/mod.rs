//! Files of the node as plugins see them: named by globs, checked against what is granted and what is
//! nobody's, read by the host into one packed batch. What a guest makes of them is its role's business.
//!
//! No descriptor and no path of these files ever reaches a guest: through an open folder of `/proc` it
//! would reach other processes' memory and environment, the daemon's own credentials among them.

mod kept;
mod open;
mod read;
mod rules;
#[cfg(test)]
mod tests;
mod want;

pub use kept::Kept;
pub use read::{Batch, File, Meta, Pass, Reader, TooMuch};
pub(crate) use rules::is_nobodys;
pub use want::{Look, Refusal, Want};
