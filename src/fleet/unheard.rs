//! Word of what waits in tenants' databases: said to the control plane, or kept in mind until that answers again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, timeout};

use super::Fleet;
use crate::control::dirty;
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::router::{Doorbell, MainConn, Waiting};

/// How long a request waits for the control plane, to say that something waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long nobody tries after that.
const PAUSE: Duration = Duration::from_secs(5);
/// Tenants that are kept in mind while the control plane is away.
const MOST_UNHEARD: usize = 100_000;
/// Until every node has heard that a tenant lives in another database.
const UNTIL_KNOWN: TimeDelta = TimeDelta::minutes(1);

/// What could not be told the control plane.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    tenants: HashMap<(TenantId, Waiting), DateTime<Utc>>,
    quiet_until: Option<Instant>,
}

impl Unheard {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a tenant in mind.
    fn keep(&self, what: (TenantId, Waiting), settles: DateTime<Utc>, failed: bool) {
        let mut kept = self.lock();
        if failed {
            kept.quiet_until = Some(Instant::now() + PAUSE);
        }
        if kept.tenants.len() < MOST_UNHEARD || kept.tenants.contains_key(&what) {
            let until = kept.tenants.entry(what).or_insert(settles);
            *until = settles.max(*until);
        } else {
            let (tenant, waiting) = what;
            tracing::error!(%tenant, ?waiting, "the control plane is away, and too much waits to be kept in mind");
        }
    }
}

#[async_trait]
impl Doorbell for Fleet {
    async fn ring(&self, tenant: TenantId, waiting: Waiting, settles: DateTime<Utc>) {
        let what = (tenant, waiting);
        let quiet = self.unheard.lock().quiet_until.is_some_and(|until| Instant::now() < until);
        if quiet {
            return self.unheard.keep(what, settles, false);
        }
        match timeout(PATIENCE, self.list_as_dirty(what, settles)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%tenant, ?waiting, %error, "it is kept in mind that something waits in a tenant");
                self.unheard.keep(what, settles, true);
            }
            Err(_) => self.unheard.keep(what, settles, true),
        }
    }
}

impl Fleet {
    /// A tenant's database is another one: its addresses are read anew.
    pub(super) async fn has_news(&self, tenant: TenantId) -> ApiResult<()> {
        let settles = self.control.clock.now() + UNTIL_KNOWN;
        self.list_as_dirty((tenant, Waiting::Addresses), settles).await
    }

    async fn list_as_dirty(&self, what: (TenantId, Waiting), settles: DateTime<Utc>) -> ApiResult<()> {
        let now = self.control.clock.now();
        let mark =
            async move |conn: &mut MainConn| -> ApiResult<()> { Ok(dirty::mark(conn, what, settles, now).await?) };
        self.control.db.read(mark).await
    }

    /// Tells the control plane what it could not be told.
    pub(super) async fn tell_what_was_unheard(&self) -> ApiResult<()> {
        loop {
            let one = {
                let kept = self.unheard.lock();
                kept.tenants.iter().next().map(|(what, settles)| (*what, *settles))
            };
            let Some((what, settles)) = one else { return Ok(()) };
            self.list_as_dirty(what, settles).await?;
            let mut kept = self.unheard.lock();
            if kept.tenants.get(&what) == Some(&settles) {
                kept.tenants.remove(&what);
            }
            kept.quiet_until = None;
        }
    }
}
