//! Every tenant to the head of the migrations: canary, waves, and whoever gives way to traffic put aside and tried again.
//!
//! `begin.rs` finds the run there is or begins one, `run.rs` is its way along the journal, `plan.rs` who has a turn when,
//! `wave.rs` the turns of a wave, `turns.rs` what they share, `aside.rs` who gave way, `tenant.rs` one tenant, `ledger.rs`
//! what is written down of it, `outcome.rs` what it came to. `attend.rs` looks up from the work, `watch.rs` at what the
//! nodes see meanwhile; `patience.rs` and `locks.rs` bear a control plane that is away for a moment. `jump.rs` is a tenant
//! that a request waits for, `dry.rs` the plan and its locks, `status.rs` how the fleet stands.

mod aside;
mod attend;
mod begin;
mod dry;
mod jump;
mod ledger;
mod locks;
mod outcome;
mod patience;
mod plan;
mod run;
mod status;
mod tenant;
mod turns;
mod watch;
mod wave;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(super) use dry::PREFIX as TRIAL_PREFIX;
pub use dry::{DryRun, PlannedMigration, PlannedTenant};
pub use run::Step;
pub use status::{FleetStatus, RunStatus};

use crate::control::migration_runs::{FailedTenant, Head};
use crate::kernel::{OperationId, Slug};
use crate::router::tenant::words;

/// What a run over the fleet is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrateFleet {
    /// How many tenants go first; one in a hundred, and at least one, if absent.
    pub canary: Option<usize>,
    /// How many tenants a wave has.
    pub wave: usize,
    /// How many tenants of one cluster are migrated at the same time.
    pub concurrency: usize,
    /// These tenants alone; all of them if there are none.
    pub only: Vec<Slug>,
    /// How long a statement waits for a lock before it gives way to the traffic.
    pub lock_timeout: Duration,
    /// How long a statement may take; what runs outside of a transaction has no bound.
    pub statement_timeout: Duration,
    /// The run stops when so many tenants have failed; one in ten, and at least ten, if absent.
    pub max_failures: Option<usize>,
    /// How long the canary is watched at most where there is traffic.
    pub soak: Duration,
}

impl Default for MigrateFleet {
    fn default() -> Self {
        Self {
            canary: None,
            wave: 500,
            concurrency: 8,
            only: Vec::new(),
            lock_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(15 * 60),
            max_failures: None,
            soak: Duration::from_secs(10),
        }
    }
}

impl MigrateFleet {
    /// The tenants it is about, if not about all.
    fn named(&self) -> Option<Vec<String>> {
        (!self.only.is_empty()).then(|| self.only.iter().map(ToString::to_string).collect())
    }

    fn canaries(&self, of: usize) -> usize {
        self.canary.unwrap_or_else(|| of.div_ceil(100)).min(of)
    }

    fn bearable(&self, of: i64) -> i64 {
        let usual = || i64::max(10, of / 10);
        self.max_failures.map_or_else(usual, |max| i64::try_from(max).unwrap_or(i64::MAX).max(1))
    }
}

words! {
    /// How a run over the fleet ended.
    RunOutcome {
        /// Every tenant is at the head.
        Done = "done",
        /// Some tenants failed.
        Partial = "partial",
        /// It stopped by itself, or because somebody asked for it.
        Stopped = "stopped",
    }
}

/// What a run over the fleet came to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationReport {
    /// The run: a job.
    pub run_id: OperationId,
    /// How it ended.
    pub state: RunOutcome,
    /// Why it stopped, if it did.
    pub reason: Option<String>,
    /// What the tenants were to be brought to.
    pub head: HeadView,
    /// How many tenants it was about.
    pub total: i64,
    /// Tenants to which something was applied.
    pub migrated: i64,
    /// Tenants that were at the head, or whose schema is newer than this program.
    pub skipped: i64,
    /// Tenants that had no turn because the run stopped.
    pub pending: i64,
    /// Tenants that could not be brought to the head.
    pub failed: Vec<FailedView>,
    /// Tenants migrated in a second, pauses to watch the canary aside.
    pub tenants_per_second: f64,
    /// How long the run took, in milliseconds.
    pub duration_ms: i64,
}

/// What the migrations of one moment lead to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadView {
    /// Version of the built-in schema.
    pub schema_version: i32,
    /// Version of the operator's own migrations; 0 without any.
    pub operator_version: i32,
}

impl From<&Head> for HeadView {
    fn from(head: &Head) -> Self {
        Self { schema_version: head.schema_version, operator_version: head.operator_version }
    }
}

/// A tenant that could not be brought to the head.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedView {
    /// Public name.
    pub slug: String,
    /// Why, with its cause.
    pub error: String,
    /// The file that could not be applied, where it is one's fault.
    pub migration: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
}

impl From<FailedTenant> for FailedView {
    fn from(failed: FailedTenant) -> Self {
        Self { slug: failed.slug, error: failed.error, migration: failed.migration, attempts: failed.attempts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_and_a_bound_where_nothing_is_said() {
        let usual = MigrateFleet::default();
        assert_eq!([0, 1, 20, 250, 1000].map(|of| usual.canaries(of)), [0, 1, 1, 3, 10]);
        assert_eq!([5, 1000].map(|of| usual.bearable(of)), [10, 100]);
        let said = MigrateFleet { canary: Some(3), max_failures: Some(0), ..usual };
        assert_eq!((said.canaries(2), said.canaries(9), said.bearable(9)), (2, 3, 1));
    }
}
