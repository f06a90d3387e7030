//! Apps, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::rules::{OauthGrantType, is_same};
use crate::error::{ApiError, ApiResult};
use crate::kernel::page::Seek;
use crate::kernel::{OauthClientId, UserId};
use crate::router::TenantConn;
use crate::tenant::keyset::latest_first;
use crate::tenant::secrets::{Program, Secret};

diesel::table! {
    oauth_clients (id) {
        id -> Uuid,
        name -> Text,
        owner_id -> Uuid,
        secret_hash -> Nullable<Bytea>,
        hint -> Nullable<Text>,
        previous_hash -> Nullable<Bytea>,
        previous_expires_at -> Nullable<Timestamptz>,
        redirect_uris -> Array<Text>,
        grants -> Array<Text>,
        scopes -> Array<Text>,
        enabled -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

use oauth_clients as c;

/// An app, without what it is recognised by.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = oauth_clients)]
pub(in crate::tenant::oauth) struct ClientRow {
    pub id: OauthClientId,
    pub name: String,
    pub owner_id: UserId,
    /// None of one that keeps no secret.
    pub hint: Option<String>,
    pub previous_expires_at: Option<DateTime<Utc>>,
    pub redirect_uris: Vec<String>,
    pub grants: Vec<String>,
    pub scopes: Vec<String>,
    pub enabled: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

impl ClientRow {
    /// Whether it has a secret.
    pub(in crate::tenant::oauth) const fn is_confidential(&self) -> bool {
        self.hint.is_some()
    }

    /// What it may still ask for of what it was given.
    pub(in crate::tenant::oauth) fn left_of(&self, granted: &[String]) -> Vec<String> {
        granted.iter().filter(|scope| self.scopes.contains(scope)).cloned().collect()
    }

    /// Whether it may come by tokens in this way.
    pub(in crate::tenant::oauth) fn may(&self, grant: OauthGrantType) -> bool {
        self.grants.iter().any(|word| word == grant.as_str())
    }
}

impl Program for ClientRow {
    fn owner(&self) -> UserId {
        self.owner_id
    }

    fn label(&self) -> String {
        format!("{} ({})", self.name, self.id)
    }
}

/// What an app is recognised by.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = oauth_clients)]
pub(in crate::tenant::oauth) struct Hashes {
    secret_hash: Option<Vec<u8>>,
    previous_hash: Option<Vec<u8>>,
    previous_expires_at: Option<DateTime<Utc>>,
}

impl Hashes {
    /// Whether this is the hash of its secret, or of the one before while that is good.
    pub(in crate::tenant::oauth) fn know(&self, presented: &[u8; 32], now: DateTime<Utc>) -> bool {
        let before = self.previous_hash.as_ref().filter(|_| self.previous_expires_at.is_some_and(|until| now < until));
        [self.secret_hash.as_ref(), before].into_iter().flatten().any(|known| is_same(known, presented))
    }
}

/// An app to be made.
#[derive(Debug, Insertable)]
#[diesel(table_name = oauth_clients)]
pub(super) struct NewClient<'a> {
    pub id: OauthClientId,
    pub name: &'a str,
    pub owner_id: UserId,
    pub secret_hash: Option<&'a [u8]>,
    pub hint: Option<&'a str>,
    pub redirect_uris: &'a [String],
    pub grants: &'a [String],
    pub scopes: &'a [String],
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What of an app is changed.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = oauth_clients)]
pub(super) struct ClientChange {
    pub name: Option<String>,
    pub redirect_uris: Option<Vec<String>>,
    pub grants: Option<Vec<String>>,
    pub scopes: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// Gives a person's apps to somebody else. Gives which, and for what each may ask.
///
/// # Errors
/// If the database does not answer.
pub(in crate::tenant) async fn hand_over(
    conn: &mut TenantConn,
    (from, to): (UserId, UserId),
    now: DateTime<Utc>,
) -> QueryResult<Vec<(OauthClientId, Vec<String>)>> {
    diesel::update(c::table.filter(c::owner_id.eq(from)))
        .set((c::owner_id.eq(to), c::updated_at.eq(now), c::version.eq(c::version + 1)))
        .returning((c::id, c::scopes))
        .get_results(conn)
        .await
}

/// The app with an id, if there is one.
pub(in crate::tenant::oauth) async fn find(
    conn: &mut TenantConn,
    id: OauthClientId,
) -> QueryResult<Option<(ClientRow, Hashes)>> {
    c::table.find(id).select((ClientRow::as_select(), Hashes::as_select())).first(conn).await.optional()
}

/// The same without what it is recognised by, or 404.
pub(super) async fn get(conn: &mut TenantConn, id: OauthClientId) -> ApiResult<ClientRow> {
    find(conn, id).await?.map(|(row, _)| row).ok_or_else(missing)
}

/// The same, held until the transaction ends.
pub(super) async fn hold(conn: &mut TenantConn, id: OauthClientId) -> ApiResult<ClientRow> {
    let row = c::table.find(id).select(ClientRow::as_select()).for_update().first(conn).await.optional()?;
    row.ok_or_else(missing)
}

/// Has an app stay until the transaction ends: it may be changed, not removed.
pub(in crate::tenant::oauth) async fn stay(conn: &mut TenantConn, id: OauthClientId) -> QueryResult<()> {
    c::table.find(id).select(c::id).for_key_share().load::<OauthClientId>(conn).await.map(drop)
}

fn missing() -> ApiError {
    ApiError::not_found("app")
}

/// Makes an app.
pub(super) async fn insert(conn: &mut TenantConn, new: &NewClient<'_>) -> ApiResult<ClientRow> {
    Ok(diesel::insert_into(c::table).values(new).returning(ClientRow::as_returning()).get_result(conn).await?)
}

/// Changes an app.
pub(super) async fn update(
    conn: &mut TenantConn,
    id: OauthClientId,
    change: &ClientChange,
    now: DateTime<Utc>,
) -> ApiResult<ClientRow> {
    Ok(diesel::update(c::table.find(id))
        .set((change, c::updated_at.eq(now), c::version.eq(c::version + 1)))
        .returning(ClientRow::as_returning())
        .get_result(conn)
        .await?)
}

/// Gives an app another secret; the one it has stays good until then.
pub(super) async fn rotate(
    conn: &mut TenantConn,
    id: OauthClientId,
    secret: &Secret,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> ApiResult<ClientRow> {
    Ok(diesel::update(c::table.find(id))
        .set((
            c::previous_hash.eq(c::secret_hash),
            c::previous_expires_at.eq(until),
            c::secret_hash.eq(secret.hash.as_slice()),
            c::hint.eq(&secret.hint),
            c::updated_at.eq(now),
            c::version.eq(c::version + 1),
        ))
        .returning(ClientRow::as_returning())
        .get_result(conn)
        .await?)
}

/// Removes an app for good, with all that it was given.
pub(super) async fn remove(conn: &mut TenantConn, id: OauthClientId) -> QueryResult<()> {
    diesel::delete(c::table.find(id)).execute(conn).await.map(drop)
}

/// A page of apps, the latest first.
pub(super) async fn list(
    conn: &mut TenantConn,
    seek: Seek<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<ClientRow>> {
    let query = c::table.select(ClientRow::as_select()).limit(limit).into_boxed();
    latest_first!(query, (c::created_at, c::id), seek).load(conn).await
}

/// How many apps there are.
pub(super) async fn count(conn: &mut TenantConn) -> QueryResult<i64> {
    c::table.count().get_result(conn).await
}
