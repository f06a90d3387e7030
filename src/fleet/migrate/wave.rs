//! Who has a turn when: so many tenants of each cluster at a time, each cluster on its own. A tenant whose lock somebody
//! else holds gives its place away, and comes back apart from the rest.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::MigrateFleet;
use super::ledger::Ledger;
use super::tenant::{Patience, Tried, Turn};
use crate::control::migration_runs::{self, Finished, RunTenant};
use crate::control::{ControlPlane, tenants};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::ManyLocks;
use crate::fleet::migrations::Migrations;
use crate::kernel::{InstallationId, OperationId, TenantId};
use crate::router::migrate::{MigrateError, back_off};
use crate::router::{MainConn, Target};

/// Tenants that are made ready together, at least: their addresses read, their locks taken. No more than have their turn
/// soon, because nobody else works on them meanwhile.
const CHUNK: usize = 8;
/// Clusters, dedicated databases among them, that have turns at the same time.
const CLUSTERS: usize = 64;
/// Tenants put aside that are tried at the same time.
const ASIDE: usize = 8;
/// The first try gives way at once: whoever holds a lock for longer is asked again later.
const FIRST_LOCK: Duration = Duration::from_millis(300);
/// How often a tenant is tried whose lock somebody else holds.
const ATTEMPTS: i32 = 10;
/// How long another runner is waited for by a tenant that was put aside, and a lock that nobody queues up behind.
const WAIT: Duration = Duration::from_secs(60);

/// What all turns of a run share.
pub(super) struct Turns {
    pub(super) control: ControlPlane,
    pub(super) run: OperationId,
    pub(super) migrations: Migrations,
    pub(super) wanted: MigrateFleet,
    pub(super) installation: InstallationId,
    /// It goes on with one that was interrupted.
    pub(super) resumed: bool,
    pub(super) locks: Arc<ManyLocks>,
    pub(super) ledger: Ledger,
    /// Whether a digest in the registry is that of today's migrations up to these versions.
    pub(super) digests: Mutex<HashMap<(i32, i32, String), bool>>,
    /// Nobody begins a turn any more.
    pub(super) stop: CancellationToken,
    /// Why, if it is not that somebody asked for it.
    pub(super) reason: Mutex<Option<String>>,
    /// What broke in the run itself.
    pub(super) broken: Mutex<Option<ApiError>>,
    pub(super) over: AtomicI64,
    pub(super) failed: AtomicI64,
    /// So many failures stop the run.
    pub(super) bearable: i64,
    pub(super) aside: Mutex<JoinSet<()>>,
    pub(super) aside_places: Semaphore,
}

impl Turns {
    /// Places for those that were put aside.
    pub(super) fn aside_places() -> Semaphore {
        Semaphore::new(ASIDE)
    }

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
        let (keys, run) = (self.control.keys.clone(), self.run);
        let mut targets = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                migration_runs::start(conn, run, &ids).await?;
                tenants::direct_targets(conn, &keys, &ids).await
            })
            .await?;
        let turn = |tenant: &RunTenant| {
            let (target, attempt) = (targets.remove(&tenant.tenant_id), tenant.attempts + 1);
            let known = self.known(tenant);
            let turn = Turn { tenant: tenant.clone(), target, attempt, applied: 0, at: None, known };
            (turn, locked.contains(&tenant.tenant_id))
        };
        Ok(tenants.iter().map(turn).collect())
    }

    /// What a tenant is at, if the registry's digest is that of so much of today's migrations.
    fn known(&self, tenant: &RunTenant) -> Option<Vec<i32>> {
        let (built_in, operator, hash) = (tenant.schema_version, tenant.operator_version, tenant.migrations_hash.clone()?);
        let mut known = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = *known
            .entry((built_in, operator, hash))
            .or_insert_with_key(|(built_in, operator, hash)| self.migrations.are_known(*built_in, *operator, hash));
        is_known.then(|| vec![built_in, operator])
    }

    /// The first turn, which waits for nobody.
    async fn first(self: Arc<Self>, mut turn: Turn, locked: bool) {
        if self.stop.is_cancelled() {
            return self.unlock(&turn).await;
        }
        if !locked {
            return self.put_aside(turn, MigrateError::Busy);
        }
        let lock = FIRST_LOCK.min(self.wanted.lock_timeout);
        let patience = Patience { lock, wait: FIRST_LOCK, statement: self.wanted.statement_timeout };
        match turn.attempt(&self.migrations, self.installation, patience, self.resumed).await {
            Tried::Over(finished) => self.take(&turn, finished).await,
            Tried::Conflict(error) => {
                self.unlock(&turn).await;
                self.put_aside(turn, error);
            }
        }
    }

    fn put_aside(self: &Arc<Self>, turn: Turn, error: MigrateError) {
        let turns = self.clone();
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).spawn(turns.again(turn, error));
    }

    /// Those that were put aside are over, or left where they are if the run stops.
    pub(super) async fn wait_for_aside(self: Arc<Self>) {
        loop {
            let mut all = std::mem::take(&mut *self.aside.lock().unwrap_or_else(PoisonError::into_inner));
            if all.is_empty() {
                return;
            }
            while all.join_next().await.is_some() {}
        }
    }

    /// Tries again, later and later, and gives up in the end.
    async fn again(self: Arc<Self>, mut turn: Turn, mut error: MigrateError) {
        let tried = turn.attempt;
        while turn.attempt < tried.max(1) + ATTEMPTS - 1 {
            let pause = back_off(u32::try_from(turn.attempt).unwrap_or(1));
            tracing::info!(tenant = %turn.tenant.slug, attempt = turn.attempt, %error, "put aside for now");
            self.note_aside(&turn, &error, pause).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let Ok(_place) = self.aside_places.acquire().await else { return };
            if self.stop.is_cancelled() {
                return;
            }
            turn.attempt += 1;
            match self.locks.try_take(&[turn.tenant.tenant_id]).await {
                Ok(got) if got.is_empty() => continue,
                // Whoever had it may have moved it, or changed its password.
                Ok(_) => match self.direct_target(turn.tenant.tenant_id).await {
                    Ok(target) => turn.target = target,
                    Err(error) => return self.broke(error),
                },
                Err(error) => return self.broke(error),
            }
            let statement = self.wanted.statement_timeout;
            let patience = Patience { lock: self.wanted.lock_timeout, wait: WAIT, statement };
            match turn.attempt(&self.migrations, self.installation, patience, self.resumed).await {
                Tried::Over(finished) => return self.take(&turn, finished).await,
                Tried::Conflict(conflict) => {
                    error = conflict;
                    self.unlock(&turn).await;
                }
            }
        }
        let finished = turn.give_up(&error, self.resumed);
        self.take(&turn, finished).await;
    }

    async fn note_aside(&self, turn: &Turn, error: &MigrateError, pause: Duration) {
        let (run, tenant, attempts, error) = (self.run, turn.tenant.tenant_id, turn.attempt, error.to_string());
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        let noted = self.control.db.read(async move |conn: &mut MainConn| {
            migration_runs::postpone(conn, run, tenant, attempts, &error, pause).await
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "could not note that a tenant was put aside");
        }
    }

    async fn unlock(&self, turn: &Turn) {
        if let Err(error) = self.locks.release(&[turn.tenant.tenant_id]).await {
            self.broke(error);
        }
    }

    async fn take(&self, turn: &Turn, finished: Finished) {
        let failure = finished.error.clone();
        if !self.ledger.take(finished).await {
            return self.stop.cancel();
        }
        self.over.fetch_add(1, Ordering::Relaxed);
        let Some(error) = failure else { return };
        tracing::warn!(tenant = %turn.tenant.slug, error, "a tenant could not be migrated");
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if failed >= self.bearable {
            self.stop_for(format!("{failed} tenants failed, and no more than that is borne (--max-failures)"));
        }
    }

    /// Ends the run: nobody begins a turn any more.
    pub(super) fn stop_for(&self, why: String) {
        let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert(why);
        self.stop.cancel();
    }

    /// How a tenant is reached now; none if it is gone.
    async fn direct_target(&self, id: TenantId) -> ApiResult<Option<Target>> {
        let keys = self.control.keys.clone();
        let read = async move |conn: &mut MainConn| tenants::direct_targets(conn, &keys, &[id]).await;
        Ok(self.control.db.read(read).await?.remove(&id))
    }

    /// The run itself cannot go on.
    fn broke(&self, error: ApiError) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert(error);
        self.stop.cancel();
    }
}
