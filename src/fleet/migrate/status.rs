//! How the fleet stands: how many tenants are at what, and who failed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::begin::Input;
use super::{HeadView, MigrationReport};
use crate::control::migration_runs::{self, FailedTenant, Head, RunTotals, SchemaGroup};
use crate::control::operations::{Operation, OperationState};
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::migrations::Migrations;
use crate::kernel::OperationId;
use crate::router::MainConn;

/// How the fleet stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// What the migrations of this moment lead to.
    pub head: HeadView,
    /// How many tenants there are, suspended and archived ones included.
    pub total: i64,
    /// How many of them have all migrations of this moment.
    pub at_head: i64,
    /// How many tenants are at what.
    pub versions: Vec<SchemaGroup>,
    /// The latest run.
    pub run: Option<RunStatus>,
    /// Tenants that the latest run could not bring to the head, or has put aside.
    pub failed: Vec<FailedTenant>,
}

impl FleetStatus {
    /// Whether there is something to report.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.at_head == self.total && self.failed.is_empty()
    }
}

/// A run over the fleet.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The run: a job.
    pub id: OperationId,
    /// How far it has come.
    pub state: OperationState,
    /// Why it did not end well.
    pub error: Option<String>,
    /// Tenants that it brought to the head.
    pub migrated: i64,
    /// Tenants that had no turn yet, or are under way.
    pub pending: i64,
    /// When it was asked for.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it came to.
    pub report: Option<MigrationReport>,
}

impl RunStatus {
    fn of(run: Operation, totals: RunTotals) -> Self {
        Self {
            id: run.id,
            state: run.state,
            error: run.error,
            migrated: totals.migrated,
            pending: totals.pending,
            started_at: run.started_at,
            finished_at: run.finished_at,
            // One of another release is left out.
            report: run.result.and_then(|result| serde_json::from_value(result).ok()),
        }
    }
}

impl Fleet {
    /// How the fleet stands. Only the control plane is asked.
    ///
    /// # Errors
    /// 409 if the operator's migrations cannot be used; 503 if the control plane does not answer.
    pub async fn migration_status(&self) -> ApiResult<FleetStatus> {
        let head = Migrations::load(self.settings.operator_migrations.as_deref()).await?.head();
        let run = self.latest_run(&[]).await?;
        let view = HeadView::from(&head);
        let (versions, run, failed) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let versions = migration_runs::groups(conn, &head).await?;
                let Some(run) = run else { return Ok((versions, None, Vec::new())) };
                let totals = migration_runs::totals(conn, run.id).await?;
                let failed = migration_runs::failed(conn, run.id, &goal(&run, &head)).await?;
                Ok::<_, ApiError>((versions, Some(RunStatus::of(run, totals)), failed))
            })
            .await?;
        Ok(FleetStatus {
            head: view,
            total: versions.iter().map(|group| group.tenants).sum(),
            at_head: versions.iter().filter(|group| group.at_head).map(|group| group.tenants).sum(),
            versions,
            run,
            failed,
        })
    }
}

/// What a run meant to reach; one of another release is asked about the head of this.
fn goal(run: &Operation, head: &Head) -> Head {
    serde_json::from_value(run.input.clone()).map_or_else(|_| head.clone(), |input: Input| input.head)
}
