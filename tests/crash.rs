//! kill -9 at named places, 200 times on one state, one set of logs and four destinations: no line
//! is missing anywhere, none is out of order, Elasticsearch holds no document twice, and elsewhere
//! only those lines come twice that had arrived and that no commit covered.
//!
//! The order of the places, and how often each is passed before the kill, is drawn from a seed,
//! which is printed; `BULKHEAD_SEED` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use support::trial::Trial;
use support::{seed, wait_for};

#[test]
fn two_hundred_kills_lose_nothing_and_repeat_only_what_was_in_flight() {
    let seed = seed();
    eprintln!("BULKHEAD_SEED={seed}");
    let mut trial = Trial::new();
    trial.begin();
    trial.die_everywhere(&mut fastrand::Rng::with_seed(seed));
    trial.conclude();
}

#[test]
fn a_stop_in_the_middle_of_load_ships_nothing_twice() {
    let mut trial = Trial::new();
    trial.declare("");
    for round in 1..=5 {
        trial.node.start();
        let target = trial.history.shipped(&trial.node).len() + 500 * round;
        wait_for("lines", || {
            trial.write("a.log", 500);
            (trial.history.shipped(&trial.node).len() >= target).then_some(())
        });
        assert!(trial.node.stop().success());
        assert!(trial.node.daemon_log().contains("ended"));
    }
    trial.conclude();
}
