//! A tenant whose lock somebody else holds gives its place away, and comes back apart from the rest, later and later.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::patience::patiently;
use super::tenant::{Aside, Patience, Tried, Turn};
use super::turns::Turns;
use crate::control::migration_runs;
use crate::router::MainConn;

/// Tenants put aside that are tried at the same time.
const ASIDE: usize = 8;
/// How often a tenant is tried in whose database somebody else holds a lock.
const ATTEMPTS: i32 = 10;
/// How long another runner is waited for by a tenant that was put aside, and a lock that nobody queues up behind.
const WAIT: Duration = Duration::from_secs(60);

impl Turns {
    /// Places for those that were put aside.
    pub(super) fn aside_places() -> Semaphore {
        Semaphore::new(ASIDE)
    }

    pub(super) fn put_aside(self: &Arc<Self>, turn: Turn, why: Aside) {
        let turns = self.clone();
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).spawn(turns.again(turn, why));
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

    /// Tries again, later and later, and gives up in the end. While another command works on it, it is not tried.
    async fn again(self: Arc<Self>, mut turn: Turn, mut why: Aside) {
        let last = turn.attempt.max(1) + ATTEMPTS - 1;
        while turn.attempt < last && !why.takes_too_long() {
            let pause = why.pause(turn.attempt);
            self.note_aside(&turn, &why, pause).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let Ok(_place) = self.aside_places.acquire().await else { return };
            if self.stop.is_cancelled() {
                return;
            }
            let ids = [turn.tenant.tenant_id];
            match self.locks.try_take(&ids).await {
                Ok(got) if got.is_empty() => {
                    why = why.or_worked_on();
                    continue;
                }
                // Whoever had it may have moved it, changed its password, or removed it.
                Ok(_) => match patiently(|| self.start(&ids)).await {
                    Ok((known, mut targets)) => (turn.gone, turn.target) = (known.is_empty(), targets.remove(&ids[0])),
                    Err(error) => return self.broke(error),
                },
                Err(error) => return self.broke(error),
            }
            turn.attempt += 1;
            let statement = self.wanted.statement_timeout;
            let patience = Patience { lock: self.wanted.lock_timeout, wait: WAIT, statement };
            match turn.attempt(&self.migrations, self.installation, patience, self.resumed).await {
                Tried::Over(finished) => return self.take(&turn, finished).await,
                Tried::Conflict(conflict) => {
                    why = Aside::Conflict(conflict);
                    self.unlock(&turn).await;
                }
            }
        }
        let finished = turn.give_up(&why, self.resumed);
        self.take(&turn, finished).await;
    }

    async fn note_aside(&self, turn: &Turn, why: &Aside, pause: Duration) {
        let (run, tenant, attempts) = (self.run, turn.tenant.tenant_id, turn.attempt);
        let said = why.said(&turn.tenant.slug);
        if why.is_news() {
            tracing::info!(tenant = %turn.tenant.slug, attempts, why = said, "put aside for now");
        }
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        let noted = self.control.db.read(async move |conn: &mut MainConn| {
            migration_runs::postpone(conn, run, tenant, attempts, &said, pause).await
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "could not note that a tenant was put aside");
        }
    }
}
