//! Deliberately broken managers: each breaks one promise, and a test shows that the histories find it out.

use std::cell::Cell;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::router) enum Mutant {
    /// Nothing.
    None,
    /// Opens one connection more than the capacity.
    IgnoresCapacity,
    /// Takes the permit of a connection for free as soon as it is told to close.
    FreesBeforeClosed,
    /// Grants a slice from what other rows hold.
    LendsWhatIsHeld,
    /// Raises the node's capacity when it asks, before the row says so.
    RaisesBeforeRow,
    /// Lowers the row to what the node should come down to, while more is open.
    LowersRowFirst,
    /// Takes back a crashed node's slice after its lease, without a look at its connections.
    ReclaimsUnseen,
    /// Takes back the slice of a node that is not to be seen, without a look at its lease.
    ReclaimsTheLiving,
    /// Hands a connection that is taken from a tenant to another tenant, instead of closing it.
    HandsToAnother,
    /// Goes on with connections of a version that the registry has replaced.
    KeepsOldVersions,
    /// Closes a connection that is to be left while requests are on it.
    ClosesUnderRequests,
    /// Drops the waiters of a tenant whose connection is taken.
    ForgetsWaiters,
    /// Does not tell the last request to leave a sealed connection that it was the last.
    ForgetsTheLast,
    /// Begins to bring a connection back to order each time somebody finds that it has been left.
    RecoversTwice,
    /// Leaves the turn of a tenant in the queue when its pool is forgotten.
    KeepsTurns,
}

thread_local! {
    static MUTANT: Cell<Mutant> = const { Cell::new(Mutant::None) };
}

/// Whether this is what is wrong on this thread.
pub(in crate::router) fn is(mutant: Mutant) -> bool {
    MUTANT.get() == mutant
}

/// Breaks the managers of this thread until the guard is dropped.
pub(in crate::router) fn with(mutant: Mutant) -> Guard {
    MUTANT.set(mutant);
    Guard
}

/// See [`with`].
#[derive(Debug)]
pub(in crate::router) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        MUTANT.set(Mutant::None);
    }
}

/// The permits that may be out.
pub(in crate::router) fn limit(limit: usize, closing: usize) -> usize {
    match MUTANT.get() {
        Mutant::IgnoresCapacity => limit + 1,
        Mutant::FreesBeforeClosed => limit + closing,
        _ => limit,
    }
}

/// The permits that no row holds.
pub(in crate::router) fn free(free: u32, budget: u32, mine: u32) -> u32 {
    if is(Mutant::LendsWhatIsHeld) { budget.saturating_sub(mine) } else { free }
}
