//! From what becomes of plugins to Events of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::kubernetes::Events;
use crate::manifest::Identity;
use crate::plugin::{Observer, Transition};

/// The UIDs of ConfigMaps, by the plugins that they declare.
pub(super) type Uids = Arc<BTreeMap<Identity, Arc<str>>>;

/// Tells of one plugin.
pub(super) struct PluginEvents {
    pub(super) events: Events,
    pub(super) plugin: Identity,
    pub(super) uids: watch::Receiver<Uids>,
}

impl Observer for PluginEvents {
    fn transition(&self, transition: Transition, message: &str) {
        // Every object of the API has one; what is not there any more is told of by whoever unloads it.
        let uid = self.uids.borrow().get(&self.plugin).cloned();
        if let Some(uid) = uid {
            self.events.tell(&self.plugin, uid, transition, message);
        }
    }
}
