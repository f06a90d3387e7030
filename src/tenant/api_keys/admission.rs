//! Whether a key is good, and what it may do: read in one query, remembered for a moment, as sessions are.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use governor::clock::Clock as _;
use governor::clock::DefaultClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::store::{self, Presented};
use super::{SINCE, rules};
use crate::config::Network;
use crate::error::ApiResult;
use crate::kernel::opaque::OpaqueToken;
use crate::kernel::{ApiKeyId, Clock, TenantId};
use crate::router::{Access, Error, KeyHolder, Rate, Result, TenantConn, TenantDb, TenantTx};
use crate::tenant::auth::admission::REMEMBERED;

const MOST: u64 = 50_000;
/// How old the note of a key's last use may be, and how often a node tries to write one.
const NOTED: TimeDelta = TimeDelta::minutes(1);
const NOTED_HERE: Duration = Duration::from_mins(1);

/// What was read of a key; nothing, if there is none.
#[derive(Debug, Clone)]
struct Verdict {
    read_at: Instant,
    key: Option<Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    holder: KeyHolder,
    access: Arc<Access>,
    /// None where it may come from everywhere.
    networks: Option<Vec<Network>>,
    requests_per_minute: Option<NonZeroU32>,
    expires_at: Option<DateTime<Utc>>,
    owner_active: bool,
    last_used_at: Option<DateTime<Utc>>,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// The keys that were seen lately, and how often each came.
pub(in crate::tenant) struct KeyAdmission {
    clock: Clock,
    verdicts: Cache<(TenantId, [u8; 32]), Verdict>,
    changes: Cache<(TenantId, ApiKeyId), Instant>,
    limits: Cache<(TenantId, ApiKeyId, NonZeroU32), Arc<Limiter>>,
    /// Keys whose use was noted here a moment ago, or is being noted.
    noted: Cache<(TenantId, ApiKeyId), ()>,
}

impl std::fmt::Debug for KeyAdmission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyAdmission").field("remembered", &self.verdicts.entry_count()).finish_non_exhaustive()
    }
}

impl KeyAdmission {
    pub(in crate::tenant) fn new(clock: Clock) -> Self {
        let lru = EvictionPolicy::lru;
        Self {
            clock,
            verdicts: Cache::builder().max_capacity(MOST).eviction_policy(lru()).time_to_live(REMEMBERED).build(),
            changes: Cache::builder().max_capacity(MOST).eviction_policy(lru()).time_to_live(2 * REMEMBERED).build(),
            limits: Cache::builder()
                .max_capacity(MOST)
                .eviction_policy(lru())
                .time_to_idle(Duration::from_mins(2))
                .build(),
            noted: Cache::builder().max_capacity(MOST).eviction_policy(lru()).time_to_live(NOTED_HERE).build(),
        }
    }

    /// A key was changed or revoked. To be called after the commit.
    pub(in crate::tenant) async fn forget(&self, tenant: TenantId, key: ApiKeyId) {
        self.changes.insert((tenant, key), Instant::now()).await;
    }

    /// Admits whoever brings a key, from an address.
    pub(in crate::tenant) async fn admit(
        &self,
        db: &TenantDb,
        token: &OpaqueToken,
        from: Option<IpAddr>,
    ) -> Result<(KeyHolder, Arc<Access>)> {
        let db = db.router().at_schema(db.clone(), SINCE).await?;
        let tenant = db.tenant().id;
        let place = (tenant, token.hash());
        let mut verdict = self.remembered(&db, place).await?;
        if let Some(key) = &verdict.key
            && self.changes.get(&(tenant, key.holder.id)).await.is_some_and(|changed| changed >= verdict.read_at)
        {
            self.verdicts.invalidate(&place).await;
            verdict = self.remembered(&db, place).await?;
        }
        let key = verdict.key.ok_or(Error::TokenInvalid("API key"))?;
        if !key.owner_active {
            return Err(Error::TokenRevoked);
        }
        if key.expires_at.is_some_and(|at| self.clock.now() >= at) {
            return Err(Error::TokenExpired);
        }
        if let Some(networks) = &key.networks
            && !from.is_some_and(|ip| networks.iter().any(|network| network.contains(ip)))
        {
            return Err(Error::TokenInvalid("address"));
        }
        let rate = self.count(tenant, &key).await?;
        self.note(&db, &key, from).await;
        Ok((KeyHolder { rate, ..key.holder }, key.access.clone()))
    }

    /// Counts a request, on this node.
    async fn count(&self, tenant: TenantId, key: &Known) -> Result<Option<Rate>> {
        let Some(most) = key.requests_per_minute else { return Ok(None) };
        let quota = Quota::per_minute(most);
        let make = async { Arc::new(RateLimiter::direct(quota).with_middleware()) };
        let limit = self.limits.get_with((tenant, key.holder.id, most), make).await;
        let rate = |left: u32| {
            let missing = most.get().saturating_sub(left);
            let reset = (quota.replenish_interval() * missing).as_secs_f64().ceil() as u64;
            Rate { quota: most.get(), window: 60, left, reset }
        };
        match limit.check() {
            Ok(state) => Ok(Some(rate(state.remaining_burst_capacity()))),
            Err(until) => {
                let retry_after = until.wait_time_from(DefaultClock::default().now());
                Err(Error::RateLimited { retry_after, rate: rate(0) })
            }
        }
    }

    async fn remembered(&self, db: &TenantDb, place: (TenantId, [u8; 32])) -> Result<Verdict> {
        let read = self.read(db, place.1);
        self.verdicts.try_get_with(place, read).await.map_err(crate::tenant::auth::admission::shared)
    }

    async fn read(&self, db: &TenantDb, hash: [u8; 32]) -> Result<Verdict> {
        let read_at = Instant::now();
        let schema = db.tenant().schema_version;
        let found = db
            .read(async |conn: &mut TenantConn| store::presented(conn, &hash, schema).await.map_err(Error::from))
            .await?;
        let Some(found) = found else { return Ok(Verdict { read_at, key: None }) };
        let Presented { id, owner_id, scopes, permissions, password_change_required, .. } = found;
        let permissions = rules::effective(&scopes, &permissions);
        let key = Known {
            holder: KeyHolder { id, owner: owner_id, rate: None },
            access: Arc::new(Access { roles: Vec::new(), permissions, password_change_required }),
            networks: (!found.allowed_addresses.is_empty())
                .then(|| found.allowed_addresses.iter().filter_map(|text| text.parse().ok()).collect()),
            requests_per_minute: found.requests_per_minute.and_then(|n| NonZeroU32::new(n.try_into().ok()?)),
            expires_at: found.expires_at,
            owner_active: found.owner_active,
            last_used_at: found.last_used_at,
        };
        Ok(Verdict { read_at, key: Some(Arc::new(key)) })
    }

    /// Notes the use, every so often. No request waits for that, nor is refused because it could not be done.
    async fn note(&self, db: &TenantDb, key: &Known, from: Option<IpAddr>) {
        let (now, id) = (self.clock.now(), key.holder.id);
        if key.last_used_at.is_some_and(|at| now - at < NOTED)
            || !self.noted.entry((db.tenant().id, id)).or_insert(()).await.is_fresh()
        {
            return;
        }
        let (db, ip) = (db.clone(), from.map(|ip| ip.to_string()));
        tokio::spawn(async move {
            let noted = db
                .transaction(async move |conn: &mut TenantTx| -> ApiResult<()> {
                    Ok(store::used(conn, id, ip, now).await?)
                })
                .await;
            if let Err(error) = noted {
                tracing::debug!(key = %id, %error, "the use of an API key could not be noted");
            }
        });
    }
}
