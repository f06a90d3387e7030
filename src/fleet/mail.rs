//! Mail of all tenants: who has some is listed in the control plane, and looked into by whichever node comes first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

use super::Fleet;
use crate::control::dirty::{self, Dirty};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::TenantId;
use crate::mailer::Mailer;
use crate::router::{Doorbell, MainConn, Router, TenantStatus};
use crate::tenant::mail::{self, Links, Round};

/// Tenants that a node takes at a time, and those of them that it looks into at the same time.
const BATCH: i64 = 16;
const AT_ONCE: usize = 4;
/// And how often it does so before it waits for its next turn.
const BATCHES: usize = 64;
/// How long a look may take: then another node may look.
const LOOK: TimeDelta = TimeDelta::minutes(10);
/// How long a request waits for the control plane, to say that there is mail.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long nobody tries after that.
const PAUSE: Duration = Duration::from_secs(5);
/// Tenants that are kept in mind while the control plane is away.
const MOST_UNHEARD: usize = 100_000;
/// Between two looks into a tenant that was announced and where nothing is to be seen yet; doubles up to the longest.
const FIRST_LOOK: TimeDelta = TimeDelta::seconds(1);
const LONGEST_LOOK: TimeDelta = TimeDelta::seconds(30);
/// Between two tries where a tenant's database does not answer, or the tenant does not serve.
const AWAY: TimeDelta = TimeDelta::minutes(1);

/// What could not be told the control plane.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    tenants: HashMap<TenantId, DateTime<Utc>>,
    quiet_until: Option<Instant>,
}

impl Unheard {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a tenant in mind.
    fn keep(&self, tenant: TenantId, settles: DateTime<Utc>, failed: bool) {
        let mut waiting = self.lock();
        if failed {
            waiting.quiet_until = Some(Instant::now() + PAUSE);
        }
        if waiting.tenants.len() < MOST_UNHEARD || waiting.tenants.contains_key(&tenant) {
            let until = waiting.tenants.entry(tenant).or_insert(settles);
            *until = settles.max(*until);
        } else {
            tracing::error!(%tenant, "the control plane is away, and too many tenants have mail to be kept in mind");
        }
    }
}

#[async_trait]
impl Doorbell for Fleet {
    async fn ring(&self, tenant: TenantId, settles: DateTime<Utc>) {
        let quiet = self.unheard.lock().quiet_until.is_some_and(|until| Instant::now() < until);
        if quiet {
            return self.unheard.keep(tenant, settles, false);
        }
        match timeout(PATIENCE, self.list_as_dirty(tenant, settles)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%tenant, %error, "it is kept in mind that a tenant has mail");
                self.unheard.keep(tenant, settles, true);
            }
            Err(_) => self.unheard.keep(tenant, settles, true),
        }
    }
}

/// Sends the mail of all tenants from a node that serves them. Clones share everything.
#[derive(Debug, Clone)]
pub struct PostOffice {
    fleet: Fleet,
    router: Router,
    mailer: Option<Mailer>,
    links: Arc<Links>,
}

impl PostOffice {
    /// Of a node. Without a mailer, mails wait.
    #[must_use]
    pub fn new(fleet: Fleet, router: Router, mailer: Option<Mailer>, links: Links) -> Self {
        Self { fleet, router, mailer, links: Arc::new(links) }
    }

    /// Looks into tenants that have mail, a bounded number, and gives how many mails were sent.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn deliver(&self) -> ApiResult<usize> {
        self.fleet.tell_what_was_unheard().await?;
        let Some(mailer) = &self.mailer else { return Ok(0) };
        let mut sent = 0;
        for _ in 0..BATCHES {
            let now = self.fleet.control.clock.now();
            let take = async move |conn: &mut MainConn| -> ApiResult<Vec<Dirty>> {
                Ok(dirty::take(conn, BATCH, LOOK, now).await?)
            };
            let taken = self.fleet.control.db.read(take).await?;
            if taken.is_empty() {
                break;
            }
            let looks = futures_util::stream::iter(taken).map(|dirty| self.look(mailer, dirty));
            let looks = looks.buffer_unordered(AT_ONCE);
            sent += looks.fold(Ok(0), async |sum: ApiResult<usize>, one| Ok(sum? + one?)).await?;
        }
        Ok(sent)
    }

    async fn look(&self, mailer: &Mailer, dirty: Dirty) -> ApiResult<usize> {
        let looked = self.look_into(mailer, dirty.tenant_id).await;
        let now = self.fleet.control.clock.now();
        let (sent, next) = match &looked {
            Ok(Some(round)) => (round.sent, after(round, &dirty, now)),
            Ok(None) => (0, Some(now + AWAY)),
            Err(error) => {
                tracing::warn!(tenant = %dirty.tenant_id, %error, cause = ?error.cause(), "a tenant's mail waits");
                (0, Some(now + AWAY))
            }
        };
        let note = async move |conn: &mut MainConn| -> ApiResult<()> {
            match next {
                Some(next) => dirty::look_again(conn, &dirty, next, now).await?,
                None => dirty::clear(conn, &dirty, now).await?,
            }
            Ok(())
        };
        self.fleet.control.db.read(note).await?;
        Ok(sent)
    }

    /// Sends what is due in one tenant; `None` if it does not serve now.
    async fn look_into(&self, mailer: &Mailer, tenant: TenantId) -> ApiResult<Option<Round>> {
        let found = self.router.tenant(tenant).await.map_err(ApiError::from);
        match found {
            Ok(tenant) if tenant.status == TenantStatus::Active => {
                let db = self.router.named(Some(tenant.slug.as_str()), &Default::default()).await?;
                mail::deliver(&db, mailer, &self.links).await.map(Some)
            }
            // It may serve again. What is over for good goes with the tenant's row.
            Ok(_) => Ok(None),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// When to look again; never, if nothing waits and nothing can become visible any more.
fn after(round: &Round, dirty: &Dirty, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let unsettled = (now < dirty.settled_at).then(|| {
        let pause = FIRST_LOOK * 2_i32.pow(u32::try_from(dirty.looks.clamp(1, 6) - 1).unwrap_or(0));
        (now + pause.min(LONGEST_LOOK)).min(dirty.settled_at)
    });
    match (round.next, unsettled) {
        (Some(next), Some(unsettled)) => Some(next.min(unsettled)),
        (next, unsettled) => next.or(unsettled),
    }
}

impl Fleet {
    async fn list_as_dirty(&self, tenant: TenantId, settles: DateTime<Utc>) -> ApiResult<()> {
        let now = self.control.clock.now();
        let mark =
            async move |conn: &mut MainConn| -> ApiResult<()> { Ok(dirty::mark(conn, tenant, settles, now).await?) };
        self.control.db.read(mark).await
    }

    /// Tells the control plane what it could not be told.
    async fn tell_what_was_unheard(&self) -> ApiResult<()> {
        loop {
            let one = {
                let waiting = self.unheard.lock();
                waiting.tenants.iter().next().map(|(tenant, settles)| (*tenant, *settles))
            };
            let Some((tenant, settles)) = one else { return Ok(()) };
            self.list_as_dirty(tenant, settles).await?;
            let mut waiting = self.unheard.lock();
            if waiting.tenants.get(&tenant) == Some(&settles) {
                waiting.tenants.remove(&tenant);
            }
            waiting.quiet_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_looked_into_until_nothing_can_come_any_more() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let dirty = |settled: i64, looks| Dirty::listed(TenantId::generate(), now + TimeDelta::seconds(settled), looks);
        let round = |next: Option<i64>| Round { sent: 0, next: next.map(|next| now + TimeDelta::seconds(next)) };
        let after =
            |next, settled, looks| after(&round(next), &dirty(settled, looks), now).map(|at| (at - now).num_seconds());
        assert_eq!(after(None, 0, 1), None);
        assert_eq!(after(None, 60, 1), Some(1));
        assert_eq!(after(None, 60, 4), Some(8));
        assert_eq!(after(None, 60, 99), Some(30));
        assert_eq!(after(None, 3, 4), Some(3), "once more when all is settled");
        assert_eq!(after(Some(300), 0, 9), Some(300));
        assert_eq!(after(Some(300), 60, 9), Some(30));
    }
}
