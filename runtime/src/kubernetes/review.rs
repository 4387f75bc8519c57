//! Whose a token is and what its owner may read, as the API server says: `TokenReview` and
//! `SubjectAccessReview`. Nothing is remembered here, and no token gets into an error or a log.

use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::Access;
use super::watch::chain;

/// How long the API server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read. A user with very many groups is some kilobytes.
const MOST: usize = 1 << 20;

/// Who asks, as the cluster knows them.
pub type User = UserInfo;

/// Why the API server said neither yes nor no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Tells whose a token is, and what they may read.
pub trait Reviewer: Send + Sync + 'static {
    /// The owner of a token that was made for us; none if it is not, or not any more.
    fn owner<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, Unavailable>>;
    /// Whether that user may GET this path.
    fn may_get<'a>(
        &'a self,
        user: &'a User,
        path: &'a str,
    ) -> BoxFuture<'a, Result<bool, Unavailable>>;
}

/// Asks the API server.
pub struct ApiReviewer {
    access: Access,
    audience: String,
    /// Made when it is needed, and anew when it has failed: the files behind it change.
    client: Mutex<Option<Client>>,
}

impl ApiReviewer {
    /// Takes tokens for `audience` only: one for the API server itself would let us act as its owner.
    pub fn new(access: Access, audience: String) -> Self {
        Self {
            access,
            audience,
            client: Mutex::new(None),
        }
    }

    async fn client(&self) -> Result<Client, Unavailable> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = self.access.client().await;
        let made = made.map_err(|error| Unavailable(chain(&error)))?;
        Ok(client.insert(made).clone())
    }

    /// Has the API server complete a review.
    async fn complete<R>(&self, review: &R) -> Result<R, Unavailable>
    where
        R: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let answer = tokio::time::timeout(PATIENCE, self.post(review)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Unavailable(format!(
                "the API server did not answer within {} s",
                PATIENCE.as_secs()
            )))
        });
        if answer.is_err() {
            *self.client.lock().await = None;
        }
        answer
    }

    /// By hand: the client's own way logs an answer that it cannot read, and a `TokenReview` has the
    /// token in it.
    async fn post<R>(&self, review: &R) -> Result<R, Unavailable>
    where
        R: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let strange = |what: &str| Unavailable(format!("the API server's answer {what}"));
        let client = self.client().await?;
        let body = serde_json::to_vec(review).map_err(|_| strange("cannot be asked for"))?;
        let request = Request::new(R::url_path(&(), None)).create(&PostParams::default(), body);
        let request = request.map_err(|error| Unavailable(chain(&error)))?;
        let answer = client.send(request.map(Body::from)).await;
        let answer = answer.map_err(|error| Unavailable(chain(&error)))?;
        let code = answer.status();
        let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), MOST).await;
        let body = body.map_err(|_| strange("broke off"))?;
        if code.is_success() {
            return serde_json::from_slice(&body).map_err(|_| strange("is no review"));
        }
        let kind = R::plural(&());
        let status = serde_json::from_slice::<Status>(&body).unwrap_or_default();
        // Of other messages nobody knows whether they quote the question.
        Err(Unavailable(match code.as_u16() {
            403 => format!(
                "{}; the daemon's ServiceAccount needs the verb create on {kind}, as in deploy/kustomize/base/rbac.yaml",
                status.message
            ),
            401 => "the API server does not accept the daemon's token; is it of this cluster?"
                .to_owned(),
            _ => format!("{kind}: the API server answers {code} {}", status.reason),
        }))
    }
}

impl Reviewer for ApiReviewer {
    fn owner<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, Unavailable>> {
        Box::pin(async move {
            let review = TokenReview {
                spec: TokenReviewSpec {
                    token: Some(token.to_owned()),
                    audiences: Some(vec![self.audience.clone()]),
                },
                ..TokenReview::default()
            };
            let status = self.complete(&review).await?.status.unwrap_or_default();
            // A server that knows no audiences says nothing of them, and means its own.
            let audiences = status.audiences.unwrap_or_default();
            let ours = audiences.contains(&self.audience);
            let known = status.authenticated == Some(true) && ours;
            Ok(status.user.filter(|_| known))
        })
    }

    fn may_get<'a>(
        &'a self,
        user: &'a User,
        path: &'a str,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(async move {
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: user.username.clone(),
                    uid: user.uid.clone(),
                    groups: user.groups.clone(),
                    extra: user.extra.clone(),
                    non_resource_attributes: Some(NonResourceAttributes {
                        path: Some(path.to_owned()),
                        verb: Some("get".to_owned()),
                    }),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            let status = self.complete(&review).await?.status.unwrap_or_default();
            Ok(status.allowed && status.denied != Some(true))
        })
    }
}
