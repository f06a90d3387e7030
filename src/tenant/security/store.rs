//! The one row of the policy.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::SessionId;
use crate::router::TenantConn;
use crate::tenant::schema::roles;
use crate::tenant::users::rules::comparable;

diesel::table! {
    security_policy (only_row) {
        only_row -> Bool,
        mfa_required_roles -> Array<Text>,
        password_min_length -> Integer,
        password_min_length_with_factor -> Integer,
        password_history -> Integer,
        password_blocked_words -> Array<Text>,
        session_idle_minutes -> Nullable<Integer>,
        session_absolute_hours -> Nullable<Integer>,
        session_max_per_person -> Nullable<Integer>,
        token_claims -> Jsonb,
        captcha_provider -> Nullable<Text>,
        captcha_site_key -> Nullable<Text>,
        captcha_secret_sealed -> Nullable<Bytea>,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

use security_policy as p;

/// The policy.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = security_policy)]
pub(super) struct PolicyRow {
    pub mfa_required_roles: Vec<String>,
    #[diesel(embed)]
    pub password: PasswordPolicy,
    pub session_idle_minutes: Option<i32>,
    pub session_absolute_hours: Option<i32>,
    pub session_max_per_person: Option<i32>,
    pub token_claims: serde_json::Value,
    pub captcha_provider: Option<String>,
    pub captcha_site_key: Option<String>,
    pub captcha_secret_sealed: Option<Vec<u8>>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

/// What a password has to be like.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = security_policy)]
pub(crate) struct PasswordPolicy {
    #[diesel(column_name = password_min_length)]
    pub min_length: i32,
    #[diesel(column_name = password_min_length_with_factor)]
    pub min_length_with_factor: i32,
    #[diesel(column_name = password_history)]
    pub history: i32,
    #[diesel(column_name = password_blocked_words)]
    pub blocked_words: Vec<String>,
}

/// What a password has to be like, and whose is shown beside a second factor.
pub(crate) async fn password_policy(conn: &mut TenantConn) -> QueryResult<(PasswordPolicy, Vec<String>)> {
    p::table.find(true).select((PasswordPolicy::as_select(), p::mfa_required_roles)).first(conn).await
}

/// The policy as it is.
pub(super) async fn get(conn: &mut TenantConn) -> QueryResult<PolicyRow> {
    p::table.find(true).select(PolicyRow::as_select()).first(conn).await
}

/// The same, held until the transaction ends.
pub(super) async fn hold(conn: &mut TenantConn) -> QueryResult<PolicyRow> {
    p::table.find(true).select(PolicyRow::as_select()).for_update().first(conn).await
}

/// Writes what the row says of second factors and passwords.
pub(super) async fn set(conn: &mut TenantConn, row: &PolicyRow) -> QueryResult<()> {
    diesel::update(p::table.find(true))
        .set((
            p::mfa_required_roles.eq(&row.mfa_required_roles),
            p::password_min_length.eq(row.password.min_length),
            p::password_min_length_with_factor.eq(row.password.min_length_with_factor),
            p::password_history.eq(row.password.history),
            p::password_blocked_words.eq(&row.password.blocked_words),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// It was changed: gives it as it is now.
pub(super) async fn changed(conn: &mut TenantConn, now: DateTime<Utc>) -> QueryResult<PolicyRow> {
    diesel::update(p::table.find(true))
        .set((p::updated_at.eq(now), p::version.eq(p::version + 1)))
        .returning(PolicyRow::as_returning())
        .get_result(conn)
        .await
}

/// Those of the names that are a role's.
pub(super) async fn known_roles(conn: &mut TenantConn, names: &[String]) -> QueryResult<Vec<String>> {
    let names: Vec<String> = names.iter().map(|name| comparable(name)).collect();
    roles::table.filter(roles::name.eq_any(names)).select(roles::name).load(conn).await
}

/// Ends the sessions of people with these roles that have seen no second factor, but for one.
pub(super) async fn end_sessions_without_factor(
    conn: &mut TenantConn,
    names: &[String],
    but: Option<SessionId>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE sessions SET revoked_at = $1, revoked_reason = 'second_factor_demanded' \
         WHERE revoked_at IS NULL AND id <> $2 AND NOT amr && ARRAY['otp', 'mfa'] AND user_id IN \
         (SELECT u.id FROM users u, roles_of(u.id) role JOIN roles r ON r.id = role WHERE r.name = ANY ($3))",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<SqlUuid, _>(but.map_or(Uuid::nil(), SessionId::uuid))
    .bind::<Array<Text>, _>(names)
    .execute(conn)
    .await
    .map(drop)
}

/// The same for what these people let apps have.
pub(super) async fn end_grants_without_factor(
    conn: &mut TenantConn,
    names: &[String],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE oauth_grants SET revoked_at = $1, revoked_reason = 'second_factor_demanded' \
         WHERE revoked_at IS NULL AND NOT amr && ARRAY['otp', 'mfa'] AND user_id IN \
         (SELECT u.id FROM users u, roles_of(u.id) role JOIN roles r ON r.id = role WHERE r.name = ANY ($2))",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Text>, _>(names)
    .execute(conn)
    .await
    .map(drop)
}

/// A role has another name, or is gone: what is demanded of it goes with it.
pub(crate) async fn rename_role(
    conn: &mut TenantConn,
    from: &str,
    to: Option<&str>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    // Without another name the place is emptied, and what is empty is removed.
    diesel::sql_query(
        "UPDATE security_policy SET version = version + 1, updated_at = $3, \
         mfa_required_roles = array_remove(array_replace(mfa_required_roles, $1, $2), NULL) \
         WHERE $1 = ANY (mfa_required_roles)",
    )
    .bind::<Text, _>(from)
    .bind::<Nullable<Text>, _>(to)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await
    .map(drop)
}
