//! One tenant's pool, as the scheduler keeps it under its lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::extras::Pace;
use super::recovery::Abandoned;
use super::{Action, PoolCounts, Waiter};
use crate::kernel::TenantId;
use crate::router::pools::pooled::{Line, Mode, Pooled, TenantPool};
use crate::router::pools::usage::Usage;

/// Readers that wait are worth one more connection for each of so many.
const READERS_PER_CONNECTION: usize = 8;

/// A connection that takes no more requests.
#[derive(Debug)]
pub(super) struct Leaving<L> {
    pub(super) conn: Arc<Pooled<L>>,
    pub(super) since: Instant,
    /// It must not be used any more, so it has a deadline. Without: it only makes room, and nobody is hurried.
    pub(super) retired: bool,
}

/// See the module.
pub(super) struct Pool<L, W> {
    pub(super) shared: Arc<TenantPool<L>>,
    /// Those that take requests.
    pub(super) conns: Vec<Arc<Pooled<L>>>,
    pub(super) leaving: Vec<Leaving<L>>,
    /// Those that are to be brought back to order, and those that are being.
    pub(super) recovering: Vec<Abandoned<L>>,
    pub(super) opening: usize,
    pub(super) ceiling: usize,
    pub(super) weight: u32,
    pub(super) version: Option<u64>,
    /// Readers asked for one more connection, without waiting.
    pub(super) crowded: bool,
    /// The last opening failed: none is begun for waiters until one succeeds.
    pub(super) blocked: bool,
    /// The router tries whether it can be opened again.
    pub(super) probing: bool,
    pub(super) starving_turn: bool,
    pub(super) growing_turn: bool,
    /// Since when it has been served.
    pub(super) since: Instant,
    readers: VecDeque<(u64, W)>,
    loners: VecDeque<(u64, W)>,
    /// Sealed for the first of those who must be alone.
    reserved: Option<Arc<Pooled<L>>>,
    credit: u32,
    counted: u64,
    /// What its requests take.
    pub(super) pace: Pace,
}

impl<L: Line, W: Waiter> Pool<L, W> {
    pub(super) fn new(tenant: TenantId, usage: Arc<Usage>, now: Instant) -> Self {
        Self {
            counted: usage.requests(),
            shared: Arc::new(TenantPool::new(tenant, usage, now)),
            conns: Vec::new(),
            leaving: Vec::new(),
            recovering: Vec::new(),
            opening: 0,
            ceiling: 1,
            weight: 1,
            version: None,
            crowded: false,
            blocked: false,
            probing: false,
            starving_turn: false,
            growing_turn: false,
            since: now,
            readers: VecDeque::new(),
            loners: VecDeque::new(),
            reserved: None,
            credit: 0,
            pace: Pace::default(),
        }
    }

    /// Connections that serve the tenant, or are about to; not those that leave.
    pub(super) fn held(&self) -> usize {
        self.conns.len() + self.recovering.len() + self.opening
    }

    /// Connections beyond the one that everybody may have.
    pub(super) fn extra(&self) -> usize {
        self.held().saturating_sub(1)
    }

    pub(super) fn waiters(&self) -> usize {
        self.readers.len() + self.loners.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held() == 0 && self.leaving.is_empty() && self.waiters() == 0 && !self.probing
    }

    /// Whether it waits for its first connection.
    pub(super) fn is_starving(&self) -> bool {
        let wanted = self.probing || (self.waiters() > 0 && !self.blocked);
        self.held() == 0 && wanted && self.version.is_some()
    }

    /// How many more connections its waiters are worth, or the router's probe.
    pub(super) fn wants(&self) -> usize {
        if self.probing && self.version.is_some() {
            // What is open goes on serving; only one more connection can tell whether another may be opened.
            return usize::from(self.opening == 0 && self.held() < self.ceiling);
        }
        if self.blocked || self.version.is_none() {
            return 0;
        }
        let worth = self.loners.len() + self.readers.len().div_ceil(READERS_PER_CONNECTION);
        let worth = worth.max(usize::from(self.crowded));
        worth.saturating_sub(self.opening).min(self.ceiling.saturating_sub(self.held()))
    }

    /// One of its turns in this round is used. True if it has more: as many as its weight.
    pub(super) fn spend_credit(&mut self) -> bool {
        if self.credit == 0 {
            self.credit = self.weight;
        }
        self.credit -= 1;
        self.credit > 0
    }

    /// Whether a connection may serve.
    pub(super) fn fits(&self, conn: &Pooled<L>) -> bool {
        !conn.line.is_gone() && self.version == Some(conn.version)
    }

    /// A connection begins to take requests.
    pub(super) fn add(&mut self, conn: Arc<Pooled<L>>, now: Instant) {
        self.conns.push(conn);
        self.publish();
        if self.conns.len() == 1 {
            self.since = now;
        }
    }

    /// Lets go of a connection that takes requests. False if it was none of those.
    pub(super) fn take(&mut self, conn: &Arc<Pooled<L>>) -> bool {
        let before = self.conns.len();
        self.conns.retain(|c| !Arc::ptr_eq(c, conn));
        if self.reserved.as_ref().is_some_and(|c| Arc::ptr_eq(c, conn)) {
            self.reserved = None;
        }
        let taken = self.conns.len() < before;
        if taken {
            self.publish();
        }
        taken
    }

    /// Shows requests the connections that they may join.
    pub(super) fn publish(&mut self) {
        if self.reserved.as_ref().is_some_and(|r| !self.conns.iter().any(|c| Arc::ptr_eq(c, r))) {
            self.reserved = None;
        }
        self.shared.conns.store(Arc::new(self.conns.clone()));
    }

    pub(super) fn queue(&mut self, waiter: W, arrival: u64) {
        match waiter.mode() {
            Mode::Shared => self.readers.push_back((arrival, waiter)),
            Mode::Alone => self.loners.push_back((arrival, waiter)),
        }
    }

    /// Forgets waiters that are gone.
    pub(super) fn prune(&mut self) {
        self.readers.retain(|(_, w)| !w.is_gone());
        self.loners.retain(|(_, w)| !w.is_gone());
    }

    pub(super) fn drain_waiters(&mut self) -> Vec<W> {
        self.shared.waiting.store(false, Ordering::SeqCst);
        self.release_reserved();
        self.readers.drain(..).chain(self.loners.drain(..)).map(|(_, w)| w).collect()
    }

    /// Serves as many waiters as can be, the older first. One that must be alone and finds every connection in use has
    /// one reserved, so that readers cannot keep it waiting for ever.
    pub(super) fn serve(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) {
        // Before trying: whoever leaves from now on comes to the scheduler.
        self.shared.waiting.store(self.waiters() > 0, Ordering::SeqCst);
        loop {
            let reader = self.readers.front().map(|(arrival, _)| *arrival);
            let loner = self.loners.front().map(|(arrival, _)| *arrival);
            let alone_first = loner.is_some() && (self.reserved.is_some() || loner < reader || reader.is_none());
            let served = alone_first && self.serve_loner(now, actions)
                || self.serve_reader(now, actions)
                || !alone_first && self.serve_loner(now, actions);
            if !served {
                break;
            }
        }
        if self.loners.is_empty() {
            if self.release_reserved() {
                while self.serve_reader(now, actions) {}
            }
        } else if self.reserved.is_none() {
            self.reserve(now, actions);
        }
        self.shared.waiting.store(self.waiters() > 0, Ordering::SeqCst);
    }

    fn serve_reader(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) -> bool {
        while self.readers.front().is_some_and(|(_, w)| w.is_gone()) {
            self.readers.pop_front();
        }
        if self.readers.is_empty() {
            return false;
        }
        let best = self.conns.iter().filter(|c| !c.line.is_gone() && !c.is_slow(now));
        let best = best.filter(|c| c.leases.readers().is_some()).min_by_key(|c| c.leases.readers()).cloned();
        let Some(conn) = best.filter(|c| c.join(Mode::Shared, now)) else { return false };
        self.give(conn, Mode::Shared, actions);
        true
    }

    fn serve_loner(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) -> bool {
        while self.loners.front().is_some_and(|(_, w)| w.is_gone()) {
            self.loners.pop_front();
        }
        if self.loners.is_empty() {
            return false;
        }
        let reserved = self.reserved.as_ref().filter(|c| c.leases.unseal_alone()).cloned();
        if reserved.is_some() {
            self.reserved = None;
        }
        let found =
            reserved.or_else(|| self.conns.iter().find(|c| !c.line.is_gone() && c.join(Mode::Alone, now)).cloned());
        let Some(conn) = found else { return false };
        self.give(conn, Mode::Alone, actions);
        true
    }

    fn give(&mut self, conn: Arc<Pooled<L>>, mode: Mode, actions: &mut Vec<Action<L, W>>) {
        let waiter = match mode {
            Mode::Shared => self.readers.pop_front(),
            Mode::Alone => self.loners.pop_front(),
        };
        if let Some((_, waiter)) = waiter {
            actions.push(Action::Give(self.shared.clone(), conn, waiter));
        }
    }

    /// Keeps readers off one connection, for the first of those who must be alone.
    fn reserve(&mut self, now: Instant, actions: &mut Vec<Action<L, W>>) {
        let takes = |c: &&Arc<Pooled<L>>| !c.line.is_gone();
        let Some(conn) = self.conns.iter().filter(takes).min_by_key(|c| c.leases.readers().unwrap_or(u32::MAX)) else {
            return;
        };
        let conn = conn.clone();
        let idle = conn.leases.seal();
        self.reserved = Some(conn);
        // Left at that very moment: nobody else will tell.
        if idle && self.serve_loner(now, actions) && !self.loners.is_empty() {
            self.reserve(now, actions);
        }
    }

    fn release_reserved(&mut self) -> bool {
        let reserved = self.reserved.take();
        if let Some(conn) = &reserved {
            conn.leases.unseal();
        }
        reserved.is_some()
    }

    /// Those that only made room must not be used any more either: from now on they have a deadline too.
    pub(super) fn hurry(&mut self, now: Instant) {
        for leaving in self.leaving.iter_mut().filter(|leaving| !leaving.retired) {
            (leaving.since, leaving.retired) = (now, true);
        }
    }

    /// Connections that had `drain` to leave and are still in use.
    pub(super) fn overdue(&self, drain: Duration, now: Instant) -> Vec<Arc<Pooled<L>>> {
        let late = |l: &&Leaving<L>| l.retired && now.saturating_duration_since(l.since) >= drain;
        self.leaving.iter().filter(late).map(|l| l.conn.clone()).collect()
    }

    /// Requests since this was asked last.
    pub(super) fn uncounted(&mut self) -> u64 {
        let requests = self.shared.usage.requests();
        let new = requests - self.counted;
        self.counted = requests;
        new
    }

    pub(super) fn counts(&self) -> PoolCounts {
        let idle = self.conns.iter().filter(|c| c.leases.is_idle()).count();
        PoolCounts {
            idle,
            busy: self.conns.len() + self.recovering.len() - idle,
            opening: self.opening,
            draining: self.leaving.len(),
            waiting: self.waiters(),
            ceiling: self.ceiling,
        }
    }
}
