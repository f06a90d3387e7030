//! One node: a real scheduler among modelled sockets and requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ledger::Keeping;
use super::{BUDGET, COUNTS, ONE_TENANT, REQUESTS, promise};
use crate::kernel::TenantId;
use crate::router::pools::leases::Left;
use crate::router::pools::permit::Ticket;
use crate::router::pools::pooled::{Directory, Line, Mode, Pooled, TenantPool};
use crate::router::pools::scheduler::{Action, News, QueueFull, Recovery, Scheduler, Waiter};

/// The most connections of one tenant on one node.
const CEILING: usize = 3;
const MAX_WAITERS: usize = 16;

/// A connection of the model.
#[derive(Debug)]
pub(super) struct Wire {
    id: usize,
    tenant: TenantId,
    gone: Arc<AtomicBool>,
}

impl Line for Wire {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// A request that waits. Shared with the scheduler: alone in the world's hands, it has been forgotten there.
#[derive(Debug, Clone)]
pub(super) struct Wait {
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

/// What the registry says of a tenant, or a node knows of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) tenant: TenantId,
    pub(super) generation: i64,
    /// Target and schema epoch.
    pub(super) version: u64,
    pub(super) weight: u32,
    pub(super) suspended: bool,
    /// It has moved to another cluster.
    pub(super) moved: bool,
}

impl Entry {
    const fn news(&self) -> Option<News> {
        if self.suspended || self.moved {
            return None;
        }
        Some(News { generation: self.generation, version: Some(self.version), ceiling: CEILING, weight: self.weight })
    }
}

struct Using {
    pool: Arc<TenantPool<Wire>>,
    conn: Arc<Pooled<Wire>>,
    mode: Mode,
}

/// A physical connection, open or being closed.
struct Socket {
    id: usize,
    ticket: Ticket,
    gone: Arc<AtomicBool>,
}

type Actions = Vec<Action<Wire, Wait>>;

/// See the module.
pub(super) struct Node {
    pub(super) id: usize,
    pub(super) keeping: Keeping,
    pub(super) now: Instant,
    /// What it knows of each tenant.
    pub(super) known: Vec<Entry>,
    scheduler: Scheduler<Wire, Wait>,
    directory: Arc<Directory<Wire>>,
    /// Connections that are being opened, and for which version.
    opening: Vec<(Ticket, u64)>,
    sockets: Vec<Socket>,
    closing: Vec<Socket>,
    recovering: Vec<Recovery<Wire>>,
    using: Vec<Using>,
    /// Connections that were left, of which the scheduler has yet to be told.
    left: Vec<(TenantId, Arc<Pooled<Wire>>)>,
    waiting: Vec<Wait>,
    /// Tenants whose breaker is open, and whether the server's is.
    broken: Vec<TenantId>,
    full: bool,
    pub(super) served: usize,
    /// How often somebody who had long enough to leave was cancelled.
    pub(super) cancelled: usize,
    next: usize,
}

/// Chooses among what there is.
fn pick<T>(list: &[T], at: usize) -> Option<usize> {
    (!list.is_empty()).then(|| at % list.len())
}

impl Node {
    pub(super) fn new(id: usize, known: Vec<Entry>, now: Instant) -> Self {
        let directory = Arc::new(Directory::new());
        Self {
            id,
            keeping: Keeping::default(),
            now,
            known,
            scheduler: Scheduler::new(0, MAX_WAITERS, directory.clone()),
            directory,
            opening: vec![],
            sockets: vec![],
            closing: vec![],
            recovering: vec![],
            using: vec![],
            left: vec![],
            waiting: vec![],
            broken: vec![],
            full: false,
            served: 0,
            cancelled: 0,
            next: 0,
        }
    }

    /// Connections as the server sees them.
    pub(super) fn physical(&self) -> usize {
        self.opening.len() + self.sockets.len() + self.closing.len()
    }

    /// Connections of which something is still to come.
    pub(super) fn unsettled(&self) -> usize {
        self.physical() + self.recovering.len() + self.left.len()
    }

    /// Requests at work, and requests that wait.
    pub(super) fn requests(&self) -> (usize, usize) {
        (self.using.len(), self.waiting.len())
    }

    /// Connections that are open, and that it could use.
    pub(super) fn demand(&self) -> (u32, u32) {
        let counts = self.scheduler.counts();
        let number = |count: usize| u32::try_from(count).expect("few");
        (number(counts.open), number(counts.open + counts.waiting_tenants))
    }

    /// Tells the scheduler what it may have open.
    pub(super) fn apply(&mut self) {
        let capacity = self.keeping.capacity(self.demand().0);
        let actions = self.scheduler.set_capacity(capacity, self.now);
        self.perform(actions);
    }

    fn knows(&self, tenant: TenantId) -> &Entry {
        self.known.iter().find(|entry| entry.tenant == tenant).expect("known")
    }

    fn perform(&mut self, actions: Actions) {
        for action in actions {
            match action {
                Action::Open(ticket) => {
                    let version = self.knows(ticket.tenant).version;
                    self.opening.push((ticket, version));
                }
                Action::Close(conn) => self.close(&conn),
                Action::Give(pool, conn, wait) => {
                    let at = self.waiting.iter().position(|w| w.id == wait.id);
                    promise(at.is_some(), REQUESTS, || format!("{wait:?} is given a connection, and does not wait"));
                    at.map(|at| self.waiting.swap_remove(at));
                    self.begin(wait.tenant, Using { pool, conn, mode: wait.mode });
                }
                Action::Cancel(_) => self.cancelled += 1,
                Action::Recover(recovery) => {
                    let conn = recovery.conn();
                    let used = self.using.iter().any(|u| Arc::ptr_eq(&u.conn, conn));
                    promise(!used, REQUESTS, || format!("{conn:?} is recovered under a request"));
                    let begun = self.recovering.iter().any(|other| Arc::ptr_eq(other.conn(), conn));
                    promise(!begun, REQUESTS, || format!("{conn:?} is recovered twice at once"));
                    self.recovering.push(recovery);
                }
            }
        }
    }

    fn close(&mut self, conn: &Arc<Pooled<Wire>>) {
        let used = self.using.iter().any(|u| Arc::ptr_eq(&u.conn, conn));
        promise(!used, REQUESTS, || format!("{conn:?} is closed under a request"));
        if let Some(at) = self.sockets.iter().position(|socket| socket.id == conn.line.id) {
            let socket = self.sockets.swap_remove(at);
            self.closing.push(socket);
        }
    }

    /// A request of the tenant begins its work.
    fn begin(&mut self, tenant: TenantId, using: Using) {
        let conn = &using.conn;
        promise(conn.line.tenant == tenant, ONE_TENANT, || format!("{conn:?} serves {tenant}"));
        let entry = self.knows(tenant);
        let current = entry.news().and_then(|news| news.version);
        promise(current == Some(conn.version), ONE_TENANT, || format!("{conn:?} serves for {entry:?}"));
        for other in self.using.iter().filter(|u| Arc::ptr_eq(&u.conn, conn)) {
            let together = other.mode == Mode::Shared && using.mode == Mode::Shared;
            promise(together, REQUESTS, || format!("a request is alone on {conn:?}, and yet not"));
        }
        self.served += 1;
        self.using.push(using);
    }

    /// A request: past the scheduler if there is a connection to join, else through it.
    pub(super) fn ask(&mut self, tenant: usize, mode: Mode) {
        let Entry { tenant, generation, .. } = self.known[tenant];
        let Some(news) = self.knows(tenant).news() else { return };
        let pool = self.directory.get(tenant);
        if let Some(pool) = pool.filter(|p| p.generation.load(Ordering::Acquire) >= generation) {
            pool.usage.asked();
            if let Some(conn) = pool.join(mode, self.now) {
                return self.begin(tenant, Using { pool, conn, mode });
            }
        }
        let actions = self.scheduler.learn(tenant, news, self.now);
        self.perform(actions);
        let refuses = self.broken.contains(&tenant) || (self.full && self.scheduler.has_no_room());
        if refuses && !self.scheduler.serves(tenant, self.now) {
            return;
        }
        self.next += 1;
        let wait = Wait { id: self.next, tenant, mode, gone: Arc::default() };
        self.waiting.push(wait.clone());
        match self.scheduler.wait(tenant, wait, self.now) {
            Ok(actions) => self.perform(actions),
            Err(QueueFull) => self.waiting.retain(|wait| wait.id != self.next),
        }
    }

    /// A request leaves, and the scheduler is told, if it has to be: in the same breath, or [`Self::tells`] later.
    pub(super) fn leave(&mut self, at: usize, finished: bool, dawdles: bool) {
        let Some(at) = pick(&self.using, at) else { return };
        let Using { pool, conn, mode } = self.using.swap_remove(at);
        if !finished && !conn.line.is_gone() {
            let actions = self.scheduler.abandoned(pool.id, &conn, self.now);
            self.perform(actions);
        }
        let tell = conn.leave(mode, self.now) == Left::Drained
            || pool.waiting.load(Ordering::SeqCst)
            || self.scheduler.hungry.load(Ordering::SeqCst)
            || conn.line.is_gone();
        if tell {
            self.left.push((pool.id, conn));
            if !dawdles {
                self.tells(self.left.len() - 1);
            }
        }
    }

    pub(super) fn tells(&mut self, at: usize) {
        let Some(at) = pick(&self.left, at) else { return };
        let (tenant, conn) = self.left.swap_remove(at);
        let actions = self.scheduler.freed(tenant, &conn, self.now);
        self.perform(actions);
    }

    pub(super) fn give_up_waiting(&mut self, at: usize) {
        if let Some(at) = pick(&self.waiting, at) {
            self.waiting.swap_remove(at).gone.store(true, Ordering::Relaxed);
        }
    }

    fn tell(&mut self, waiters: Vec<Wait>) {
        for wait in waiters.into_iter().filter(|wait| !wait.is_gone()) {
            let at = self.waiting.iter().position(|w| w.id == wait.id);
            promise(at.is_some(), REQUESTS, || format!("{wait:?} is refused, and does not wait"));
            at.map(|at| self.waiting.swap_remove(at));
        }
    }

    /// News of a tenant arrive.
    pub(super) fn hear(&mut self, at: usize, entry: Entry) {
        if self.known[at].version != entry.version || entry.news().is_none() {
            self.broken.retain(|tenant| *tenant != entry.tenant);
        }
        self.known[at] = entry;
        if !self.scheduler.knows(entry.tenant) {
            return;
        }
        let actions = match entry.news() {
            Some(news) => self.scheduler.learn(entry.tenant, news, self.now),
            None => {
                let (waiters, actions) = self.scheduler.retire(entry.tenant, entry.generation, self.now);
                self.tell(waiters);
                actions
            }
        };
        self.perform(actions);
    }
}

#[path = "sockets.rs"]
mod sockets;
