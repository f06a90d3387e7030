//! A tenant and a cluster as operators see them: in the API and in the CLI's JSON alike. Never a URL, never a password.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::restore::Restored;
use super::{Deleted, Drained, Fleet, Moved, Provisioned, Relocation, Rotated, StepTime};
use crate::control::clusters::{Cluster, Facts};
use crate::control::kept::{LeftBy, ListedKept};
use crate::control::tenants::TenantRecord;
use crate::kernel::crypto::{hex, sha256};
use crate::kernel::{BackupId, ClusterId, Slug, TenantId};
use crate::rest::Versioned;
use crate::router::{Registration, TenantKind, TenantStatus, TlsMode};

/// A tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantView {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// Where it is in its life.
    pub status: TenantStatus,
    /// Whose server it is on.
    pub kind: TenantKind,
    /// The cluster's name; null for a dedicated database.
    pub cluster: Option<String>,
    /// Its database.
    pub database_name: String,
    /// Who may register.
    pub registration: Registration,
    /// Ceiling of connections; null for the router's default.
    pub max_connections: Option<i32>,
    /// Its share where connections are scarce, against other tenants' of the cluster.
    pub weight: i32,
    /// The plan's name, if it has one.
    pub plan: Option<String>,
    /// Version of the built-in schema.
    pub schema_version: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// When its database goes, if it is archived.
    pub purge_after: Option<DateTime<Utc>>,
    /// Grows with every change; the ETag.
    pub version: i64,
}

impl From<TenantRecord> for TenantView {
    fn from(tenant: TenantRecord) -> Self {
        Self {
            id: tenant.id,
            slug: tenant.slug,
            name: tenant.name,
            status: tenant.status,
            kind: tenant.kind,
            cluster: tenant.cluster,
            database_name: tenant.database_name,
            registration: tenant.registration,
            max_connections: tenant.max_connections,
            weight: tenant.weight,
            plan: tenant.plan,
            schema_version: tenant.schema_version,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
            purge_after: tenant.purge_after,
            version: tenant.version,
        }
    }
}

impl Versioned for TenantView {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A tenant that was just made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionedView {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantView,
    /// What was done, and how long it took.
    pub steps: Vec<StepTime>,
    /// The first administrator's password, where it was generated. Shown this once.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_once")]
    #[schema(value_type = Option<String>)]
    pub admin_password: Option<SecretString>,
}

#[expect(clippy::ref_option, reason = "serde gives the field by reference")]
fn shown_once<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}

impl From<Provisioned> for ProvisionedView {
    fn from(made: Provisioned) -> Self {
        Self { tenant: made.tenant.into(), steps: made.steps, admin_password: made.admin_password }
    }
}

/// A tenant whose role has another password.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotatedView {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantView,
    /// What was done, and how long it took.
    pub steps: Vec<StepTime>,
}

impl From<Rotated> for RotatedView {
    fn from(rotated: Rotated) -> Self {
        Self { tenant: rotated.tenant.into(), steps: rotated.steps }
    }
}

/// A tenant that was moved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MovedView {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantView,
    /// Where from and to, how long its requests were held, and what was compared.
    #[serde(flatten)]
    pub relocation: Relocation,
    /// What was done, and how long it took.
    pub steps: Vec<StepTime>,
}

impl From<Moved> for MovedView {
    fn from(moved: Moved) -> Self {
        Self { tenant: moved.tenant.into(), relocation: moved.relocation, steps: moved.steps }
    }
}

/// A cluster that was drained.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainedView {
    /// The cluster.
    #[serde(flatten)]
    pub cluster: ClusterView,
    /// What became of its tenants.
    #[serde(flatten)]
    pub drained: Drained,
}

/// What became of a deleted tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedView {
    /// Identity.
    pub id: TenantId,
    /// Public name, free again once it is gone.
    pub slug: Slug,
    /// Nothing is left of it; else it is archived.
    pub gone: bool,
    /// When its database goes, if it is archived.
    pub purge_after: Option<DateTime<Utc>>,
    /// What was taken back, and how long it took.
    pub steps: Vec<StepTime>,
}

impl From<Deleted> for DeletedView {
    fn from(deleted: Deleted) -> Self {
        Self {
            id: deleted.tenant.id,
            slug: deleted.tenant.slug,
            gone: deleted.gone,
            purge_after: deleted.purge_after,
            steps: deleted.steps,
        }
    }
}

/// A database that serves nobody any more and is kept for a while.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptView {
    /// Whose it was.
    pub tenant_id: TenantId,
    /// The tenant's public name; null if it is gone.
    pub slug: Option<String>,
    /// The name of the cluster that it is on.
    pub cluster: String,
    /// Its name there.
    pub database_name: String,
    /// What left it behind.
    pub left_by: LeftBy,
    /// Since when it serves nobody.
    pub kept_since: DateTime<Utc>,
    /// When it is dropped.
    pub purge_after: DateTime<Utc>,
}

impl From<ListedKept> for KeptView {
    fn from(listed: ListedKept) -> Self {
        let ListedKept { kept, slug, cluster } = listed;
        Self {
            tenant_id: kept.tenant_id,
            slug,
            cluster,
            database_name: kept.database_name,
            left_by: kept.left_by,
            kept_since: kept.kept_since,
            purge_after: kept.purge_after,
        }
    }
}

/// A tenant with the data of a backup.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredView {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantView,
    /// The backup.
    pub backup_id: BackupId,
    /// What was done, and how long it took.
    pub steps: Vec<StepTime>,
}

impl From<Restored> for RestoredView {
    fn from(restored: Restored) -> Self {
        Self { tenant: restored.tenant.into(), backup_id: restored.backup, steps: restored.steps }
    }
}

/// A cluster.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// Identity.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub region: Option<String>,
    /// TLS towards it.
    pub tls_mode: TlsMode,
    /// How many tenants it takes; null for no bound.
    pub max_tenants: Option<i32>,
    /// The most connections to its tenants' databases: its own number, or that of the nodes' settings.
    pub connection_budget: i32,
    /// Whether that is the number of the nodes' settings (`router.cluster_budget`).
    pub connection_budget_is_default: bool,
    /// Takes no new tenants.
    pub draining: bool,
    /// How many tenants live on it, in whatever state.
    pub tenants: i64,
    /// How many ready tenants wait on it for somebody to take them.
    pub ready_tenants: i64,
    /// How much more it takes.
    pub head_room: HeadRoom,
    /// Its server, as it was when it was last looked at; null before.
    pub server: Option<ServerView>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Grows with every change; the ETag.
    pub version: i64,
}

/// How much more a cluster takes.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadRoom {
    /// Tenants; null where there is no bound.
    pub tenants: Option<i64>,
    /// Connections that its server still has; null before it was looked at.
    pub connections: Option<i32>,
    /// Connections that its server has beyond the budget of its tenants, negative where it has fewer; null before it was
    /// looked at.
    pub beyond_budget: Option<i32>,
}

/// A cluster's server.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    /// PostgreSQL's version.
    #[schema(example = "15.8")]
    pub version: String,
    /// Extensions that can be installed there.
    pub extensions: Vec<String>,
    /// The most connections that ordinary roles may have open.
    pub max_connections: i32,
    /// Connections that were open, whosesoever.
    pub connections: i32,
    /// Size of its databases.
    pub bytes: i64,
    /// When this was so.
    pub probed_at: DateTime<Utc>,
}

impl From<Facts> for ServerView {
    fn from(facts: Facts) -> Self {
        let Facts { server_version, extensions, max_connections, connections, bytes, probed_at, bytes_at: _ } = facts;
        Self { version: server_version, extensions, max_connections, connections, bytes, probed_at }
    }
}

impl HeadRoom {
    fn new(cluster: &Cluster, budget: i32) -> Self {
        let facts = cluster.facts.as_ref();
        let tenants = cluster.max_tenants.map(|max| (i64::from(max) - cluster.tenants).max(0));
        Self {
            tenants: if cluster.draining { Some(0) } else { tenants },
            connections: facts.map(|facts| (facts.max_connections - facts.connections).max(0)),
            beyond_budget: facts.map(|facts| facts.max_connections - budget),
        }
    }
}

impl Fleet {
    /// A cluster with the budget that is in force, also where it has none of its own.
    #[must_use]
    pub fn cluster_view(&self, cluster: Cluster) -> ClusterView {
        let budget = self.budget_of(cluster.connection_budget);
        ClusterView {
            ready_tenants: cluster.ready,
            head_room: HeadRoom::new(&cluster, budget),
            server: cluster.facts.map(Into::into),
            id: cluster.id,
            name: cluster.name,
            region: cluster.region,
            tls_mode: cluster.admin.tls.mode,
            max_tenants: cluster.max_tenants,
            connection_budget: budget,
            connection_budget_is_default: cluster.connection_budget.is_none(),
            draining: cluster.draining,
            tenants: cluster.tenants,
            created_at: cluster.created_at,
            updated_at: cluster.updated_at,
            version: cluster.version,
        }
    }
}

impl Versioned for ClusterView {
    fn version(&self) -> i64 {
        self.version
    }

    /// What lives on it and what its server says is no change of it. Not when that was seen, which is now. Never empty:
    /// answers that are remembered name the version alone, and the rest may have changed since.
    fn beside(&self) -> String {
        let server = self.server.as_ref().map(|server| {
            let ServerView { version, extensions, max_connections, connections, bytes, probed_at: _ } = server;
            (version, extensions, max_connections, connections, bytes)
        });
        let told = (self.tenants, self.ready_tenants, &self.head_room, self.connection_budget, server);
        hex(&sha256(format!("{told:?}").as_bytes())[..8])
    }
}
