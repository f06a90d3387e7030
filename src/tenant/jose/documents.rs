//! What issuers publish of themselves, remembered for a while.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use reqwest::header::ACCEPT;
use tokio::sync::Mutex;
use url::Url;

use crate::kernel::{Clock, TenantId};
use crate::outbound::{Outbound, OutboundError, Request};

/// Addresses that are remembered.
const MOST: u64 = 10_000;
/// How long a document is used before it is asked for again.
const FRESH: TimeDelta = TimeDelta::minutes(10);
/// How long one is used while its address does not answer.
const STALE: TimeDelta = TimeDelta::hours(1);
/// An address is asked at most so often.
const PAUSE: TimeDelta = TimeDelta::seconds(10);

/// Something that is published as JSON.
pub(in crate::tenant) trait Document: Sized + Send + Sync + 'static {
    /// Reads it. `None` if it is none.
    fn read(bytes: &[u8]) -> Option<Self>;
}

struct Slot<T> {
    asked_at: Option<DateTime<Utc>>,
    known: Option<(DateTime<Utc>, Arc<T>)>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { asked_at: None, known: None }
    }
}

/// Documents by tenant and address: no tenant uses what was fetched for another.
pub(in crate::tenant) struct Documents<T> {
    outbound: Outbound,
    clock: Clock,
    slots: Cache<(TenantId, Url), Arc<Mutex<Slot<T>>>>,
}

impl<T> std::fmt::Debug for Documents<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").finish_non_exhaustive()
    }
}

impl<T: Document> Documents<T> {
    pub(in crate::tenant) fn new(outbound: Outbound, clock: Clock) -> Self {
        let slots = Cache::builder().max_capacity(MOST).eviction_policy(EvictionPolicy::lru()).build();
        Self { outbound, clock, slots }
    }

    async fn slot(&self, tenant: TenantId, address: &Url) -> Arc<Mutex<Slot<T>>> {
        self.slots.get_with((tenant, address.clone()), async { Arc::default() }).await
    }

    /// The document at an address, at most ten minutes old; up to an hour old while the address does not answer.
    ///
    /// # Errors
    /// If it cannot be had, or is none.
    pub(in crate::tenant) async fn get(&self, tenant: TenantId, address: &Url) -> Result<Arc<T>, OutboundError> {
        let slot = self.slot(tenant, address).await;
        // Whoever comes meanwhile waits for the one that asks.
        let mut slot = slot.lock().await;
        let now = self.clock.now();
        if let Some((read_at, known)) = &slot.known
            && now - *read_at < FRESH
        {
            return Ok(known.clone());
        }
        let asked = self.ask(&mut slot, address, now).await;
        match (&slot.known, asked) {
            (Some((read_at, known)), _) if now - *read_at < STALE => Ok(known.clone()),
            (_, Err(error)) => Err(error),
            _ => Err(OutboundError::Unreachable("no document")),
        }
    }

    /// A newer one than `than`, if the address may be asked again and has one.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(in crate::tenant) async fn newer(
        &self,
        tenant: TenantId,
        address: &Url,
        than: &Arc<T>,
    ) -> Result<Option<Arc<T>>, OutboundError> {
        let slot = self.slot(tenant, address).await;
        let mut slot = slot.lock().await;
        let is_newer = |slot: &Slot<T>| {
            slot.known.as_ref().map(|(_, known)| known).filter(|known| !Arc::ptr_eq(known, than)).cloned()
        };
        if let Some(newer) = is_newer(&slot) {
            return Ok(Some(newer));
        }
        let now = self.clock.now();
        if slot.asked_at.is_some_and(|at| now - at < PAUSE) {
            return Ok(None);
        }
        self.ask(&mut slot, address, now).await?;
        Ok(is_newer(&slot))
    }

    async fn ask(&self, slot: &mut Slot<T>, address: &Url, now: DateTime<Utc>) -> Result<(), OutboundError> {
        if slot.asked_at.is_some_and(|at| now - at < PAUSE) {
            return Err(OutboundError::Unreachable("asked a moment ago"));
        }
        slot.asked_at = Some(now);
        let request = Request::get(address.clone()).header(ACCEPT, "application/json");
        let answer = self.outbound.send(request).await?;
        if answer.status != 200 {
            return Err(OutboundError::Unreachable("status"));
        }
        let document = T::read(&answer.body).ok_or(OutboundError::Unreachable("no such document"))?;
        slot.known = Some((now, Arc::new(document)));
        Ok(())
    }
}
