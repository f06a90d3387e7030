//! Rows and queries.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DbError};
use diesel_async::RunQueryDsl;
use secrecy::ExposeSecret;

use super::facts::Facts;
use crate::control::schema::{cluster_facts, clusters as c, kept_databases as k, ready_tenants, tenants};
use crate::control::{open_text, tls_policy};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::ClusterId;
use crate::kernel::crypto::{MasterKeys, Place};
use crate::router::{MainConn, Target};

const fn place_of(column: &'static str, id: ClusterId) -> Place {
    Place::new("clusters", column, id.uuid())
}

/// A cluster to be.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Its name among the clusters.
    pub name: String,
    /// Its address, and the role that makes roles and databases there.
    pub admin: Target,
    /// Where it stands; placement may ask for it.
    pub region: Option<String>,
    /// How many tenants it takes; no bound if absent.
    pub max_tenants: Option<i32>,
    /// The most connections to its tenants' databases, over all nodes; the router's default if absent.
    pub connection_budget: Option<i32>,
}

/// A cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Identity.
    pub id: ClusterId,
    /// Its name among the clusters.
    pub name: String,
    /// Where it stands.
    pub region: Option<String>,
    /// How many tenants it takes.
    pub max_tenants: Option<i32>,
    /// The most connections to its tenants' databases.
    pub connection_budget: Option<i32>,
    /// Takes no new tenants.
    pub draining: bool,
    /// Its address, and the role that makes roles and databases there.
    pub admin: Target,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Grows with every change.
    pub version: i64,
    /// How many tenants live on it, in whatever state.
    pub tenants: i64,
    /// How many ready tenants wait on it.
    pub ready: i64,
    /// Its server, as it was when it was last looked at.
    pub facts: Option<Facts>,
}

/// What to change; `None` leaves as is.
#[derive(Debug, Clone, Default)]
pub struct ClusterChanges {
    /// Another address or administrator.
    pub admin: Option<Target>,
    /// Another region, or none.
    pub region: Option<Option<String>>,
    /// Another capacity, or none.
    pub max_tenants: Option<Option<i32>>,
    /// Another budget, or the router's default.
    pub connection_budget: Option<Option<i32>>,
    /// Whether it takes no new tenants.
    pub draining: Option<bool>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = c)]
struct Row {
    id: ClusterId,
    name: String,
    host: String,
    port: i32,
    admin_user: String,
    admin_password_sealed: Vec<u8>,
    admin_database: String,
    tls_mode: String,
    tls_ca: Option<String>,
    tls_client_cert: Option<String>,
    tls_client_key_sealed: Option<Vec<u8>>,
    region: Option<String>,
    max_tenants: Option<i32>,
    connection_budget: Option<i32>,
    draining: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn open(self, keys: &MasterKeys, facts: Option<Facts>, tenants: i64, ready: i64) -> ApiResult<Cluster> {
        let admin = Target {
            host: self.host,
            port: u16::try_from(self.port).map_err(ApiError::internal)?,
            database: self.admin_database,
            user: self.admin_user,
            password: open_text(keys, place_of("admin_password_sealed", self.id), Some(self.admin_password_sealed))?,
            tls: tls_policy(
                keys,
                place_of("tls_client_key_sealed", self.id),
                &self.tls_mode,
                self.tls_ca,
                self.tls_client_cert,
                self.tls_client_key_sealed,
            )?,
        };
        Ok(Cluster {
            id: self.id,
            name: self.name,
            region: self.region,
            max_tenants: self.max_tenants,
            connection_budget: self.connection_budget,
            draining: self.draining,
            admin,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
            tenants,
            ready,
            facts,
        })
    }
}

/// The address and administrator as columns, secrets sealed.
#[derive(AsChangeset, Insertable)]
#[diesel(table_name = c, treat_none_as_null = true)]
struct AdminColumns {
    host: String,
    port: i32,
    admin_user: String,
    admin_password_sealed: Vec<u8>,
    admin_database: String,
    tls_mode: &'static str,
    tls_ca: Option<String>,
    tls_client_cert: Option<String>,
    tls_client_key_sealed: Option<Vec<u8>>,
}

impl AdminColumns {
    fn seal(keys: &MasterKeys, id: ClusterId, admin: &Target) -> Self {
        let seal = |column, secret: &secrecy::SecretString| {
            Vec::from(keys.seal(place_of(column, id), secret.expose_secret().as_bytes()))
        };
        Self {
            host: admin.host.clone(),
            port: i32::from(admin.port),
            admin_user: admin.user.clone(),
            admin_password_sealed: seal("admin_password_sealed", &admin.password),
            admin_database: admin.database.clone(),
            tls_mode: admin.tls.mode.as_str(),
            tls_ca: admin.tls.ca.clone(),
            tls_client_cert: admin.tls.client_cert.clone(),
            tls_client_key_sealed: admin.tls.client_key.as_ref().map(|key| seal("tls_client_key_sealed", key)),
        }
    }
}

#[derive(AsChangeset)]
#[diesel(table_name = c)]
struct PlainColumns {
    region: Option<Option<String>>,
    max_tenants: Option<Option<i32>>,
    connection_budget: Option<Option<i32>>,
    draining: Option<bool>,
}

/// A cluster, its server, its tenants and its stock.
type Whole = (Row, Option<Facts>, i64, i64);

/// Everything of clusters; the counts are one index scan each.
macro_rules! wholes {
    () => {
        c::table.left_join(cluster_facts::table).select((
            Row::as_select(),
            Option::<Facts>::as_select(),
            tenants::table.filter(tenants::cluster_id.eq(c::id.nullable())).count().single_value().assume_not_null(),
            ready_tenants::table
                .filter(ready_tenants::cluster_id.eq(c::id))
                .filter(ready_tenants::state.eq("ready"))
                .count()
                .single_value()
                .assume_not_null(),
        ))
    };
}

fn open(keys: &MasterKeys, (row, facts, tenants, ready): Whole) -> ApiResult<Cluster> {
    row.open(keys, facts, tenants, ready)
}

/// Adds a cluster, with an id that none has.
///
/// # Errors
/// `already_exists` for a taken name; 422 for a bad name or number.
pub async fn insert(conn: &mut MainConn, keys: &MasterKeys, id: ClusterId, new: &NewCluster) -> ApiResult<Cluster> {
    let done = diesel::insert_into(c::table)
        .values((
            c::id.eq(id),
            c::name.eq(&new.name),
            AdminColumns::seal(keys, id, &new.admin),
            c::region.eq(&new.region),
            c::max_tenants.eq(new.max_tenants),
            c::connection_budget.eq(new.connection_budget),
        ))
        .execute(conn)
        .await;
    done.map_err(explain)?;
    get(conn, keys, id).await
}

/// What an operator can mend, by field; the constraints' names are those of `main-migrations/`.
fn explain(error: DbError) -> ApiError {
    match &error {
        DbError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            ApiError::already_exists("name", "A cluster with this name exists.")
        }
        DbError::DatabaseError(DatabaseErrorKind::CheckViolation, info) => match info.constraint_name() {
            Some("clusters_name_check") => ApiError::invalid_field(
                "name",
                "invalid",
                "A cluster's name is 1–63 of a-z, 0-9 and '-', beginning with a letter.",
            ),
            Some("clusters_max_tenants_check") => ApiError::invalid_field("maxTenants", "too_small", "At least 1."),
            Some("clusters_connection_budget_check") => {
                ApiError::invalid_field("connectionBudget", "too_small", "At least 1.")
            }
            _ => error.into(),
        },
        _ => error.into(),
    }
}

/// A cluster by id.
///
/// # Errors
/// 404 if there is none.
pub async fn get(conn: &mut MainConn, keys: &MasterKeys, id: ClusterId) -> ApiResult<Cluster> {
    let found = wholes!().filter(c::id.eq(id)).first::<Whole>(conn).await.optional()?;
    open(keys, found.ok_or_else(|| ApiError::not_found("cluster"))?)
}

/// Whether there is a cluster with this id.
///
/// # Errors
/// If the control plane does not answer.
pub async fn is_there(conn: &mut MainConn, id: ClusterId) -> ApiResult<bool> {
    Ok(diesel::select(diesel::dsl::exists(c::table.find(id))).get_result(conn).await?)
}

/// A cluster by name.
///
/// # Errors
/// If the control plane does not answer, or a secret does not open.
pub async fn find_by_name(conn: &mut MainConn, keys: &MasterKeys, name: &str) -> ApiResult<Option<Cluster>> {
    let found = wholes!().filter(c::name.eq(name)).first::<Whole>(conn).await.optional()?;
    found.map(|whole| open(keys, whole)).transpose()
}

/// All clusters, by name.
///
/// # Errors
/// As [`find_by_name`].
pub async fn list(conn: &mut MainConn, keys: &MasterKeys) -> ApiResult<Vec<Cluster>> {
    let all: Vec<Whole> = wholes!().order(c::name).load(conn).await?;
    all.into_iter().map(|whole| open(keys, whole)).collect()
}

/// Changes a cluster, within one transaction. A new address or budget is followed by every node at once.
///
/// # Errors
/// 404 if there is none of this name; 412 if it is no longer at `expected_version`; 422 for a bad number.
pub async fn set(
    conn: &mut MainConn,
    keys: &MasterKeys,
    (name, expected_version): (&str, Option<i64>),
    changes: &ClusterChanges,
) -> ApiResult<Cluster> {
    let cluster = find_by_name(conn, keys, name).await?.ok_or_else(|| ApiError::not_found("cluster"))?;
    let admin = AdminColumns::seal(keys, cluster.id, changes.admin.as_ref().unwrap_or(&cluster.admin));
    let plain = PlainColumns {
        region: changes.region.clone(),
        max_tenants: changes.max_tenants,
        connection_budget: changes.connection_budget,
        draining: changes.draining,
    };
    let mut row = diesel::update(c::table.find(cluster.id)).into_boxed();
    if let Some(version) = expected_version {
        row = row.filter(c::version.eq(version));
    }
    if row.set((c::name.eq(name), plain)).execute(conn).await.map_err(explain)? == 0 {
        get(conn, keys, cluster.id).await?;
        return Err(ApiError::new(Code::VersionMismatch));
    }
    if changes.admin.is_some() {
        diesel::update(c::table.find(cluster.id)).set(admin).execute(conn).await?;
    }
    get(conn, keys, cluster.id).await
}

/// Moves a cluster to another address: one row, whatever the number of its tenants.
///
/// # Errors
/// 404 if there is none.
pub async fn set_address(conn: &mut MainConn, id: ClusterId, host: &str, port: u16) -> ApiResult<()> {
    let changed =
        diesel::update(c::table.find(id)).set((c::host.eq(host), c::port.eq(i32::from(port)))).execute(conn).await?;
    if changed == 0 { Err(ApiError::not_found("cluster")) } else { Ok(()) }
}

fn keeps_databases() -> ApiError {
    ApiError::new(Code::Conflict).detail(
        "Databases that moves and restores have left are kept on this cluster. `tenant kept` lists them; drop them with \
         `tenant kept SLUG --drop`, or wait until their grace period ends.",
    )
}

/// Whether nothing that moves and restores have left is in the way of a cluster's removal.
///
/// # Errors
/// 409 while databases are kept on it.
pub async fn keeps_nothing(conn: &mut MainConn, id: ClusterId) -> ApiResult<()> {
    let kept = diesel::select(diesel::dsl::exists(k::table.filter(k::cluster_id.eq(id))));
    if kept.get_result::<bool>(conn).await? { Err(keeps_databases()) } else { Ok(()) }
}

/// Removes a cluster that no tenant lives on.
///
/// # Errors
/// 404 if there is none of this name; 409 while tenants live on it; 412 if it is no longer at `expected_version`.
pub async fn remove(conn: &mut MainConn, name: &str, expected_version: Option<i64>) -> ApiResult<()> {
    let mut row = diesel::delete(c::table.filter(c::name.eq(name))).into_boxed();
    if let Some(version) = expected_version {
        row = row.filter(c::version.eq(version));
    }
    match row.execute(conn).await {
        Ok(0) => {
            let there = diesel::select(diesel::dsl::exists(c::table.filter(c::name.eq(name))));
            let there = there.get_result::<bool>(conn).await?;
            Err(if there { ApiError::new(Code::VersionMismatch) } else { ApiError::not_found("cluster") })
        }
        Ok(_) => Ok(()),
        Err(DbError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, info))
            if info.table_name() == Some("kept_databases") =>
        {
            Err(keeps_databases())
        }
        Err(DbError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, info))
            if info.table_name() == Some("ready_tenants") =>
        {
            Err(ApiError::new(Code::Conflict)
                .detail("A ready tenant is being made on this cluster. Try again in a moment."))
        }
        Err(DbError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)) => Err(ApiError::new(Code::Conflict)
            .detail(
                "Tenants still live on this cluster. Move or delete them first; `cluster drain` keeps new ones off.",
            )),
        Err(other) => Err(other.into()),
    }
}
