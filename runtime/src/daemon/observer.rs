//! From what becomes of plugins to Events of the cluster, and to a daemon that comes to rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::rest::Loads;
use crate::kubernetes::Events;
use crate::manifest::Identity;
use crate::plugin::{Observer, Transition};

/// The UIDs of ConfigMaps, by the plugins that they declare.
pub(super) type Uids = Arc<BTreeMap<Identity, Arc<str>>>;

/// Is told of one plugin.
pub(super) struct PluginObserver {
    pub(super) loads: Loads,
    pub(super) events: Option<PluginEvents>,
}

/// Tells of one plugin.
pub(super) struct PluginEvents {
    pub(super) events: Events,
    pub(super) plugin: Identity,
    pub(super) uids: watch::Receiver<Uids>,
}

impl Observer for PluginObserver {
    fn transition(&self, transition: Transition, message: &str) {
        // Whatever becomes of a plugin, making it or its successor took memory. One that fails does so again and again.
        if !matches!(transition, Transition::Crashing) {
            self.loads.note();
        }
        if let Some(events) = &self.events {
            events.tell(transition, message);
        }
    }
}

impl PluginEvents {
    fn tell(&self, transition: Transition, message: &str) {
        // Every object of the API has one; what is not there any more is told of by whoever unloads it.
        let uid = self.uids.borrow().get(&self.plugin).cloned();
        if let Some(uid) = uid {
            self.events.tell(&self.plugin, uid, transition, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_counts_as_a_load_and_what_fails_again_and_again_does_not() {
        let observer = PluginObserver {
            loads: Loads::default(),
            events: None,
        };
        let counted = |transition| {
            let before = observer.loads.count();
            observer.transition(transition, "");
            observer.loads.count() - before
        };
        assert_eq!(counted(Transition::Loaded), 1);
        assert_eq!(counted(Transition::Updated), 1);
        assert_eq!(counted(Transition::Unloaded), 1);
        assert_eq!(counted(Transition::Crashing), 0);
    }
}
