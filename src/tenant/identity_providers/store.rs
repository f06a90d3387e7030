//! Identity providers, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret as _, SecretString};

use super::LINKS_SINCE;
use super::rules::ProviderKind;
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{Place, SealKey, Sealed};
use crate::kernel::{IdentityProviderId, RoleId};
use crate::router::{TenantConn, TenantDb};

diesel::table! {
    identity_providers (id) {
        id -> Uuid,
        slug -> Text,
        name -> Text,
        kind -> Text,
        issuer -> Text,
        client_id -> Text,
        client_secret_sealed -> Nullable<Bytea>,
        scopes -> Array<Text>,
        redirect_uris -> Array<Text>,
        allowed_domains -> Array<Text>,
        default_role_id -> Nullable<Uuid>,
        ceiling -> Array<Text>,
        enabled -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

use identity_providers as p;

/// A provider with the name of its role.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = identity_providers, check_for_backend(Pg))]
pub(in crate::tenant) struct ProviderRow {
    pub id: IdentityProviderId,
    pub slug: String,
    pub name: String,
    #[diesel(deserialize_as = String)]
    pub kind: ProviderKind,
    pub issuer: String,
    pub client_id: String,
    pub client_secret_sealed: Option<Vec<u8>>,
    pub scopes: Vec<String>,
    pub redirect_uris: Vec<String>,
    pub allowed_domains: Vec<String>,
    pub default_role_id: Option<RoleId>,
    pub ceiling: Vec<String>,
    pub enabled: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
    #[diesel(select_expression = role_name(), select_expression_type = SqlLiteral<Nullable<Text>>)]
    pub default_role: Option<String>,
}

fn role_name() -> SqlLiteral<Nullable<Text>> {
    sql("(SELECT r.name FROM roles r WHERE r.id = identity_providers.default_role_id)")
}

/// A provider to be made.
#[derive(Debug, Insertable)]
#[diesel(table_name = identity_providers)]
pub(super) struct NewProvider<'a> {
    pub id: IdentityProviderId,
    pub slug: &'a str,
    pub name: &'a str,
    pub kind: &'a str,
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub client_secret_sealed: Option<&'a [u8]>,
    pub scopes: &'a [String],
    pub redirect_uris: &'a [String],
    pub allowed_domains: &'a [String],
    pub default_role_id: Option<RoleId>,
    pub ceiling: &'a [String],
    pub enabled: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What of a provider is changed. Whoever changes more than its name and its secret bounds it by what they may do themselves.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = identity_providers)]
pub(super) struct ProviderChange {
    pub name: Option<String>,
    pub client_id: Option<String>,
    pub client_secret_sealed: Option<Option<Vec<u8>>>,
    pub scopes: Option<Vec<String>>,
    pub redirect_uris: Option<Vec<String>>,
    pub allowed_domains: Option<Vec<String>>,
    pub default_role_id: Option<Option<RoleId>>,
    pub ceiling: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

impl ProviderChange {
    /// Whether it is more than another name or another secret.
    pub(super) fn tells_who_comes_in(&self) -> bool {
        self.client_id.is_some()
            || self.scopes.is_some()
            || self.redirect_uris.is_some()
            || self.allowed_domains.is_some()
            || self.default_role_id.is_some()
            || self.enabled.is_some()
    }
}

const fn place(id: IdentityProviderId) -> Place {
    Place::new("identity_providers", "client_secret_sealed", id.uuid())
}

fn key(db: &TenantDb) -> SealKey {
    db.router().installation().mac.seal_key("tenant-secrets")
}

/// Seals a client's secret for its provider.
pub(super) fn seal(db: &TenantDb, id: IdentityProviderId, secret: &SecretString) -> Vec<u8> {
    key(db).seal(place(id), secret.expose_secret().as_bytes()).into()
}

/// Opens a provider's secret, if it has one.
pub(in crate::tenant) fn open(db: &TenantDb, row: &ProviderRow) -> ApiResult<Option<SecretString>> {
    let Some(sealed) = &row.client_secret_sealed else { return Ok(None) };
    let plain = key(db).open(place(row.id), &Sealed::from(sealed.clone())).map_err(ApiError::internal)?;
    let text = std::str::from_utf8(&plain).map_err(ApiError::internal)?;
    Ok(Some(text.into()))
}

/// Every provider, by name.
pub(super) async fn list(conn: &mut TenantConn) -> QueryResult<Vec<ProviderRow>> {
    p::table.order((p::name, p::id)).select(ProviderRow::as_select()).load(conn).await
}

/// The provider with an id, or 404.
pub(in crate::tenant) async fn get(conn: &mut TenantConn, id: IdentityProviderId) -> ApiResult<ProviderRow> {
    let row = p::table.find(id).select(ProviderRow::as_select()).first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("identity provider"))
}

/// The same, held until the transaction ends.
pub(super) async fn hold(conn: &mut TenantConn, id: IdentityProviderId) -> ApiResult<ProviderRow> {
    let row = p::table.find(id).select(ProviderRow::as_select()).for_no_key_update().first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("identity provider"))
}

/// The provider with a name in addresses, if people may sign in through it.
pub(in crate::tenant) async fn find_open(conn: &mut TenantConn, slug: &str) -> QueryResult<Option<ProviderRow>> {
    let open = p::table.filter(p::slug.eq(slug)).filter(p::enabled);
    open.select(ProviderRow::as_select()).first(conn).await.optional()
}

/// The provider with an id, if people may sign in through it.
pub(in crate::tenant) async fn find_open_by_id(
    conn: &mut TenantConn,
    id: IdentityProviderId,
) -> QueryResult<Option<ProviderRow>> {
    p::table.find(id).filter(p::enabled).select(ProviderRow::as_select()).first(conn).await.optional()
}

/// Whether a provider is as it was read: open, and not changed since. If it is, it stays so until the transaction ends.
pub(in crate::tenant) async fn stands(conn: &mut TenantConn, row: &ProviderRow) -> QueryResult<bool> {
    let held = diesel::sql_query("SELECT FROM identity_providers WHERE id = $1 AND version = $2 AND enabled FOR SHARE");
    Ok(held.bind::<SqlUuid, _>(row.id).bind::<BigInt, _>(row.version).execute(conn).await? == 1)
}

/// How many there are, with the right to make one more: nobody else makes one until the transaction ends.
pub(super) async fn hold_count(conn: &mut TenantConn) -> QueryResult<i64> {
    diesel::sql_query("LOCK TABLE identity_providers IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    p::table.count().get_result(conn).await
}

/// Makes a provider. 409 if the name in addresses is taken.
pub(super) async fn insert(conn: &mut TenantConn, new: &NewProvider<'_>) -> ApiResult<ProviderRow> {
    diesel::insert_into(p::table).values(new).execute(conn).await?;
    get(conn, new.id).await
}

/// Changes a provider. Sign-ins that have begun with it as it was are void.
pub(super) async fn update(
    conn: &mut TenantConn,
    id: IdentityProviderId,
    change: &ProviderChange,
    now: DateTime<Utc>,
) -> ApiResult<ProviderRow> {
    diesel::sql_query("DELETE FROM federation_states WHERE provider_id = $1")
        .bind::<diesel::sql_types::Uuid, _>(id)
        .execute(conn)
        .await?;
    diesel::update(p::table.find(id))
        .set((change, p::updated_at.eq(now), p::version.eq(p::version + 1)))
        .execute(conn)
        .await?;
    get(conn, id).await
}

/// From here on a provider vouches for its links by itself: what people said of it, they said of what it was.
pub(super) async fn forget_word_of_people(conn: &mut TenantConn, id: IdentityProviderId) -> QueryResult<()> {
    if conn.schema_version() < LINKS_SINCE {
        return Ok(());
    }
    let forget = "UPDATE social_accounts SET by_person = false WHERE provider_id = $1 AND by_person";
    diesel::sql_query(forget).bind::<SqlUuid, _>(id).execute(conn).await.map(drop)
}

/// Removes a provider, with what ties people to it.
pub(super) async fn remove(conn: &mut TenantConn, id: IdentityProviderId) -> QueryResult<()> {
    diesel::delete(p::table.find(id)).execute(conn).await.map(drop)
}
