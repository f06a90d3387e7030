//! The fleet's migrations in the control plane: what each tenant is at, what a run has to do and has done, and what the
//! nodes see of it.

mod health;
mod ledger;
mod state;

pub use health::{Seen, end_watch, nodes, seen, watch};
pub use ledger::{
    Canary, FailedTenant, Finished, KnownAt, Planned, RunTenant, RunTotals, canary, failed, finish, forget,
    join_canary, known, plan, postpone, start, totals, unfinished,
};
pub use state::{Behind, Head, SchemaGroup, at_head, behind, count, groups};

use crate::router::tenant::words;

words! {
    /// How far a run has come with one tenant.
    TenantState {
        /// Not begun.
        Pending = "pending",
        /// Begun, or put aside until a lock is free.
        Running = "running",
        /// At the head, as it was before or because of the run.
        Done = "done",
        /// It could not be brought there.
        Failed = "failed",
        /// Left alone: its schema is newer than this program, or the tenant is gone.
        Skipped = "skipped",
    }
}
