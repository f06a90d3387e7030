//! A pooled connection and a tenant's pool, as the requests see them: without the scheduler's lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::leases::{Leases, Left};
use super::permit::Ticket;
use super::usage::Usage;
use crate::kernel::TenantId;

/// Readers of one connection at once. Their statements are pipelined; the server answers them in order.
const READERS: u32 = 32;
/// With this many readers on each of its connections a tenant would do better with one more.
const CROWD: u32 = 8;
/// A statement that takes longer than this holds up those behind it: readers look for another connection.
const SLOW: Duration = Duration::from_millis(20);
/// A tenant asks for one more connection no more often than this.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How a request uses a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Single statements that only read, pipelined with those of others.
    Shared,
    /// The whole connection: a transaction.
    Alone,
}

/// The physical side of a connection.
pub(crate) trait Line: Send + Sync + 'static {
    /// Whether the server is known to have closed it, or it can serve nobody any more.
    fn is_gone(&self) -> bool;
}

/// A connection in a pool. It serves one tenant for life.
#[derive(Debug)]
pub(crate) struct Pooled<L> {
    pub(crate) line: L,
    pub(super) leases: Leases,
    pub(super) ticket: Ticket,
    /// Which target and schema epoch it was opened for.
    pub(super) version: u64,
    pub(super) opened: Instant,
    /// When a request last came to it idle, or left it: µs after `opened`.
    progress: AtomicU64,
}

impl<L: Line> Pooled<L> {
    pub(super) fn new(line: L, ticket: Ticket, version: u64, now: Instant) -> Self {
        Self { line, leases: Leases::new(), ticket, version, opened: now, progress: AtomicU64::new(0) }
    }

    /// When somebody last came or left.
    pub(super) fn last_used(&self) -> Instant {
        self.opened + Duration::from_micros(self.progress.load(Ordering::Relaxed))
    }

    fn touch(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.opened).as_micros();
        self.progress.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether those on it wait for a long statement.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        !self.leases.is_idle() && now.saturating_duration_since(self.last_used()) > SLOW
    }

    /// Joins it.
    pub(super) fn join(&self, mode: Mode, now: Instant) -> bool {
        let first = self.leases.is_idle();
        let joined = match mode {
            Mode::Shared => !self.is_slow(now) && self.leases.join(READERS),
            Mode::Alone => self.leases.join_alone(),
        };
        if joined && first {
            self.touch(now);
        }
        joined
    }

    /// Leaves it.
    pub(super) fn leave(&self, mode: Mode, now: Instant) -> Left {
        self.touch(now);
        self.leases.leave(mode == Mode::Alone)
    }
}

/// A tenant's pool, as requests find it.
#[derive(Debug)]
pub(crate) struct TenantPool<L> {
    pub(super) id: TenantId,
    /// The connections that take requests. Changed by the scheduler only.
    pub(super) conns: ArcSwap<Vec<Arc<Pooled<L>>>>,
    /// The newest news of the registry that the scheduler has taken in.
    pub(super) generation: AtomicI64,
    /// Somebody waits: whoever leaves a connection tells the scheduler.
    pub(super) waiting: AtomicBool,
    /// What it has done.
    pub(super) usage: Arc<Usage>,
    born: Instant,
    /// When it last asked for one more connection: µs after `born`.
    asked: AtomicU64,
}

impl<L: Line> TenantPool<L> {
    pub(super) fn new(id: TenantId, usage: Arc<Usage>, now: Instant) -> Self {
        Self {
            id,
            conns: ArcSwap::default(),
            generation: AtomicI64::new(i64::MIN),
            waiting: AtomicBool::new(false),
            usage,
            born: now,
            asked: AtomicU64::new(0),
        }
    }

    /// Joins the connection with the fewest on it. The whole of a warm request's dealings with the pool.
    pub(super) fn join(&self, mode: Mode, now: Instant) -> Option<Arc<Pooled<L>>> {
        let conns = self.conns.load();
        if let [only] = conns.as_slice() {
            return (!only.line.is_gone() && only.join(mode, now)).then(|| only.clone());
        }
        let takes = |conn: &&Arc<Pooled<L>>| conn.leases.readers().is_some() && !conn.line.is_gone();
        let best = conns.iter().filter(takes).filter(|c| !c.is_slow(now)).min_by_key(|c| c.leases.readers())?;
        // Lost to another request in the meantime: the scheduler sorts it out.
        best.join(mode, now).then(|| best.clone())
    }

    /// Whether one more connection would help its readers, asked not too often.
    pub(super) fn is_crowded(&self, conn: &Pooled<L>, now: Instant) -> bool {
        if conn.leases.readers().is_none_or(|readers| readers < CROWD) {
            return false;
        }
        let micros = u64::try_from(now.saturating_duration_since(self.born).as_micros()).unwrap_or(u64::MAX);
        let asked = self.asked.load(Ordering::Relaxed);
        let due = micros.saturating_sub(asked) >= u64::try_from(ASK_EVERY.as_micros()).unwrap_or(u64::MAX);
        due && self.asked.compare_exchange(asked, micros, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Locks of the directory. Tenants on different ones never meet.
const SHARDS: usize = 32;

/// Finds a tenant's pool. Read by every request, written when a pool comes or goes.
#[derive(Debug)]
pub(super) struct Directory<L>([RwLock<HashMap<TenantId, Arc<TenantPool<L>>>>; SHARDS]);

impl<L> Directory<L> {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }

    fn shard(&self, id: TenantId) -> &RwLock<HashMap<TenantId, Arc<TenantPool<L>>>> {
        // Ids are random at their end.
        &self.0[usize::from(id.uuid().as_bytes()[15]) % SHARDS]
    }

    pub(super) fn get(&self, id: TenantId) -> Option<Arc<TenantPool<L>>> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(super) fn insert(&self, pool: Arc<TenantPool<L>>) {
        self.shard(pool.id).write().unwrap_or_else(PoisonError::into_inner).insert(pool.id, pool);
    }

    pub(super) fn remove(&self, id: TenantId) {
        self.shard(id).write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
