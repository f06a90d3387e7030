//! The only place that touches both planes: making, adopting, suspending and deleting tenants, and the servers that
//! they are placed on. The CLI, the operators' API and `tenantry dev` all call the same [`Fleet`].

mod admin;
pub mod api;
pub mod backup;
mod budget;
pub mod clone;
mod clusters;
mod copy;
pub mod doctor;
pub mod drain;
pub mod drift;
pub mod erase;
pub mod export;
mod grace;
pub mod impersonate;
pub mod kept;
mod lifecycle;
mod lock;
mod looks;
pub mod mail;
pub mod migrate;
pub mod migrations;
mod once;
pub mod operation;
mod parts;
mod probe_cluster;
pub(crate) mod programs;
pub mod proof;
pub mod provision;
pub mod relocate;
pub mod restore;
pub mod rotate;
pub(crate) mod scram;
pub mod signing_keys;
pub mod signup;
mod sql;
pub mod stock;
mod sweep;
mod template;
mod unheard;
pub mod view;
pub mod web;
pub mod workspaces;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

pub use drain::Drained;
pub use migrate::{MigrateFleet, MigrationReport};
pub use operation::{Halt, OperationOptions, Progress, Silent, StepTime};
pub use parts::FailedPart;
pub use provision::{
    AdminPassword, AttachTenant, CreateTenant, DeleteTenant, Deleted, FirstAdmin, Provisioned, Welcome,
};
pub use relocate::{MoveTenant, Moved, Relocation};
pub use rotate::{AllRotated, Rotated};

use operation::background::Workers;

use crate::control::clusters::Placement;
use crate::control::{ControlPlane, installation};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::passwords::Passwords;
use crate::router::migrate::{MigrateError, MigrateOptions};
use crate::router::{Installation, MainConn};
use crate::storage::Storage;

/// How many databases are cloned at the same time: each clone copies files and writes them to the log.
const CLONES: usize = 4;
/// How many tenants one node begins to make at the same time; each holds a few connections meanwhile.
const CREATIONS: usize = 8;
/// How many more may wait for that, and how long while no other of them begins: then the way to a server is blocked.
const CREATIONS_WAITING: usize = 512;
const CREATIONS_PATIENCE: Duration = Duration::from_mins(1);
/// How many requests with an `Idempotency-Key` one node works on at the same time; each holds a lock's session.
const KEYED: usize = 16;
/// The longest display name, in characters.
const NAME_CHARS: usize = 200;

/// What the fleet is told.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// Where the server is asked, without a trailing slash: what a worker proves is proven there.
    pub public_url: String,
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
    /// How long an export stays in the storage.
    pub export_retention: Duration,
    /// Up to this size, in bytes, a tenant is moved by dump and restore under the hold.
    pub dump_limit: u64,
    /// How long connections that must not be used any more may still be in use, before they are ended.
    pub drain_timeout: Duration,
    /// How patient migrations are.
    pub migrate: MigrateOptions,
    /// By what the least loaded cluster is chosen.
    pub placement: Placement,
    /// How many ready tenants each cluster keeps: see [`Fleet::keep_stock`].
    pub ready_tenants: u32,
    /// The connection budget of clusters that have none of their own, as the nodes have it.
    pub cluster_budget: u32,
}

/// Works on tenants. Clones share everything.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The control plane.
    pub control: ControlPlane,
    passwords: Passwords,
    settings: FleetSettings,
    clones: Arc<Semaphore>,
    creations: Arc<provision::Places>,
    keyed: Arc<Semaphore>,
    workers: Arc<Workers>,
    locks: Arc<lock::Idle>,
    installation: Arc<OnceCell<Installation>>,
    unheard: Arc<unheard::Unheard>,
    abandoned: Arc<relocate::Abandoned>,
    /// How long the doctor and drift look at one thing, if it is not the usual.
    look_deadline: Option<Duration>,
}

impl Fleet {
    /// A fleet on a control plane; opens nothing yet.
    #[must_use]
    pub fn new(control: ControlPlane, passwords: Passwords, settings: FleetSettings) -> Self {
        Self {
            control,
            passwords,
            settings,
            clones: Arc::new(Semaphore::new(CLONES)),
            creations: Arc::new(provision::Places::new(CREATIONS, CREATIONS_WAITING, CREATIONS_PATIENCE)),
            keyed: Arc::new(Semaphore::new(KEYED)),
            workers: Arc::default(),
            locks: Arc::default(),
            installation: Arc::default(),
            unheard: Arc::default(),
            abandoned: Arc::default(),
            look_deadline: None,
        }
    }

    /// The same fleet, whose doctor gives each server, whose drift gives each tenant's database, and whose sweeps give
    /// whatever they end or drop so long.
    #[must_use]
    pub const fn with_look_deadline(mut self, deadline: Duration) -> Self {
        self.look_deadline = Some(deadline);
        self
    }

    /// The same fleet, for a server at another public address.
    #[must_use]
    pub fn serving_at(mut self, public_url: &str) -> Self {
        public_url.clone_into(&mut self.settings.public_url);
        self
    }

    /// Which installation this is; read once.
    async fn installation(&self) -> ApiResult<&Installation> {
        let read = async || {
            let keys = self.control.keys.clone();
            let found = self.control.db.read(async move |conn: &mut MainConn| installation::find(conn, &keys).await);
            found.await?.ok_or_else(|| refused("The installation is not set up; run `tenantry migrate` first."))
        };
        self.installation.get_or_try_init(read).await
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
