//! What is meant by a revert.

use std::collections::HashSet;

use super::effects::{Effects, Ended, Past};

/// The changes that are to be put back, newest first.
pub(super) fn meant(effects: &Effects, change: Option<&str>) -> Result<Vec<Past>, String> {
    let past = effects.history(None, usize::MAX);
    let undone: HashSet<u64> = past
        .iter()
        .filter(|it| it.result == Some(Ended::Done))
        .filter_map(|it| it.undoes)
        .collect();
    let can_be = |it: &Past| {
        let made = matches!(it.result, Some(Ended::Done | Ended::Interrupted));
        made && it.undoes.is_none() && !undone.contains(&it.sequence)
    };
    let Some(change) = change else {
        let mut all = past;
        all.retain(can_be);
        return match all.is_empty() {
            true => Err("nothing is kept that could be put back".to_owned()),
            false => Ok(all),
        };
    };
    let number: Option<u64> = change.parse().ok();
    let found = past.into_iter().find(|it| match number {
        Some(number) => it.sequence == number,
        None => it.change == change && can_be(it),
    });
    match found {
        Some(past) if can_be(&past) => Ok(vec![past]),
        Some(_) => Err(format!(
            "change {change} was not made, or was put back already"
        )),
        None => Err(format!(
            "nothing is kept of a change {change:?}; `bulkhead enforcement history` lists what is"
        )),
    }
}
