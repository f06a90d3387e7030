//! Token issuers, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::rules::MatchBy;
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{CryptoError, Place, SealKey, Sealed};
use crate::kernel::{RoleId, TokenIssuerId, UserId};
use crate::router::{TenantConn, TenantDb};
use crate::tenant::schema::roles;

diesel::table! {
    token_issuers (id) {
        id -> Uuid,
        name -> Text,
        issuer -> Text,
        audience -> Text,
        jwks_url -> Nullable<Text>,
        secret_sealed -> Nullable<Bytea>,
        match_by -> Text,
        email_claim -> Text,
        roles_claim -> Nullable<Text>,
        ceiling -> Array<Text>,
        enabled -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

diesel::table! {
    token_issuer_roles (issuer_id, word, role_id) {
        issuer_id -> Uuid,
        word -> Text,
        role_id -> Uuid,
    }
}

diesel::joinable!(token_issuer_roles -> roles (role_id));
diesel::allow_tables_to_appear_in_same_query!(token_issuer_roles, roles);

use token_issuer_roles as r;
use token_issuers as t;

/// An issuer.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = token_issuers)]
pub(super) struct IssuerRow {
    pub id: TokenIssuerId,
    pub name: String,
    pub issuer: String,
    pub audience: String,
    pub jwks_url: Option<String>,
    pub secret_sealed: Option<Vec<u8>>,
    #[diesel(deserialize_as = String)]
    pub match_by: MatchBy,
    pub email_claim: String,
    pub roles_claim: Option<String>,
    pub ceiling: Vec<String>,
    pub enabled: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

/// An issuer to be made.
#[derive(Debug, Insertable)]
#[diesel(table_name = token_issuers)]
pub(super) struct NewIssuer<'a> {
    pub id: TokenIssuerId,
    pub name: &'a str,
    pub issuer: &'a str,
    pub audience: &'a str,
    pub jwks_url: Option<&'a str>,
    pub secret_sealed: Option<&'a [u8]>,
    pub match_by: &'a str,
    pub email_claim: &'a str,
    pub roles_claim: Option<&'a str>,
    pub ceiling: &'a [String],
    pub enabled: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What of an issuer is changed. Whoever changes it bounds it by what they may do themselves.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = token_issuers)]
pub(super) struct IssuerChange {
    pub name: Option<String>,
    pub audience: Option<String>,
    pub jwks_url: Option<Option<String>>,
    pub secret_sealed: Option<Option<Vec<u8>>>,
    pub match_by: Option<String>,
    pub email_claim: Option<String>,
    pub roles_claim: Option<Option<String>>,
    pub ceiling: Vec<String>,
    pub enabled: Option<bool>,
}

const fn place(id: TokenIssuerId) -> Place {
    Place::new("token_issuers", "secret_sealed", id.uuid())
}

fn key(db: &TenantDb) -> SealKey {
    db.router().installation().mac.seal_key("tenant-secrets")
}

/// Seals a shared secret for its issuer.
pub(super) fn seal(db: &TenantDb, id: TokenIssuerId, secret: &SecretString) -> Vec<u8> {
    key(db).seal(place(id), secret.expose_secret().as_bytes()).into()
}

/// Opens it.
pub(super) fn open(db: &TenantDb, id: TokenIssuerId, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    key(db).open(place(id), &Sealed::from(sealed.to_vec()))
}

/// Every issuer, by name.
pub(super) async fn list(conn: &mut TenantConn) -> QueryResult<Vec<IssuerRow>> {
    t::table.order((t::name, t::id)).select(IssuerRow::as_select()).load(conn).await
}

/// Which words stand for which roles, of every issuer.
pub(super) async fn words(conn: &mut TenantConn) -> QueryResult<Vec<(TokenIssuerId, String, RoleId, String)>> {
    let rows = r::table.inner_join(roles::table).order((r::word, roles::name));
    rows.select((r::issuer_id, r::word, r::role_id, roles::name)).load(conn).await
}

/// Whether an issuer is as it was read: open, and not changed since.
pub(super) async fn is_as_read(conn: &mut TenantConn, row: &IssuerRow) -> QueryResult<bool> {
    let same = t::table.find(row.id).filter(t::version.eq(row.version)).filter(t::enabled.eq(true));
    diesel::select(diesel::dsl::exists(same)).get_result(conn).await
}

/// The issuer with an id, or 404.
pub(super) async fn get(conn: &mut TenantConn, id: TokenIssuerId) -> ApiResult<IssuerRow> {
    let row = t::table.find(id).select(IssuerRow::as_select()).first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("token issuer"))
}

/// The same, held until the transaction ends.
pub(super) async fn hold(conn: &mut TenantConn, id: TokenIssuerId) -> ApiResult<IssuerRow> {
    let row = t::table.find(id).select(IssuerRow::as_select()).for_no_key_update().first(conn).await.optional()?;
    row.ok_or_else(|| ApiError::not_found("token issuer"))
}

/// How many there are, with the right to make one more: nobody else makes one until the transaction ends.
pub(super) async fn hold_count(conn: &mut TenantConn) -> QueryResult<i64> {
    diesel::sql_query("LOCK TABLE token_issuers IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    t::table.count().get_result(conn).await
}

/// Makes an issuer. 409 if there is one of this name.
pub(super) async fn insert(conn: &mut TenantConn, new: &NewIssuer<'_>) -> ApiResult<()> {
    diesel::insert_into(t::table).values(new).execute(conn).await?;
    Ok(())
}

/// Has exactly these words stand for roles.
pub(super) async fn set_words(
    conn: &mut TenantConn,
    issuer: TokenIssuerId,
    words: &[(String, RoleId)],
) -> QueryResult<()> {
    diesel::delete(r::table.filter(r::issuer_id.eq(issuer))).execute(conn).await?;
    let rows: Vec<_> =
        words.iter().map(|(word, role)| (r::issuer_id.eq(issuer), r::word.eq(word), r::role_id.eq(*role))).collect();
    diesel::insert_into(r::table).values(rows).on_conflict_do_nothing().execute(conn).await.map(drop)
}

/// Changes an issuer.
pub(super) async fn update(
    conn: &mut TenantConn,
    id: TokenIssuerId,
    change: &IssuerChange,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::update(t::table.find(id))
        .set((change, t::updated_at.eq(now), t::version.eq(t::version + 1)))
        .execute(conn)
        .await
        .map(drop)
}

/// Removes an issuer.
pub(super) async fn remove(conn: &mut TenantConn, id: TokenIssuerId) -> QueryResult<()> {
    diesel::delete(t::table.find(id)).execute(conn).await.map(drop)
}

/// Who a bearer is here, and what they may do.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Bearer {
    #[diesel(sql_type = SqlUuid)]
    pub id: UserId,
    #[diesel(sql_type = Bool)]
    pub active: bool,
    #[diesel(sql_type = Bool)]
    pub password_change_required: bool,
    #[diesel(sql_type = Array<Text>)]
    pub roles: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    pub permissions: Vec<String>,
}

/// By what a bearer is known: one of these.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark {
    /// The subject, at the identity provider of this issuer.
    pub subject: Option<(String, String)>,
    /// The address, in the form that addresses are compared in.
    pub email_key: Option<String>,
    /// The person's id.
    pub user: Option<UserId>,
}

/// The person behind a mark, with these roles, or with their own.
pub(super) async fn bearer(
    conn: &mut TenantConn,
    mark: &Mark,
    roles: Option<&[RoleId]>,
) -> QueryResult<Option<Bearer>> {
    let (issuer, subject) = mark.subject.clone().unzip();
    diesel::sql_query(
        "SELECT u.id, u.status = 'active' AS active, u.password_change_required, \
         ARRAY(SELECT r.name FROM roles r WHERE r.id = ANY (h.ids) ORDER BY r.name) AS roles, \
         ARRAY(SELECT DISTINCT p.name FROM permissions p JOIN role_permissions rp ON rp.permission_id = p.id \
         WHERE rp.role_id = ANY (h.ids)) AS permissions \
         FROM users u CROSS JOIN LATERAL (SELECT COALESCE($5, \
         ARRAY(SELECT roles_of(u.id))) AS ids) h WHERE u.id = COALESCE(\
         (SELECT s.user_id FROM social_accounts s WHERE s.issuer = $1 AND s.subject = $2), \
         (SELECT e.id FROM users e WHERE e.email_key = $3), $4)",
    )
    .bind::<Nullable<Text>, _>(issuer)
    .bind::<Nullable<Text>, _>(subject)
    .bind::<Nullable<Text>, _>(mark.email_key.clone())
    .bind::<Nullable<SqlUuid>, _>(mark.user)
    .bind::<Nullable<Array<SqlUuid>>, _>(roles.map(<[RoleId]>::to_vec))
    .get_result(conn)
    .await
    .optional()
}
