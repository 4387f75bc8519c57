//! A fresh instance of the revision at work: after a failure, or in place of one with which nothing is wrong.
//! That one hands on to it as to a successor, and stays if there can be none. Work waits meanwhile.

use tokio_util::task::AbortOnDropHandle;

use super::super::prepare::{Prepared, Rejection};
use super::{Active, Actor, Declaration, Preparing};

impl Actor {
    /// Begins to make a fresh instance in place of one that works, as soon as there is nothing else to make and
    /// that one is not in the midst of something.
    pub(super) fn renew(&mut self) {
        let free = self.preparing.is_none() && self.waiting.is_none() && !self.ending;
        if free
            && let Some(active) = &self.active
            && active.instance.as_ref().is_some_and(|it| !it.is_amid())
        {
            self.preparing = Some(self.begin_instance(active));
            self.renewal_due = false;
        }
    }

    /// Begins to make a fresh instance of a revision.
    pub(super) fn begin_instance(&self, of: &Active) -> Preparing {
        let preparer = self.preparer.clone();
        let declared = Declaration {
            manifest: of.manifest.clone(),
            hash: of.revision.manifest.clone(),
        };
        let (blueprint, digest) = (of.blueprint.clone(), of.revision.digest);
        let task =
            tokio::spawn(async move { preparer.instantiate(declared, blueprint, digest).await });
        Preparing {
            candidate: None,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// The fresh instance is there, or it cannot be.
    pub(super) async fn on_instance(&mut self, result: Result<Prepared, Rejection>) {
        let handed_on = match result {
            Ok(mut fresh) => self.hand_on(&mut fresh).await.map(|()| fresh),
            Err(rejection) => Err(rejection),
        };
        match handed_on {
            Ok(fresh) => {
                if let Some(active) = &mut self.active
                    && active.instance.replace(fresh.instance).is_none()
                {
                    self.status.change(|status| status.restarts += 1);
                    self.ready("a fresh instance is at work");
                }
            }
            Err(rejection) => {
                if let Rejection::Failed(failure) = &rejection {
                    self.note_failure(failure);
                }
                let active = self.active.as_ref();
                if active.is_some_and(|active| active.instance.is_some()) {
                    tracing::warn!(plugin = %self.identity, "no fresh instance: {rejection}; the one before goes on");
                } else {
                    self.retry_later(&rejection.to_string());
                }
            }
        }
        self.catch_up();
    }

    /// Hands on to a successor what the instance at work has for it, if there is one. One that fails at that
    /// is gone, and its successor begins without.
    pub(super) async fn hand_on(&mut self, to: &mut Prepared) -> Result<(), Rejection> {
        if let Some(active) = &mut self.active
            && let Some(instance) = &mut active.instance
        {
            match instance.snapshot().await {
                Ok(None) => {}
                Ok(Some(snapshot)) => match to.instance.restore(snapshot).await {
                    Ok(Ok(())) => {}
                    Ok(Err(refusal)) => {
                        return Err(Rejection::Refused(format!(
                            "{}: module: the new revision refuses the old one's snapshot: {}; the old one goes on. Use a module that reads it, or set `suspend: true` for a moment to begin without it",
                            to.manifest.origin.name().display(),
                            refusal.message
                        )));
                    }
                    Err(failure) => return Err(Rejection::Failed(failure)),
                },
                Err(failure) => {
                    active.instance = None;
                    self.note_failure(&failure);
                }
            }
        }
        to.instance.count_memory();
        Ok(())
    }
}
