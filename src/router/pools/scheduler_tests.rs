//! The scheduler against a model: seeded histories of everything that can happen, and its promises at every step.

use std::collections::HashMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

/// A connection of the model.
#[derive(Debug)]
struct Wire {
    id: usize,
    tenant: TenantId,
    gone: AtomicBool,
}

impl Line for Wire {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// A request of the model: whose it is, and what has become of it.
#[derive(Debug, Clone)]
struct Wait {
    id: usize,
    tenant: TenantId,
    mode: Mode,
    gone: Arc<AtomicBool>,
}

impl Waiter for Wait {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
    fn mode(&self) -> Mode {
        self.mode
    }
}

struct Using {
    pool: Arc<TenantPool<Wire>>,
    conn: Arc<Pooled<Wire>>,
    mode: Mode,
}

/// What happens next; the numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    Ask(usize, Mode),
    Done(usize),
    Abandon(usize),
    GiveUpWaiting(usize),
    OpeningSucceeds(usize),
    OpeningFails(usize),
    Verified(usize),
    Closed(usize),
    Recovered(usize, bool),
    ServerCloses(usize),
    Rotate(usize),
    Suspend(usize),
    Resume(usize),
    Stale(usize),
    Crowd(usize),
    Budget(usize),
    ServerFull(usize),
    MoreRoom,
    Time(u64),
    Tick,
}

fn events() -> impl Strategy<Value = Event> {
    let some = 0..64_usize;
    let mode = prop_oneof![3 => Just(Mode::Shared), 1 => Just(Mode::Alone)];
    prop_oneof![
        12 => (some.clone(), mode).prop_map(|(at, mode)| Event::Ask(at, mode)),
        10 => some.clone().prop_map(Event::Done),
        2 => some.clone().prop_map(Event::Abandon),
        1 => some.clone().prop_map(Event::GiveUpWaiting),
        10 => some.clone().prop_map(Event::OpeningSucceeds),
        1 => some.clone().prop_map(Event::OpeningFails),
        8 => some.clone().prop_map(Event::Verified),
        8 => some.clone().prop_map(Event::Closed),
        3 => (some.clone(), any::<bool>()).prop_map(|(at, well)| Event::Recovered(at, well)),
        1 => some.clone().prop_map(Event::ServerCloses),
        1 => some.clone().prop_map(Event::Rotate),
        1 => some.clone().prop_map(Event::Suspend),
        1 => some.clone().prop_map(Event::Resume),
        1 => some.clone().prop_map(Event::Stale),
        2 => some.clone().prop_map(Event::Crowd),
        1 => (1..6_usize).prop_map(Event::Budget),
        1 => some.prop_map(Event::ServerFull),
        1 => Just(Event::MoreRoom),
        3 => (1..3000_u64).prop_map(Event::Time),
        2 => Just(Event::Tick),
    ]
}

/// The world around the scheduler: sockets, servers and requests.
struct World {
    scheduler: Scheduler<Wire, Wait>,
    directory: Arc<Directory<Wire>>,
    tenants: Vec<TenantId>,
    /// What the registry says of each: generation, and version unless suspended.
    news: HashMap<TenantId, (i64, Option<u64>)>,
    opening: Vec<Ticket>,
    unverified: Vec<Arc<Pooled<Wire>>>,
    /// Sockets that are open, or being closed: one permit each.
    sockets: Vec<(Ticket, usize)>,
    closing: Vec<(Ticket, usize)>,
    recovering: Vec<Arc<Pooled<Wire>>>,
    using: Vec<Using>,
    waiting: HashMap<usize, Wait>,
    served: Vec<usize>,
    budget: usize,
    next: usize,
    now: Instant,
}

const CEILING: usize = 3;
const IDLE: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(10);

impl World {
    fn new(budget: usize, tenants: usize) -> Self {
        let directory = Arc::new(Directory::new());
        let tenants: Vec<_> = (0..tenants).map(|_| TenantId::generate()).collect();
        Self {
            scheduler: Scheduler::new(budget, 64, directory.clone()),
            directory,
            news: tenants.iter().map(|t| (*t, (1, Some(1)))).collect(),
            tenants,
            opening: vec![],
            unverified: vec![],
            sockets: vec![],
            closing: vec![],
            recovering: vec![],
            using: vec![],
            waiting: HashMap::new(),
            served: vec![],
            budget,
            next: 0,
            now: Instant::now(),
        }
    }

    fn pick<T>(list: &[T], at: usize) -> Option<usize> {
        (!list.is_empty()).then(|| at % list.len())
    }

    fn perform(&mut self, actions: Vec<Action<Wire, Wait>>) {
        for action in actions {
            match action {
                Action::Open(ticket) => self.opening.push(ticket),
                Action::Close(conn) => self.close(&conn),
                Action::Give(pool, conn, wait) => {
                    assert!(self.waiting.remove(&wait.id).is_some(), "a request is served once, and only if it waits");
                    assert_eq!(wait.tenant, conn.line.tenant, "a connection serves one tenant");
                    self.use_it(Using { pool, conn, mode: wait.mode });
                    self.served.push(wait.id);
                }
                Action::Cancel(_) => {}
                Action::Recover(conn) => {
                    assert!(!self.using.iter().any(|u| Arc::ptr_eq(&u.conn, &conn)), "recovered while in use");
                    self.recovering.push(conn);
                }
            }
        }
    }

    fn close(&mut self, conn: &Arc<Pooled<Wire>>) {
        assert!(!self.using.iter().any(|u| Arc::ptr_eq(&u.conn, conn)), "a connection is closed under a request");
        if let Some(at) = self.sockets.iter().position(|(_, id)| *id == conn.line.id) {
            let socket = self.sockets.swap_remove(at);
            self.closing.push(socket);
        }
    }

    fn use_it(&mut self, using: Using) {
        let together = self.using.iter().filter(|u| Arc::ptr_eq(&u.conn, &using.conn));
        for other in together {
            assert!(other.mode == Mode::Shared && using.mode == Mode::Shared, "alone, and yet not");
        }
        self.using.push(using);
    }

    fn ask(&mut self, at: usize, mode: Mode) {
        let tenant = self.tenants[at % self.tenants.len()];
        let (generation, version) = self.news[&tenant];
        self.next += 1;
        // As a request does it: past the scheduler if there is a connection to join.
        let pool = self.directory.get(tenant);
        if let Some(pool) = pool.filter(|p| p.generation.load(Ordering::Acquire) >= generation) {
            pool.usage.asked();
            if let Some(conn) = pool.join(mode, self.now) {
                assert_eq!(conn.line.tenant, tenant, "a connection serves one tenant");
                assert_eq!(Some(conn.version), version, "of the version that the registry says");
                self.use_it(Using { pool, conn, mode });
                self.served.push(self.next);
                return;
            }
        }
        let Some(version) = version else { return };
        let news = News { generation, version: Some(version), ceiling: CEILING, weight: 1 + (at % 2) as u32 };
        let actions = self.scheduler.learn(tenant, news, self.now);
        self.perform(actions);
        let wait = Wait { id: self.next, tenant, mode, gone: Arc::default() };
        self.waiting.insert(wait.id, wait.clone());
        match self.scheduler.wait(tenant, wait, self.now) {
            Ok(actions) => self.perform(actions),
            Err(QueueFull) => {
                self.waiting.remove(&self.next);
            }
        }
    }

    fn leave(&mut self, at: usize, finished: bool) {
        let Some(at) = Self::pick(&self.using, at) else { return };
        let Using { pool, conn, mode } = self.using.swap_remove(at);
        if !finished && !conn.line.is_gone() {
            let actions = self.scheduler.abandoned(pool.id, &conn, self.now);
            self.perform(actions);
        }
        let left = conn.leave(mode, self.now);
        let tell = left == super::super::leases::Left::Drained
            || pool.waiting.load(Ordering::SeqCst)
            || self.scheduler.hungry.load(Ordering::SeqCst)
            || conn.line.is_gone();
        if tell {
            let actions = self.scheduler.freed(pool.id, &conn, self.now);
            self.perform(actions);
        }
    }

    fn told(&mut self, waiters: Vec<Wait>) {
        for wait in waiters {
            assert!(wait.is_gone() || self.waiting.remove(&wait.id).is_some(), "told once");
        }
    }

    fn news(&mut self, at: usize, change: impl FnOnce(&mut (i64, Option<u64>))) -> TenantId {
        let tenant = self.tenants[at % self.tenants.len()];
        let news = self.news.get_mut(&tenant).expect("known");
        news.0 += 1;
        change(news);
        tenant
    }

    fn learn(&mut self, tenant: TenantId) {
        let (generation, version) = self.news[&tenant];
        if !self.scheduler.knows(tenant) {
            return;
        }
        match version {
            Some(_) => {
                let news = News { generation, version, ceiling: CEILING, weight: 1 };
                let actions = self.scheduler.learn(tenant, news, self.now);
                self.perform(actions);
            }
            None => {
                let (waiters, actions) = self.scheduler.retire(tenant, generation, self.now);
                self.told(waiters);
                self.perform(actions);
            }
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Ask(at, mode) => self.ask(at, mode),
            Event::Done(at) => self.leave(at, true),
            Event::Abandon(at) => self.leave(at, false),
            Event::GiveUpWaiting(at) => {
                let mut ids: Vec<_> = self.waiting.keys().copied().collect();
                ids.sort_unstable();
                if let Some(at) = Self::pick(&ids, at)
                    && let Some(wait) = self.waiting.remove(&ids[at])
                {
                    wait.gone.store(true, Ordering::Relaxed);
                }
            }
            Event::OpeningSucceeds(at) => {
                let Some(at) = Self::pick(&self.opening, at) else { return };
                let ticket = self.opening.swap_remove(at);
                self.next += 1;
                self.sockets.push((ticket.clone(), self.next));
                let tenant = ticket.tenant;
                // It was opened for what was known when it began; news may have come since.
                let version = self.news[&tenant].1.unwrap_or(0);
                let wire = Wire { id: self.next, tenant, gone: AtomicBool::new(false) };
                let conn = Arc::new(Pooled::new(wire, ticket, version, self.now));
                self.unverified.push(conn.clone());
                let actions = self.scheduler.opened(tenant, conn, Duration::from_millis(3), self.now);
                self.perform(actions);
            }
            Event::OpeningFails(at) => {
                let Some(at) = Self::pick(&self.opening, at) else { return };
                let ticket = self.opening.swap_remove(at);
                let (waiters, actions) = self.scheduler.open_failed(ticket.tenant, self.now);
                self.told(waiters);
                self.perform(actions);
                let actions = self.scheduler.release(&ticket, self.now);
                self.perform(actions);
                // The router's own probe, which is what lets waiters open again.
                let (generation, version) = self.news[&ticket.tenant];
                if version.is_some() {
                    let news = News { generation, version, ceiling: CEILING, weight: 1 };
                    let mut actions = self.scheduler.learn(ticket.tenant, news, self.now);
                    actions.extend(self.scheduler.open_unasked(ticket.tenant, self.now));
                    self.perform(actions);
                }
            }
            Event::Verified(at) => {
                let Some(at) = Self::pick(&self.unverified, at) else { return };
                let conn = self.unverified.swap_remove(at);
                let actions = self.scheduler.verified(conn.line.tenant, &conn, self.now);
                self.perform(actions);
            }
            Event::Closed(at) => {
                let Some(at) = Self::pick(&self.closing, at) else { return };
                let (ticket, _) = self.closing.swap_remove(at);
                let actions = self.scheduler.release(&ticket, self.now);
                self.perform(actions);
            }
            Event::Recovered(at, well) => {
                let Some(at) = Self::pick(&self.recovering, at) else { return };
                let conn = self.recovering.swap_remove(at);
                let actions = self.scheduler.recovered(conn.line.tenant, conn, well, self.now);
                self.perform(actions);
            }
            Event::ServerCloses(at) => {
                let Some(at) = Self::pick(&self.sockets, at) else { return };
                let (ticket, id) = self.sockets.swap_remove(at);
                let all = self.using.iter().map(|u| &u.conn).chain(&self.unverified).chain(&self.recovering);
                let published = self.tenants.iter().filter_map(|t| self.directory.get(*t)).map(|p| p.conns.load_full());
                let published: Vec<_> = published.flat_map(|conns| conns.to_vec()).collect();
                for conn in all.chain(&published).filter(|c| c.line.id == id) {
                    conn.line.gone.store(true, Ordering::Relaxed);
                }
                let actions = self.scheduler.release(&ticket, self.now);
                self.perform(actions);
            }
            Event::Rotate(at) => {
                let tenant = self.news(at, |news| news.1 = news.1.map(|version| version + 1));
                self.learn(tenant);
            }
            Event::Suspend(at) => {
                let tenant = self.news(at, |news| news.1 = None);
                self.learn(tenant);
            }
            Event::Resume(at) => {
                let tenant = self.news(at, |news| news.1 = Some(news.0.unsigned_abs()));
                self.learn(tenant);
            }
            Event::Stale(at) => {
                let tenant = self.tenants[at % self.tenants.len()];
                let actions = self.scheduler.all_unfit(tenant, self.now);
                self.perform(actions);
            }
            Event::Crowd(at) => {
                let actions = self.scheduler.crowded(self.tenants[at % self.tenants.len()], self.now);
                self.perform(actions);
            }
            Event::Budget(budget) => {
                self.budget = self.budget.max(budget);
                let actions = self.scheduler.set_capacity(budget, self.now);
                self.perform(actions);
            }
            Event::ServerFull(at) => {
                let Some(at) = Self::pick(&self.opening, at) else { return };
                let ticket = self.opening.swap_remove(at);
                self.scheduler.server_full();
                let actions = self.scheduler.open_again(ticket.tenant, self.now);
                self.perform(actions);
                let waiters = self.scheduler.refuse_starving();
                self.told(waiters);
                let actions = self.scheduler.release(&ticket, self.now);
                self.perform(actions);
            }
            Event::MoreRoom => {
                let (_, actions) = self.scheduler.try_more_room(self.now);
                self.perform(actions);
            }
            Event::Time(ms) => self.now += Duration::from_millis(ms),
            Event::Tick => {
                let actions = self.scheduler.tick(IDLE, DRAIN, 0, self.now);
                self.perform(actions);
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let counts = self.scheduler.counts();
        assert_eq!(counts.open, self.opening.len() + self.sockets.len() + self.closing.len(), "every permit is known");
        assert!(counts.open <= self.budget, "the budget holds");
        if counts.open <= counts.capacity {
            // From here on it may not be exceeded, though it was lower once.
            self.budget = counts.capacity;
        }
        assert_eq!(counts.opening, self.opening.len());
        assert_eq!(counts.closing, self.closing.len());
        let pools = self.tenants.iter().filter_map(|t| self.scheduler.pool_counts(*t));
        let (mut waiting, mut tenants) = (0, 0);
        for pool in pools {
            assert!(pool.idle + pool.busy <= CEILING.max(pool.opening + 1) + 1, "the ceiling holds: {pool:?}");
            waiting += pool.waiting;
            tenants += usize::from(pool.waiting > 0);
        }
        assert!(waiting >= self.waiting.len(), "no request is lost");
        assert_eq!(counts.waiting_tenants, tenants);
    }

    /// Everybody does what they can: then nobody waits any more.
    fn run_down(&mut self) {
        for tenant in self.tenants.clone() {
            let at = self.tenants.iter().position(|t| *t == tenant).expect("one of them");
            self.step(Event::Resume(at));
        }
        self.step(Event::Budget(2));
        for _ in 0..4000 {
            if self.waiting.is_empty() {
                return;
            }
            for event in [
                Event::MoreRoom,
                Event::OpeningSucceeds(0),
                Event::Verified(0),
                Event::Closed(0),
                Event::Recovered(0, true),
                Event::Done(0),
                Event::Time(250),
                Event::Tick,
            ] {
                self.step(event);
            }
        }
        panic!("still waiting: {:?}", self.waiting);
    }
}

/// Histories that are run; each is a seed of its own.
const HISTORIES: u32 = 10_000;

#[test]
fn promises_hold_in_every_history() {
    // proptest's own runner shrinks; the histories are spread over the processors.
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let config = ProptestConfig {
                    cases: HISTORIES / 2,
                    failure_persistence: None,
                    max_shrink_time: 20_000,
                    ..ProptestConfig::default()
                };
                let mut runner = proptest::test_runner::TestRunner::new(config);
                let histories = (1..5_usize, 1..8_usize, prop::collection::vec(events(), 1..120));
                let result = runner.run(&histories, |(budget, tenants, events)| {
                    let mut world = World::new(budget, tenants);
                    for event in events {
                        world.step(event);
                    }
                    world.run_down();
                    Ok(())
                });
                if let Err(error) = result {
                    *failed.lock().expect("one of two") = Some(error.to_string());
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().expect("done") {
        panic!("{error}");
    }
}

#[test]
fn one_request_is_served() {
    for mode in [Mode::Shared, Mode::Alone] {
        let mut world = World::new(1, 1);
        world.step(Event::Ask(0, mode));
        assert_eq!(world.opening.len(), 1);
        world.step(Event::OpeningSucceeds(0));
        assert_eq!(world.served.len(), usize::from(mode == Mode::Shared), "readers come before the stamp is known");
        world.step(Event::Verified(0));
        assert_eq!(world.served.len(), 1);
        world.step(Event::Done(0));
        world.step(Event::Ask(0, mode));
        assert_eq!(world.served.len(), 2, "warm");
    }
}
