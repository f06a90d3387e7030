//! Rows and queries.

use chrono::{DateTime, Utc};
use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret, SecretString};

use crate::control::migration_runs::Head;
use crate::control::schema::{clusters as c, ready_tenants as r, tenants as t};
use crate::control::{open_text, word};
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{MasterKeys, Place};
use crate::kernel::{ClusterId, TenantId};
use crate::router::MainConn;
use crate::router::tenant::words;

words! {
    /// Where a ready tenant is in its life.
    ReadyState {
        /// Somebody makes it, or was interrupted while making it.
        Making = "making",
        /// It can be taken.
        Ready = "ready",
        /// It goes.
        Dropping = "dropping",
    }
}

const fn place(id: TenantId) -> Place {
    Place::new("ready_tenants", "password_sealed", id.uuid())
}

/// A database that is a tenant's before the tenant is there.
#[derive(Debug, Clone)]
pub struct ReadyTenant {
    /// The tenant's identity to be.
    pub id: TenantId,
    /// Where it is.
    pub cluster_id: ClusterId,
    /// Digest of the migrations that it holds.
    pub migrations: String,
    /// The last built-in one of them.
    pub schema_version: i32,
    /// The last of the operator's own; 0 without any.
    pub operator_version: i32,
    /// Its database.
    pub database_name: String,
    /// The role that owns it.
    pub role_name: String,
    /// The role's password.
    pub password: SecretString,
}

impl ReadyTenant {
    /// What its migrations lead to.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            schema_version: self.schema_version,
            operator_version: self.operator_version,
            hash: self.migrations.clone(),
        }
    }
}

/// A ready tenant, without anything secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stocked {
    /// The tenant's identity to be.
    pub id: TenantId,
    /// Where it is.
    pub cluster_id: ClusterId,
    /// Where it is in its life.
    pub state: ReadyState,
    /// Digest of the migrations that it holds.
    pub migrations: String,
    /// The last built-in one of them.
    pub schema_version: i32,
    /// Its database, and the role that owns it.
    pub database_name: String,
    /// The role.
    pub role_name: String,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = r)]
struct Row {
    id: TenantId,
    cluster_id: ClusterId,
    state: String,
    migrations: String,
    schema_version: i32,
    operator_version: i32,
    database_name: String,
    role_name: String,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for Stocked {
    type Error = ApiError;

    fn try_from(row: Row) -> ApiResult<Self> {
        Ok(Self {
            id: row.id,
            cluster_id: row.cluster_id,
            state: word(&row.state)?,
            migrations: row.migrations,
            schema_version: row.schema_version,
            database_name: row.database_name,
            role_name: row.role_name,
            created_at: row.created_at,
        })
    }
}

/// Every ready tenant, in whatever state.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn) -> ApiResult<Vec<Stocked>> {
    let rows: Vec<Row> = r::table.order(r::created_at).select(Row::as_select()).load(conn).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Begins one, unless the cluster has `size` of these migrations already, made or in the making; says whether it did.
/// The caller holds the tenant's lock.
///
/// # Errors
/// If the control plane does not answer.
pub async fn insert(conn: &mut MainConn, keys: &MasterKeys, new: &ReadyTenant, size: i64) -> ApiResult<bool> {
    // Two nodes do not both see the last place free.
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('ready ' || $1, 0))")
        .bind::<Text, _>(new.cluster_id.to_string())
        .execute(conn)
        .await?;
    let there: i64 = r::table
        .filter(r::cluster_id.eq(new.cluster_id))
        .filter(r::state.ne(ReadyState::Dropping.as_str()))
        .filter(r::migrations.eq(&new.migrations))
        .select(count_star())
        .first(conn)
        .await?;
    if there >= size {
        return Ok(false);
    }
    let sealed = keys.seal(place(new.id), new.password.expose_secret().as_bytes());
    diesel::insert_into(r::table)
        .values((
            r::id.eq(new.id),
            r::cluster_id.eq(new.cluster_id),
            r::state.eq(ReadyState::Making.as_str()),
            r::migrations.eq(&new.migrations),
            r::schema_version.eq(new.schema_version),
            r::operator_version.eq(new.operator_version),
            r::database_name.eq(&new.database_name),
            r::role_name.eq(&new.role_name),
            r::password_sealed.eq(Vec::from(sealed)),
        ))
        .execute(conn)
        .await?;
    Ok(true)
}

/// It can be taken from now on. Says whether it was still in the making.
///
/// # Errors
/// If the control plane does not answer.
pub async fn ready(conn: &mut MainConn, id: TenantId) -> ApiResult<bool> {
    let making = r::table.find(id).filter(r::state.eq(ReadyState::Making.as_str()));
    Ok(diesel::update(making).set(r::state.eq(ReadyState::Ready.as_str())).execute(conn).await? == 1)
}

/// Takes the oldest ready one of a cluster that holds these migrations. Nobody else can: its row is gone with the
/// transaction, which makes the tenant of it.
///
/// # Errors
/// If the control plane does not answer, or the password does not open.
pub async fn take(
    conn: &mut MainConn,
    keys: &MasterKeys,
    cluster: ClusterId,
    migrations: &str,
) -> ApiResult<Option<ReadyTenant>> {
    let free: Option<TenantId> = r::table
        .filter(r::cluster_id.eq(cluster))
        .filter(r::state.eq(ReadyState::Ready.as_str()))
        .filter(r::migrations.eq(migrations))
        .order(r::created_at)
        .select(r::id)
        .for_update()
        .skip_locked()
        .first(conn)
        .await
        .optional()?;
    let Some(id) = free else { return Ok(None) };
    let (row, sealed): (Row, Vec<u8>) =
        diesel::delete(r::table.find(id)).returning((Row::as_select(), r::password_sealed)).get_result(conn).await?;
    Ok(Some(ReadyTenant {
        id,
        cluster_id: row.cluster_id,
        migrations: row.migrations,
        schema_version: row.schema_version,
        operator_version: row.operator_version,
        database_name: row.database_name,
        role_name: row.role_name,
        password: open_text(keys, place(id), Some(sealed))?,
    }))
}

/// Nobody takes it from now on. Says whether it was still in the state it was seen in: then its database and role may
/// go. The caller holds the tenant's lock.
///
/// # Errors
/// If the control plane does not answer.
pub async fn start_drop(conn: &mut MainConn, id: TenantId, seen: ReadyState) -> ApiResult<bool> {
    let as_seen = r::table.find(id).filter(r::state.eq(seen.as_str()));
    Ok(diesel::update(as_seen).set(r::state.eq(ReadyState::Dropping.as_str())).execute(conn).await? == 1)
}

/// Forgets one whose database and role are gone.
///
/// # Errors
/// If the control plane does not answer.
pub async fn remove(conn: &mut MainConn, id: TenantId) -> ApiResult<()> {
    diesel::delete(r::table.find(id)).execute(conn).await?;
    Ok(())
}

/// How many more ready tenants a cluster could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockRoom {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Takes no new tenants.
    pub draining: bool,
    /// Up to the stock's size, and up to what the cluster takes.
    pub missing: i64,
}

/// What each cluster lacks of a stock of `size` with these migrations.
///
/// # Errors
/// If the control plane does not answer.
pub async fn rooms(conn: &mut MainConn, migrations: &str, size: i64) -> ApiResult<Vec<StockRoom>> {
    let stocked = r::table
        .filter(r::cluster_id.eq(c::id))
        .filter(r::state.ne(ReadyState::Dropping.as_str()))
        .filter(r::migrations.eq(migrations))
        .count()
        .single_value()
        .assume_not_null();
    let tenants = t::table.filter(t::cluster_id.eq(c::id.nullable())).count().single_value().assume_not_null();
    let rows: Vec<(ClusterId, bool, Option<i32>, i64, i64)> =
        c::table.select((c::id, c::draining, c::max_tenants, stocked, tenants)).order(c::name).load(conn).await?;
    let rooms = rows.into_iter().map(|(cluster_id, draining, max_tenants, stocked, tenants)| {
        let wanted = max_tenants.map_or(size, |max| size.min(i64::from(max) - tenants));
        StockRoom { cluster_id, draining, missing: if draining { 0 } else { (wanted - stocked).max(0) } }
    });
    Ok(rooms.collect())
}
