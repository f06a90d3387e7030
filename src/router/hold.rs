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
/// What somebody is told who cannot wait any longer.
const SOON: Duration = Duration::from_secs(1);

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
    pub(super) async fn lease(&self, known: &Arc<Tenant>, mode: Mode) -> Result<Lease> {
        let mut tenant = self.current(known).await?;
        let mut place = None;
        loop {
            if self.is_held(&tenant) {
                let place = match &mut place {
                    Some(place) => place,
                    none => none.insert(self.0.holds.join(tenant.id, self.0.config.hold_timeout)?),
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
            let elsewhere = self.is_held(&newer) || newer.cluster.id != tenant.cluster.id;
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

    fn is_held(&self, tenant: &Tenant) -> bool {
        tenant.is_held(self.0.config.clock.now())
    }

    /// Waits until a tenant is no longer held: by its registry entry, or because the hold has run out.
    async fn let_go(&self, mut tenant: Arc<Tenant>, deadline: Instant) -> Result<Arc<Tenant>> {
        loop {
            let heard = self.0.registry.heard();
            tokio::pin!(heard);
            heard.as_mut().enable();
            tenant = self.current(&tenant).await?;
            let left = tenant.held_until.map(|until| until - self.0.config.clock.now());
            let Some(left) = left.and_then(|left| left.to_std().ok()).filter(|left| !left.is_zero()) else {
                return Ok(tenant);
            };
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
