//! Who may read: a bearer token, whose owner the cluster lets GET the path. Probes are open. Tokens are
//! known here by a keyed hash only, and never logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use rustls::crypto::CryptoProvider;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::cache::{Cache, Key};
use super::refusal::failure;
use crate::kubernetes::{Reviewer, Unavailable, User};

/// What the kubelet asks for, which has no token.
pub(super) const PROBES: [&str; 2] = ["/healthz", "/readyz"];
/// Reviews at the same time.
const ASKING: usize = 8;
/// The most tokens, and the most rights, that are remembered.
const MOST: usize = 1024;
/// The longest token that is asked for. One of a ServiceAccount has about a kilobyte.
const LONGEST: usize = 16 << 10;

/// How long things take and hold.
struct Times {
    /// How long a yes holds: the longest that a deleted token or a right taken away still reads.
    yes: Duration,
    /// How long a no holds: the longest that somebody waits for a right that was given.
    no: Duration,
    /// How long a silence holds, so that a server that comes back is not met by all at once.
    silence: Duration,
    /// How long one request may wait for an answer, those before it included.
    patience: Duration,
    /// What a token that nobody knows takes in addition: guesses of many must not become a flood of
    /// reviews for the API server.
    guess: Duration,
}

const TIMES: Times = Times {
    yes: Duration::from_secs(30),
    no: Duration::from_secs(5),
    silence: Duration::from_secs(1),
    patience: Duration::from_secs(10),
    guess: Duration::from_millis(100),
};

type Owner = Result<Option<Arc<User>>, Unavailable>;

/// Stands in front of everything but the probes.
pub(super) struct Guard {
    reviewer: Box<dyn Reviewer>,
    owners: Cache<Owner>,
    rights: Cache<Result<bool, Unavailable>>,
    asking: Semaphore,
    salt: [u8; 32],
    times: Times,
    /// Whether the log says that the cluster cannot be asked.
    told: AtomicBool,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refused {
    /// No token, or more than one.
    NoToken,
    /// Not a token for us.
    Unknown,
    /// Its owner has not the right.
    Forbidden(String),
    /// The cluster cannot be asked.
    Unavailable,
}

impl Guard {
    /// None if the system has no random numbers.
    pub(super) fn new(reviewer: Box<dyn Reviewer>, provider: &CryptoProvider) -> Option<Self> {
        let mut salt = [0; 32];
        provider.secure_random.fill(&mut salt).ok()?;
        Some(Self {
            reviewer,
            owners: Cache::new(MOST),
            rights: Cache::new(MOST),
            asking: Semaphore::new(ASKING),
            salt,
            times: TIMES,
            told: AtomicBool::new(false),
        })
    }

    async fn admit(&self, headers: &HeaderMap, path: &str) -> Result<(), Refused> {
        let token = token(headers)?;
        let checked = tokio::time::timeout(self.times.patience, self.check(token, path)).await;
        match checked {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(Unavailable(_))) => Err(Refused::Unavailable),
            Err(_) => {
                self.tell(Some("it is slow, or too much is asked of it"));
                Err(Refused::Unavailable)
            }
        }
    }

    /// Logs the first answer after silences, and the first silence after answers.
    fn tell(&self, silence: Option<&str>) {
        let told = self.told.swap(silence.is_some(), Ordering::Relaxed);
        match silence {
            Some(reason) if !told => tracing::warn!(
                "the API server does not tell who may read the status, and requests are refused: {reason}"
            ),
            None if told => tracing::info!("the API server tells again who may read the status"),
            _ => {}
        }
    }

    async fn check(&self, token: &str, path: &str) -> Result<Result<(), Refused>, Unavailable> {
        let key = self.key(&[token.as_bytes()]);
        let owner = self.owners.get(key, || self.owner(token)).await?;
        let Some(user) = owner else {
            return Ok(Err(Refused::Unknown));
        };
        let key = self.key(&[&key, path.as_bytes()]);
        let allowed = self.rights.get(key, || self.right(&user, path)).await?;
        let forbidden = || Refused::Forbidden(user.username.clone().unwrap_or_default());
        Ok(if allowed { Ok(()) } else { Err(forbidden()) })
    }

    async fn owner(&self, token: &str) -> (Owner, Duration) {
        let _permit = self.asking.acquire().await;
        let owner = self.reviewer.owner(token).await;
        self.tell(owner.as_ref().err().map(|silence| &*silence.0));
        let holds = match &owner {
            Ok(Some(_)) => self.times.yes,
            Ok(None) => {
                tokio::time::sleep(self.times.guess).await;
                self.times.no
            }
            Err(_) => self.times.silence,
        };
        (owner.map(|user| user.map(Arc::new)), holds)
    }

    async fn right(&self, user: &User, path: &str) -> (Result<bool, Unavailable>, Duration) {
        let _permit = self.asking.acquire().await;
        let allowed = self.reviewer.may_get(user, path).await;
        self.tell(allowed.as_ref().err().map(|silence| &*silence.0));
        let holds = match allowed {
            Ok(true) => self.times.yes,
            Ok(false) => self.times.no,
            Err(_) => self.times.silence,
        };
        (allowed, holds)
    }

    fn key(&self, parts: &[&[u8]]) -> Key {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// Answers only whom the cluster lets.
pub(super) async fn require(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    // As it was sent: what a rule of the cluster allows is compared with what the router sees.
    let path = request.uri().path();
    if PROBES.contains(&path) {
        return next.run(request).await;
    }
    match guard.admit(request.headers(), path).await {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.answer(path),
    }
}

/// The one bearer token of a request.
fn token(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refused::NoToken);
    };
    let value = value.to_str().map_err(|_| Refused::NoToken)?;
    let (scheme, token) = value.split_once(' ').ok_or(Refused::NoToken)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Refused::NoToken);
    }
    if token.len() > LONGEST {
        return Err(Refused::Unknown);
    }
    Ok(token)
}

impl Refused {
    fn answer(self, path: &str) -> Response {
        match self {
            Self::NoToken => unauthorized(
                "this endpoint takes a bearer token of the cluster; `kubectl bulkhead status` gets one",
            ),
            Self::Unknown => unauthorized(
                "the cluster does not know this token: it is expired, revoked, or for another audience than --status-audience",
            ),
            Self::Forbidden(user) => failure(
                StatusCode::FORBIDDEN,
                "Forbidden",
                &format!(
                    "{user:?} may not get {path:?}; a ClusterRole with this nonResourceURL and the verb get allows it, as bulkhead-viewer"
                ),
            ),
            Self::Unavailable => failure(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "the API server does not tell who may read this, so nobody may; the daemon's log says why, and /healthz is open",
            ),
        }
    }
}

fn unauthorized(message: &str) -> Response {
    let mut response = failure(StatusCode::UNAUTHORIZED, "Unauthorized", message);
    let bearer = HeaderValue::from_static("Bearer realm=\"bulkhead\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, bearer);
    response
}

#[cfg(test)]
mod tests;
