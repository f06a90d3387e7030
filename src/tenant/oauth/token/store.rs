//! What apps were given, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::kernel::{OauthClientId, OauthGrantId, UserId};
use crate::router::TenantConn;
use crate::tenant::auth::rules::Presented;

diesel::table! {
    oauth_grants (id) {
        id -> Uuid,
        client_id -> Uuid,
        user_id -> Nullable<Uuid>,
        scopes -> Array<Text>,
        amr -> Array<Text>,
        auth_time -> Timestamptz,
        nonce -> Nullable<Text>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        revoked_reason -> Nullable<Text>,
    }
}

diesel::table! {
    oauth_codes (code_hash) {
        code_hash -> Bytea,
        grant_id -> Uuid,
        redirect_uri -> Text,
        code_challenge -> Text,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    oauth_refresh_tokens (hash) {
        hash -> Bytea,
        grant_id -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        rotated_at -> Nullable<Timestamptz>,
        successor_hash -> Nullable<Bytea>,
    }
}

use oauth_codes as c;
use oauth_grants as g;
use oauth_refresh_tokens as r;

/// What an app was given.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_grants)]
pub(in crate::tenant::oauth) struct GrantRow {
    pub id: OauthGrantId,
    pub client_id: OauthClientId,
    /// None: in its own name.
    pub user_id: Option<UserId>,
    pub scopes: Vec<String>,
    pub amr: Vec<String>,
    pub auth_time: DateTime<Utc>,
    pub nonce: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl GrantRow {
    /// What is known of a refresh token of its when it is presented.
    pub fn of(&self, token: &RefreshRow) -> Presented {
        Presented {
            expires_at: token.expires_at,
            rotated_at: token.rotated_at,
            ended: self.revoked_at.is_some(),
            session_expires_at: self.expires_at,
        }
    }
}

/// A code, with what it is bound to beside its grant.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = oauth_codes)]
pub(in crate::tenant::oauth) struct CodeRow {
    pub redirect_uri: String,
    pub code_challenge: String,
    pub expires_at: DateTime<Utc>,
    pub used_at: Option<DateTime<Utc>>,
}

/// A refresh token.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = oauth_refresh_tokens)]
pub(in crate::tenant::oauth) struct RefreshRow {
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub rotated_at: Option<DateTime<Utc>>,
}

/// Keeps what an app is given; sweeps out some of what has run out.
pub(in crate::tenant::oauth) async fn insert_grant(conn: &mut TenantConn, grant: &GrantRow) -> QueryResult<()> {
    diesel::sql_query(
        "DELETE FROM oauth_grants WHERE id IN (SELECT id FROM oauth_grants \
         WHERE client_id = $1 AND expires_at < $2 ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(grant.client_id)
    .bind::<Timestamptz, _>(grant.created_at)
    .execute(conn)
    .await?;
    diesel::insert_into(g::table).values(grant).execute(conn).await.map(drop)
}

/// Keeps the hash of a code.
pub(in crate::tenant::oauth) async fn insert_code(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    grant: OauthGrantId,
    code: &CodeRow,
) -> QueryResult<()> {
    diesel::insert_into(c::table)
        .values((
            c::code_hash.eq(hash.as_slice()),
            c::grant_id.eq(grant),
            c::redirect_uri.eq(&code.redirect_uri),
            c::code_challenge.eq(&code.code_challenge),
            c::expires_at.eq(code.expires_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// The code behind a hash, with its grant: nobody else has either until the transaction ends.
pub(super) async fn hold_code(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<Option<(GrantRow, CodeRow)>> {
    let of_code = c::table.find(hash.as_slice()).select(c::grant_id);
    let grant = g::table.filter(g::id.eq_any(of_code)).select(GrantRow::as_select()).for_no_key_update();
    let Some(grant) = grant.first(conn).await.optional()? else { return Ok(None) };
    let code = c::table.find(hash.as_slice()).select(CodeRow::as_select()).first(conn).await?;
    Ok(Some((grant, code)))
}

/// Notes that a code was presented.
pub(super) async fn spend(conn: &mut TenantConn, hash: &[u8; 32], now: DateTime<Utc>) -> QueryResult<()> {
    diesel::update(c::table.find(hash.as_slice())).set(c::used_at.eq(now)).execute(conn).await.map(drop)
}

/// The refresh token behind a hash, with its grant, as [`hold_code`].
pub(super) async fn hold_refresh(
    conn: &mut TenantConn,
    hash: &[u8; 32],
) -> QueryResult<Option<(GrantRow, RefreshRow)>> {
    let of_token = r::table.find(hash.as_slice()).select(r::grant_id);
    let grant = g::table.filter(g::id.eq_any(of_token)).select(GrantRow::as_select()).for_no_key_update();
    let Some(grant) = grant.first(conn).await.optional()? else { return Ok(None) };
    let token = r::table.find(hash.as_slice()).select(RefreshRow::as_select()).first(conn).await?;
    Ok(Some((grant, token)))
}

/// The same to look at.
pub(in crate::tenant::oauth) async fn find_refresh(
    conn: &mut TenantConn,
    hash: &[u8; 32],
) -> QueryResult<Option<(GrantRow, RefreshRow)>> {
    let found = r::table.find(hash.as_slice()).inner_join(g::table);
    found.select((GrantRow::as_select(), RefreshRow::as_select())).first(conn).await.optional()
}

diesel::joinable!(oauth_refresh_tokens -> oauth_grants (grant_id));
diesel::allow_tables_to_appear_in_same_query!(oauth_codes, oauth_refresh_tokens, oauth_grants);

/// Keeps the hash of a new refresh token, with which the grant lives on until then.
pub(super) async fn insert_refresh(
    conn: &mut TenantConn,
    grant: OauthGrantId,
    hash: &[u8; 32],
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(r::table)
        .values((
            r::hash.eq(hash.as_slice()),
            r::grant_id.eq(grant),
            r::created_at.eq(now),
            r::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await?;
    prolong(conn, grant, expires_at).await
}

/// Notes that a refresh token was exchanged for its successor; sweeps out those of its grant that have run out.
pub(super) async fn rotate(
    conn: &mut TenantConn,
    grant: OauthGrantId,
    (hash, successor): (&[u8; 32], &[u8; 32]),
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::update(r::table.find(hash.as_slice()))
        .set((r::rotated_at.eq(now), r::successor_hash.eq(successor.as_slice())))
        .execute(conn)
        .await?;
    diesel::delete(r::table.filter(r::grant_id.eq(grant)).filter(r::expires_at.lt(now))).execute(conn).await.map(drop)
}

/// Lets a grant live until then.
pub(super) async fn prolong(conn: &mut TenantConn, id: OauthGrantId, until: DateTime<Utc>) -> QueryResult<()> {
    diesel::update(g::table.find(id)).set(g::expires_at.eq(until)).execute(conn).await.map(drop)
}

/// Ends a grant, for good. Nothing happens to one that has ended.
pub(in crate::tenant::oauth) async fn end(
    conn: &mut TenantConn,
    id: OauthGrantId,
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::update(g::table.find(id).filter(g::revoked_at.is_null()))
        .set((g::revoked_at.eq(now), g::revoked_reason.eq(reason)))
        .execute(conn)
        .await
        .map(drop)
}

/// Ends all that a person let an app have.
pub(in crate::tenant::oauth) async fn end_all(
    conn: &mut TenantConn,
    (user, client): (UserId, OauthClientId),
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let theirs = g::table.filter(g::user_id.eq(user)).filter(g::client_id.eq(client)).filter(g::revoked_at.is_null());
    diesel::update(theirs).set((g::revoked_at.eq(now), g::revoked_reason.eq(reason))).execute(conn).await.map(drop)
}

/// Ends all that a person let any app have; their consents stay. Of a database without apps there is nothing to end.
///
/// # Errors
/// If the database does not answer.
pub(in crate::tenant) async fn end_all_of(
    conn: &mut TenantConn,
    user: UserId,
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct There {
        #[diesel(sql_type = Bool)]
        there: bool,
    }
    // Whoever ends sessions need not know the schema; the registry may not have heard of it yet either.
    let asked = diesel::sql_query("SELECT to_regclass('public.oauth_grants') IS NOT NULL AS there");
    if !asked.get_result::<There>(conn).await?.there {
        return Ok(());
    }
    diesel::sql_query(
        "UPDATE oauth_grants SET revoked_at = $2, revoked_reason = $3 WHERE id IN \
         (SELECT id FROM oauth_grants WHERE user_id = $1 AND revoked_at IS NULL ORDER BY id FOR NO KEY UPDATE)",
    )
    .bind::<SqlUuid, _>(user)
    .bind::<Timestamptz, _>(now)
    .bind::<Text, _>(reason)
    .execute(conn)
    .await
    .map(drop)
}
