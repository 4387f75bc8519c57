//! Hex strings with long jumps: parts that were found one by one, joined.

use super::scanner::Match;

/// Of the first part's matches those that all other parts follow, each as long as the nearest end.
/// `parts` are the matches by offset, and how many bytes may be before each part.
pub(crate) fn join(parts: &[(&[Match], (u64, u64))]) -> Vec<Match> {
    let Some(((last, gap), before)) = parts.split_last() else {
        return Vec::new();
    };
    let mut joined = last.to_vec();
    let mut gap = *gap;
    for (heads, before_heads) in before.iter().rev() {
        joined = heads
            .iter()
            .filter_map(|head| follow(*head, &joined, gap))
            .collect();
        gap = *before_heads;
    }
    joined
}

/// A match with the tail whose end is nearest.
fn follow(head: Match, tails: &[Match], (low, high): (u64, u64)) -> Option<Match> {
    let end = head.end();
    let first = tails.partition_point(|tail| tail.offset < end.saturating_add(low));
    let reachable = tails[first..]
        .iter()
        .take_while(|tail| tail.offset - end <= high);
    // Tails have about one length, so those after the first one hardly end before it.
    let nearest = reachable.take(NEAREST).map(|tail| tail.end()).min()?;
    Some(Match {
        length: nearest - head.offset,
        ..head
    })
}

/// Looking at all would take quadratic time.
const NEAREST: usize = 64;
