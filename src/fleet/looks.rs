//! Looks into tenants in whose databases something waits, by whichever node comes first.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;

use super::Fleet;
use crate::control::dirty::{self, Dirty};
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::router::{Error, MainConn, Router, TenantDb, Waiting};

/// Tenants that a node takes at a time, and those of them that it looks into at the same time.
const BATCH: i64 = 16;
const AT_ONCE: usize = 4;
/// And how often it does so before it waits for its next turn.
const BATCHES: usize = 64;
/// Between two tries where a tenant's database does not answer.
const AWAY: TimeDelta = TimeDelta::minutes(1);
/// Between two looks into a tenant that was announced and where nothing is to be seen yet; doubles up to the longest.
const FIRST_LOOK: TimeDelta = TimeDelta::seconds(1);
const LONGEST_LOOK: TimeDelta = TimeDelta::seconds(30);

/// Which work is looked for, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    pub waiting: Waiting,
    /// How long a look may take: then another node may look.
    pub lease: TimeDelta,
    /// Between two tries where the tenant does not serve.
    pub not_now: TimeDelta,
}

/// What came of a look.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looked {
    /// What could be seen is done; more is due by then, if anything.
    Until(Option<DateTime<Utc>>),
    /// More is left.
    Again,
    /// The tenant does not serve.
    NotNow,
}

/// When to look again; never, if nothing waits and nothing can become visible any more.
fn after(next: Option<DateTime<Utc>>, dirty: &Dirty, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let unsettled = (now < dirty.settled_at).then(|| {
        let pause = FIRST_LOOK * 2_i32.pow(u32::try_from(dirty.looks.clamp(1, 6) - 1).unwrap_or(0));
        (now + pause.min(LONGEST_LOOK)).min(dirty.settled_at)
    });
    match (next, unsettled) {
        (Some(next), Some(unsettled)) => Some(next.min(unsettled)),
        (next, unsettled) => next.or(unsettled),
    }
}

/// The database of a tenant that serves now. One that does not may serve again; what is over for good goes with the
/// tenant's row.
pub(super) async fn served(router: &Router, tenant: TenantId) -> ApiResult<Option<TenantDb>> {
    match router.of_tenant(tenant).await {
        Ok(db) => Ok(Some(db)),
        Err(Error::TenantUnknown | Error::TenantSuspended | Error::TenantUnavailable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Fleet {
    /// Looks into tenants that are due, a bounded number.
    pub(super) async fn look_into_waiting<F, L>(&self, looks: Looks, look: F) -> ApiResult<()>
    where
        F: Fn(TenantId) -> L + Send + Sync,
        L: Future<Output = ApiResult<Looked>> + Send,
    {
        for _ in 0..BATCHES {
            let now = self.control.clock.now();
            let take = async move |conn: &mut MainConn| -> ApiResult<Vec<Dirty>> {
                Ok(dirty::take(conn, looks.waiting, BATCH, looks.lease, now).await?)
            };
            let taken = self.control.db.read(take).await?;
            if taken.is_empty() {
                break;
            }
            let all = futures_util::stream::iter(taken).map(|dirty| self.look(looks, dirty, look(dirty.tenant_id)));
            let all = all.buffer_unordered(AT_ONCE);
            all.fold(Ok(()), async |all: ApiResult<()>, one| all.and(one)).await?;
        }
        Ok(())
    }

    async fn look<L>(&self, looks: Looks, dirty: Dirty, look: L) -> ApiResult<()>
    where
        L: Future<Output = ApiResult<Looked>> + Send,
    {
        let looked = look.await;
        let now = self.control.clock.now();
        let next = match looked {
            Ok(Looked::Until(next)) => after(next, &dirty, now),
            Ok(Looked::Again) => Some(now),
            Ok(Looked::NotNow) => Some(now + looks.not_now),
            Err(error) => {
                let (tenant, waiting, cause) = (dirty.tenant_id, looks.waiting, error.cause());
                tracing::warn!(%tenant, ?waiting, %error, ?cause, "what is to be done in a tenant waits");
                Some(now + AWAY)
            }
        };
        let note = async move |conn: &mut MainConn| -> ApiResult<()> {
            match next {
                Some(next) => dirty::look_again(conn, (&dirty, looks.waiting), next, now).await?,
                None => dirty::clear(conn, (&dirty, looks.waiting), now).await?,
            }
            Ok(())
        };
        self.control.db.read(note).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_looked_into_until_nothing_can_come_any_more() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let dirty = |settled: i64, looks| Dirty::listed(TenantId::generate(), now + TimeDelta::seconds(settled), looks);
        let at = |next: Option<i64>| next.map(|next| now + TimeDelta::seconds(next));
        let after =
            |next, settled, looks| after(at(next), &dirty(settled, looks), now).map(|at| (at - now).num_seconds());
        assert_eq!(after(None, 0, 1), None);
        assert_eq!(after(None, 60, 1), Some(1));
        assert_eq!(after(None, 60, 4), Some(8));
        assert_eq!(after(None, 60, 99), Some(30));
        assert_eq!(after(None, 3, 4), Some(3), "once more when all is settled");
        assert_eq!(after(Some(300), 0, 9), Some(300));
        assert_eq!(after(Some(300), 60, 9), Some(30));
    }
}
