//! Which step comes after which.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bulkhead_sdk::{Error, Result};

use super::{Item, Kind, Step, Subject, Trigger, conflict};
use crate::config::ModuleState;

/// The steps of the items, in order.
pub(super) fn steps(items: &[Item], handlers: &[Trigger]) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut by_subject: HashMap<Subject, usize> = HashMap::new();
    let mut step_of = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let subject = item.kind.subject(index);
        let step = *by_subject.entry(subject.clone()).or_insert_with(|| {
            steps.push(Step {
                subject,
                items: Vec::new(),
                after: Vec::new(),
                conflicts: Vec::new(),
            });
            steps.len() - 1
        });
        steps[step].items.push(index);
        step_of.push(step);
    }
    for step in &mut steps {
        step.conflicts = conflicts(step, items)?;
    }
    let mut waits = explicit(items, &step_of, steps.len());
    folders_first(&steps, &mut waits);
    handlers_units_last(items, handlers, &step_of, &by_subject, &mut waits);
    modules_before_settings(&steps, items, &mut waits);
    let order = sort(&waits).map_err(|cycle| refuse(&cycle, &steps, items))?;
    let item_order = sort_items(items)?;
    // Numbered anew, in that order.
    let mut position = vec![0; steps.len()];
    for (new, old) in order.iter().enumerate() {
        position[*old] = new;
    }
    let mut sorted: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let mut result = Vec::with_capacity(sorted.len());
    for old in order {
        if let Some(mut step) = sorted[old].take() {
            step.after = waits[old].iter().map(|other| position[*other]).collect();
            step.items.sort_by_key(|item| item_order[*item]);
            result.push(step);
        }
    }
    Ok(result)
}

fn conflicts(step: &Step, items: &[Item]) -> Result<Vec<(usize, usize, String)>> {
    let mut found = Vec::new();
    for (position, one) in step.items.iter().enumerate() {
        for other in &step.items[position + 1..] {
            let (first, second) = (&items[*one], &items[*other]);
            let Some(why) = conflict::between(first, second) else {
                continue;
            };
            if first.when.is_none() && second.when.is_none() {
                let message = format!("`{}` contradicts `{}`: {why}", second.id, first.id);
                return Err(Error::new(message).at(&second.at));
            }
            found.push((*one, *other, why));
        }
    }
    Ok(found)
}

/// Steps that each step waits for.
type Waits = Vec<BTreeSet<usize>>;

fn explicit(items: &[Item], step_of: &[usize], count: usize) -> Waits {
    let mut waits = vec![BTreeSet::new(); count];
    for (index, item) in items.iter().enumerate() {
        for other in &item.depends_on {
            if step_of[index] != step_of[*other] {
                waits[step_of[index]].insert(step_of[*other]);
            }
        }
    }
    waits
}

/// A folder or link before what is below it.
fn folders_first(steps: &[Step], waits: &mut Waits) {
    let by_path: BTreeMap<&str, usize> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match &step.subject {
            Subject::Path(path) => Some((path.as_str(), index)),
            _ => None,
        })
        .collect();
    for (path, index) in &by_path {
        for (at, _) in path.match_indices('/').skip(1) {
            if let Some(above) = by_path.get(&path[..at]) {
                waits[*index].insert(*above);
            }
        }
    }
}

/// What notifies a unit's handler before the unit itself: it starts with its configuration.
fn handlers_units_last(
    items: &[Item],
    handlers: &[Trigger],
    step_of: &[usize],
    by_subject: &HashMap<Subject, usize>,
    waits: &mut Waits,
) {
    for (index, item) in items.iter().enumerate() {
        for unit in item
            .notify
            .iter()
            .flat_map(|handler| &handlers[*handler].units)
        {
            if let Some(step) = by_subject.get(&Subject::Unit(unit.clone()))
                && *step != step_of[index]
            {
                waits[*step].insert(step_of[index]);
            }
        }
    }
}

/// Modules bring settings along.
fn modules_before_settings(steps: &[Step], items: &[Item], waits: &mut Waits) {
    let loads = |step: &Step| {
        let loaded = |item: &usize| matches!(&items[*item].kind, Kind::Module(it) if it.state == ModuleState::Loaded);
        step.items.iter().any(loaded)
    };
    let modules: Vec<usize> = (0..steps.len())
        .filter(|index| loads(&steps[*index]))
        .collect();
    for (index, step) in steps.iter().enumerate() {
        if matches!(step.subject, Subject::Sysctl(_)) {
            waits[index].extend(&modules);
        }
    }
}

/// Each after what it waits for, and otherwise in the order that they have; or a cycle.
fn sort(waits: &Waits) -> Result<Vec<usize>, Vec<usize>> {
    let mut followers = vec![Vec::new(); waits.len()];
    let mut open: Vec<usize> = waits.iter().map(BTreeSet::len).collect();
    for (index, before) in waits.iter().enumerate() {
        for other in before {
            followers[*other].push(index);
        }
    }
    let mut ready: BTreeSet<usize> = (0..waits.len()).filter(|index| open[*index] == 0).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for follower in &followers[next] {
            open[*follower] -= 1;
            if open[*follower] == 0 {
                ready.insert(*follower);
            }
        }
    }
    if order.len() == waits.len() {
        return Ok(order);
    }
    // Going back from any that is left leads around a cycle at last.
    let mut seen = Vec::new();
    let mut at = (0..waits.len())
        .find(|index| open[*index] > 0)
        .unwrap_or_default();
    while !seen.contains(&at) {
        seen.push(at);
        let before = waits[at].iter().find(|other| open[**other] > 0);
        at = before.copied().unwrap_or(at);
    }
    let start = seen.iter().position(|step| *step == at).unwrap_or_default();
    Err(seen.split_off(start))
}

/// The place of each item among all.
fn sort_items(items: &[Item]) -> Result<Vec<usize>> {
    let waits: Waits = items
        .iter()
        .map(|item| item.depends_on.iter().copied().collect())
        .collect();
    let order = sort(&waits).map_err(|cycle| {
        let ids: Vec<&str> = cycle.iter().map(|item| items[*item].id.as_str()).collect();
        cyclic(&ids, &items[cycle[0]].at)
    })?;
    let mut place = vec![0; items.len()];
    for (position, item) in order.into_iter().enumerate() {
        place[item] = position;
    }
    Ok(place)
}

fn refuse(cycle: &[usize], steps: &[Step], items: &[Item]) -> Error {
    let first = |step: &usize| &items[steps[*step].items[0]];
    let ids: Vec<String> = cycle
        .iter()
        .map(|step| {
            let ids = steps[*step]
                .items
                .iter()
                .map(|item| items[*item].id.as_str());
            ids.collect::<Vec<_>>().join("` with `")
        })
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    cyclic(
        &ids,
        &cycle
            .first()
            .map(|step| first(step).at.clone())
            .unwrap_or_default(),
    )
}

fn cyclic(ids: &[&str], at: &str) -> Error {
    let mut text = String::new();
    for id in ids {
        text += &format!("`{id}` waits for ");
    }
    text += &format!("`{}`", ids.first().unwrap_or(&""));
    Error::new(format!("they wait for each other: {text}"))
        .at("dependsOn")
        .at(at)
}
