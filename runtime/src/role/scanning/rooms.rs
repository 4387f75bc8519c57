//! What all plugins that scan share: the feed of files, and the store of what was found.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::feed::Feed;
use super::findings::{Findings, Limits};
use crate::manifest::Identity;
use crate::sandbox::NodeFolders;

/// The store of findings, in the state folder.
const FINDINGS: &str = "findings.redb";

/// What all plugins that scan share: opened when the first of them starts.
pub struct Rooms {
    pub(super) folders: NodeFolders,
    state: PathBuf,
    open: OnceLock<(Feed, Findings)>,
    /// Held while they are opened, which may take long; who only looks does not wait for it. Whether
    /// findings were lost, and what was judged is to be forgotten.
    opening: Mutex<bool>,
}

impl Rooms {
    /// Of the node with these folders; `state` is the daemon's state folder.
    pub fn new(folders: NodeFolders, state: PathBuf) -> Self {
        Self {
            folders,
            state,
            open: OnceLock::new(),
            opening: Mutex::default(),
        }
    }

    /// The findings, if any plugin scans or did.
    pub fn findings(&self) -> Option<Findings> {
        self.open.get().map(|(_, findings)| findings.clone())
    }

    /// Lets go of the findings of plugins that are no more, and of what they judged: whoever comes under
    /// such a name must find all of it again.
    pub async fn forget(self: &Arc<Self>, plugins: Vec<Identity>) {
        let rooms = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || {
            let (feed, findings) = match rooms.open.get() {
                Some(open) => open.clone(),
                // Nobody ever scanned.
                None if !rooms.state.join(FINDINGS).exists() => return Ok(None),
                None => rooms.open()?,
            };
            // First: what is judged and not found would never be found again.
            for plugin in &plugins {
                feed.forget(&plugin.to_string())
                    .map_err(|error| format!("{plugin}: cannot forget what it judged: {error}"))?;
            }
            Ok::<_, String>(Some((findings, plugins)))
        });
        let (findings, plugins) = match opened.await {
            Ok(Ok(Some(opened))) => opened,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::error!("{error}"),
            Err(error) => return tracing::error!("{error}"),
        };
        for plugin in plugins {
            if let Err(error) = findings.forget(&plugin).await {
                tracing::error!(%plugin, "{error}");
            }
        }
    }

    /// What is open, if any plugin scans or did.
    pub(super) fn opened(&self) -> Option<&(Feed, Findings)> {
        self.open.get()
    }

    /// Opens it unless it is open. Blocks.
    pub(super) fn open(&self) -> Result<(Feed, Findings), String> {
        let mut lost = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.get() {
            return Ok(open.clone());
        }
        *lost |= !self.state.join(FINDINGS).exists();
        let opened = Findings::open(&self.state, Limits::default());
        let opened = opened.map_err(|error| error.to_string())?;
        if let Some(aside) = &opened.set_aside {
            tracing::error!("findings were damaged, and are begun anew: {aside:?}");
            *lost = true;
        }
        let feed = Feed::open(&self.folders, &self.state).map_err(|error| {
            format!("files cannot be scanned: {}: {error}", self.state.display())
        })?;
        if *lost {
            feed.forget_all().map_err(|error| {
                format!(
                    "cannot forget what was judged: {}: {error}",
                    self.state.display()
                )
            })?;
            *lost = false;
        }
        let opened = self.open.get_or_init(|| (feed, opened.findings));
        Ok(opened.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::role::scanning::findings::{Found, Severity, Subject, Whole};

    fn rooms(state: &std::path::Path) -> Arc<Rooms> {
        let folders = NodeFolders {
            root: state.into(),
            private: Vec::new().into(),
        };
        Arc::new(Rooms::new(folders, state.to_owned()))
    }

    #[tokio::test]
    async fn who_never_scanned_is_forgotten_without_opening_anything() {
        let state = tempfile::tempdir().unwrap();
        let rooms = rooms(state.path());
        rooms
            .forget(vec![Identity::new("local", "logs").unwrap()])
            .await;
        assert!(rooms.opened().is_none());
        assert!(!state.path().join(FINDINGS).exists());
    }

    #[tokio::test]
    async fn findings_are_forgotten_also_of_who_left_while_nobody_was_there() {
        let state = tempfile::tempdir().unwrap();
        let [gone, stays] = ["gone", "stays"].map(|name| Identity::new("local", name).unwrap());
        let found = Found {
            rule: "x".to_owned(),
            severity: Severity::High,
            subject: Subject::Other("user/eve".to_owned()),
            message: String::new(),
            evidence: String::new(),
            references: Vec::new(),
            fingerprint: String::new(),
        };
        {
            // The store of a daemon that ended.
            let opened = Findings::open(state.path(), Limits::default()).unwrap();
            for plugin in [&gone, &stays] {
                let replaced = opened
                    .findings
                    .replace(plugin, Whole::Node, vec![found.clone()]);
                replaced.await.unwrap();
            }
        }
        let rooms = rooms(state.path());
        // Its thread has the file for a moment more.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while rooms.open().is_err() {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        rooms.forget(vec![gone.clone()]).await;
        let findings = rooms.findings().unwrap();
        assert_eq!(findings.tally(&gone).open.total(), 0);
        assert_eq!(findings.tally(&stays).open.total(), 1);
    }
}
