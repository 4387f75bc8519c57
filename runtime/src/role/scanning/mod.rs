//! The role `scanning`: files and facts of the node in, findings out.

mod driver;
pub mod feed;
pub mod findings;
mod judge;
mod outline;
mod publish;
mod report;
pub mod snapshot;

pub use driver::{Context, Rooms, ScanningDriver, ScanningStatus, prepare};
pub use publish::{Context as PublishContext, PublishStatus};
pub use report::{PassReport, ScanningReport};
