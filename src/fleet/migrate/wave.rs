//! Who has a turn when: so many tenants of each cluster at a time, each cluster on its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use uuid::Uuid;

use super::patience::patiently;
use super::tenant::{Aside, Patience, Tried, Turn};
use super::turns::Turns;
use crate::control::migration_runs::{self, KnownAt, RunTenant};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::kernel::TenantId;
use crate::router::{MainConn, Target};

/// Tenants that are made ready together, at least: their addresses read, their locks taken. No more than have their turn
/// soon, because nobody else works on them meanwhile.
const CHUNK: usize = 8;
/// Clusters, dedicated databases among them, that have turns at the same time.
const CLUSTERS: usize = 64;
/// The first try gives way at once: whoever holds a lock for longer is asked again later.
const FIRST_LOCK: Duration = Duration::from_millis(300);

impl Turns {
    /// Gives every one of these tenants its first turn, and ends when each had it.
    pub(super) async fn wave(self: Arc<Self>, tenants: Vec<RunTenant>) {
        let mut lanes: BTreeMap<Uuid, Vec<RunTenant>> = BTreeMap::new();
        for tenant in tenants {
            let server = tenant.cluster_id.map_or(tenant.tenant_id.uuid(), |cluster| cluster.uuid());
            lanes.entry(server).or_default().push(tenant);
        }
        stream::iter(lanes.into_values()).for_each_concurrent(CLUSTERS, |lane| self.clone().lane(lane)).await;
    }

    async fn lane(self: Arc<Self>, tenants: Vec<RunTenant>) {
        let chunks: Vec<_> = tenants.chunks(self.wanted.concurrency.max(CHUNK)).map(<[_]>::to_vec).collect();
        let turns = stream::iter(chunks).then(|chunk| self.ready(chunk)).flat_map(stream::iter);
        turns
            .for_each_concurrent(self.wanted.concurrency.max(1), |(turn, locked)| {
                let turns = self.clone();
                // Apart, so that several cores have something to do. It does not panic; if it did, the tenant would stay
                // under way, and the next run would have it.
                tokio::spawn(turns.first(turn, locked)).map(drop)
            })
            .await;
    }

    /// Takes their locks, reads their addresses, and notes that they are begun.
    async fn ready(&self, tenants: Vec<RunTenant>) -> Vec<(Turn, bool)> {
        if self.stop.is_cancelled() {
            return Vec::new();
        }
        match self.prepare(&tenants).await {
            Ok(turns) => turns,
            Err(error) => {
                self.broke(error);
                Vec::new()
            }
        }
    }

    async fn prepare(&self, tenants: &[RunTenant]) -> ApiResult<Vec<(Turn, bool)>> {
        let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.tenant_id).collect();
        let locked = self.locks.try_take(&ids).await?;
        let (known, mut targets) = patiently(|| self.start(&ids)).await?;
        let turn = |tenant: &RunTenant| {
            let locked = locked.contains(&tenant.tenant_id);
            let (target, attempt) = (targets.remove(&tenant.tenant_id), tenant.attempts + i32::from(locked));
            let known = known.iter().find(|known| locked && known.tenant_id == tenant.tenant_id);
            let gone = locked && known.is_none();
            let known = known.and_then(|known| self.is_exactly_at(known));
            (Turn { tenant: tenant.clone(), target, gone, attempt, applied: 0, at: None, known }, locked)
        };
        Ok(tenants.iter().map(turn).collect())
    }

    /// What tenants that are begun are at, and how they are reached. One that is gone is not among them.
    pub(super) async fn start(&self, ids: &[TenantId]) -> ApiResult<(Vec<KnownAt>, HashMap<TenantId, Target>)> {
        let (keys, run, ids) = (self.control.keys.clone(), self.run, ids.to_vec());
        self.control
            .db
            .read(async move |conn: &mut MainConn| {
                let known = migration_runs::start(conn, run, &ids).await?;
                Ok::<_, ApiError>((known, tenants::direct_targets(conn, &keys, &ids).await?))
            })
            .await
    }

    /// What a tenant is at, if the registry's digest is that of so much of today's migrations.
    fn is_exactly_at(&self, known: &KnownAt) -> Option<Vec<i32>> {
        let at = (known.schema_version, known.operator_version, known.migrations_hash.clone()?);
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = digests
            .entry(at)
            .or_insert_with_key(|(built_in, operator, hash)| self.migrations.are_known(*built_in, *operator, hash));
        is_known.then(|| vec![known.schema_version, known.operator_version])
    }

    /// The first turn, which waits for nobody.
    async fn first(self: Arc<Self>, mut turn: Turn, locked: bool) {
        if self.stop.is_cancelled() {
            return self.unlock(&turn).await;
        }
        if !locked {
            return self.put_aside(turn, Aside::worked_on());
        }
        let lock = FIRST_LOCK.min(self.wanted.lock_timeout);
        let patience = Patience { lock, wait: FIRST_LOCK, statement: self.wanted.statement_timeout };
        match turn.attempt(&self.migrations, self.installation, patience, self.resumed).await {
            Tried::Over(finished) => self.take(&turn, finished).await,
            Tried::Conflict(error) => {
                self.unlock(&turn).await;
                self.put_aside(turn, Aside::Conflict(error));
            }
        }
    }
}
