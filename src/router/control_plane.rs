//! The registry on the control plane's PostgreSQL. One statement per tenant that is loaded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::OptionalExtension as _;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use secrecy::SecretString;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::conn::MainConn;
use super::connect::{Target, TlsPolicy};
use super::error::{Error, Result};
use super::listener::Listener;
use super::main_db::MainDb;
use super::registry::{Changes, Installation, Registry};
use super::slices::{NodeId, Pulse, SliceClaim, SliceGrant, ledger, look};
use super::tenant::{ClusterRef, Tenant};
use super::token::{KeyId, SigningKey, VerificationKey};
use crate::kernel::crypto::{CryptoError, MacKey, MasterKeys, Place, Sealed};
use crate::kernel::{ClusterId, InstallationId, SigningKeyId, Slug, TenantId};

/// The channel that the triggers of `main-migrations/` notify.
const CHANNEL: &str = "tenantry_registry";
/// Whoever is further behind than this reads everything anew.
const MOST_CHANGES: i64 = 10_000;

/// Connections of an embedding application to the control plane.
const EMBEDDED_CONNECTIONS: u32 = 4;

const TENANT: &str = "\
SELECT t.id, t.slug, t.name, t.status, t.kind, t.registration, t.database_name, t.role_name, t.password_sealed, \
       t.url_sealed, t.direct_url_sealed, t.max_connections, t.weight, t.schema_version, t.epoch, t.created_at, \
       greatest(t.generation, c.generation) AS generation, \
       c.id AS cluster_id, c.name AS cluster_name, c.host, c.port, c.connection_budget, \
       coalesce(t.tls_mode, c.tls_mode) AS tls_mode, coalesce(t.tls_ca, c.tls_ca) AS tls_ca, \
       coalesce(t.tls_client_cert, c.tls_client_cert) AS tls_client_cert, \
       coalesce(t.tls_client_key_sealed, c.tls_client_key_sealed) AS tls_client_key_sealed, \
       k.ids AS key_ids, k.publics AS key_publics, k.privates AS key_privates, k.in_use AS key_in_use \
FROM tenants t \
LEFT JOIN clusters c ON c.id = t.cluster_id \
CROSS JOIN LATERAL ( \
    SELECT coalesce(array_agg(id ORDER BY id), '{}') AS ids, coalesce(array_agg(public ORDER BY id), '{}') AS publics, \
           coalesce(array_agg(private_sealed ORDER BY id), '{}') AS privates, \
           coalesce(array_agg(retired_at IS NULL ORDER BY id), '{}') AS in_use \
    FROM signing_keys WHERE tenant_id = t.id AND (retired_at IS NULL OR retired_at > now())) k \
WHERE t.id = $1";

const ADMIN: &str = "\
SELECT host, port, admin_user, admin_password_sealed, admin_database, tls_mode, tls_ca, tls_client_cert, \
       tls_client_key_sealed FROM clusters WHERE id = $1";

// Head, floor and log in one statement: one snapshot.
const CHANGES: &str = "\
SELECT h.generation AS head, h.floor, l.generation, l.tenant_id, l.slug \
FROM registry_head h LEFT JOIN registry_log l ON l.generation > $1 \
ORDER BY l.generation LIMIT $2";

/// The registry of an installation, read from its control plane. Every call is bounded by [`MainDb`]'s deadline.
pub struct ControlPlaneRegistry {
    db: MainDb,
    keys: Arc<MasterKeys>,
    installation: tokio::sync::OnceCell<Installation>,
    listener: Mutex<Option<Listener>>,
    budget_listener: Mutex<Option<Listener>>,
}

impl fmt::Debug for ControlPlaneRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlPlaneRegistry({:?})", self.db)
    }
}

#[derive(diesel::QueryableByName)]
struct InstallationRow {
    #[diesel(sql_type = SqlUuid)]
    id: InstallationId,
    #[diesel(sql_type = Binary)]
    mac_sealed: Vec<u8>,
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
}

#[derive(diesel::QueryableByName)]
struct AdminRow {
    #[diesel(sql_type = Text)]
    host: String,
    #[diesel(sql_type = Integer)]
    port: i32,
    #[diesel(sql_type = Text)]
    admin_user: String,
    #[diesel(sql_type = Binary)]
    admin_password_sealed: Vec<u8>,
    #[diesel(sql_type = Text)]
    admin_database: String,
    #[diesel(sql_type = Text)]
    tls_mode: String,
    #[diesel(sql_type = Nullable<Text>)]
    tls_ca: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_client_cert: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    tls_client_key_sealed: Option<Vec<u8>>,
}

#[derive(diesel::QueryableByName)]
struct TenantRow {
    #[diesel(sql_type = SqlUuid)]
    id: TenantId,
    #[diesel(sql_type = Text)]
    slug: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    registration: String,
    #[diesel(sql_type = Text)]
    database_name: String,
    #[diesel(sql_type = Text)]
    role_name: String,
    #[diesel(sql_type = Nullable<Binary>)]
    password_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    url_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    direct_url_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Integer>)]
    max_connections: Option<i32>,
    #[diesel(sql_type = Integer)]
    weight: i32,
    #[diesel(sql_type = Integer)]
    schema_version: i32,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    generation: i64,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    cluster_id: Option<ClusterId>,
    #[diesel(sql_type = Nullable<Text>)]
    cluster_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    port: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    connection_budget: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_mode: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_ca: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_client_cert: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    tls_client_key_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Array<SqlUuid>)]
    key_ids: Vec<Uuid>,
    #[diesel(sql_type = Array<Binary>)]
    key_publics: Vec<Vec<u8>>,
    #[diesel(sql_type = Array<Binary>)]
    key_privates: Vec<Vec<u8>>,
    #[diesel(sql_type = Array<Bool>)]
    key_in_use: Vec<bool>,
}

/// What the schema's CHECKs rule out, and what our master keys do not open.
fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::control_plane(what)
}

fn open(keys: &MasterKeys, place: Place, sealed: Option<Vec<u8>>) -> Result<secrecy::SecretString> {
    let sealed = sealed.ok_or_else(|| damaged("a sealed value is missing"))?;
    keys.open_text(place, &Sealed::from(sealed)).map_err(damaged)
}

impl TenantRow {
    fn read(mut self, keys: &MasterKeys, mac: &MacKey) -> Result<Tenant> {
        let (verification_keys, signing_key) = self.keys(keys, mac)?;
        let (cluster, target, direct) = self.targets(keys)?;
        Ok(Tenant {
            id: self.id,
            slug: self.slug.parse().map_err(damaged)?,
            name: self.name,
            status: self.status.parse().map_err(|e: String| damaged(e))?,
            kind: self.kind.parse().map_err(|e: String| damaged(e))?,
            registration: self.registration.parse().map_err(|e: String| damaged(e))?,
            cluster,
            target,
            direct,
            max_connections: self.max_connections.and_then(|n| n.try_into().ok()),
            weight: u32::try_from(self.weight).map_err(damaged)?,
            schema_version: self.schema_version,
            epoch: self.epoch,
            generation: self.generation,
            created_at: self.created_at,
            verification_keys,
            signing_key,
        })
    }

    fn keys(&mut self, keys: &MasterKeys, mac: &MacKey) -> Result<(Vec<VerificationKey>, Option<SigningKey>)> {
        let mut verification = Vec::with_capacity(self.key_ids.len());
        let mut signing = None;
        let publics = std::mem::take(&mut self.key_publics);
        let privates = std::mem::take(&mut self.key_privates);
        for (((id, public), private), in_use) in self.key_ids.iter().zip(publics).zip(privates).zip(&self.key_in_use) {
            let key = SigningKeyId::from(*id);
            verification.push(VerificationKey::new(key, public));
            if *in_use {
                let place = Place::new("signing_keys", "private_sealed", *id);
                let pkcs8 = keys.open(place, &Sealed::from(private)).map_err(damaged)?;
                let kid = KeyId { tenant: self.id, key }.encode(mac);
                signing = Some(SigningKey::from_pkcs8(kid, &pkcs8).ok_or_else(|| damaged("no Ed25519 key"))?);
            }
        }
        Ok((verification, signing))
    }

    fn targets(&mut self, keys: &MasterKeys) -> Result<(ClusterRef, Target, Target)> {
        let id = self.id.uuid();
        let key_place = match self.cluster_id {
            Some(cluster) => Place::new("clusters", "tls_client_key_sealed", cluster.uuid()),
            None => Place::new("tenants", "tls_client_key_sealed", id),
        };
        let client_key = self.tls_client_key_sealed.take().map(|sealed| open(keys, key_place, Some(sealed)));
        let tls = TlsPolicy {
            mode: self.tls_mode.take().unwrap_or_default().parse().map_err(|e: String| damaged(e))?,
            ca: self.tls_ca.take(),
            client_cert: self.tls_client_cert.take(),
            client_key: client_key.transpose()?,
        };
        if let (Some(cluster), Some(name), Some(host), Some(port)) =
            (self.cluster_id, self.cluster_name.take(), self.host.take(), self.port)
        {
            let connection_budget = self.connection_budget.and_then(|n| n.try_into().ok());
            let target = Target {
                host,
                port: u16::try_from(port).map_err(damaged)?,
                database: std::mem::take(&mut self.database_name),
                user: std::mem::take(&mut self.role_name),
                password: open(keys, Place::new("tenants", "password_sealed", id), self.password_sealed.take())?,
                tls,
            };
            return Ok((ClusterRef { id: cluster, name, connection_budget }, target.clone(), target));
        }
        let url = open(keys, Place::new("tenants", "url_sealed", id), self.url_sealed.take())?;
        let direct = open(keys, Place::new("tenants", "direct_url_sealed", id), self.direct_url_sealed.take())?;
        let cluster = ClusterRef { id: id.into(), name: "dedicated".into(), connection_budget: None };
        Ok((cluster, Target::parse(&url, tls.clone()).map_err(damaged)?, Target::parse(&direct, tls).map_err(damaged)?))
    }
}

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

    async fn read_installation(&self) -> Result<Installation> {
        let row = self
            .db
            .read(async |conn| -> Result<_> {
                let rows = diesel::sql_query("SELECT id, mac_sealed FROM installation");
                Ok(rows.get_result::<InstallationRow>(conn).await.optional()?)
            })
            .await?
            .ok_or_else(|| damaged("the installation is not set up; run `tenantry migrate`"))?;
        let place = Place::new("installation", "mac_sealed", row.id.uuid());
        let secret = self.keys.open(place, &Sealed::from(row.mac_sealed)).map_err(damaged_key)?;
        Ok(Installation { id: row.id, mac: MacKey::new(&secret) })
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
            None => Ok(self.tenant_by_id(cluster.uuid().into()).await?.map(|tenant| tenant.direct)),
        }
    }
}

impl AdminRow {
    fn read(self, keys: &MasterKeys, cluster: ClusterId) -> Result<Target> {
        let place = |column| Place::new("clusters", column, cluster.uuid());
        let client_key =
            self.tls_client_key_sealed.map(|sealed| open(keys, place("tls_client_key_sealed"), Some(sealed)));
        Ok(Target {
            host: self.host,
            port: u16::try_from(self.port).map_err(damaged)?,
            database: self.admin_database,
            user: self.admin_user,
            password: open(keys, place("admin_password_sealed"), Some(self.admin_password_sealed))?,
            tls: TlsPolicy {
                mode: self.tls_mode.parse().map_err(|e: String| damaged(e))?,
                ca: self.tls_ca,
                client_cert: self.tls_client_cert,
                client_key: client_key.transpose()?,
            },
        })
    }
}

fn damaged_key(error: CryptoError) -> Error {
    damaged(format!("the installation's MAC key: {error}"))
}

/// A statement on the control plane that failed says nothing about the tenant's database.
fn unread(error: Error) -> Error {
    match error {
        Error::Query(cause) => Error::control_plane(cause),
        other => other,
    }
}

#[async_trait]
impl Registry for ControlPlaneRegistry {
    async fn installation(&self) -> Result<Installation> {
        self.installation.get_or_try_init(|| self.read_installation()).await.cloned().map_err(unread)
    }

    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>> {
        let mac = self.installation().await?.mac;
        let row = self
            .db
            .read(async move |conn| -> Result<_> {
                Ok(diesel::sql_query(TENANT).bind::<SqlUuid, _>(id).get_result::<TenantRow>(conn).await.optional()?)
            })
            .await
            .map_err(unread)?;
        row.map(|row| row.read(&self.keys, &mac)).transpose()
    }

    async fn id_by_slug(&self, slug: &Slug) -> Result<Option<TenantId>> {
        let slug = slug.to_string();
        self.db
            .read(async move |conn| -> Result<_> {
                let id = diesel::sql_query("SELECT id FROM tenants WHERE slug = $1").bind::<Text, _>(slug);
                Ok(id.get_result::<IdRow>(conn).await.optional()?.map(|row| row.id))
            })
            .await
            .map_err(unread)
    }

    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes> {
        // Beyond every generation: the head alone.
        let since = generation.unwrap_or(i64::MAX);
        let rows = self
            .db
            .read(async move |conn| -> Result<_> {
                let changes = diesel::sql_query(CHANGES).bind::<BigInt, _>(since).bind::<BigInt, _>(MOST_CHANGES);
                Ok(changes.load::<ChangeRow>(conn).await?)
            })
            .await
            .map_err(unread)?;
        changes(generation, rows)
    }

    async fn announced(&self) -> Result<()> {
        self.next_announcement(&self.listener, CHANNEL).await
    }

    async fn renew_node(&self, node: NodeId, ttl: Duration) -> Result<Pulse> {
        let renew = async move |conn: &mut MainConn| -> Result<Pulse> { ledger::renew(conn, node, ttl).await };
        self.db.transaction(renew).await.map_err(unread)
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
    let (head, floor) =
        rows.as_slice().first().map(|row| (row.head, row.floor)).ok_or_else(|| damaged("no registry head"))?;
    let Some(since) = since else { return Ok(Changes { generation: head, ..Changes::default() }) };
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
    Ok(Changes { generation: head, tenants, reset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(generation: Option<i64>, tenant: Option<&str>) -> ChangeRow {
        let tenant_id = tenant.map(|_| TenantId::generate());
        ChangeRow { head: 9, floor: 3, generation, tenant_id, slug: tenant.map(str::to_owned) }
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
