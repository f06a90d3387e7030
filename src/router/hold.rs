//! A tenant that is held: its requests wait, within bounds, until its database is free again, wherever it is by then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Router;
use super::error::{Error, Result};
use super::pools::{Lease, Mode};
use super::resolver::serving;
use super::tenant::{Tenant, TenantStatus};
use crate::kernel::TenantId;

/// Requests of one held tenant that may wait at once on this node.
const MAX_WAITERS: usize = 1024;
/// The longest that a request waits, whatever its registry says: for a hold that a move may ask for (ten minutes), and what
/// the move needs to be taken back.
const LONGEST_PATIENCE: Duration = Duration::from_secs(660);
/// What somebody is told who cannot wait any longer.
const SOON: Duration = Duration::from_secs(1);

/// Whom a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A request: it waits for as long as its tenant is held, within reason.
    Request,
    /// Work that no request brings: other tenants wait for it, so that `hold_timeout` is all it waits.
    Background,
}

impl Asker {
    /// How long it waits for a tenant that is held for so long yet.
    fn patience(self, hold_timeout: Duration, left: Duration) -> Duration {
        match self {
            Self::Request => hold_timeout.max(left.min(LONGEST_PATIENCE)),
            Self::Background => hold_timeout,
        }
    }
}

/// Who waits for held tenants.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<TenantId, usize>>);

/// A place among those who wait, until dropped.
struct Place<'a> {
    holds: &'a Holds,
    tenant: TenantId,
    deadline: Instant,
}

impl Holds {
    fn join(&self, tenant: TenantId, patience: Duration) -> Result<Place<'_>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(tenant).or_default();
        if *count >= MAX_WAITERS {
            return Err(unavailable());
        }
        *count += 1;
        Ok(Place { holds: self, tenant, deadline: Instant::now() + patience })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.tenant);
            }
        }
    }
}

const fn unavailable() -> Error {
    Error::TenantUnavailable { retry_after: SOON }
}

impl Router {
    /// A connection of a tenant, as the registry has the tenant by now. While it is held, the caller waits.
    pub(super) async fn lease(&self, known: &Arc<Tenant>, mode: Mode, asker: Asker) -> Result<Lease> {
        let mut tenant = self.current(known).await?;
        let mut place = None;
        loop {
            if let Some(left) = self.held_for(&tenant) {
                let place = match &mut place {
                    Some(place) => place,
                    none => {
                        let patience = asker.patience(self.0.config.hold_timeout, left);
                        none.insert(self.0.holds.join(tenant.id, patience)?)
                    }
                };
                tenant = self.let_go(tenant, place.deadline).await?;
                continue;
            }
            let error = match self.pools().acquire(&tenant, mode).await {
                Ok(lease) => return Ok(lease),
                Err(error @ (Error::TenantUnavailable { .. } | Error::DatabaseUnavailable { .. })) => error,
                Err(other) => return Err(other),
            };
            // Held or moved while this request was on its way to where the tenant was before.
            let newer = self.current(&tenant).await?;
            let elsewhere = self.held_for(&newer).is_some() || newer.cluster.id != tenant.cluster.id;
            if newer.generation > tenant.generation && elsewhere {
                tenant = newer;
            } else if tenant.held_until.is_some() {
                // Past its deadline a hold keeps nobody, but whoever holds the tenant may still keep its database shut.
                return Err(unavailable());
            } else {
                return Err(error);
            }
        }
    }

    /// The tenant as the registry has it by now; refused if it has ceased to serve, or to be.
    async fn current(&self, known: &Arc<Tenant>) -> Result<Arc<Tenant>> {
        let tenant = self.0.registry.latest(known).await?;
        // One that is still being made is asked for by its maker: nobody else is given it.
        let is_made = tenant.status == TenantStatus::Provisioning && known.status == tenant.status;
        if is_made { Ok(tenant) } else { serving(&tenant).map(|()| tenant) }
    }

    /// How much longer a tenant is held, if it is.
    fn held_for(&self, tenant: &Tenant) -> Option<Duration> {
        let left = tenant.held_until? - self.0.config.clock.now();
        left.to_std().ok().filter(|left| !left.is_zero())
    }

    /// Waits until a tenant is no longer held: by its registry entry, or because the hold has run out.
    async fn let_go(&self, mut tenant: Arc<Tenant>, deadline: Instant) -> Result<Arc<Tenant>> {
        loop {
            let heard = self.0.registry.heard();
            tokio::pin!(heard);
            heard.as_mut().enable();
            if self.pools().is_closed() {
                return Err(unavailable());
            }
            tenant = self.current(&tenant).await?;
            let Some(left) = self.held_for(&tenant) else { return Ok(tenant) };
            if Instant::now() >= deadline {
                return Err(unavailable());
            }
            tokio::select! {
                () = heard => {}
                () = sleep_until(deadline.min(Instant::now() + left)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_out_a_hold_and_the_background_does_not() {
        let seconds = Duration::from_secs;
        let patience = |asker: Asker, left| asker.patience(seconds(40), seconds(left)).as_secs();
        assert_eq!((patience(Asker::Request, 600), patience(Asker::Request, 3)), (600, 40));
        assert_eq!(patience(Asker::Request, 24 * 86_400), 660, "nobody waits for days");
        assert_eq!((patience(Asker::Background, 600), patience(Asker::Background, 3)), (40, 40));
    }
}
