//! API keys, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Bytea, Int4, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};
use crate::kernel::page::Seek;
use crate::kernel::{ApiKeyId, UserId};
use crate::router::TenantConn;
use crate::tenant::keyset::latest_first;
use crate::tenant::secrets::{Program, Secret};
use crate::tenant::teams;

diesel::table! {
    api_keys (id) {
        id -> Uuid,
        name -> Text,
        owner_id -> Uuid,
        key_hash -> Bytea,
        hint -> Text,
        scopes -> Array<Text>,
        allowed_addresses -> Array<Text>,
        requests_per_minute -> Nullable<Int4>,
        expires_at -> Nullable<Timestamptz>,
        previous_hash -> Nullable<Bytea>,
        previous_expires_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        last_used_ip -> Nullable<Text>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

use api_keys as k;

/// A key, without what it is recognised by.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub(super) struct KeyRow {
    pub id: ApiKeyId,
    pub name: String,
    pub owner_id: UserId,
    pub hint: String,
    pub scopes: Vec<String>,
    pub allowed_addresses: Vec<String>,
    pub requests_per_minute: Option<i32>,
    pub expires_at: Option<DateTime<Utc>>,
    pub previous_expires_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub last_used_ip: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

impl Program for KeyRow {
    fn owner(&self) -> UserId {
        self.owner_id
    }

    fn label(&self) -> String {
        format!("{} ({})", self.name, self.id)
    }
}

/// A key to be made.
#[derive(Debug, Insertable)]
#[diesel(table_name = api_keys)]
pub(super) struct NewKey<'a> {
    pub id: ApiKeyId,
    pub name: &'a str,
    pub owner_id: UserId,
    pub key_hash: &'a [u8],
    pub hint: &'a str,
    pub scopes: &'a [String],
    pub allowed_addresses: &'a [String],
    pub requests_per_minute: Option<i32>,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What of a key is changed.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = api_keys)]
pub(super) struct KeyChange {
    pub name: Option<String>,
    pub scopes: Option<Vec<String>>,
    pub allowed_addresses: Option<Vec<String>>,
    pub requests_per_minute: Option<Option<i32>>,
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

/// The key with an id, or 404.
pub(super) async fn get(conn: &mut TenantConn, id: ApiKeyId) -> ApiResult<KeyRow> {
    let row = k::table.find(id).select(KeyRow::as_select()).first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("API key"))
}

/// The same, held until the transaction ends.
pub(super) async fn hold(conn: &mut TenantConn, id: ApiKeyId) -> ApiResult<KeyRow> {
    let row = k::table.find(id).select(KeyRow::as_select()).for_update().first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("API key"))
}

/// Makes a key.
pub(super) async fn insert(conn: &mut TenantConn, new: &NewKey<'_>) -> ApiResult<KeyRow> {
    Ok(diesel::insert_into(k::table).values(new).returning(KeyRow::as_returning()).get_result(conn).await?)
}

/// Changes a key.
pub(super) async fn update(
    conn: &mut TenantConn,
    id: ApiKeyId,
    change: &KeyChange,
    now: DateTime<Utc>,
) -> ApiResult<KeyRow> {
    Ok(diesel::update(k::table.find(id))
        .set((change, k::updated_at.eq(now), k::version.eq(k::version + 1)))
        .returning(KeyRow::as_returning())
        .get_result(conn)
        .await?)
}

/// Gives a key another secret; the one it has stays good until then.
pub(super) async fn rotate(
    conn: &mut TenantConn,
    id: ApiKeyId,
    secret: &Secret,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> ApiResult<KeyRow> {
    Ok(diesel::update(k::table.find(id))
        .set((
            k::previous_hash.eq(k::key_hash.nullable()),
            k::previous_expires_at.eq(until),
            k::key_hash.eq(secret.hash.as_slice()),
            k::hint.eq(&secret.hint),
            k::updated_at.eq(now),
            k::version.eq(k::version + 1),
        ))
        .returning(KeyRow::as_returning())
        .get_result(conn)
        .await?)
}

/// Removes a key for good.
pub(super) async fn remove(conn: &mut TenantConn, id: ApiKeyId) -> QueryResult<()> {
    diesel::delete(k::table.find(id)).execute(conn).await.map(drop)
}

/// A page of keys, the latest first.
pub(super) async fn list(
    conn: &mut TenantConn,
    seek: Seek<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<KeyRow>> {
    let query = k::table.select(KeyRow::as_select()).limit(limit).into_boxed();
    latest_first!(query, (k::created_at, k::id), seek).load(conn).await
}

/// How many keys there are.
pub(super) async fn count(conn: &mut TenantConn) -> QueryResult<i64> {
    k::table.count().get_result(conn).await
}

/// A key as it is when it is used, with what its owner may do now.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Presented {
    #[diesel(sql_type = SqlUuid)]
    pub id: ApiKeyId,
    #[diesel(sql_type = SqlUuid)]
    pub owner_id: UserId,
    #[diesel(sql_type = Array<Text>)]
    pub scopes: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    pub allowed_addresses: Vec<String>,
    #[diesel(sql_type = Nullable<Int4>)]
    pub requests_per_minute: Option<i32>,
    /// Of the key, or of its former secret if that is what was presented.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_used_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    pub owner_active: bool,
    #[diesel(sql_type = Bool)]
    pub password_change_required: bool,
    #[diesel(sql_type = Array<Text>)]
    pub permissions: Vec<String>,
}

/// The key behind a hash.
pub(super) async fn presented(conn: &mut TenantConn, hash: &[u8; 32], schema: i32) -> QueryResult<Option<Presented>> {
    let roles = if schema >= teams::SINCE {
        "SELECT roles_of(u.id)"
    } else {
        "SELECT ur.role_id FROM user_roles ur WHERE ur.user_id = u.id"
    };
    diesel::sql_query(format!(
        "SELECT k.id, k.owner_id, k.scopes, k.allowed_addresses, k.requests_per_minute, k.last_used_at, \
         CASE WHEN k.key_hash = $1 THEN k.expires_at ELSE LEAST(k.expires_at, k.previous_expires_at) END AS expires_at, \
         u.status = 'active' AS owner_active, u.password_change_required, \
         ARRAY(SELECT p.name FROM permissions p WHERE p.id IN (SELECT rp.permission_id FROM role_permissions rp \
         WHERE rp.role_id IN ({roles}))) AS permissions \
         FROM api_keys k JOIN users u ON u.id = k.owner_id WHERE k.key_hash = $1 OR k.previous_hash = $1"
    ))
    .bind::<Bytea, _>(hash.as_slice())
    .get_result(conn)
    .await
    .optional()
}

/// Notes that a key was used.
pub(super) async fn used(
    conn: &mut TenantConn,
    id: ApiKeyId,
    ip: Option<String>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::update(k::table.find(id))
        .set((k::last_used_at.eq(now), k::last_used_ip.eq(ip)))
        .execute(conn)
        .await
        .map(drop)
}
