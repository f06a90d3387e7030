//! The arithmetic by example, and then against any order of steps, crashes and changes of the budget.

use proptest::prelude::*;

use super::*;

fn row(slice: u32, wanted: u32) -> Row {
    Row { slice, wanted, live: true }
}

const fn gone(slice: u32) -> Row {
    Row { slice, wanted: 0, live: false }
}

#[test]
fn a_node_alone_gets_all_at_once() {
    assert_eq!(step(60, &[row(0, 1)], 0), Step { slice: 60, yield_to: None });
    assert_eq!(step(1, &[row(0, 0)], 0), Step { slice: 1, yield_to: None });
}

#[test]
fn wants_are_met_and_the_rest_is_shared() {
    assert_eq!(targets(60, &[row(0, 10), row(0, 20), row(0, 0)]), [20, 30, 10]);
    assert_eq!(targets(60, &[row(0, 100), row(0, 100), row(0, 5)]), [28, 27, 5]);
    assert_eq!(targets(10, &[row(0, 9), row(0, 9), row(0, 9)]), [4, 3, 3]);
    assert_eq!(targets(2, &[row(0, 9), row(0, 1), row(0, 0)]), [0, 1, 1], "fewer permits than nodes");
}

#[test]
fn what_the_gone_hold_is_not_there() {
    assert_eq!(targets(60, &[gone(20), row(20, 50), row(20, 50)]), [0, 20, 20]);
    assert_eq!(step(60, &[gone(20), row(20, 50), row(20, 50)], 1), Step { slice: 20, yield_to: None });
    assert_eq!(step(60, &[row(20, 50), row(20, 50)], 0), Step { slice: 30, yield_to: None });
}

#[test]
fn nobody_gives_way_for_nothing() {
    // The newcomer has nothing.
    assert_eq!(step(60, &[row(60, 10), row(0, 1)], 0).yield_to, Some(35));
    // A neighbour a few permits short of an even share wants none of them.
    assert_eq!(step(60, &[row(36, 0), row(24, 3)], 0).yield_to, None);
    // It does now.
    assert_eq!(step(60, &[row(36, 0), row(24, 28)], 0).yield_to, Some(17));
    // What is free is enough.
    assert_eq!(step(60, &[row(30, 0), row(1, 2)], 0).yield_to, None);
}

#[test]
fn a_lowered_budget_is_come_down_to() {
    assert_eq!(step(20, &[row(30, 30), row(30, 30)], 0), Step { slice: 30, yield_to: Some(10) });
    assert_eq!(step(20, &[row(10, 30), row(30, 30)], 0), Step { slice: 10, yield_to: None }, "nobody grows meanwhile");
}

/// A cluster's nodes as the ledger and they themselves see them.
#[derive(Debug, Clone)]
struct World {
    budget: u32,
    rows: Vec<Row>,
    /// Connections that are really open.
    open: Vec<u32>,
    /// What each node lets itself open.
    capacity: Vec<u32>,
}

#[derive(Debug, Clone)]
enum Event {
    Join,
    /// A claim: the row comes down to what the node may have out, then takes a step. `lost`: the answer never arrives.
    Claim {
        node: usize,
        wanted: u32,
        lost: bool,
    },
    Open(usize),
    Close(usize),
    Crash(usize),
    /// The connections of a crashed node end.
    Gone(usize),
    Reclaim(usize),
    Budget(u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let node = || 0..6_usize;
    let event = prop_oneof![
        1 => Just(Event::Join),
        8 => (node(), 0..40_u32, prop::bool::weighted(0.1))
            .prop_map(|(node, wanted, lost)| Event::Claim { node, wanted, lost }),
        8 => node().prop_map(Event::Open),
        4 => node().prop_map(Event::Close),
        1 => node().prop_map(Event::Crash),
        1 => node().prop_map(Event::Gone),
        2 => node().prop_map(Event::Reclaim),
        1 => (1..40_u32).prop_map(Event::Budget),
    ];
    prop::collection::vec(event, 1..200)
}

impl World {
    fn sum(&self) -> u32 {
        self.rows.iter().map(|row| row.slice).sum()
    }

    fn happen(&mut self, event: Event) {
        let count = self.rows.len();
        match event {
            Event::Join if count < 6 => {
                self.rows.push(row(0, 1));
                self.open.push(0);
                self.capacity.push(0);
            }
            Event::Claim { node, wanted, lost } if node < count && self.rows[node].live => {
                let held = self.capacity[node].max(self.open[node]);
                self.rows[node].slice = self.rows[node].slice.min(held);
                self.rows[node].wanted = wanted;
                let step = step(self.budget, &self.rows, node);
                self.rows[node].slice = step.slice;
                if !lost {
                    self.capacity[node] = step.yield_to.unwrap_or(step.slice);
                }
            }
            Event::Open(node) if node < count && self.rows[node].live && self.open[node] < self.capacity[node] => {
                self.open[node] += 1;
            }
            Event::Close(node) if node < count => self.open[node] = self.open[node].saturating_sub(1),
            Event::Crash(node) if node < count => self.rows[node].live = false,
            Event::Gone(node) if node < count && !self.rows[node].live => self.open[node] = 0,
            // Only what is seen to be gone.
            Event::Reclaim(node) if node < count && !self.rows[node].live && self.open[node] == 0 => {
                self.rows.remove(node);
                self.open.remove(node);
                self.capacity.remove(node);
            }
            Event::Budget(budget) => self.budget = budget,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_sum_never_exceeds_the_budget(budget in 1..40_u32, events in events()) {
        let mut world = World { budget, rows: vec![], open: vec![], capacity: vec![] };
        for event in events {
            let before = world.sum();
            world.happen(event);
            // A lowered budget is over-drawn until connections close, and by no permit more than it was.
            prop_assert!(world.sum() <= world.budget.max(before), "{world:?}");
            for node in 0..world.rows.len() {
                prop_assert!(world.open[node] <= world.rows[node].slice, "{world:?}");
            }
        }
    }

    #[test]
    fn targets_use_the_budget_and_starve_nobody(
        budget in 1..100_u32,
        wants in prop::collection::vec(0..80_u32, 1..8),
    ) {
        let rows: Vec<Row> = wants.iter().map(|wanted| row(0, *wanted)).collect();
        let targets = targets(budget, &rows);
        prop_assert_eq!(targets.iter().sum::<u32>(), budget);
        if budget as usize >= rows.len() {
            prop_assert!(targets.iter().all(|target| *target >= 1));
        }
        // Nobody who lacks has less than somebody else got, beyond the odd one.
        for (one, target) in rows.iter().zip(&targets) {
            let most = targets.iter().zip(&rows).map(|(t, r)| (*t).min(r.wanted.max(1))).max().unwrap_or(0);
            prop_assert!(*target >= one.wanted.max(1) || *target + 1 >= most, "{rows:?} {targets:?}");
        }
    }

    /// From anywhere, claiming in turn leads to where nobody lacks anything.
    #[test]
    fn claims_converge(budget in 6..60_u32, slices in prop::collection::vec((0..10_u32, 0..80_u32), 1..6)) {
        let mut rows: Vec<Row> = slices.iter().map(|(slice, wanted)| row(*slice, *wanted)).collect();
        for _ in 0..4 {
            for me in 0..rows.len() {
                let step = step(budget, &rows, me);
                rows[me].slice = step.yield_to.unwrap_or(step.slice);
            }
        }
        let targets = targets(budget, &rows);
        for (row, target) in rows.iter().zip(&targets) {
            prop_assert!(!lacks(row, *target), "{rows:?} {targets:?}");
        }
    }
}

/// Where it is those who are gone that hold too much, whoever serves goes on with one connection until they were looked for.
#[test]
fn nobody_gives_the_last_one_for_those_who_are_gone() {
    assert_eq!(step(80, &[row(4, 4), gone(80)], 0), Step { slice: 4, yield_to: Some(1) });
    // For somebody who lives and has nothing, it comes down as far as it must.
    assert_eq!(step(1, &[row(0, 1), row(1, 1)], 1).yield_to, Some(0));
}
