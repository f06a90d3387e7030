//! One run at a time: begun anew, or gone on with where an interrupted one stopped.

use serde::{Deserialize, Serialize};

use super::run::Run;
use super::{MigrateFleet, MigrationReport};
use crate::control::migration_runs::Head;
use crate::control::operations::{self, NewOperation, Operation, OperationFilter, OperationKind, OperationState};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::lock::Lock;
use crate::fleet::migrations::Migrations;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, OperationOptions, Progress, refused};
use crate::kernel::OperatorId;
use crate::router::MainConn;

/// How often a run is looked for that somebody else has just ended.
const LOOKS: usize = 3;
const BUSY: &str = "Another run over the fleet is on. Wait for it to end, or cancel it.";

/// What the journal keeps of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Input {
    pub(super) head: Head,
    pub(super) wanted: MigrateFleet,
}

impl Input {
    fn of(operation: &Operation) -> ApiResult<Self> {
        serde_json::from_value(operation.input.clone()).map_err(ApiError::internal)
    }

    /// Whether a run for this may go on with one for that: the same migrations, of the same tenants.
    fn continues(&self, begun: &Self) -> bool {
        self.head == begun.head && self.wanted.only == begun.wanted.only
    }

    fn operation(&self, requested_by: Option<OperatorId>) -> ApiResult<NewOperation> {
        let input = serde_json::to_value(self).map_err(ApiError::internal)?;
        Ok(NewOperation { kind: OperationKind::Migrate, tenant: None, input, background: false, requested_by })
    }
}

impl Fleet {
    /// Brings every tenant to the head of the migrations as they are now, or goes on with a run that was interrupted.
    ///
    /// # Errors
    /// 404 for a slug that nobody has; 409 while another run is on, or if the operator's migrations cannot be used; 503
    /// if the control plane does not answer. Tenants that fail are no error: the report lists them.
    pub async fn migrate(
        &self,
        wanted: &MigrateFleet,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<MigrationReport> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        self.check_named(wanted).await?;
        let input = Input { head: migrations.head(), wanted: wanted.clone() };
        let (operation, _lock, resumed) = self.begin_run(&input).await?;
        if resumed {
            progress.note("going on with the run that was interrupted");
        }
        let journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        Run::new(self, migrations, input.wanted, resumed, journal.operation.id).await?.drive(journal).await
    }

    /// As [`Fleet::migrate`], left to a worker.
    ///
    /// # Errors
    /// As [`Fleet::migrate`].
    pub async fn migrate_later(&self, wanted: &MigrateFleet, requested_by: Option<OperatorId>) -> ApiResult<Operation> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        self.check_named(wanted).await?;
        let new = Input { head: migrations.head(), wanted: wanted.clone() }.operation(requested_by)?;
        for _ in 0..LOOKS {
            if let Some(open) = self.open_run().await? {
                return Err(refused(format!("Another run is on (job {}); wait for it to end, or cancel it.", open.id)));
            }
            match self.enqueue(new.clone()).await {
                // Somebody was quicker, and has the one place there is.
                Err(error) if error.code() == Code::Conflict => {}
                queued => return queued,
            }
        }
        Err(refused(BUSY))
    }

    /// Drives a run that was left to a worker. One whose migrations are not those of this node any more is given up; one
    /// that a newer release asked for is left to the nodes that have it, unless it is to stop: there may be none left.
    ///
    /// # Errors
    /// As [`Fleet::migrate`]; 409 too if tenants failed, which the journal has then.
    pub(in crate::fleet) async fn migrate_in_background(
        &self,
        operation: &Operation,
        progress: &dyn Progress,
    ) -> ApiResult<()> {
        let id = operation.id;
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let (input, head) = (Input::of(operation)?, migrations.head());
        // Before the lock: whoever can do it must not find it taken.
        let is_newer = input.head.schema_version > head.schema_version;
        if is_newer && !operation.cancel_requested {
            let (wanted, known) = (input.head.schema_version, head.schema_version);
            tracing::debug!(job = %id, wanted, known, "a run is left to nodes of a newer release");
            return Ok(());
        }
        let _lock = Lock::operation(&self.control, operation).await?;
        let db = &self.control.db;
        // Whoever had the lock until now may have ended it.
        let operation = db.read(async move |conn: &mut MainConn| operations::get(conn, id).await).await?;
        if operation.state.is_final() {
            return Ok(());
        }
        if is_newer {
            let (state, why) = (OperationState::Cancelled, Some("The job was cancelled."));
            return db.read(async move |conn: &mut MainConn| operations::finish(conn, id, state, why).await).await;
        }
        if input.head != head {
            let why = "the migrations have changed since this was asked for; ask again";
            db.read(async move |conn: &mut MainConn| operations::fail_open(conn, id, why).await).await?;
            return Err(refused("The migrations have changed since this was asked for. Ask again."));
        }
        let resumed = operation.state == OperationState::Running;
        let journal = Journal::open(&self.control, operation, progress, None).await?;
        Run::new(self, migrations, input.wanted, resumed, id).await?.drive(journal).await.map(drop)
    }

    pub(super) async fn check_named(&self, wanted: &MigrateFleet) -> ApiResult<()> {
        let only = wanted.only.clone();
        self.control
            .db
            .read(async move |conn: &mut MainConn| {
                for slug in &only {
                    if tenants::find_by_slug(conn, slug).await?.is_none() {
                        let said = format!("There is no tenant '{slug}'. See `tenantry tenant list`.");
                        return Err(ApiError::not_found("tenant").detail(said));
                    }
                }
                Ok(())
            })
            .await
    }

    /// The run that is on, or was interrupted.
    pub(super) async fn open_run(&self) -> ApiResult<Option<Operation>> {
        self.latest_run(&[OperationState::Running, OperationState::Queued]).await
    }

    /// The latest run in one of these states; of all if there are none.
    pub(super) async fn latest_run(&self, states: &[OperationState]) -> ApiResult<Option<Operation>> {
        let filter =
            OperationFilter { kind: Some(OperationKind::Migrate), limit: Some(20), ..OperationFilter::default() };
        let db = &self.control.db;
        let runs = db.read(async move |conn: &mut MainConn| operations::list(conn, &filter).await).await?;
        Ok(runs.into_iter().find(|run| states.is_empty() || states.contains(&run.state)))
    }

    /// Gives the run with its lock, and whether it was begun before.
    async fn begin_run(&self, input: &Input) -> ApiResult<(Operation, Lock, bool)> {
        let db = &self.control.db;
        for _ in 0..LOOKS {
            if let Some(open) = self.open_run().await? {
                let lock = Lock::operation(&self.control, &open).await?;
                let id = open.id;
                let now = db.read(async move |conn: &mut MainConn| operations::get(conn, id).await).await?;
                if now.state.is_final() {
                    continue;
                }
                if input.continues(&Input::of(&now)?) {
                    let run = db.read(async move |conn: &mut MainConn| operations::reopen(conn, id).await).await?;
                    return Ok((run, lock, true));
                }
                let why = "another run took its place";
                db.read(async move |conn: &mut MainConn| {
                    operations::finish(conn, id, OperationState::Undone, Some(why)).await
                })
                .await?;
            }
            let new = input.operation(None)?;
            let begun = db.transaction(async move |conn: &mut MainConn| operations::begin(conn, &new).await).await;
            match begun {
                Ok(run) => {
                    let lock = Lock::operation(&self.control, &run).await?;
                    return Ok((run, lock, false));
                }
                // Somebody was quicker, and has the one place there is.
                Err(error) if self.open_run().await?.is_some() => drop(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused(BUSY))
    }
}
