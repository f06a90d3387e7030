//! The plan of a run, without doing any of it: what each tenant lacks, and which locks each migration takes, found out by
//! running it in a database of its own.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{HeadView, MigrateFleet};
use crate::control::clusters;
use crate::control::clusters::Cluster;
use crate::control::migration_runs::{self, Behind};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::lock::Lock;
use crate::fleet::migrations::Migrations;
use crate::fleet::{Fleet, admin, refused, template};
use crate::kernel::OperationId;
use crate::router::MainConn;
use crate::router::migrate::{LockTaken, MigrationSet, Trial};

/// What the databases are called that migrations are tried in.
pub(in crate::fleet) const PREFIX: &str = "tenantry_trial_";
/// How long a trial may take, and how long dropping its database: the database is empty.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// What a run would do.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// What the tenants would be brought to.
    pub head: HeadView,
    /// How many tenants it would be about.
    pub total: i64,
    /// Tenants that are at the head, or whose schema is newer than this program.
    pub skipped: i64,
    /// What some tenant lacks.
    pub migrations: Vec<PlannedMigration>,
    /// The tenants that lack something, by slug.
    pub tenants: Vec<PlannedTenant>,
}

/// A migration that some tenant lacks.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMigration {
    /// Its file.
    pub migration: String,
    /// One of the operator's own, not a built-in one.
    pub operator: bool,
    /// How many tenants lack it.
    pub tenants: usize,
    /// Whether it runs in a transaction.
    pub transaction: bool,
    /// What it locks of what was there before it; empty where it could not be tried, or runs outside of a transaction.
    pub locks: Vec<LockTaken>,
    /// Why it failed when it was tried in an empty database.
    pub error: Option<String>,
}

/// A tenant that lacks something.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTenant {
    /// Public name.
    pub slug: String,
    /// Version of its built-in schema.
    pub schema_version: i32,
    /// The newest of the operator's migrations that it has.
    pub operator_version: i32,
    /// The files that it lacks, in their order.
    pub migrations: Vec<String>,
}

/// What was found out of one migration.
struct Tried {
    operator: bool,
    version: i32,
    file: String,
    locks: Result<Option<Vec<LockTaken>>, String>,
}

impl Fleet {
    /// Says what [`Fleet::migrate`] would do. No tenant's database is touched.
    ///
    /// # Errors
    /// As [`Fleet::migrate`].
    pub async fn plan_migration(&self, wanted: &MigrateFleet) -> ApiResult<DryRun> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        self.check_named(wanted).await?;
        let (head, only, keys) = (migrations.head(), wanted.named(), self.control.keys.clone());
        let asked = head.clone();
        let (behind, total, clusters) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let behind = migration_runs::behind(conn, &asked, only.as_deref()).await?;
                let total = migration_runs::count(conn, only.as_deref()).await?;
                Ok::<_, ApiError>((behind, total, clusters::list(conn, &keys).await?))
            })
            .await?;
        // Those that are ahead of this program are left alone.
        let behind: Vec<_> = behind.into_iter().filter(|tenant| tenant.schema_version <= head.schema_version).collect();
        let skipped = total - i64::try_from(behind.len()).unwrap_or_default();
        let tried = match clusters.first() {
            Some(cluster) if !behind.is_empty() => self.try_out(cluster, &migrations).await?,
            _ => Vec::new(),
        };
        let lacks = |tenant: &Behind, operator: bool, version: i32| {
            version > if operator { tenant.operator_version } else { tenant.schema_version }
        };
        let sets = [(false, &migrations.built_in), (true, &migrations.operator)];
        let all: Vec<_> =
            sets.iter().flat_map(|(own, set)| set.after(0).map(|(version, file)| (*own, version, file))).collect();
        let planned = all.iter().filter_map(|(operator, version, file)| {
            let tenants = behind.iter().filter(|tenant| lacks(tenant, *operator, *version)).count();
            let tried = tried.iter().find(|tried| (tried.operator, tried.version) == (*operator, *version));
            let (transaction, locks, error) = match tried.map(|tried| &tried.locks) {
                Some(Ok(None)) => (false, Vec::new(), None),
                Some(Ok(Some(locks))) => (true, locks.clone(), None),
                Some(Err(error)) => (true, Vec::new(), Some(error.clone())),
                None => (true, Vec::new(), Some("could not be tried, because one before it failed".to_owned())),
            };
            let file = tried.map_or_else(|| file.clone(), |tried| tried.file.clone());
            (tenants > 0).then_some(PlannedMigration {
                migration: file,
                operator: *operator,
                tenants,
                transaction,
                locks,
                error: error.filter(|_| !clusters.is_empty()),
            })
        });
        let tenants = behind.iter().map(|tenant| PlannedTenant {
            slug: tenant.slug.clone(),
            schema_version: tenant.schema_version,
            operator_version: tenant.operator_version,
            migrations: all
                .iter()
                .filter(|(operator, version, _)| lacks(tenant, *operator, *version))
                .map(|(_, _, file)| file.clone())
                .collect(),
        });
        Ok(DryRun { head: (&head).into(), total, skipped, migrations: planned.collect(), tenants: tenants.collect() })
    }

    /// Runs every migration in a database that is made for it, and dropped afterwards. One at a time: it is a whole
    /// database, and anybody can ask again and again.
    async fn try_out(&self, cluster: &Cluster, migrations: &Migrations) -> ApiResult<Vec<Tried>> {
        let Some(_lock) = Lock::named(&self.locks, &self.control, "trial of migrations").await? else {
            return Err(refused("Another plan is being made; ask again when it is there."));
        };
        let name = format!("{PREFIX}{}", OperationId::generate().uuid().simple());
        let tried = timeout(LONGEST, try_in_new(cluster, migrations, &name)).await;
        if let Err(error) = timeout(LONGEST, drop_scratch(cluster, &name)).await.unwrap_or_else(|_| Err(silent())) {
            tracing::warn!(%error, name, "a scratch database stays; `tenantry fleet doctor` says how to drop it");
        }
        tried.unwrap_or_else(|_| Err(silent()))
    }
}

/// A server that took a connection does not answer.
fn silent() -> ApiError {
    ApiError::new(Code::TenantDatabaseUnavailable).detail("The server did not answer while the migrations were tried.")
}

/// Over a connection of its own: the one that the database was made over may have broken.
async fn drop_scratch(cluster: &Cluster, name: &str) -> ApiResult<()> {
    template::drop_database(&mut admin::open(&cluster.admin).await?, name).await
}

async fn try_in_new(cluster: &Cluster, migrations: &Migrations, name: &str) -> ApiResult<Vec<Tried>> {
    template::make_empty(&mut admin::open(&cluster.admin).await?, cluster, name).await?;
    try_in(cluster, migrations, name).await
}

async fn try_in(cluster: &Cluster, migrations: &Migrations, name: &str) -> ApiResult<Vec<Tried>> {
    let target = cluster.admin.with_database(name);
    let trial = Trial::open(&target, template::OWNER).await.map_err(admin::unavailable)?;
    let mut found = Vec::new();
    for (operator, set) in [(false, &migrations.built_in), (true, &migrations.operator)] {
        found.extend(one_set(&trial, operator, set).await);
        if found.last().is_some_and(|tried| tried.locks.is_err()) {
            break;
        }
    }
    Ok(found)
}

async fn one_set(trial: &Trial, operator: bool, set: &MigrationSet) -> Vec<Tried> {
    let tried = trial.run(set).await.into_iter();
    let said = |error: tokio_postgres::Error| {
        error.as_db_error().map_or_else(|| error.to_string(), |server| server.message().to_owned())
    };
    tried.map(|(version, file, locks)| Tried { operator, version, file, locks: locks.map_err(said) }).collect()
}
