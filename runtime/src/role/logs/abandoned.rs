//! Queues whose destination, or whose plugin, is gone: kept for a while, then removed with what is in
//! them, and each said.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::delivery::ONE_LANE;
use super::driver::LANES;
use super::queue::{Abandoned, Error, Home};
use crate::state::RETENTION;

/// How often a running plugin's are looked at.
pub(in crate::role) const LOOK: Duration = Duration::from_secs(60 * 60);

/// Looks at the queues of destinations that are not among `present`: whether there were any. Blocks.
pub(in crate::role) fn look(plugin: &str, queues: &Home, present: &[String]) -> bool {
    let present: Vec<&str> = present.iter().map(String::as_str).collect();
    let now = SystemTime::now();
    let gone = queues.abandoned(&present, lanes(queues), now, RETENTION);
    let any = !gone.is_empty();
    say(plugin, gone);
    any
}

/// Removes the queues of all plugins (`NAMESPACE/NAME`) whose state was forgotten. Blocks.
pub fn purge(state: &Path, node_root: &Path, is_known: impl Fn(&str) -> bool) {
    let homes = match Home::all(state, node_root) {
        Ok(homes) => homes,
        Err(error) => return tracing::error!("{error}"),
    };
    let now = SystemTime::now();
    for queues in homes.iter().filter(|home| !is_known(&home.plugin())) {
        let gone = queues.abandoned(&[], lanes(queues), now, Duration::ZERO);
        say(&queues.plugin(), gone);
    }
}

fn lanes(queues: &Home) -> usize {
    match queues.is_for_logs() {
        true => LANES,
        false => ONE_LANE,
    }
}

fn say(plugin: &str, abandoned: Vec<Result<Abandoned, Error>>) {
    for one in abandoned {
        match one {
            Ok(queue) => {
                let (destination, lines) = (queue.destination, queue.lines);
                let path = queue.path.display();
                match queue.until.map(jiff::Timestamp::try_from) {
                    Some(Ok(until)) => tracing::warn!(plugin, destination, lines, %path,
                        "the manifest does not have this destination any more: what is in its queue is given up at {until:.0}, unless the destination comes back"),
                    Some(Err(error)) => tracing::error!(plugin, destination, "{error}"),
                    None if lines > 0 => tracing::error!(plugin, destination, lines, %path,
                        "a queue was removed whose destination is gone: its lines are given up"),
                    None => tracing::info!(plugin, destination, %path,
                        "removed the empty queue of a destination that is gone"),
                }
            }
            Err(error) => tracing::error!(plugin, "{error}"),
        }
    }
}
