//! Drift: where a tenant's database is not what its migrations make.

mod catalog;
mod diff;
mod job;
mod reference;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use catalog::{Catalog, History};
pub use diff::{Difference, DriftKind};
pub(super) use reference::PREFIX as SCRATCH_PREFIX;

use super::migrations::Migrations;
use super::{Fleet, Progress, admin};
use crate::control::clusters::{self, Cluster};
use crate::control::tenants::{self, TenantFilter, TenantRecord};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{ClusterId, Slug, TenantId};
use crate::router::{AdminConn, MainConn, TenantKind, TenantStatus};

/// Tenants that are looked at at the same time, each over one connection beside the budget.
const AT_ONCE: usize = 8;
/// The longest that one database is looked at, and the longest that a reference is made: one statement may take so long,
/// and a server that takes connections and then falls silent holds nobody up.
const DEADLINE: Duration = admin::STATEMENT.saturating_add(Duration::from_secs(10));
/// How often a database is read again that was migrated meanwhile.
const MOST_LOOKS: usize = 5;

/// What was found of a tenant.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantDrift {
    /// Identity.
    #[schema(value_type = uuid::Uuid)]
    pub id: TenantId,
    /// Public name.
    #[schema(value_type = String)]
    pub slug: Slug,
    /// The version of the built-in schema that it was compared at.
    pub schema_version: i32,
    /// What differs; empty if nothing does.
    pub differences: Vec<Difference>,
    /// Why it could not be compared.
    pub error: Option<String>,
}

/// What was found of the fleet.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftReport {
    /// Tenants that were compared.
    pub compared: usize,
    /// Those that differ, or could not be compared, by slug.
    pub tenants: Vec<TenantDrift>,
}

impl DriftReport {
    fn take_in(&mut self, found: TenantDrift) {
        self.compared += usize::from(found.error.is_none());
        if found.error.is_some() || !found.differences.is_empty() {
            let at = self.tenants.partition_point(|known| known.slug.as_str() < found.slug.as_str());
            self.tenants.insert(at, found);
        }
    }
}

type Shared = Arc<OnceCell<Result<Arc<Catalog>, String>>>;

/// What tenants are compared with, made once for each cluster and version.
struct References {
    migrations: Migrations,
    clusters: HashMap<ClusterId, Cluster>,
    deadline: Duration,
    /// What makes them, to their end.
    tasks: TaskTracker,
    made: Mutex<HashMap<(ClusterId, i32, i32), Shared>>,
}

impl Fleet {
    /// Compares the databases of these tenants (of all, if none is named) with what their migrations make at the same
    /// version. Nothing is changed in them.
    ///
    /// # Errors
    /// 404 for an unknown name; if the control plane does not answer, or the operator's migrations cannot be read.
    pub async fn drift(&self, only: &[String], progress: &dyn Progress) -> ApiResult<DriftReport> {
        let tenants = self.chosen(only).await?;
        let references = self.references().await?;
        let (total, mut done) = (i64::try_from(tenants.len()).unwrap_or(i64::MAX), 0);
        let mut report = DriftReport::default();
        let mut looked = pin!(self.compared(&tenants, &references));
        while let Some(found) = looked.next().await {
            done += 1;
            progress.advanced("compare", done, total);
            report.take_in(found);
        }
        Ok(report)
    }

    async fn references(&self) -> ApiResult<References> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let keys = self.control.keys.clone();
        let clusters = self.control.db.read(async move |conn: &mut MainConn| clusters::list(conn, &keys).await).await?;
        let clusters = clusters.into_iter().map(|cluster| (cluster.id, cluster)).collect();
        let (deadline, tasks) = (self.look_deadline.unwrap_or(DEADLINE), self.workers.tasks().clone());
        Ok(References { migrations, clusters, deadline, tasks, made: Mutex::default() })
    }

    /// What is found of each, as it comes.
    fn compared(&self, tenants: &[TenantRecord], references: &References) -> impl Stream<Item = TenantDrift> + Send {
        stream::iter(tenants.iter().map(move |tenant| self.compare(tenant, references))).buffer_unordered(AT_ONCE)
    }

    /// The tenants of these names; without any, all that have a database.
    pub(super) async fn chosen(&self, only: &[String]) -> ApiResult<Vec<TenantRecord>> {
        let mut tenants = Vec::with_capacity(only.len());
        for name in only {
            tenants.push(self.get(name).await?);
        }
        if only.is_empty() {
            tenants = self.list(TenantFilter::default()).await?;
            tenants.retain(|tenant| tenant.status != TenantStatus::Provisioning);
        }
        Ok(tenants)
    }

    async fn compare(&self, tenant: &TenantRecord, references: &References) -> TenantDrift {
        let (version, compared) = match self.differences(tenant, references).await {
            Ok((version, differences)) => (version, Ok(differences)),
            Err(error) => {
                tracing::warn!(tenant = %tenant.slug, %error, cause = ?error.cause(), "a tenant was not compared");
                (tenant.schema_version, Err(error.client_detail().to_owned()))
            }
        };
        let (differences, error) = match compared {
            Ok(differences) => (differences, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        TenantDrift { id: tenant.id, slug: tenant.slug.clone(), schema_version: version, differences, error }
    }

    async fn differences(&self, tenant: &TenantRecord, references: &References) -> ApiResult<(i32, Vec<Difference>)> {
        let cluster = tenant.cluster_id.and_then(|id| references.clusters.get(&id));
        let deadline = references.deadline;
        let looked = timeout(deadline, self.look_into(tenant, cluster, &references.migrations)).await;
        let (histories, found) = looked.unwrap_or_else(|_| Err(silent(deadline)))?;
        let (built_in, operator) = (histories[0].head(), histories[1].head());
        let expected = references.get(cluster, built_in, operator).await?;
        let differences = if tenant.kind == TenantKind::Dedicated {
            diff::differences(&own_to_all(&expected), &own_to_all(&found))
        } else {
            diff::differences(&expected, &found)
        };
        Ok((built_in, differences))
    }

    /// What a tenant's database remembers of both sets of migrations, and what it consists of.
    async fn look_into(
        &self,
        tenant: &TenantRecord,
        cluster: Option<&Cluster>,
        migrations: &Migrations,
    ) -> ApiResult<([History; 2], Catalog)> {
        let mut inside = match cluster {
            Some(cluster) => admin::open(&cluster.admin.with_database(&tenant.database_name)).await?,
            None => {
                let (keys, id) = (self.control.keys.clone(), tenant.id);
                let read = async move |conn: &mut MainConn| tenants::target(conn, &keys, id).await;
                admin::open_own(&self.control.db.read(read).await?.1).await?
            }
        };
        let mut before = histories(&mut inside, migrations).await?;
        for _ in 0..MOST_LOOKS {
            let read = Catalog::read(&mut inside, &tenant.role_name).await;
            // One transaction would not do: what the server spells out (`pg_get_…`) is as of now, whatever the snapshot.
            let after = histories(&mut inside, migrations).await?;
            if before == after {
                let mut found = read?;
                after[0].tell(&migrations.built_in, &mut found);
                after[1].tell(&migrations.operator, &mut found);
                return Ok((after, found));
            }
            before = after;
        }
        Err(super::refused("The database is being migrated; compare it once that has ended."))
    }
}

async fn histories(conn: &mut AdminConn, migrations: &Migrations) -> ApiResult<[History; 2]> {
    let built_in = History::read(conn, &migrations.built_in).await?;
    Ok([built_in, History::read(conn, &migrations.operator).await?])
}

/// 503: a server that took a connection does not answer.
fn silent(deadline: Duration) -> ApiError {
    let said = format!("The database server did not answer within {} s.", deadline.as_secs());
    ApiError::new(Code::TenantDatabaseUnavailable).detail(said)
}

impl References {
    /// The catalog at these versions on this cluster; for a dedicated database on any.
    async fn get(&self, cluster: Option<&Cluster>, built_in: i32, operator: i32) -> ApiResult<Arc<Catalog>> {
        let cluster = cluster.or_else(|| self.clusters.values().next()).ok_or_else(|| {
            super::refused("There is no cluster to make a database on that this one could be compared with.")
        })?;
        let cell = self.made.lock().await.entry((cluster.id, built_in, operator)).or_default().clone();
        let migrations = Migrations {
            built_in: self.migrations.built_in.up_to(built_in),
            operator: self.migrations.operator.up_to(operator),
        };
        let made = cell.get_or_init(async || match self.make(cluster.clone(), migrations).await {
            Ok(catalog) => Ok(Arc::new(catalog)),
            Err(error) => {
                tracing::warn!(%error, cause = ?error.cause(), cluster = %cluster.name, "no reference could be made");
                Err(format!("Nothing to compare it with could be made on cluster '{}'.", cluster.name))
            }
        });
        made.await.clone().map_err(super::refused)
    }

    /// In a task of its own, which goes on to drop what it made when a job is cancelled or a node ends.
    async fn make(&self, cluster: Cluster, migrations: Migrations) -> ApiResult<Catalog> {
        let making = self.tasks.spawn(reference::catalog(cluster, migrations, self.deadline));
        making.await.map_err(ApiError::internal)?
    }
}

/// A customer's own database: its role owns everything in it and no administrator of ours was ever there, so that
/// neither owners nor rights are ours to judge; and its server has other versions of extensions than ours.
fn own_to_all(catalog: &Catalog) -> Catalog {
    let mut catalog = catalog.clone();
    catalog.0.retain(|object, _| !matches!(object.as_str(), "database" | "role"));
    for (name, object) in &mut catalog.0 {
        let is_extension = name.starts_with("extension ");
        object.aspects.retain(|aspect, _| {
            aspect != "owner" && !aspect.starts_with("grants to ") && !(is_extension && aspect == "version")
        });
    }
    catalog.0.retain(|_, object| !object.aspects.is_empty());
    catalog
}
