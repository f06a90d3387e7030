//! Who gets how much of a budget: pure arithmetic.
//!
//! Max–min fairness: nobody gets more than it wants while somebody wants more than it gets. What nobody wants is shared
//! evenly, so that a burst finds permits where it begins. A node changes its own slice only, one step at a time, and
//! grows only into what no row holds: so the sum stays within the budget whatever the order of steps.

#[cfg(test)]
use crate::router::pools::model::mutant;

/// A node's row in the ledger of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::router) struct Row {
    /// What it may use.
    pub(in crate::router) slice: u32,
    /// What it could use.
    pub(in crate::router) wanted: u32,
    /// Whether its lease runs. The slice of a node that is gone counts until it is taken back.
    pub(in crate::router) live: bool,
}

/// What one node does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::router) struct Step {
    /// Its slice from now on; never less than before.
    pub(in crate::router) slice: u32,
    /// Somebody lacks what this node has too much: come down to this, as connections close.
    pub(in crate::router) yield_to: Option<u32>,
}

/// What each row should come to. Rows of nodes that are gone get nothing, and what they hold is not there to be had.
pub(in crate::router) fn targets(budget: u32, rows: &[Row]) -> Vec<u32> {
    let held: u32 = rows.iter().filter(|row| !row.live).fold(0, |sum, row| sum.saturating_add(row.slice));
    let live: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].live).collect();
    let mut targets = vec![0; rows.len()];
    let mut left = budget.saturating_sub(held);
    // Wants met from the smallest up: each takes at most an even share of what is left.
    let demand = |at: usize| rows[at].wanted.max(1);
    let mut by_demand = live.clone();
    by_demand.sort_by_key(|at| demand(*at));
    for (done, at) in by_demand.iter().enumerate() {
        let sharers = count(by_demand.len() - done);
        // Rounded up, so that under one permit each the first ones have theirs.
        targets[*at] = demand(*at).min(left.div_ceil(sharers));
        left -= targets[*at];
    }
    for (done, at) in live.iter().enumerate() {
        let extra = left.div_ceil(count(live.len() - done));
        targets[*at] += extra;
        left -= extra;
    }
    targets
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX).max(1)
}

/// Whether a node is so far below its target that another has to give way: it wants more than it has, or has less than
/// half of its share. Less than that is not worth closing connections for.
pub(in crate::router) const fn lacks(row: &Row, target: u32) -> bool {
    row.live && target > row.slice && (row.wanted > row.slice || row.slice < target / 2)
}

/// The next step of the node whose row is `rows[me]`.
pub(in crate::router) fn step(budget: u32, rows: &[Row], me: usize) -> Step {
    let targets = targets(budget, rows);
    let total = rows.iter().fold(0_u32, |sum, row| sum.saturating_add(row.slice));
    let free = budget.saturating_sub(total);
    let (mine, target) = (rows[me].slice, targets[me]);
    #[cfg(test)]
    let free = mutant::free(free, budget, mine);
    if target >= mine {
        return Step { slice: mine + (target - mine).min(free), yield_to: None };
    }
    let lacking: u32 = (0..rows.len())
        .filter(|at| *at != me && lacks(&rows[*at], targets[*at]))
        .fold(0, |sum, at| sum.saturating_add(targets[at] - rows[at].slice));
    let gives_way = total > budget || lacking > free;
    // Whoever serves goes on with one, where only those who are gone hold too much: they will be looked for in a moment.
    let least = u32::from(lacking <= free && rows.iter().any(|row| !row.live && row.slice > 0));
    Step { slice: mine, yield_to: gives_way.then_some(target.max(least)) }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
