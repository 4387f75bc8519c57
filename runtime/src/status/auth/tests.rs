#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use futures_util::future::BoxFuture;

use super::*;

/// A cluster of one user, whose token is `good` and who may get `/v1/plugins`.
#[derive(Default)]
struct Cluster {
    tokens: AtomicUsize,
    rights: Mutex<Vec<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
    away: AtomicBool,
}

impl Reviewer for Arc<Cluster> {
    fn owner<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, Unavailable>> {
        Box::pin(async move {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            self.tokens.fetch_add(1, Ordering::Relaxed);
            if self.away.load(Ordering::Relaxed) {
                return Err(Unavailable("away".to_owned()));
            }
            let user = User {
                username: Some("viewer".to_owned()),
                ..User::default()
            };
            Ok((token == "good").then_some(user))
        })
    }

    fn may_get<'a>(
        &'a self,
        _: &'a User,
        path: &'a str,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        self.rights.lock().unwrap().push(path.to_owned());
        Box::pin(async move { Ok(path == "/v1/plugins") })
    }
}

fn guard() -> (Arc<Cluster>, Guard) {
    let cluster = Arc::new(Cluster::default());
    let provider = rustls::crypto::ring::default_provider();
    let mut guard = Guard::new(Box::new(cluster.clone()), &provider).unwrap();
    guard.times = Times {
        yes: Duration::from_millis(500),
        no: Duration::from_millis(200),
        silence: Duration::from_millis(50),
        patience: Duration::from_secs(5),
        guess: Duration::from_millis(20),
    };
    (cluster, guard)
}

fn bearing(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(header::AUTHORIZATION, value.parse().unwrap());
    }
    headers
}

#[tokio::test]
async fn only_one_bearer_token_counts() {
    let (cluster, guard) = guard();
    for values in [
        &[][..],
        &["good"],
        &["Basic good"],
        &["Bearer"],
        &["Bearer  "],
        &["Bearer good", "Bearer good"],
    ] {
        let admitted = guard.admit(&bearing(values), "/v1/plugins").await;
        assert_eq!(admitted, Err(Refused::NoToken), "{values:?}");
    }
    let long = format!("Bearer {}", "x".repeat(LONGEST + 1));
    let admitted = guard.admit(&bearing(&[&long]), "/v1/plugins").await;
    assert_eq!(admitted, Err(Refused::Unknown));
    assert_eq!(cluster.tokens.load(Ordering::Relaxed), 0);
    for value in ["Bearer good", "bearer good", "BEARER  good "] {
        let admitted = guard.admit(&bearing(&[value]), "/v1/plugins").await;
        assert_eq!(admitted, Ok(()), "{value}");
    }
    assert_eq!(cluster.tokens.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_right_is_of_one_path() {
    let (cluster, guard) = guard();
    let headers = bearing(&["Bearer good"]);
    for _ in 0..2 {
        assert_eq!(guard.admit(&headers, "/v1/plugins").await, Ok(()));
        for path in ["/metrics", "/v1/plugins/", "/v1/%70lugins"] {
            let admitted = guard.admit(&headers, path).await;
            assert_eq!(admitted, Err(Refused::Forbidden("viewer".to_owned())));
        }
    }
    assert_eq!(cluster.rights.lock().unwrap().len(), 4);
    assert_eq!(cluster.tokens.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn guesses_are_few_at_a_time_and_slow() {
    let (cluster, guard) = guard();
    let begin = std::time::Instant::now();
    let guess = async |number: usize| {
        let headers = bearing(&[&format!("Bearer guess-{number}")]);
        guard.admit(&headers, "/v1/plugins").await
    };
    let all = futures_util::future::join_all((0..80).map(guess)).await;
    assert!(all.iter().all(|one| *one == Err(Refused::Unknown)));
    assert_eq!(cluster.most.load(Ordering::Relaxed), ASKING);
    assert!(begin.elapsed() >= guard.times.guess * 10);
}

#[tokio::test]
async fn a_cluster_that_is_away_lets_in_whom_it_let_in_for_a_while() {
    let (cluster, guard) = guard();
    let good = bearing(&["Bearer good"]);
    let other = bearing(&["Bearer other"]);
    assert_eq!(guard.admit(&good, "/v1/plugins").await, Ok(()));
    cluster.away.store(true, Ordering::Relaxed);
    assert_eq!(guard.admit(&good, "/v1/plugins").await, Ok(()));
    let admitted = guard.admit(&other, "/v1/plugins").await;
    assert_eq!(admitted, Err(Refused::Unavailable));
    tokio::time::sleep(guard.times.yes).await;
    let admitted = guard.admit(&good, "/v1/plugins").await;
    assert_eq!(admitted, Err(Refused::Unavailable));
    cluster.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(guard.times.silence).await;
    assert_eq!(guard.admit(&good, "/v1/plugins").await, Ok(()));
}

#[tokio::test]
async fn one_who_waits_too_long_is_told_so() {
    let (_, mut guard) = guard();
    guard.times.patience = Duration::from_millis(50);
    let _all = guard.asking.acquire_many(ASKING as u32).await.unwrap();
    let admitted = guard.admit(&bearing(&["Bearer good"]), "/v1/plugins").await;
    assert_eq!(admitted, Err(Refused::Unavailable));
}
