//! Answers of somebody slow, for a while: bounded, and each question asked once at a time. It knows
//! nothing of what is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What is asked, hashed: a question may hold a secret.
pub(super) type Key = [u8; 32];

/// See the module.
pub(super) struct Cache<V> {
    most: usize,
    inner: Mutex<Inner<V>>,
}

struct Inner<V> {
    /// With the time until which they hold.
    answers: HashMap<Key, (V, Instant)>,
    /// Who holds one of these asks; others with the same question wait for it.
    turns: HashMap<Key, Weak<tokio::sync::Mutex<()>>>,
}

impl<V: Clone> Cache<V> {
    pub(super) fn new(most: usize) -> Self {
        let inner = Inner {
            answers: HashMap::new(),
            turns: HashMap::new(),
        };
        Self {
            most,
            inner: Mutex::new(inner),
        }
    }

    /// The answer from before, or what `ask` says now and for how long that holds.
    pub(super) async fn get<F>(&self, key: Key, ask: impl FnOnce() -> F) -> V
    where
        F: Future<Output = (V, Duration)>,
    {
        if let Some(answer) = self.known(&key) {
            return answer;
        }
        let turn = self.turn(key);
        let _turn = turn.lock().await;
        if let Some(answer) = self.known(&key) {
            return answer;
        }
        let (answer, holds) = ask().await;
        self.keep(key, answer.clone(), holds);
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, key: &Key) -> Option<V> {
        let inner = self.lock();
        let (answer, until) = inner.answers.get(key)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    fn turn(&self, key: Key) -> Arc<tokio::sync::Mutex<()>> {
        let turns = &mut self.lock().turns;
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        // Only those of requests under way stay, and connections are few.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }

    fn keep(&self, key: Key, answer: V, holds: Duration) {
        let now = Instant::now();
        let answers = &mut self.lock().answers;
        if answers.len() >= self.most && !answers.contains_key(&key) {
            answers.retain(|_, (_, until)| *until > now);
        }
        if answers.len() >= self.most && !answers.contains_key(&key) {
            // What ends first goes first: refusals hold for a shorter time, so that a flood of them
            // leaves those alone who are let in.
            let first = answers.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(first) = first.map(|(key, _)| *key) {
                answers.remove(&first);
            }
        }
        answers.insert(key, (answer, now + holds));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(50);

    fn key(number: u8) -> Key {
        [number; 32]
    }

    async fn ask(cache: &Cache<u32>, number: u8, answer: u32, holds: Duration) -> u32 {
        cache.get(key(number), async || (answer, holds)).await
    }

    #[tokio::test]
    async fn an_answer_holds_for_its_time() {
        let cache = Cache::new(4);
        assert_eq!(ask(&cache, 1, 10, LONG).await, 10);
        assert_eq!(ask(&cache, 1, 20, LONG).await, 10);
        assert_eq!(ask(&cache, 2, 10, SHORT).await, 10);
        tokio::time::sleep(SHORT).await;
        assert_eq!(ask(&cache, 2, 30, SHORT).await, 30);
    }

    #[tokio::test]
    async fn a_flood_of_short_answers_leaves_long_ones_and_the_size_alone() {
        let cache = Cache::new(4);
        ask(&cache, 0, 1, LONG).await;
        for number in 1..200 {
            ask(&cache, number, 0, LONG / 2).await;
        }
        assert_eq!(ask(&cache, 0, 2, LONG).await, 1);
        let inner = cache.lock();
        assert_eq!(inner.answers.len(), 4);
        assert!(inner.turns.len() <= 1);
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once_at_a_time() {
        let cache = Cache::new(4);
        let asked = AtomicU32::new(0);
        let slow = || {
            cache.get(key(1), async || {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(SHORT).await;
                (7, LONG)
            })
        };
        let answers = futures_util::future::join_all((0..50).map(|_| slow())).await;
        assert_eq!(answers, [7; 50]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_who_goes_away_while_asking_holds_up_nobody() {
        let cache = Cache::new(4);
        let never = cache.get(key(1), std::future::pending);
        let gone = tokio::time::timeout(SHORT, never).await;
        assert!(gone.is_err());
        assert_eq!(ask(&cache, 1, 3, LONG).await, 3);
    }
}
