//! The seam between the actor that owns instances and the roles that use them.
//!
//! A role sends [`Work`]; the actor runs it on whatever instance is active, one piece at a time.
//! The actor knows nothing of a role's data, and a role nothing of revisions: an update is a swap
//! between two pieces of work.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::failure::Failure;
use super::instance::Instance;
use crate::manifest::Manifest;

/// A boxed future.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One piece of guest work.
pub trait Work: Send {
    /// Calls the instance and hands the answer, good or bad, to whoever sent the work.
    ///
    /// # Errors
    /// The failure that ended the instance; the actor acts on it, the sender decides about its data.
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>>;
}

/// Where a role sends work. Bounded.
pub type WorkSender = mpsc::Sender<Box<dyn Work>>;

/// Sets up a fresh, initialised instance for a role and probes it.
/// `Ok(Err(message))`: the manifest does not suit the plugin; the message is for its author.
pub type Prepare = Arc<
    dyn for<'a> Fn(&'a Manifest, &'a mut Instance) -> Task<'a, Result<Result<(), String>, Failure>>
        + Send
        + Sync,
>;

/// The host's side of one role of one plugin.
pub trait Driver: Send {
    /// How instances are made ready for this role.
    fn prepare(&self) -> Prepare;

    /// Whether going from one manifest to the other needs [`Self::stop`] and [`Self::start`].
    fn restarts(&self, from: &Manifest, to: &Manifest) -> bool;

    /// Begins to send work. Called with the role stopped.
    fn start(&mut self, manifest: Arc<Manifest>, work: WorkSender);

    /// Stops sending work; resolves when nothing is under way, or `drain` has passed. Work that was
    /// sent may still run meanwhile. What was not acknowledged by then is read again after a start.
    ///
    /// `again`: another revision with this role takes over, so that a start follows.
    fn stop(&mut self, drain: Duration, again: bool) -> Task<'static, ()>;
}
