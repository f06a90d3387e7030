//! Mail of all tenants: who has some is listed in the control plane, and looked into by whichever node comes first.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::StreamExt as _;

use super::Fleet;
use super::unheard::{after, served};
use crate::control::dirty::{self, Dirty};
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::mailer::Mailer;
use crate::router::{MainConn, Router, Waiting};
use crate::tenant::mail::{self, Links, Round};

/// Tenants that a node takes at a time, and those of them that it looks into at the same time.
const BATCH: i64 = 16;
const AT_ONCE: usize = 4;
/// And how often it does so before it waits for its next turn.
const BATCHES: usize = 64;
/// How long a look may take: then another node may look.
const LOOK: TimeDelta = TimeDelta::minutes(10);
/// Between two tries where a tenant's database does not answer, or the tenant does not serve.
const AWAY: TimeDelta = TimeDelta::minutes(1);

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
                Ok(dirty::take(conn, Waiting::Mail, BATCH, LOOK, now).await?)
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
            Ok(Some(round)) => (round.sent, after(round.next, &dirty, now)),
            Ok(None) => (0, Some(now + AWAY)),
            Err(error) => {
                tracing::warn!(tenant = %dirty.tenant_id, %error, cause = ?error.cause(), "a tenant's mail waits");
                (0, Some(now + AWAY))
            }
        };
        let note = async move |conn: &mut MainConn| -> ApiResult<()> {
            match next {
                Some(next) => dirty::look_again(conn, (&dirty, Waiting::Mail), next, now).await?,
                None => dirty::clear(conn, (&dirty, Waiting::Mail), now).await?,
            }
            Ok(())
        };
        self.fleet.control.db.read(note).await?;
        Ok(sent)
    }

    /// Sends what is due in one tenant; `None` if it does not serve now.
    async fn look_into(&self, mailer: &Mailer, tenant: TenantId) -> ApiResult<Option<Round>> {
        match served(&self.router, tenant).await? {
            Some(db) => mail::deliver(&db, mailer, &self.links).await.map(Some),
            None => Ok(None),
        }
    }
}
