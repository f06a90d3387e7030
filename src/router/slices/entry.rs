//! What the keeper knows of one cluster.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Demand;
use super::anchor::Anchor;
use super::put_off::PutOff;
use crate::kernel::ClusterId;
use crate::router::connect::Target;
use crate::router::pools::{ClusterCounts, ClusterPools};
use crate::router::tenant::Tenant;

/// How often unmet demand is told of.
const DEMAND_EVERY: Duration = Duration::from_millis(100);

/// What it knows at all.
#[derive(Default)]
pub(super) struct State {
    pub(super) entries: HashMap<ClusterId, Entry>,
    /// When the last renewal that arrived was sent: the lease runs at least `ttl` from then.
    pub(super) contact: Option<Instant>,
    /// Other nodes that lived then.
    pub(super) others: u32,
    pub(super) orphaned: HashSet<ClusterId>,
    pub(super) put_off: PutOff,
}

/// A cluster that this node uses, or has used.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dedicated: bool,
    pub(super) pools: Weak<ClusterPools>,
    /// One of its databases.
    pub(super) target: Arc<Target>,
    pub(super) anchor: Anchor,
    /// What the ledger says is ours, once it has said something.
    pub(super) slice: Option<u32>,
    /// Nothing is opened until the ledger has been asked again.
    pub(super) fenced: bool,
    /// The slice is to be claimed anew before it is relied on.
    pub(super) confirm: bool,
    /// Until when the cluster is known to have seen a connection of ours.
    pub(super) seen: Instant,
    /// Since the ledger last knew of us, there was a time in which others could have taken us for gone.
    pub(super) lost_sight: bool,
    /// When others were last looked for, while it is served without a slice.
    pub(super) looked: Instant,
    pub(super) demand: Arc<Demand>,
    pub(super) yield_to: Option<u32>,
    /// What is used without any word of the ledger. More than one only while an anchor is held.
    pub(super) offline: Option<u32>,
    pub(super) budget: u32,
    pub(super) others: u32,
    /// Opens nothing while a claim is under way whose answer may be less.
    pub(super) frozen: bool,
    pub(super) claiming: bool,
    /// The lease was heard to have run out after the claim under way had begun.
    pub(super) overtaken: bool,
    pub(super) failed: bool,
    pub(super) due: bool,
    /// The most that was wanted lately, and what the ledger was told.
    pub(super) peak: u32,
    pub(super) told: u32,
    pub(super) told_at: Option<Instant>,
}

pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Entry {
    /// Of the cluster of a tenant: nothing is known yet.
    pub(super) fn new(tenant: &Tenant, budget: u32, demand: Arc<Demand>) -> Self {
        Self {
            name: tenant.cluster.name.clone(),
            dedicated: tenant.cluster.id.uuid() == tenant.id.uuid(),
            pools: Weak::new(),
            target: tenant.target.clone(),
            anchor: Anchor::None,
            slice: None,
            fenced: false,
            confirm: false,
            seen: Instant::now(),
            looked: Instant::now(),
            lost_sight: false,
            demand,
            yield_to: None,
            offline: None,
            budget,
            others: 0,
            frozen: false,
            claiming: false,
            overtaken: false,
            failed: false,
            due: true,
            peak: 1,
            told: 0,
            told_at: None,
        }
    }

    pub(super) fn counts(&self) -> ClusterCounts {
        self.pools.upgrade().map_or_else(ClusterCounts::default, |pools| pools.counts())
    }

    /// The most that may be open, the anchor included.
    pub(super) fn allowed(&self) -> u32 {
        match (self.fenced, self.slice) {
            (true, _) => 0,
            (false, Some(slice)) => slice.min(self.yield_to.unwrap_or(slice)),
            (false, None) => self.offline.unwrap_or(0),
        }
    }

    /// Whether the whole budget is used without a slice: for as long as nobody else is to be seen.
    pub(super) fn has_it_alone(&self) -> bool {
        self.slice.is_none() && self.offline.is_some_and(|share| share > 1)
    }

    /// Whether that is so, and nobody who looks now can be sure to see us: nothing more is opened.
    pub(super) fn is_hidden(&self) -> bool {
        self.has_it_alone() && !matches!(self.anchor, Anchor::Held(_))
    }

    /// Tells the pools what they may have open.
    pub(super) fn apply(&self) {
        let Some(pools) = self.pools.upgrade() else { return };
        // The one connection that is used without the ledger's word is nobody's slice: a handshake of the anchor's that hangs
        // does not end all service.
        let alone = u32::from(self.slice.is_none() && !self.fenced && self.offline == Some(1));
        let capacity = self.allowed().saturating_sub(self.anchor.count()).max(alone) as usize;
        pools.set_capacity(if self.frozen || self.is_hidden() { capacity.min(pools.counts().open) } else { capacity });
    }

    /// The lease had run out. A row that others could have taken back is not relied on before it has been claimed anew: on
    /// a cluster that did not see us meanwhile, where there were others to look, nothing is opened until then.
    pub(super) fn lapsed(&mut self, others: bool, gap: Duration) {
        self.overtaken |= self.claiming;
        if self.slice.is_none() {
            return;
        }
        self.confirm = true;
        let unseen = self.lost_sight || self.seen.elapsed() > gap;
        if unseen && !self.fenced && (others || self.others > 0) {
            tracing::warn!(cluster = self.name, "the slice may have been taken back; nothing is opened until asked");
            self.fenced = true;
            self.anchor.leave();
            self.apply();
        }
    }

    /// Whether to claim now; `Err` if only in a moment.
    pub(super) fn is_due(&mut self, tick: bool, silent: bool, now: Instant) -> Result<bool, ()> {
        let counts = self.counts();
        let wanted = number(counts.open + counts.waiting_tenants) + self.anchor.count();
        self.peak = wanted.max(if tick { self.peak - self.peak.div_ceil(4) } else { self.peak });
        // Whoever had no answer asks again at the next tick that had one; only a first use cannot wait for that.
        let goes_on = self.slice.is_some() || self.offline.is_some();
        if self.claiming || (goes_on && (silent || (self.failed && !tick))) {
            return Ok(false);
        }
        let Some(slice) = self.slice else {
            let asked = self.demand.asked.load(Ordering::Acquire);
            return if tick || self.due {
                Ok(true)
            } else if asked {
                self.unless_told(now)
            } else {
                Ok(false)
            };
        };
        let open = number(counts.open) + self.anchor.count();
        let news = self.demand.budget.load(Ordering::Acquire) != self.budget;
        let changed = self.peak.abs_diff(self.told) > slice / 8;
        if self.confirm || self.due || self.allowed().max(open) < slice || (tick && self.others > 0 && changed) {
            return Ok(true);
        }
        if self.demand.asked.load(Ordering::Acquire) && (news || (slice < self.budget && self.peak > self.told)) {
            return self.unless_told(now);
        }
        self.demand.asked.store(false, Ordering::Release);
        // Connections are still coming down to what was asked for.
        if self.allowed() < slice { Err(()) } else { Ok(false) }
    }

    fn unless_told(&self, now: Instant) -> Result<bool, ()> {
        let lately = self.told_at.is_some_and(|at| now.saturating_duration_since(at) < DEMAND_EVERY);
        if lately { Err(()) } else { Ok(true) }
    }
}
