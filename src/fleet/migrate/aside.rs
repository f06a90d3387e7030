//! A tenant whose lock somebody else holds gives its place away, and comes back apart from the rest, later and later.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::patience::patiently;
use super::tenant::{Patience, Tried, Turn};
use super::turns::Turns;
use crate::control::{migration_runs, tenants};
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::router::migrate::{MigrateError, back_off};
use crate::router::{MainConn, Target};

/// Tenants put aside that are tried at the same time.
const ASIDE: usize = 8;
/// How often a tenant is tried whose lock somebody else holds.
const ATTEMPTS: i32 = 10;
/// How long another runner is waited for by a tenant that was put aside, and a lock that nobody queues up behind.
const WAIT: Duration = Duration::from_secs(60);

impl Turns {
    /// Places for those that were put aside.
    pub(super) fn aside_places() -> Semaphore {
        Semaphore::new(ASIDE)
    }

    pub(super) fn put_aside(self: &Arc<Self>, turn: Turn, error: MigrateError) {
        let turns = self.clone();
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).spawn(turns.again(turn, error));
    }

    /// Those that were put aside are over, or left where they are if the run stops.
    pub(super) async fn wait_for_aside(self: Arc<Self>) {
        loop {
            let mut all = std::mem::take(&mut *self.aside.lock().unwrap_or_else(PoisonError::into_inner));
            if all.is_empty() {
                return;
            }
            while all.join_next().await.is_some() {}
        }
    }

    /// Tries again, later and later, and gives up in the end.
    async fn again(self: Arc<Self>, mut turn: Turn, mut error: MigrateError) {
        let tried = turn.attempt;
        while turn.attempt < tried.max(1) + ATTEMPTS - 1 {
            let pause = back_off(u32::try_from(turn.attempt).unwrap_or(1));
            tracing::info!(tenant = %turn.tenant.slug, attempt = turn.attempt, %error, "put aside for now");
            self.note_aside(&turn, &error, pause).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let Ok(_place) = self.aside_places.acquire().await else { return };
            if self.stop.is_cancelled() {
                return;
            }
            turn.attempt += 1;
            match self.locks.try_take(&[turn.tenant.tenant_id]).await {
                Ok(got) if got.is_empty() => continue,
                // Whoever had it may have moved it, or changed its password.
                Ok(_) => match patiently(|| self.direct_target(turn.tenant.tenant_id)).await {
                    Ok(target) => turn.target = target,
                    Err(error) => return self.broke(error),
                },
                Err(error) => return self.broke(error),
            }
            let statement = self.wanted.statement_timeout;
            let patience = Patience { lock: self.wanted.lock_timeout, wait: WAIT, statement };
            match turn.attempt(&self.migrations, self.installation, patience, self.resumed).await {
                Tried::Over(finished) => return self.take(&turn, finished).await,
                Tried::Conflict(conflict) => {
                    error = conflict;
                    self.unlock(&turn).await;
                }
            }
        }
        let finished = turn.give_up(&error, self.resumed);
        self.take(&turn, finished).await;
    }

    async fn note_aside(&self, turn: &Turn, error: &MigrateError, pause: Duration) {
        let (run, tenant, attempts, error) = (self.run, turn.tenant.tenant_id, turn.attempt, error.to_string());
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        let noted = self.control.db.read(async move |conn: &mut MainConn| {
            migration_runs::postpone(conn, run, tenant, attempts, &error, pause).await
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "could not note that a tenant was put aside");
        }
    }

    /// How a tenant is reached now; none if it is gone.
    async fn direct_target(&self, id: TenantId) -> ApiResult<Option<Target>> {
        let keys = self.control.keys.clone();
        let read = async move |conn: &mut MainConn| tenants::direct_targets(conn, &keys, &[id]).await;
        Ok(self.control.db.read(read).await?.remove(&id))
    }
}
