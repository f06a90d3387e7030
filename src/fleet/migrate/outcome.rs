//! What a run came to.

use super::patience::patiently;
use super::run::Run;
use super::{FailedView, MigrationReport, RunOutcome};
use crate::control::migration_runs::{self, FailedTenant, RunTotals};
use crate::error::{ApiError, ApiResult};
use crate::router::MainConn;

impl Run<'_> {
    /// What it came to. An error if not everybody is at the head, so that the journal says so.
    pub(super) async fn end(&mut self, reason: Option<String>) -> ApiResult<()> {
        let (totals, failed, count) = patiently(|| self.came_to()).await?;
        let failed: Vec<_> = failed.into_iter().map(FailedView::from).collect();
        let state = match (&reason, failed.is_empty() && totals.pending == 0) {
            (None, true) => RunOutcome::Done,
            (None, false) => RunOutcome::Partial,
            (Some(_), _) => RunOutcome::Stopped,
        };
        let active = self.begun.elapsed().saturating_sub(self.watched).as_secs_f64().max(0.001);
        let not_there = totals.migrated + totals.pending + i64::try_from(failed.len()).unwrap_or_default();
        self.report = Some(MigrationReport {
            run_id: self.id,
            state,
            reason,
            head: (&self.head).into(),
            total: count,
            migrated: totals.migrated,
            skipped: (count - not_there).max(0),
            pending: totals.pending,
            failed,
            tenants_per_second: (totals.migrated as f64 / active * 10.0).round() / 10.0,
            duration_ms: i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX),
        });
        Ok(())
    }

    /// How far it is, who failed, and how many tenants there are.
    async fn came_to(&self) -> ApiResult<(RunTotals, Vec<FailedTenant>, i64)> {
        let (id, head, only) = (self.id, self.head.clone(), self.wanted.named());
        let db = &self.fleet.control.db;
        db.read(async move |conn: &mut MainConn| {
            let totals = migration_runs::totals(conn, id).await?;
            let failed = migration_runs::failed(conn, id, &head).await?;
            Ok::<_, ApiError>((totals, failed, migration_runs::count(conn, only.as_deref()).await?))
        })
        .await
    }
}
