//! A value made of secrets, made again when one of them changes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::secrets::{Resolved, Template};

/// How often is looked whether one has changed.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What a [`Lookup`] made.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    /// Secrets to take out of messages.
    pub(super) hidden: Vec<String>,
}

/// A secret by reference, and what messages call it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) template: Template,
}

/// The second argument takes what is made of secrets and is to be hidden like them.
type Make<T> = dyn Fn(&[Resolved], &mut Vec<String>) -> Result<T, String> + Send + Sync;

/// Makes a `T` of secrets when it is needed, and keeps it while they stay the same.
pub(super) struct Lookup<T> {
    make: Arc<Make<T>>,
    can_change: bool,
    state: Mutex<State<T>>,
}

struct State<T> {
    secrets: Vec<Named>,
    found: Option<Arc<Found<T>>>,
    checked: Instant,
}

impl<T> fmt::Debug for Lookup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup(...)")
    }
}

impl<T: Send + Sync + 'static> Lookup<T> {
    /// Looks nothing up: a credential that is missing today may be there when it is needed. Without
    /// secrets, `make` is called at once, so that what cannot work is known at start.
    pub(super) fn new(
        secrets: Vec<Named>,
        make: impl Fn(&[Resolved], &mut Vec<String>) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let found = match secrets.is_empty() {
            true => Some(Arc::new(Found {
                value: make(&[], &mut Vec::new())?,
                hidden: Vec::new(),
            })),
            false => None,
        };
        Ok(Self {
            make: Arc::new(make),
            can_change: secrets.iter().any(|secret| secret.template.can_change()),
            state: Mutex::new(State {
                secrets,
                found,
                checked: Instant::now(),
            }),
        })
    }

    /// The value, made anew if a secret changed or after [`Lookup::forget`].
    pub(super) async fn current(&self) -> Result<Arc<Found<T>>, String> {
        let mut state = self.state.lock().await;
        if let Some(found) = &state.found
            && (!self.can_change || state.checked.elapsed() < CHECK_EVERY)
        {
            return Ok(Arc::clone(found));
        }
        state.checked = Instant::now();
        let known = state.found.take();
        // A copy, so that whatever becomes of this task the secrets are still known.
        let mut secrets = state.secrets.clone();
        let make = Arc::clone(&self.make);
        let looked_up = tokio::task::spawn_blocking(move || {
            let changed = || secrets.iter().any(|secret| secret.template.changed());
            let found = match known.filter(|_| !changed()) {
                Some(found) => Ok(found),
                None => look_up(&mut secrets, &*make).map(Arc::new),
            };
            (secrets, found)
        })
        .await;
        match looked_up {
            Ok((secrets, found)) => {
                state.secrets = secrets;
                let found = found?;
                state.found = Some(Arc::clone(&found));
                Ok(found)
            }
            Err(error) => Err(format!("looking up secrets failed: {error}")),
        }
    }

    /// Looks everything up again at the next use: the server did not like the credentials.
    pub(super) async fn forget(&self) {
        self.state.lock().await.found = None;
    }
}

fn look_up<T>(secrets: &mut [Named], make: &Make<T>) -> Result<Found<T>, String> {
    let mut resolved = Vec::with_capacity(secrets.len());
    for Named { name, template } in secrets {
        let found = template.resolve();
        resolved.push(found.map_err(|problem| format!("{name}: {problem}"))?);
    }
    // First what was made of them: a short secret might be taken out of its middle.
    let mut hidden = Vec::new();
    let value = make(&resolved, &mut hidden)?;
    hidden.extend(resolved.into_iter().flat_map(|secret| secret.hidden));
    Ok(Found { value, hidden })
}
