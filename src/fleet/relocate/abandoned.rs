//! Moves that nobody goes on with. One that was killed before its hold keeps nobody waiting, but what replication has begun
//! keeps the source's log, until its disk is full.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;
use uuid::Uuid;

use super::Step;
use crate::control::operations::{self, Operation};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::{self, Lock};
use crate::fleet::{Fleet, Silent};
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

/// How long whoever began a move may go on with it where it stopped.
const GRACE: TimeDelta = TimeDelta::minutes(10);
/// What one of them may keep the others waiting.
const EACH: Duration = Duration::from_secs(60);

/// Since when this node has seen moves that nobody drives, by who drove them last: whoever goes on with one, however
/// shortly, has the whole time again.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Abandoned(Mutex<HashMap<Undriven, DateTime<Utc>>>);

/// A move, and who drove it last.
type Undriven = (OperationId, Option<Uuid>);

impl Abandoned {
    /// Keeps in mind which moves nobody drives now, and gives those that nobody has for too long.
    fn look(&self, now: DateTime<Utc>, undriven: Vec<Operation>) -> Vec<Operation> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *seen);
        let mut given_up = Vec::new();
        for operation in undriven {
            let last = (operation.id, operation.driver);
            let since = before.get(&last).copied().unwrap_or(now);
            seen.insert(last, since);
            if now - since > GRACE {
                given_up.push(operation);
            }
        }
        given_up
    }
}

impl Fleet {
    /// Takes back moves that were interrupted after they had begun to replicate and before they held anything, and that
    /// nobody has gone on with for a while. Gives how many.
    ///
    /// # Errors
    /// If the control plane does not answer. What a server does not let go now goes the next time.
    pub async fn take_back_abandoned_moves(&self) -> ApiResult<usize> {
        let begun = Step::Replicate.as_str();
        let db = &self.control.db;
        let unended = db.read(async move |conn: &mut MainConn| operations::unheld_moves(conn, begun).await).await?;
        // Asked afterwards: whoever has begun to drive one since has its lock.
        let driven = lock::held(&self.control).await?;
        let undriven = unended.into_iter().filter(|one| !driven.contains(&lock::key_of(one))).collect();
        let mut ended = 0;
        for operation in self.abandoned.look(self.control.clock.now(), undriven) {
            let Some((tenant, _)) = operation.tenant.clone() else { continue };
            let taken_back = timeout(self.sweep_deadline(EACH), self.take_back_abandoned(tenant, &operation)).await;
            match taken_back.unwrap_or_else(|_| Err(ApiError::internal("no answer in time"))) {
                Ok(false) => {}
                Ok(true) => {
                    ended += 1;
                    tracing::warn!(%tenant, job = %operation.id, "a move that nobody went on with was taken back");
                }
                Err(error) => {
                    tracing::warn!(%tenant, %error, cause = ?error.cause(), "a move that nobody goes on with stays");
                }
            }
        }
        Ok(ended)
    }

    /// False if somebody has gone on with it.
    async fn take_back_abandoned(&self, tenant: TenantId, seen: &Operation) -> ApiResult<bool> {
        let _lock = Lock::tenant(&self.control, tenant).await?;
        match self.pending_move(tenant).await? {
            Some(pending) if (pending.id, pending.driver) == (seen.id, seen.driver) => {
                self.take_move_back(tenant, pending, &Silent).await
            }
            _ => Ok(false),
        }
    }
}
