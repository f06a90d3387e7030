//! The rows in the control plane, and a node's keeper: the same steps in the same order as `slices/ledger.rs` and
//! `slices/keeper.rs` take them, with the arithmetic of `slices/rules.rs` itself.

use super::mutant::{self, Mutant};
use crate::router::slices::rules::{self, Row};

/// How long a lease runs, how often it is renewed, and how far apart two looks are that must see nothing: ms.
pub(super) const TTL: i64 = 15_000;
pub(super) const RENEW_EVERY: i64 = TTL * 2 / 15;
const GAP: i64 = TTL / 5;

/// What a node says when it asks for its slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) node: usize,
    pub(super) seq: u64,
    pub(super) in_use: u32,
    pub(super) held: u32,
    pub(super) wanted: u32,
}

/// The answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    slice: u32,
    yield_to: Option<u32>,
}

#[derive(Debug)]
struct Held {
    node: usize,
    slice: u32,
    wanted: u32,
    seq: u64,
    unseen_since: Option<i64>,
}

/// The control plane's side. All times are of its own clock, which may jump.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) budget: u32,
    /// When each node's lease runs out.
    leases: Vec<(usize, i64)>,
    rows: Vec<Held>,
}

impl Ledger {
    pub(super) const fn new(budget: u32) -> Self {
        Self { budget, leases: vec![], rows: vec![] }
    }

    pub(super) fn sum(&self) -> u32 {
        self.rows.iter().map(|row| row.slice).sum()
    }

    /// Whether rows of nodes that are not `living` are left.
    pub(super) fn has_orphans(&self, living: impl Fn(usize) -> bool) -> bool {
        self.rows.iter().any(|row| !living(row.node))
    }

    fn lease(&mut self, node: usize, clock: i64) -> &mut i64 {
        let at = self.leases.iter().position(|(id, _)| *id == node).unwrap_or_else(|| {
            self.leases.push((node, clock + TTL));
            self.leases.len() - 1
        });
        &mut self.leases[at].1
    }

    fn is_live(&self, node: usize, clock: i64) -> bool {
        self.leases.iter().any(|(id, until)| *id == node && *until > clock)
    }

    /// The node lives. True if its lease had run out.
    pub(super) fn renew(&mut self, node: usize, clock: i64) -> bool {
        let lapsed = !self.is_live(node, clock);
        *self.lease(node, clock) = clock + TTL;
        if lapsed {
            self.rows.iter_mut().filter(|row| row.node == node).for_each(|row| row.unseen_since = None);
        }
        lapsed
    }

    /// `None` if a later claim of the node was here first.
    pub(super) fn claim(&mut self, claim: Claim, clock: i64) -> Option<Grant> {
        let known = self.rows.iter().position(|row| row.node == claim.node);
        if known.is_some_and(|at| self.rows[at].seq >= claim.seq) {
            return None;
        }
        self.lease(claim.node, clock);
        let before = known.map_or(claim.in_use, |at| self.rows[at].slice);
        if let Some(at) = known {
            self.rows.swap_remove(at);
        }
        let (node, slice, wanted, seq) = (claim.node, before.min(claim.held), claim.wanted, claim.seq);
        self.rows.push(Held { node, slice, wanted, seq, unseen_since: None });
        self.rows.sort_by_key(|row| row.node);
        let me = self.rows.iter().position(|row| row.node == claim.node)?;
        let rows: Vec<Row> = self
            .rows
            .iter()
            .map(|row| Row {
                slice: row.slice,
                wanted: row.wanted,
                live: row.node == claim.node || self.is_live(row.node, clock),
            })
            .collect();
        let step = rules::step(self.budget, &rows, me);
        self.rows[me].slice = step.slice;
        Some(Grant { slice: step.slice, yield_to: step.yield_to })
    }

    /// A look at the cluster: what a node holds whose lease has run out is taken back when an earlier look saw no
    /// connection of it either.
    pub(super) fn look(&mut self, clock: i64, is_seen: impl Fn(usize) -> bool) {
        let leases = &self.leases;
        self.rows.retain_mut(|row| {
            let live = leases.iter().any(|(id, until)| *id == row.node && *until > clock);
            let seen = is_seen(row.node) && !mutant::is(Mutant::ReclaimsUnseen);
            if seen || (live && !mutant::is(Mutant::ReclaimsTheLiving)) {
                row.unseen_since = row.unseen_since.filter(|_| !seen);
                return true;
            }
            *row.unseen_since.get_or_insert(clock) > clock - GAP
        });
    }
}

/// What a node's keeper knows.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    slice: Option<u32>,
    yield_to: Option<u32>,
    confirm: bool,
    frozen: bool,
    /// The claim that is waited for.
    claiming: Option<u64>,
    seq: u64,
    wanted: u32,
    /// When the lease is renewed next, by the node's clock.
    pub(super) renew_at: i64,
}

impl Keeping {
    fn allowed(&self) -> u32 {
        self.slice.map_or(0, |slice| slice.min(self.yield_to.unwrap_or(slice)))
    }

    /// What the node may have open, of which `open` are.
    pub(super) fn capacity(&self, open: u32) -> usize {
        let allowed = self.allowed();
        let allowed = if self.frozen { allowed.min(open) } else { allowed };
        let early = mutant::is(Mutant::RaisesBeforeRow) && self.claiming.is_some();
        (if early { allowed.max(self.wanted) } else { allowed }) as usize
    }

    /// Begins a claim, unless one is under way. What may be open is lowered before it is sent.
    pub(super) fn begin(&mut self, node: usize, open: u32, wanted: u32) -> Option<Claim> {
        if self.claiming.is_some() {
            return None;
        }
        self.seq += 1;
        self.claiming = Some(self.seq);
        self.frozen = self.confirm || self.slice.is_none();
        self.wanted = wanted;
        let allowed = self.allowed();
        let held = if mutant::is(Mutant::LowersRowFirst) { allowed } else { allowed.max(open) };
        Some(Claim { node, seq: self.seq, in_use: open, held, wanted })
    }

    /// The answer has come. What may be open is raised after the row.
    pub(super) fn take(&mut self, seq: u64, grant: Grant) {
        if self.claiming == Some(seq) {
            (self.slice, self.yield_to) = (Some(grant.slice), grant.yield_to);
            (self.claiming, self.frozen, self.confirm) = (None, false, false);
        }
    }

    /// The answer is not waited for any longer. The slice stays what it was.
    pub(super) fn do_without(&mut self) {
        (self.claiming, self.frozen) = (None, false);
    }

    /// The lease had run out: the slice is to be claimed anew.
    pub(super) fn lapsed(&mut self) {
        self.confirm |= self.slice.is_some();
    }

    pub(super) const fn is_claiming(&self, seq: u64) -> bool {
        matches!(self.claiming, Some(now) if now == seq)
    }
}
