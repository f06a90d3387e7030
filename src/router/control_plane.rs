//! The registry on the control plane's PostgreSQL. One statement per tenant that is loaded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::OptionalExtension as _;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use secrecy::SecretString;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::admin_row::{ADMIN, AdminRow};
use super::conn::MainConn;
use super::connect::Target;
use super::error::{Error, Result};
use super::kept::Kept;
use super::listener::Listener;
use super::main_db::MainDb;
use super::registry::{Changes, Installation, Registry};
use super::rollout::{SeenSide, WatchedRun};
use super::slices::floor::{self, Sharing};
use super::slices::{NodeId, Pulse, SliceClaim, SliceGrant, ledger, look};
use super::snapshot::{LastKnown, SnapshotSettings, Succession};
use super::tenant::Tenant;
use super::tenant_row::{TenantRow, damaged};
use crate::kernel::crypto::{CryptoError, MacKey, MasterKeys, Place, Sealed};
use crate::kernel::{ClusterId, InstallationId, Slug, TenantId};

/// The channel that the triggers of `main-migrations/` notify.
const CHANNEL: &str = "tenantry_registry";
/// Whoever is further behind than this reads everything anew.
const MOST_CHANGES: i64 = 10_000;

/// Connections of an embedding application to the control plane.
const EMBEDDED_CONNECTIONS: u32 = 4;

// Head, floor and log in one statement: one snapshot.
const CHANGES: &str = "\
SELECT h.generation AS head, h.floor, l.generation, l.tenant_id, l.slug, \
       CASE WHEN h.watch_until > now() THEN h.watch_run END AS watch_run, h.watch_hash \
FROM registry_head h LEFT JOIN registry_log l ON l.generation > $1 \
ORDER BY l.generation LIMIT $2";

/// The registry of an installation, read from its control plane. Every call is bounded by [`MainDb`]'s deadline.
pub struct ControlPlaneRegistry {
    db: MainDb,
    keys: Arc<MasterKeys>,
    installation: tokio::sync::OnceCell<Installation>,
    listener: Mutex<Option<Listener>>,
    last_known: Option<LastKnown>,
    budget_listener: Mutex<Option<Listener>>,
}

impl fmt::Debug for ControlPlaneRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlPlaneRegistry({:?})", self.db)
    }
}

#[derive(diesel::QueryableByName)]
pub(super) struct InstallationRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: InstallationId,
    #[diesel(sql_type = Binary)]
    pub(super) mac_sealed: Vec<u8>,
}

impl InstallationRow {
    /// Opens what is sealed in it.
    pub(super) fn open(&self, keys: &MasterKeys) -> Result<Installation> {
        let place = Place::new("installation", "mac_sealed", self.id.uuid());
        let secret = keys.open(place, &Sealed::from(self.mac_sealed.clone())).map_err(damaged_key)?;
        Ok(Installation { id: self.id, mac: MacKey::new(&secret) })
    }
}

#[derive(diesel::QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: TenantId,
}

#[derive(diesel::QueryableByName)]
struct ChangeRow {
    #[diesel(sql_type = BigInt)]
    head: i64,
    #[diesel(sql_type = BigInt)]
    floor: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    generation: Option<i64>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    tenant_id: Option<TenantId>,
    #[diesel(sql_type = Nullable<Text>)]
    slug: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    watch_run: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    watch_hash: Option<String>,
}

/// A run that is gone takes no reports.
const ROLLOUT: &str = "\
INSERT INTO migration_health (run_id, node_id, migrated, requests, errors, buckets) \
SELECT id, $2, $3, $4, $5, $6 FROM operations WHERE id = $1 \
ON CONFLICT (run_id, node_id, migrated) DO UPDATE SET requests = excluded.requests, errors = excluded.errors, \
    buckets = excluded.buckets, at = now()";

impl ControlPlaneRegistry {
    /// The registry in a control plane's database, whose secrets `keys` open.
    #[must_use]
    pub fn new(db: MainDb, keys: Arc<MasterKeys>) -> Self {
        Self {
            db,
            keys,
            installation: tokio::sync::OnceCell::new(),
            listener: Mutex::new(None),
            budget_listener: Mutex::new(None),
            last_known: None,
        }
    }

    /// For embedders: the registry behind the control plane's URL and the installation's master keys (a comma-separated
    /// list of base64, newest first). Opens nothing yet.
    ///
    /// # Errors
    /// [`Error::ControlPlane`] if the URL or a key is none.
    pub fn connect(url: &SecretString, master_keys: &SecretString) -> Result<Self> {
        let target = Target::parse_control_plane(url).map_err(Error::control_plane)?;
        let keys = MasterKeys::parse(master_keys).map_err(Error::control_plane)?;
        Ok(Self::new(MainDb::new(target, EMBEDDED_CONNECTIONS), Arc::new(keys)))
    }

    /// Keeps a sealed snapshot of all tenants on local disk, and answers from it while the control plane is down: known
    /// tenants are then served at once, at start too.
    #[must_use]
    pub fn with_snapshot(mut self, settings: SnapshotSettings) -> Self {
        self.last_known = Some(LastKnown::new(settings, self.db.clone(), self.keys.clone()));
        self
    }

    async fn find_installation(&self) -> Result<Installation> {
        let row = match (self.asked(read_installation(&self.db)).await, &self.last_known) {
            (Err(cause), Some(last_known)) => last_known.installation(cause).await?,
            (answer, _) => answer?.ok_or_else(|| damaged("the installation is not set up; run `tenantry migrate`"))?,
        };
        let installation = row.open(&self.keys)?;
        if let Some(last_known) = &self.last_known {
            last_known.keep(installation.id);
            last_known.opened().await;
        }
        Ok(installation)
    }

    fn succession(&self) -> Option<Succession> {
        self.last_known.as_ref()?.succession()
    }

    /// Asks the control plane; with something to fall back on, not for long.
    async fn asked<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.last_known {
            Some(last_known) => last_known.asked(question).await,
            None => question.await,
        }
    }

    async fn next_announcement(&self, listener: &Mutex<Option<Listener>>, channel: &'static str) -> Result<()> {
        let mut listener = listener.lock().await;
        match &mut *listener {
            // What was announced before we listened is found by looking now.
            None => *listener = Some(Listener::open(self.db.target(), channel).await.map_err(Error::control_plane)?),
            Some(open) => {
                if let Err(error) = open.next().await {
                    *listener = None;
                    return Err(Error::control_plane(error));
                }
            }
        }
        Ok(())
    }

    /// Who may look at a cluster's connections: its administrator, or for a dedicated database the tenant's own role.
    async fn look_at(&self, cluster: ClusterId) -> Result<Option<Target>> {
        let row = self
            .db
            .read(async move |conn: &mut MainConn| -> Result<_> {
                let admin = diesel::sql_query(ADMIN).bind::<SqlUuid, _>(cluster);
                Ok(admin.get_result::<AdminRow>(conn).await.optional()?)
            })
            .await
            .map_err(unread)?;
        match row {
            Some(row) => row.read(&self.keys, cluster).map(Some),
            None => Ok(self.tenant_by_id(cluster.uuid().into()).await?.map(|tenant| Target::clone(&tenant.direct))),
        }
    }
}

/// The installation's row; none before it was set up.
pub(super) async fn read_installation(db: &MainDb) -> Result<Option<InstallationRow>> {
    let read = db.read(async |conn: &mut MainConn| -> Result<_> {
        let rows = diesel::sql_query("SELECT id, mac_sealed FROM installation");
        Ok(rows.get_result::<InstallationRow>(conn).await.optional()?)
    });
    read.await.map_err(unread)
}

/// What changed after a generation.
pub(super) async fn read_changes(db: &MainDb, generation: Option<i64>) -> Result<Changes> {
    // Beyond every generation: the head alone.
    let since = generation.unwrap_or(i64::MAX);
    let read = db.read(async move |conn: &mut MainConn| -> Result<_> {
        let changes = diesel::sql_query(CHANGES).bind::<BigInt, _>(since).bind::<BigInt, _>(MOST_CHANGES);
        Ok(changes.load::<ChangeRow>(conn).await?)
    });
    changes(generation, read.await.map_err(unread)?)
}

fn damaged_key(error: CryptoError) -> Error {
    damaged(format!("the installation's MAC key: {error}"))
}

/// A statement on the control plane that failed says nothing about the tenant's database.
pub(super) fn unread(error: Error) -> Error {
    match error {
        Error::Query(cause) => Error::control_plane(cause),
        other => other,
    }
}

#[async_trait]
impl Registry for ControlPlaneRegistry {
    async fn installation(&self) -> Result<Installation> {
        self.installation.get_or_try_init(|| self.find_installation()).await.cloned()
    }

    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>> {
        let mac = self.installation().await?.mac;
        let row = match (self.asked(TenantRow::find(&self.db, id)).await, &self.last_known) {
            (Err(cause), Some(last_known)) => Some(last_known.tenant(id, cause).await?),
            (answer, _) => answer?,
        };
        row.map(|row| row.read(&self.keys, &mac)).transpose()
    }

    async fn id_by_slug(&self, slug: &Slug) -> Result<Option<TenantId>> {
        let name = slug.to_string();
        let question = self.db.read(async move |conn: &mut MainConn| -> Result<_> {
            let id = Kept::<Text, _>::new(["SELECT id FROM tenants", " WHERE slug = "], name);
            Ok(id.get_result::<IdRow>(conn).await.optional()?.map(|row| row.id))
        });
        match (self.asked(async { question.await.map_err(unread) }).await, &self.last_known) {
            (Err(cause), Some(last_known)) => {
                let mac = self.installation().await?.mac;
                last_known.id_by_slug(mac, slug, cause).await.map(Some)
            }
            (answer, _) => answer,
        }
    }

    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes> {
        let question = read_changes(&self.db, generation);
        match (&self.last_known, generation) {
            (None, _) => question.await,
            (Some(last_known), Some(_)) => last_known.followed(question.await),
            (Some(last_known), None) => match last_known.asked(question).await {
                Err(cause) => last_known.generation(cause).await,
                answer => answer,
            },
        }
    }

    async fn report_rollout(&self, node: NodeId, run: Uuid, seen: [SeenSide; 2]) -> Result<()> {
        let [migrated, rest] = seen;
        let report = async move |conn: &mut MainConn| -> Result<_> {
            for (is_migrated, side) in [(true, migrated), (false, rest)] {
                diesel::sql_query(ROLLOUT)
                    .bind::<SqlUuid, _>(run)
                    .bind::<SqlUuid, _>(node.uuid())
                    .bind::<Bool, _>(is_migrated)
                    .bind::<BigInt, _>(side.requests)
                    .bind::<BigInt, _>(side.errors)
                    .bind::<Array<BigInt>, _>(side.buckets)
                    .execute(conn)
                    .await?;
            }
            Ok(())
        };
        self.db.read(report).await.map_err(unread)
    }

    async fn announced(&self) -> Result<()> {
        self.next_announcement(&self.listener, CHANNEL).await
    }

    async fn check_budgets(&self, default_budget: u32) -> Result<()> {
        let before = self.succession().and_then(|succession| succession.before());
        let sharing = async move |conn: &mut MainConn| -> Result<Sharing> { floor::sharing(conn, before).await };
        let sharing = self.db.read(sharing);
        match self.asked(async { sharing.await.map_err(unread) }).await {
            Ok(sharing) => sharing.check(&self.keys, default_budget).await,
            Err(error) => {
                tracing::warn!(%error, "the control plane does not answer; the connection budgets are not checked");
                Ok(())
            }
        }
    }

    async fn renew_node(&self, node: NodeId, ttl: Duration) -> Result<Pulse> {
        let succession = self.succession();
        let before = succession.as_ref().and_then(Succession::before);
        let renew = async move |conn: &mut MainConn| -> Result<Pulse> { ledger::renew(conn, node, ttl, before).await };
        let pulse = self.db.transaction(renew).await.map_err(unread)?;
        if let Some(succession) = succession {
            succession.succeed(node).await;
        }
        Ok(pulse)
    }

    async fn claim_slice(&self, claim: SliceClaim) -> Result<SliceGrant> {
        let step = async move |conn: &mut MainConn| -> Result<SliceGrant> { ledger::claim(conn, &claim).await };
        self.db.transaction(step).await.map_err(unread)
    }

    async fn reclaim_slices(&self, cluster: ClusterId, gap: Duration) -> Result<usize> {
        let orphans = async move |conn: &mut MainConn| -> Result<_> { ledger::orphans(conn, cluster).await };
        let (orphans, looked) = self.db.read(orphans).await.map_err(unread)?;
        if orphans.is_empty() {
            return Ok(0);
        }
        let Some(target) = self.look_at(cluster).await? else { return Ok(0) };
        let seen = look::visible(&target, &orphans)
            .await
            .map_err(|error| Error::DatabaseUnavailable { retry_after: gap, source: Some(Arc::new(error)) })?;
        let unseen: Vec<_> = orphans.into_iter().filter(|node| !seen.contains(node)).collect();
        let reclaim = async move |conn: &mut MainConn| -> Result<usize> {
            ledger::reclaim(conn, cluster, (&seen, &unseen), looked, gap).await
        };
        self.db.transaction(reclaim).await.map_err(unread)
    }

    async fn release_slices(&self, node: NodeId) -> Result<()> {
        let release = async move |conn: &mut MainConn| -> Result<()> { ledger::release(conn, node).await };
        self.db.read(release).await.map_err(unread)
    }

    async fn budget_announced(&self) -> Result<()> {
        self.next_announcement(&self.budget_listener, ledger::CHANNEL).await
    }
}

/// What the rows of the log mean for somebody who knows everything up to `since`.
fn changes(since: Option<i64>, rows: Vec<ChangeRow>) -> Result<Changes> {
    let first = rows.as_slice().first().ok_or_else(|| damaged("no registry head"))?;
    let (head, floor) = (first.head, first.floor);
    let rollout = first.watch_run.zip(first.watch_hash.clone()).map(|(id, hash)| WatchedRun { id, hash });
    let Some(since) = since else { return Ok(Changes { generation: head, rollout, ..Changes::default() }) };
    let too_many = i64::try_from(rows.len()).is_ok_and(|n| n >= MOST_CHANGES);
    // Older than the log, newer than the head (a restored control plane), or a change of all.
    let mut reset = since < floor || since > head || too_many;
    let mut tenants = Vec::new();
    for row in rows.into_iter().filter(|row| row.generation.is_some()) {
        match (row.tenant_id, row.slug) {
            (Some(id), Some(slug)) => tenants.push((id, slug.parse().map_err(damaged)?)),
            _ => reset = true,
        }
    }
    Ok(Changes { generation: head, tenants, reset, rollout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(generation: Option<i64>, tenant: Option<&str>) -> ChangeRow {
        let tenant_id = tenant.map(|_| TenantId::generate());
        let slug = tenant.map(str::to_owned);
        ChangeRow { head: 9, floor: 3, generation, tenant_id, slug, watch_run: None, watch_hash: None }
    }

    #[test]
    fn reads_the_log() {
        let none = changes(Some(9), vec![row(None, None)]).unwrap();
        assert_eq!((none.generation, none.tenants.len(), none.reset), (9, 0, false));
        let two = changes(Some(7), vec![row(Some(8), Some("acme")), row(Some(9), Some("globex"))]).unwrap();
        assert_eq!((two.tenants.len(), two.reset), (2, false));
        assert_eq!(two.tenants[1].1.to_string(), "globex");
        assert!(!changes(None, vec![row(None, None)]).unwrap().reset);
    }

    #[test]
    fn forgets_everything_when_it_cannot_know() {
        assert!(changes(Some(2), vec![row(Some(4), Some("acme"))]).unwrap().reset, "older than the log");
        assert!(changes(Some(10), vec![row(None, None)]).unwrap().reset, "newer than the head");
        assert!(changes(Some(8), vec![row(Some(9), None)]).unwrap().reset, "a cluster changed");
        assert!(changes(Some(8), Vec::new()).is_err(), "no head");
    }
}
