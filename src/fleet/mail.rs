//! Mail of all tenants: who has some is listed in the control plane, and looked into by whichever node comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;

use super::Fleet;
use super::looks::{Looked, Looks, served};
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::mailer::Mailer;
use crate::router::{Router, Waiting};
use crate::tenant::mail::{self, Links};

/// A look takes long where much mail is sent. A tenant that does not serve may do so again soon.
const LOOKS: Looks = Looks { waiting: Waiting::Mail, lease: TimeDelta::minutes(10), not_now: TimeDelta::minutes(1) };

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
        let counted = AtomicUsize::new(0);
        let sent = &counted;
        self.fleet.look_into_waiting(LOOKS, |tenant| self.look_into(mailer, sent, tenant)).await?;
        Ok(counted.into_inner())
    }

    /// Sends what is due in one tenant.
    async fn look_into(&self, mailer: &Mailer, sent: &AtomicUsize, tenant: TenantId) -> ApiResult<Looked> {
        let Some(db) = served(&self.router, tenant).await? else { return Ok(Looked::NotNow) };
        let round = mail::deliver(&db, mailer, &self.links).await?;
        sent.fetch_add(round.sent, Ordering::Relaxed);
        Ok(Looked::Until(round.next))
    }
}
