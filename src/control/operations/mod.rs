//! The journal of every longer work on a tenant, a cluster or the fleet: what makes each of them resumable, and what
//! operators see as a job.

mod cancel;
mod driver;
mod exports;
mod list;
mod parts;
mod requested;
mod retention;
mod steps;
mod store;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use cancel::{hand_over, request_cancel};
pub use driver::{Driver, drive, finish_driven, is_driven, is_taken_over, report, set_driven_result, start};
pub use exports::{export_removed, exports_over, has_exports};
pub use list::{OperationFilter, count, list, scheduled_backups, unended, waiting};
pub use parts::{cancel_parts, open_parts, parts_done};
pub use requested::{began, canaries, find_requested, note_request};
pub use retention::{Litter, forget_steps, left_behind, step_undone, trim, unheld_moves};
pub use steps::{Step, step_done, step_started, steps, steps_done};
pub use store::{
    NewOperation, begin, begin_waiting, fail_open, find_open, finish, get, has_begun, has_ended, is_done_after_all,
    reopen, requeue, resume, set_result,
};

use crate::kernel::{OperationId, OperatorId, Slug, TenantId};
use crate::router::tenant::words;

words! {
    /// What an operation does.
    OperationKind {
        /// A tenant with a new database on a cluster.
        Create = "create",
        /// A tenant with a customer's own database.
        Attach = "attach",
        /// Away with a tenant.
        Delete = "delete",
        /// Another password for a tenant's role.
        RotateCredentials = "rotate_credentials",
        /// A tenant to another cluster.
        Move = "move",
        /// A tenant's data into a new tenant.
        Clone = "clone",
        /// A tenant's data into the storage.
        Backup = "backup",
        /// A backup into its tenant, or into a new one.
        Restore = "restore",
        /// A tenant's data in open formats, for the customer.
        Export = "export",
        /// A tenant, its backups and its keys destroyed.
        Erase = "erase",
        /// A cluster's tenants to other clusters.
        Drain = "drain",
        /// Every tenant to the head of the migrations.
        Migrate = "migrate",
        /// Every tenant's catalog compared with what its migrations make.
        Drift = "drift",
        /// The isolation of the running installation, proven.
        Verify = "verify",
    }
}

words! {
    /// How far an operation has come.
    OperationState {
        /// Waits for a worker.
        Queued = "queued",
        /// Somebody drives it, or was interrupted while driving it.
        Running = "running",
        /// All its steps are done.
        Done = "done",
        /// A step could not be done; asking for the same again resumes it.
        Failed = "failed",
        /// Its steps were taken back, or another operation took its place.
        Undone = "undone",
        /// Stopped because somebody asked for it.
        Cancelled = "cancelled",
    }
}

impl OperationState {
    /// Whether nothing more will happen by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A run of the journal.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Identity.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The tenant and its slug; none for work on a cluster or the fleet.
    pub tenant: Option<(TenantId, Slug)>,
    /// How far it has come.
    pub state: OperationState,
    /// A worker drives it; else the command that began it.
    pub background: bool,
    /// What it was asked for; neither secrets nor anything personal.
    pub input: serde_json::Value,
    /// What came of it.
    pub result: Option<serde_json::Value>,
    /// Why it failed, for the operator.
    pub error: Option<String>,
    /// How far it has come, and of how much.
    pub progress: Option<(i64, i64)>,
    /// Somebody asked that it stop at the next safe point.
    pub cancel_requested: bool,
    /// Who asked for it over REST.
    pub requested_by: Option<OperatorId>,
    /// The request that began it; none if a command or a worker did.
    pub request_id: Option<String>,
    /// When it was asked for.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The token of whoever drives it, or did last.
    pub(crate) driver: Option<Uuid>,
}

impl Operation {
    /// Whether it is a stranger's request for a tenant, which an operator decides on.
    #[must_use]
    pub fn is_sign_up(&self) -> bool {
        self.tenant.is_none() && self.input.get("approval").is_some()
    }

    /// Whether it is a backup that nobody asked for.
    #[must_use]
    pub fn is_scheduled_backup(&self) -> bool {
        self.kind == OperationKind::Backup && self.input["scheduled"] == true
    }

    /// Whether it makes a tenant of the proof of isolation, see [`canaries`].
    #[must_use]
    pub fn is_of_canary(&self) -> bool {
        self.kind == OperationKind::Create && self.input["canary"] == true
    }
}
