//! The only place that touches both planes: making, adopting, suspending and deleting tenants, and the servers that
//! they are placed on. The CLI, the operators' API and `tenantry dev` all call the same [`Fleet`].

mod admin;
pub mod api;
pub mod backup;
mod budget;
pub mod clone;
mod clusters;
mod copy;
pub mod erase;
pub mod export;
mod lifecycle;
mod lock;
pub mod migrations;
pub mod operation;
pub(crate) mod programs;
pub mod provision;
pub mod restore;
pub(crate) mod scram;
mod sql;
mod template;
pub mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use operation::{Halt, OperationOptions, Progress, Silent, StepTime};
pub use provision::{AdminPassword, AttachTenant, CreateTenant, DeleteTenant, Deleted, FirstAdmin, Provisioned};

use operation::background::Workers;

use crate::control::ControlPlane;
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::passwords::Passwords;
use crate::router::migrate::{MigrateError, MigrateOptions};
use crate::storage::Storage;

/// How many databases are cloned at the same time: each clone copies files and writes them to the log.
const CLONES: usize = 4;
/// The longest display name, in characters.
const NAME_CHARS: usize = 200;

/// What the fleet is told.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// How long an archived tenant's database is kept.
    pub purge_grace: Duration,
    /// The operator's own migrations.
    pub operator_migrations: Option<PathBuf>,
    /// Where backups are kept, if there is such a place.
    pub storage: Option<Storage>,
    /// How often every active tenant is backed up by itself; never if absent.
    pub backup_every: Option<Duration>,
    /// How long backups that were made by themselves are kept.
    pub backup_keep: Duration,
    /// How patient migrations are.
    pub migrate: MigrateOptions,
}

/// Works on tenants. Clones share everything.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The control plane.
    pub control: ControlPlane,
    passwords: Passwords,
    settings: FleetSettings,
    clones: Arc<Semaphore>,
    workers: Arc<Workers>,
}

impl Fleet {
    /// A fleet on a control plane; opens nothing yet.
    #[must_use]
    pub fn new(control: ControlPlane, passwords: Passwords, settings: FleetSettings) -> Self {
        Self { control, passwords, settings, clones: Arc::new(Semaphore::new(CLONES)), workers: Arc::default() }
    }
}

/// 409: a precondition is not met; the sentence says which, and what to do.
fn refused(said: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(Code::Conflict).detail(said)
}

/// What a migration's failure is to the caller; the cause names the file.
fn migrate_error(error: MigrateError) -> ApiError {
    match error {
        MigrateError::Connect(error) => admin::unavailable(error),
        MigrateError::Busy | MigrateError::LockTimeout { .. } => ApiError::new(Code::TenantUnavailable)
            .detail("The database is busy with other work; try again.")
            .caused_by(error),
        MigrateError::Diverged { .. } => {
            refused("The database's migration history and the migration files differ.").caused_by(error)
        }
        MigrateError::Failed { .. } | MigrateError::History(_) => {
            ApiError::internal(error).detail("A migration of the tenant's database failed; it was rolled back.")
        }
    }
}

fn check_name(name: Option<&str>) -> ApiResult<()> {
    let fits = name.is_none_or(|name| !name.trim().is_empty() && name.chars().count() <= NAME_CHARS);
    if fits { Ok(()) } else { Err(ApiError::invalid_field("name", "invalid", "A name has 1 to 200 characters.")) }
}
