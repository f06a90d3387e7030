//! This node's side: keeps the lease, claims what the pools could use, and gives way to others.
//!
//! Local capacity is lowered before the row in the ledger, and raised after it: whatever gets lost in between, the node
//! has no more open than its row says. The request path never comes here: a first use of a cluster waits in its pools'
//! queue until the first slice has arrived.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::entry::{Entry, State, number};
use super::{Demand, NodeId, SliceClaim, SliceGrant};
use crate::kernel::ClusterId;
use crate::router::connect::ConnectOptions;
use crate::router::error::Error;
use crate::router::pools::ClusterPools;
use crate::router::registry::Registry;
use crate::router::tenant::Tenant;

/// Claims that ask the ledger at once, and looks at clusters.
const CLAIMS: usize = 4;
/// The shortest pause between two rounds.
const PAUSE: Duration = Duration::from_millis(5);
/// How soon a round follows one that left something to do.
const SOON: Duration = Duration::from_millis(25);
/// How long an answer is waited for while somebody may wait for a first slice, and else.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(6);

/// See the module.
pub(in crate::router) struct Keeper {
    pub(super) node: NodeId,
    /// How long a lease runs.
    pub(super) ttl: Duration,
    pub(super) connect: ConnectOptions,
    registry: Arc<dyn Registry>,
    default_budget: u32,
    wake: Arc<Notify>,
    announced: AtomicBool,
    /// The last renewal had no answer.
    silent: AtomicBool,
    seq: AtomicI64,
    /// Places for claims that ask the ledger.
    asking: Semaphore,
    /// Nodes that are gone hold something.
    orphans: Notify,
    state: Mutex<State>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keeper({:?})", self.node)
    }
}

impl Keeper {
    /// The keeper of a node; `default_budget` is that of clusters which set none.
    pub(in crate::router) fn new(
        registry: Arc<dyn Registry>,
        node: NodeId,
        ttl: Duration,
        default_budget: u32,
        connect: ConnectOptions,
    ) -> Self {
        Self {
            node,
            ttl,
            connect,
            registry,
            default_budget,
            wake: Arc::default(),
            announced: true.into(),
            silent: false.into(),
            seq: AtomicI64::new(0),
            asking: Semaphore::new(CLAIMS),
            orphans: Notify::new(),
            state: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Held for bookkeeping only; a panic there must not stop every tenant.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pools for a tenant's cluster, with what this node may have open there.
    pub(in crate::router) fn adopt(
        &self,
        tenant: &Tenant,
        make: impl FnOnce(Arc<Demand>) -> ClusterPools,
    ) -> Arc<ClusterPools> {
        let cluster = &tenant.cluster;
        let budget = cluster.connection_budget.unwrap_or(self.default_budget).max(1);
        let mut state = self.lock();
        let entry = state
            .entries
            .entry(cluster.id)
            .or_insert_with(|| Entry::new(tenant, budget, Arc::new(Demand::new(budget, self.wake.clone()))));
        let pools = Arc::new(make(entry.demand.clone()));
        entry.pools = Arc::downgrade(&pools);
        entry.target = tenant.target.clone();
        entry.apply();
        if entry.slice.is_none() {
            self.wake.notify_one();
        }
        pools
    }

    /// What this node may use, by the cluster's name.
    pub(in crate::router) fn slices(&self) -> Vec<(String, u32, u32)> {
        self.lock().entries.values().map(|entry| (entry.name.clone(), entry.allowed(), entry.budget)).collect()
    }

    /// Works for as long as the node lives.
    pub(in crate::router) async fn run(self: Arc<Self>) {
        tokio::join!(
            self.clone().renew_forever(),
            self.listen_forever(),
            self.reclaim_forever(),
            self.clone().watch_forever()
        );
    }

    /// Gives everything back. The connections are closed.
    pub(in crate::router) async fn release(&self) {
        self.lock().entries.clear();
        let released = tokio::time::timeout(Duration::from_secs(2), self.registry.release_slices(self.node)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("this node's slices could not be given back; others take them when its lease has run out");
        }
    }

    /// How often the lease is renewed.
    fn every(&self) -> Duration {
        (self.ttl * 2 / 15).max(Duration::from_millis(20))
    }

    /// How far apart two looks are that must both see nothing.
    pub(super) fn gap(&self) -> Duration {
        self.ttl / 5
    }

    /// Renews the lease, and claims what is due beside that: a cluster that hangs holds up neither the lease nor others.
    async fn renew_forever(self: Arc<Self>) {
        let mut next = Instant::now();
        let mut soon: Option<Instant> = None;
        let mut claims = JoinSet::new();
        loop {
            let until = soon.map_or(next, |soon| next.min(soon));
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.wake.notified() => {}
                Some(_) = claims.join_next() => {
                    // It may leave something to do.
                    soon.get_or_insert_with(|| Instant::now() + SOON);
                    continue;
                }
            }
            let tick = Instant::now() >= next;
            if tick || self.announced.swap(false, Ordering::AcqRel) {
                self.renew().await;
                next = Instant::now() + self.every();
            }
            soon = self.claim_all(tick, &mut claims).then(|| Instant::now() + SOON);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn listen_forever(&self) {
        loop {
            if self.registry.budget_announced().await.is_err() {
                tokio::time::sleep(self.every()).await;
            }
            self.announced.store(true, Ordering::Release);
            self.wake.notify_one();
            // The next one may be there at once, and without end.
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn reclaim_forever(&self) {
        loop {
            self.orphans.notified().await;
            self.reclaim_all().await;
            tokio::time::sleep(self.every()).await;
        }
    }

    async fn reclaim_all(&self) {
        let due: Vec<_> = {
            let (mut state, now) = (self.lock(), Instant::now());
            let orphaned = std::mem::take(&mut state.orphaned);
            orphaned.into_iter().filter(|cluster| !state.put_off.has(*cluster, now)).collect()
        };
        stream::iter(due).for_each_concurrent(CLAIMS, |cluster| self.reclaim(cluster)).await;
    }

    async fn reclaim(&self, cluster: ClusterId) {
        let taken = self.registry.reclaim_slices(cluster, self.gap()).await;
        match taken {
            Ok(count) => {
                self.lock().put_off.reached(cluster);
                if count > 0 {
                    tracing::info!(%cluster, count, "took back the connections of nodes that are gone");
                    self.announced.store(true, Ordering::Release);
                    self.wake.notify_one();
                }
            }
            Err(error) => {
                // While the control plane is silent, nothing is known of the cluster.
                if matches!(error, Error::DatabaseUnavailable { .. }) {
                    self.lock().put_off.failed(cluster, self.gap(), Instant::now());
                }
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%cluster, %error, cause, "cannot see whether a lost node's connections are gone");
            }
        }
    }

    async fn renew(&self) {
        let begun = Instant::now();
        let renewal = self.registry.renew_node(self.node, self.ttl);
        let renewed = tokio::time::timeout(FIRST_PATIENCE, renewal).await;
        let renewed = renewed.unwrap_or_else(|_| Err(Error::control_plane("no answer in time")));
        self.silent.store(renewed.is_err(), Ordering::Release);
        match renewed {
            Ok(pulse) => {
                let mut state = self.lock();
                // Our own clock tells too: a claim may have made the lease anew while renewals were lost.
                let lapsed = pulse.lapsed || state.contact.is_none_or(|at| at.elapsed() >= self.ttl);
                let others = state.others > 0 || pulse.others > 0;
                state.contact = Some(begun);
                state.others = pulse.others;
                if !pulse.orphaned.is_empty() {
                    state.orphaned.extend(pulse.orphaned);
                    self.orphans.notify_one();
                }
                for (id, entry) in &mut state.entries {
                    entry.due |= pulse.due.contains(id);
                    if lapsed {
                        entry.lapsed(others, self.gap());
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the lease could not be renewed"),
        }
    }

    /// Begins to claim what is due. Gives whether something is to be done soon.
    fn claim_all(self: &Arc<Self>, tick: bool, claims: &mut JoinSet<()>) -> bool {
        let now = Instant::now();
        let silent = self.silent.load(Ordering::Acquire);
        let mut soon = false;
        let mut state = self.lock();
        for (id, entry) in &mut state.entries {
            match entry.is_due(tick, silent, now) {
                Ok(true) => {
                    claims.spawn(self.clone().claim(self.begin(*id, entry, now)));
                }
                Ok(false) => {}
                Err(()) => soon = true,
            }
        }
        soon
    }

    fn begin(&self, cluster: ClusterId, entry: &mut Entry, now: Instant) -> SliceClaim {
        entry.demand.asked.store(false, Ordering::Release);
        (entry.claiming, entry.overtaken, entry.due) = (true, false, false);
        entry.frozen = entry.confirm || entry.slice.is_none();
        if entry.frozen {
            entry.apply();
        }
        let open = number(entry.counts().open) + entry.anchor.count();
        (entry.told, entry.told_at) = (entry.peak, Some(now));
        SliceClaim {
            node: self.node,
            cluster,
            budget: entry.demand.budget.load(Ordering::Acquire),
            default_budget: self.default_budget,
            in_use: open,
            held: entry.allowed().max(open),
            wanted: entry.peak,
            ttl: self.ttl,
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    async fn claim(self: Arc<Self>, claim: SliceClaim) {
        let silent = || self.silent.load(Ordering::Acquire);
        let place = if silent() { None } else { self.asking.acquire().await.ok() };
        // Nobody waits for a deadline that has just passed in vain.
        if silent() {
            drop(place);
            return self.do_without(claim).await;
        }
        // Somebody waits for a first slice; without an answer he is served nevertheless.
        let first = self.lock().entries.get(&claim.cluster).is_some_and(|entry| entry.slice.is_none());
        let patience = if first { FIRST_PATIENCE } else { PATIENCE };
        let answer = tokio::time::timeout(patience, self.registry.claim_slice(claim)).await;
        drop(place);
        match answer.unwrap_or_else(|_| Err(Error::control_plane("no answer in time"))) {
            Ok(grant) => self.take(claim.cluster, grant),
            Err(error) => {
                tracing::debug!(cluster = %claim.cluster, %error, "a slice could not be claimed");
                self.do_without(claim).await;
            }
        }
    }

    fn take(&self, cluster: ClusterId, grant: SliceGrant) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&cluster) else { return };
        if entry.overtaken {
            // What was granted may have been taken back before the lease was made anew. The row is no less than what is
            // used, as with an answer that is lost.
            (entry.claiming, entry.failed, entry.due) = (false, false, true);
            return;
        }
        if entry.slice.is_none() && grant.slice == 0 {
            // The next renewal says whether somebody who is gone holds it all.
            self.announced.store(true, Ordering::Release);
            self.wake.notify_one();
        }
        if entry.fenced || entry.slice.is_none() {
            tracing::info!(cluster = entry.name, slice = grant.slice, budget = grant.budget, "a slice of the budget");
        }
        (entry.claiming, entry.failed, entry.frozen) = (false, false, false);
        (entry.confirm, entry.fenced, entry.lost_sight) = (false, false, false);
        // Looks that saw nothing of us before the grant do not count any more.
        entry.seen = Instant::now();
        (entry.slice, entry.yield_to, entry.offline) = (Some(grant.slice), grant.yield_to, None);
        (entry.budget, entry.others) = (grant.budget, grant.others);
        entry.demand.scarce.store(grant.slice < grant.budget, Ordering::Relaxed);
        entry.demand.budget.store(grant.budget, Ordering::Release);
        entry.apply();
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
pub(super) mod tests;
