//! The scheduler against a model: random histories keep its promises at every step.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Conn {
    id: usize,
    ticket: Ticket,
    version: u64,
}

impl Pooled for Conn {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
    fn is_reusable(&self) -> bool {
        true
    }
    fn version(&self) -> u64 {
        self.version
    }
}

#[derive(Debug)]
struct Wait {
    tenant: TenantId,
    gone: bool,
}

impl Waiter for Wait {
    fn is_gone(&self) -> bool {
        self.gone
    }
}

/// A world around the scheduler: sockets that are opening, busy or closing.
struct World {
    scheduler: Scheduler<Conn, Wait>,
    tenants: Vec<TenantId>,
    opening: Vec<(TenantId, Ticket)>,
    busy: Vec<(TenantId, Conn)>,
    closing: Vec<Ticket>,
    served: HashMap<TenantId, usize>,
    permits: usize,
    capacity: usize,
    next: usize,
    now: Instant,
}

const CEILING: usize = 3;

impl World {
    fn new(capacity: usize, tenants: usize) -> Self {
        let tenants: Vec<_> = (0..tenants).map(|_| TenantId::generate()).collect();
        Self {
            scheduler: Scheduler::new(capacity, 4, 64),
            tenants,
            opening: vec![],
            busy: vec![],
            closing: vec![],
            served: HashMap::new(),
            permits: 0,
            capacity,
            next: 0,
            now: Instant::now(),
        }
    }

    fn apply(&mut self, actions: Vec<Action<Conn, Wait>>) {
        for action in actions {
            match action {
                Action::Open(tenant, ticket) => {
                    self.permits += 1;
                    self.opening.push((tenant, ticket));
                }
                Action::Close(conn) => self.closing.push(conn.ticket),
                Action::Give(_, conn, wait) => {
                    *self.served.entry(wait.tenant).or_default() += 1;
                    self.busy.push((wait.tenant, conn));
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        let counts = self.scheduler.counts();
        assert_eq!(counts.open, self.permits, "every permit is accounted for");
        assert!(counts.open <= self.capacity, "the budget holds");
        assert_eq!(counts.opening, self.opening.len());
        assert_eq!(counts.closing, self.closing.len());
        assert_eq!(counts.open, self.opening.len() + self.busy.len() + self.closing.len() + counts.idle);
        for tenant in &self.tenants {
            if let Some(pool) = self.scheduler.pool_counts(*tenant) {
                assert!(pool.idle + pool.busy + pool.opening <= CEILING, "the ceiling holds");
                assert!(pool.idle == 0 || pool.waiting == 0, "nobody waits beside an idle connection");
            }
        }
    }

    fn ask(&mut self, at: usize) {
        let tenant = self.tenants[at % self.tenants.len()];
        let actions = self.scheduler.learn(tenant, 1, Some(1), CEILING, self.now);
        self.apply(actions);
        let (conn, actions) = self.scheduler.checkout(tenant, self.now);
        match conn {
            Some(conn) => {
                *self.served.entry(tenant).or_default() += 1;
                self.busy.push((tenant, conn));
                self.apply(actions);
            }
            None => {
                self.apply(actions);
                if let Ok(actions) = self.scheduler.wait(tenant, Wait { tenant, gone: false }, self.now) {
                    self.apply(actions);
                }
            }
        }
    }

    fn opened(&mut self, at: usize) {
        if self.opening.is_empty() {
            return;
        }
        let (tenant, ticket) = self.opening.remove(at % self.opening.len());
        self.next += 1;
        let conn = Conn { id: self.next, ticket, version: 1 };
        let actions = self.scheduler.checkin(tenant, conn, true, self.now);
        self.apply(actions);
    }

    fn done(&mut self, at: usize) {
        if self.busy.is_empty() {
            return;
        }
        let (tenant, conn) = self.busy.remove(at % self.busy.len());
        assert!(conn.id > 0);
        let actions = self.scheduler.checkin(tenant, conn, false, self.now);
        self.apply(actions);
    }

    fn closed(&mut self) {
        if let Some(ticket) = self.closing.pop() {
            self.permits -= 1;
            let actions = self.scheduler.release(&ticket, self.now);
            self.apply(actions);
        }
    }

    fn failed(&mut self, at: usize) {
        if self.opening.is_empty() {
            return;
        }
        let (tenant, ticket) = self.opening.remove(at % self.opening.len());
        let (_, actions) = self.scheduler.open_failed(tenant, self.now);
        // The permit is still out until its socket is dropped.
        for action in actions {
            match action {
                Action::Open(tenant, ticket) => {
                    self.permits += 1;
                    self.opening.push((tenant, ticket));
                }
                Action::Close(conn) => self.closing.push(conn.ticket),
                Action::Give(_, conn, wait) => self.busy.push((wait.tenant, conn)),
            }
        }
        self.permits -= 1;
        let actions = self.scheduler.release(&ticket, self.now);
        self.apply(actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_in_any_history(
        capacity in 1_usize..6,
        steps in prop::collection::vec((0_u8..7, 0_usize..1000), 1..300),
    ) {
        let mut world = World::new(capacity, 5);
        for (what, at) in steps {
            match what {
                0 | 1 => world.ask(at),
                2 => world.opened(at),
                3 => world.done(at),
                4 => world.closed(),
                5 => world.failed(at),
                _ => world.now += Duration::from_millis((at % 200) as u64),
            }
        }
        // Whatever happened: if work is finished and sockets close, nobody is left waiting.
        for _ in 0..2000 {
            world.opened(0);
            world.done(0);
            world.closed();
            for at in 0..5 {
                // A failed opening blocks its tenant until a probe succeeds.
                let tenant = world.tenants[at];
                let waits = world.scheduler.pool_counts(tenant).is_some_and(|p| p.waiting > 0 && p.opening + p.busy == 0);
                if waits && let Some(action) = world.scheduler.open_unasked(tenant) {
                    world.apply(vec![action]);
                }
            }
        }
        prop_assert_eq!(world.scheduler.counts().waiting_tenants, 0);
    }
}

#[test]
fn a_crowd_does_not_starve_a_single_request() {
    let mut world = World::new(2, 2);
    for _ in 0..60 {
        world.ask(0);
    }
    world.ask(1);
    let (crowd, single) = (world.tenants[0], world.tenants[1]);
    for _ in 0..20 {
        world.opened(0);
        world.done(0);
        world.closed();
    }
    assert_eq!(world.served.get(&single), Some(&1), "served while the crowd still waits");
    assert!(world.scheduler.pool_counts(crowd).is_some_and(|p| p.waiting > 0));
}

#[test]
fn a_single_connection_changes_hands_after_its_quantum() {
    let mut world = World::new(1, 2);
    for _ in 0..60 {
        world.ask(0);
    }
    world.ask(1);
    for _ in 0..200 {
        world.opened(0);
        world.done(0);
        world.closed();
    }
    assert_eq!(world.served.get(&world.tenants[1]), Some(&1));
}

#[test]
fn a_new_epoch_retires_connections() {
    let mut world = World::new(4, 1);
    world.ask(0);
    world.opened(0);
    world.ask(0);
    world.opened(0);
    world.done(0);
    let tenant = world.tenants[0];
    let actions = world.scheduler.learn(tenant, 2, Some(2), CEILING, world.now);
    world.apply(actions);
    assert_eq!(world.closing.len(), 1, "the idle one at once");
    world.done(0);
    assert_eq!(world.closing.len(), 2, "the busy one when it comes back");
    let stale = world.scheduler.learn(tenant, 1, Some(1), CEILING, world.now);
    assert!(stale.is_empty(), "older news are ignored");
}

#[test]
fn idle_connections_are_closed_oldest_first() {
    let mut world = World::new(4, 2);
    for at in 0..2 {
        world.ask(at);
        world.opened(0);
        world.done(0);
        world.now += Duration::from_secs(1);
    }
    let actions = world.scheduler.close_idle(world.now - Duration::from_millis(1500));
    world.apply(actions);
    assert_eq!(world.closing.len(), 1);
    assert!(!world.scheduler.knows(world.tenants[0]));
    assert!(world.scheduler.knows(world.tenants[1]));
}
