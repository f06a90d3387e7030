//! What can happen, how often, and a history of it from a seed.

use super::world::World;
use crate::router::pools::pooled::Mode;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    // Requests.
    Ask,
    Done,
    Abandon,
    Tell,
    GiveUpWaiting,
    // Connections.
    Opens,
    OpeningFails,
    ServerFull,
    MoreRoom,
    Probe,
    Closed,
    Recovered,
    ServerCloses,
    Stale,
    Crowd,
    Slows,
    // The registry, and whoever hears of it.
    Rotate,
    Migrate,
    Suspend,
    Resume,
    MoveAway,
    MoveBack,
    Hear,
    // Nodes and their slices.
    Start,
    Crash,
    ConnectionDies,
    Claim,
    Arrive,
    Answer,
    NoAnswer,
    Look,
    Budget,
    // Clocks.
    Time,
    ClockForward,
    ClockBack,
    Tick,
}

const OFTEN: [(u32, Kind); 36] = [
    (24, Kind::Ask),
    (20, Kind::Done),
    (4, Kind::Abandon),
    (5, Kind::Tell),
    (2, Kind::GiveUpWaiting),
    (20, Kind::Opens),
    (2, Kind::OpeningFails),
    (1, Kind::ServerFull),
    (2, Kind::MoreRoom),
    (4, Kind::Probe),
    (16, Kind::Closed),
    (5, Kind::Recovered),
    (2, Kind::ServerCloses),
    (2, Kind::Stale),
    (3, Kind::Crowd),
    (3, Kind::Slows),
    (2, Kind::Rotate),
    (1, Kind::Migrate),
    (1, Kind::Suspend),
    (2, Kind::Resume),
    (1, Kind::MoveAway),
    (2, Kind::MoveBack),
    (8, Kind::Hear),
    (2, Kind::Start),
    (1, Kind::Crash),
    (2, Kind::ConnectionDies),
    (8, Kind::Claim),
    (10, Kind::Arrive),
    (9, Kind::Answer),
    (2, Kind::NoAnswer),
    (7, Kind::Look),
    (1, Kind::Budget),
    (8, Kind::Time),
    (2, Kind::ClockForward),
    (1, Kind::ClockBack),
    (4, Kind::Tick),
];

/// Something that happens to one of the nodes; `at` chooses among what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) node: usize,
    pub(super) at: usize,
}

/// Where a history begins, and what happens.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) budget: u32,
    pub(super) tenants: usize,
    pub(super) nodes: usize,
    pub(super) events: Vec<Event>,
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }

    fn kind(&mut self) -> Kind {
        let sum: u32 = OFTEN.iter().map(|(often, _)| often).sum();
        let mut rest = self.below(sum.into());
        for (often, kind) in OFTEN {
            match rest.checked_sub(often.into()) {
                Some(left) => rest = left,
                None => return kind,
            }
        }
        Kind::Tick
    }
}

impl History {
    /// The same for the same seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let nodes = 1 + dice.index(3);
        let budget = 1 + u32::try_from(dice.below(4 + 2 * nodes as u64)).expect("small");
        let (tenants, length) = (1 + dice.index(6), 1 + dice.index(240));
        let events = (0..length).map(|_| Event { kind: dice.kind(), node: dice.index(3), at: dice.index(4096) });
        Self { budget, tenants, nodes, events: events.collect() }
    }

    /// Lives it, to the end where nobody waits. Panics with the promise that is broken. How many requests were served.
    pub(super) fn live(&self) -> usize {
        let mut world = World::new(self.budget, self.tenants, self.nodes);
        for event in &self.events {
            world.step(*event);
        }
        world.run_down();
        world.nodes.iter().map(|node| node.served).sum()
    }

    /// The same without `count` events from `at`.
    pub(super) fn without(&self, at: usize, count: usize) -> Self {
        let mut less = self.clone();
        less.events.drain(at..at + count);
        less
    }
}

/// Whether whoever leaves a connection is interrupted before the scheduler hears of it.
const fn dawdles(at: usize) -> bool {
    (at / 64) % 4 == 3
}

impl World {
    pub(super) fn step(&mut self, Event { kind, node, at }: Event) {
        let touched = self.happen(kind, node, at);
        self.check(touched);
    }

    /// Gives the node whose own state may be another now.
    fn happen(&mut self, kind: Kind, node: usize, at: usize) -> Option<usize> {
        let tenant = at % self.registry.len();
        let ms = i64::try_from(at).expect("small");
        match kind {
            Kind::Rotate => self.change(tenant, |entry| entry.version += 1),
            Kind::Migrate => self.change(tenant, |entry| entry.version += 1 << 32),
            Kind::Suspend => self.change(tenant, |entry| entry.suspended = true),
            Kind::Resume => self.change(tenant, |entry| entry.suspended = false),
            Kind::MoveAway => self.change(tenant, |entry| (entry.moved, entry.version) = (true, entry.version + 1)),
            Kind::MoveBack if self.registry[tenant].moved => {
                self.change(tenant, |entry| (entry.moved, entry.version) = (false, entry.version + 1));
            }
            Kind::Start => self.start(),
            Kind::ConnectionDies => self.linger_less(at),
            Kind::Arrive => self.arrive(at),
            Kind::Answer => self.answer(at),
            Kind::Look => self.look(),
            Kind::Budget => self.set_budget(1 + u32::try_from(at % 10).expect("small")),
            Kind::Time => self.pass(1 + ms),
            Kind::ClockForward => self.set_clock(ms * 20),
            Kind::ClockBack => self.set_clock(-ms * 20),
            _ if self.nodes.is_empty() => {}
            _ => {
                let node = node % self.nodes.len();
                self.happen_to(kind, node, at, tenant);
                return Some(node);
            }
        }
        None
    }

    fn happen_to(&mut self, kind: Kind, at_node: usize, at: usize, tenant: usize) {
        let node = &mut self.nodes[at_node];
        match kind {
            Kind::Ask => node.ask(tenant, if (at / 64).is_multiple_of(4) { Mode::Alone } else { Mode::Shared }),
            Kind::Done => node.leave(at, true, dawdles(at)),
            Kind::Abandon => node.leave(at, false, dawdles(at)),
            Kind::Tell => node.tells(at),
            Kind::GiveUpWaiting => node.give_up_waiting(at),
            Kind::Opens => node.opens(at),
            Kind::OpeningFails => node.opening_fails(at),
            Kind::ServerFull => node.server_is_full(at),
            Kind::MoreRoom => node.more_room(),
            Kind::Probe => node.probe_again(),
            Kind::Closed => node.closed(at),
            Kind::Recovered => node.recovered(at, (at / 64).is_multiple_of(2)),
            Kind::ServerCloses => node.server_closes(at),
            Kind::Stale => node.stale(tenant),
            Kind::Crowd => node.crowd(tenant),
            Kind::Slows => node.slows(at % 4),
            Kind::Tick => node.tick(),
            Kind::Hear => self.hear(at_node, tenant),
            Kind::Crash => self.crash(at_node),
            Kind::Claim => self.claim(at_node),
            Kind::NoAnswer => self.do_without(at_node, at.is_multiple_of(2)),
            _ => {}
        }
    }
}
