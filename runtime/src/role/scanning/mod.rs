//! The role `scanning`: files and facts of the node in, findings out.

mod driver;
pub mod feed;
pub mod findings;
mod judge;
mod outline;
mod publish;
mod report;
mod rooms;
mod scanner;
pub mod snapshot;
mod withheld;

pub use driver::{Context, ScanningDriver, ScanningStatus, prepare};
pub use publish::{Context as PublishContext, PublishStatus};
pub use report::{PassReport, ScanningReport};
pub use rooms::Rooms;
