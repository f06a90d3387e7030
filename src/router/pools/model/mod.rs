//! The manager of connections against a model: seeded histories of everything that can happen to some nodes that share
//! one budget, and three promises that must hold at every step of them.
//!
//! Schedulers, pools and the arithmetic of slices are the real ones. Modelled are sockets, requests, the registry, the
//! ledger's rows and the keeper's order of steps. Nodes' own clocks only pass; the control plane's jumps, at most once
//! between two renewals of a lease. Not modelled: serving without any slice while the control plane is silent.

mod events;
mod ledger;
pub(in crate::router) mod mutant;
mod node;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use events::{Event, History, Kind};
use mutant::Mutant;
use world::World;

/// A connection serves one tenant, at the version that the registry has said.
const ONE_TENANT: &str = "a connection serves one tenant";
/// The connections of all nodes, crashed ones' included.
const BUDGET: &str = "the sum never exceeds the budget";
/// By eviction or otherwise: a request is answered once, and nothing is closed under it.
const REQUESTS: &str = "no request is lost or served twice";
/// What is counted is what is there.
const COUNTS: &str = "the counts are true";

fn promise(holds: bool, promise: &str, detail: impl FnOnce() -> String) {
    if !holds {
        // Without a report: most of these are expected, and the rest are told in the end.
        resume_unwind(Box::new(format!("{promise}: {}", detail())));
    }
}

/// Histories in one run of the tests.
const HISTORIES: u64 = 20_000;
/// Histories that must find a mutant out; most need a few only.
const ENOUGH: u64 = HISTORIES;

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Lives a history. `Err` has the promise that was broken.
fn live(history: &History) -> Result<usize, String> {
    catch_unwind(AssertUnwindSafe(|| history.live())).map_err(|panic| said(&*panic))
}

/// Leaves out what is not needed for it to fail.
fn shrink(mut history: History) -> (History, String) {
    let mut why = live(&history).expect_err("it fails");
    let mut piece = history.events.len().max(1) / 2;
    while piece > 0 {
        let mut at = 0;
        while at + piece <= history.events.len() {
            let less = history.without(at, piece);
            match live(&less) {
                Err(error) => (history, why) = (less, error),
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    (history, why)
}

#[test]
fn promises_hold_in_every_history() {
    let (next, served) = (AtomicU64::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let live_some = || {
            while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < HISTORIES) {
                match live(&History::of(seed)) {
                    Ok(count) => served.fetch_add(count, Ordering::Relaxed),
                    Err(_) => {
                        let (history, why) = shrink(History::of(seed));
                        panic!("history {seed}: {why}\n{history:?}");
                    }
                };
            }
        };
        let other = scope.spawn(live_some);
        live_some();
        other.join().expect("the other half");
    });
    // The histories are about something.
    assert!(served.load(Ordering::Relaxed) > 5 * HISTORIES as usize, "{served:?} requests were served");
}

/// Some history finds the mutant out by this promise; others may do by another.
fn assert_found(mutants: &[Mutant], promise: &str) {
    for mutant in mutants {
        let _broken = mutant::with(*mutant);
        let broken = |seed| live(&History::of(seed)).is_err_and(|why| why.starts_with(promise));
        assert!((0..ENOUGH).any(broken), "{mutant:?}");
    }
}

#[test]
fn serving_another_tenant_is_found_out() {
    assert_found(&[Mutant::HandsToAnother, Mutant::KeepsOldVersions], ONE_TENANT);
}

#[test]
fn exceeding_the_budget_on_one_node_is_found_out() {
    assert_found(&[Mutant::IgnoresCapacity, Mutant::FreesBeforeClosed], BUDGET);
}

#[test]
fn exceeding_the_budget_over_nodes_is_found_out() {
    let order = [Mutant::LendsWhatIsHeld, Mutant::RaisesBeforeRow, Mutant::LowersRowFirst];
    assert_found(&order, BUDGET);
    assert_found(&[Mutant::ReclaimsUnseen, Mutant::ReclaimsTheLiving], BUDGET);
}

#[test]
fn losing_a_request_is_found_out() {
    assert_found(&[Mutant::ClosesUnderRequests, Mutant::ForgetsWaiters, Mutant::ForgetsTheLast], REQUESTS);
}

#[test]
fn recovering_a_connection_twice_is_found_out() {
    assert_found(&[Mutant::RecoversTwice], REQUESTS);
}

#[test]
fn turns_that_are_nobody_s_are_found_out() {
    assert_found(&[Mutant::KeepsTurns], COUNTS);
}

#[test]
fn one_request_is_served() {
    for alone in [false, true] {
        let mut world = World::new(1, 1, 1);
        let ask = Event { kind: Kind::Ask, node: 0, at: if alone { 0 } else { 64 } };
        let happen = |kind| Event { kind, node: 0, at: 0 };
        world.step(ask);
        world.step(happen(Kind::Opens));
        assert_eq!(world.nodes[0].served, 1);
        world.step(happen(Kind::Done));
        world.step(ask);
        assert_eq!(world.nodes[0].served, 2, "warm");
    }
}

/// One of two openings fails, the other one's connection turns out well: that closes the breaker, so nobody probes any
/// more, and the tenant must be able to open again by itself.
#[test]
fn a_connection_that_is_well_lets_others_be_opened() {
    let mut world = World::new(2, 1, 1);
    let first = [Kind::Ask, Kind::Ask, Kind::OpeningFails, Kind::Opens, Kind::ServerCloses];
    for kind in first {
        world.step(Event { kind, node: 0, at: 0 });
    }
    world.run_down();
    assert_eq!(world.nodes[0].served, 2);
}

/// A second opening fails while the first connection is in use: the router asks for one more, though nothing starves.
#[test]
fn a_tenant_that_holds_a_connection_is_probed_too() {
    let mut world = World::new(3, 1, 1);
    for kind in [Kind::Ask, Kind::Opens, Kind::Ask, Kind::OpeningFails] {
        world.step(Event { kind, node: 0, at: 0 });
    }
    let node = &mut world.nodes[0];
    assert_eq!((node.served, node.physical()), (1, 1), "the second waits for the first one's connection");
    node.probe_again();
    assert_eq!(node.physical(), 2, "one is being opened");
    node.probe_again();
    assert_eq!(node.physical(), 2, "and no more than one");
    node.opens(0);
    assert_eq!((node.served, node.physical()), (2, 2), "whoever waited has it, and nobody is asked for more");
}

/// Nobody may have a second connection now, and in the meantime nobody asks for the tenant any more.
#[test]
fn a_probe_that_is_given_up_opens_nothing_later() {
    let mut world = World::new(2, 1, 1);
    for kind in [Kind::Ask, Kind::Opens, Kind::Ask, Kind::OpeningFails, Kind::GiveUpWaiting] {
        world.step(Event { kind, node: 0, at: 0 });
    }
    let node = &mut world.nodes[0];
    node.slows(0);
    node.probe_again();
    node.probes_end();
    node.slows(1);
    assert_eq!(node.physical(), 1);
}

/// Two readers share a connection for which a writer waits. One has left it and has yet to say so when the other one's
/// client goes away, so that both find it drained.
#[test]
fn who_left_before_does_not_have_it_recovered_again() {
    let mut world = World::new(1, 1, 1);
    let (reader, writer, interrupted) = (64, 0, 3 * 64);
    let first = [(Kind::Ask, reader), (Kind::Opens, 0), (Kind::Ask, reader), (Kind::Ask, writer)];
    let race = [(Kind::Done, interrupted), (Kind::Abandon, 0), (Kind::Tell, 0), (Kind::Recovered, 0)];
    for (kind, at) in first.into_iter().chain(race) {
        world.step(Event { kind, node: 0, at });
    }
    assert_eq!(world.nodes[0].served, 3, "the writer has it, in order");
    assert_eq!(world.nodes[0].unsettled(), 1, "one socket, and nothing is to come of it");
}

/// A writer is not hurried by another tenant that needs its connection; but it is when its own is suspended after that.
#[test]
fn what_only_made_room_has_a_deadline_once_its_tenant_is_suspended() {
    let mut world = World::new(1, 2, 1);
    let cancelled = |world: &mut World, then: &[(Kind, usize)]| {
        for (kind, at) in then {
            world.step(Event { kind: *kind, node: 0, at: *at });
        }
        world.nodes[0].cancelled
    };
    let (writer, other, drained) = (0, 1, 10_000);
    let evicted = [(Kind::Ask, writer), (Kind::Opens, 0), (Kind::Time, 1000), (Kind::Ask, other)];
    assert_eq!(cancelled(&mut world, &evicted), 0);
    assert_eq!(cancelled(&mut world, &[(Kind::Time, 2 * drained), (Kind::Tick, 0)]), 0, "it only makes room");
    assert_eq!(cancelled(&mut world, &[(Kind::Suspend, writer), (Kind::Hear, writer), (Kind::Tick, 0)]), 0, "too soon");
    assert_eq!(cancelled(&mut world, &[(Kind::Time, drained), (Kind::Tick, 0)]), 1);
}
