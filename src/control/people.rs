//! People who belong to several tenants: see `V12__dirty_tenants.sql`. Opaque ids alone.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::{TenantId, UserId};
use crate::router::MainConn;

/// The most tenants of one person that are listed.
const MOST: i64 = 100;

/// A tenant that a person belongs to.
#[derive(Debug, Clone, QueryableByName)]
pub struct LinkedTenant {
    /// Identity.
    #[diesel(sql_type = SqlUuid)]
    pub id: TenantId,
    /// Public name.
    #[diesel(sql_type = Text)]
    pub slug: String,
    /// Display name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The person's account there.
    #[diesel(sql_type = SqlUuid)]
    pub user_id: UserId,
}

#[derive(QueryableByName)]
struct Account {
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
}

/// Links an account with a person. False if it is another person's, or the person has another account there. To be called in
/// a transaction.
///
/// # Errors
/// If the control plane does not answer.
pub async fn link(
    conn: &mut MainConn,
    person: Uuid,
    (tenant, user): (TenantId, UserId),
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    // One that nobody has confirmed is of an attempt that came to nothing. A statement of its own: what a WITH deletes is
    // still in the way of the statement that it belongs to.
    diesel::sql_query(
        "DELETE FROM person_links WHERE confirmed_at IS NULL AND tenant_id = $1 AND (user_id = $2) <> (person_id = $3)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<SqlUuid, _>(person)
    .execute(conn)
    .await?;
    let linked = diesel::sql_query(
        "INSERT INTO person_links (tenant_id, user_id, person_id, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<SqlUuid, _>(person)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await?;
    Ok(linked == 1 || account(conn, person, tenant).await? == Some(user))
}

/// Forgets that an account was a person's: its tenant's database does not know it any more, or has it as somebody else's.
///
/// # Errors
/// If the control plane does not answer.
pub async fn unlink(conn: &mut MainConn, person: Uuid, (tenant, user): (TenantId, UserId)) -> QueryResult<()> {
    diesel::sql_query("DELETE FROM person_links WHERE tenant_id = $1 AND user_id = $2 AND person_id = $3 AND confirmed_at IS NOT NULL")
        .bind::<SqlUuid, _>(tenant.uuid())
        .bind::<SqlUuid, _>(user.uuid())
        .bind::<SqlUuid, _>(person)
        .execute(conn)
        .await
        .map(drop)
}

/// The tenant's database agrees.
///
/// # Errors
/// If the control plane does not answer.
pub async fn confirm(conn: &mut MainConn, person: Uuid, tenant: TenantId, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE person_links SET confirmed_at = $3 WHERE person_id = $1 AND tenant_id = $2 AND confirmed_at IS NULL",
    )
    .bind::<SqlUuid, _>(person)
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await
    .map(drop)
}

/// A person's account at a tenant.
///
/// # Errors
/// If the control plane does not answer.
pub async fn account(conn: &mut MainConn, person: Uuid, tenant: TenantId) -> QueryResult<Option<UserId>> {
    let found = "SELECT user_id FROM person_links WHERE person_id = $1 AND tenant_id = $2";
    let found = diesel::sql_query(found).bind::<SqlUuid, _>(person).bind::<SqlUuid, _>(tenant.uuid());
    Ok(found.get_result::<Account>(conn).await.optional()?.map(|account| UserId::from(account.user_id)))
}

/// Whether an account is a person's by a link that its tenant's database agreed to.
///
/// # Errors
/// If the control plane does not answer.
pub async fn is_confirmed(conn: &mut MainConn, person: Uuid, (tenant, user): (TenantId, UserId)) -> QueryResult<bool> {
    let found = "SELECT user_id FROM person_links WHERE person_id = $1 AND tenant_id = $2 AND user_id = $3 \
                 AND confirmed_at IS NOT NULL";
    let found = diesel::sql_query(found)
        .bind::<SqlUuid, _>(person)
        .bind::<SqlUuid, _>(tenant.uuid())
        .bind::<SqlUuid, _>(user.uuid());
    Ok(found.get_result::<Account>(conn).await.optional()?.is_some())
}

/// The tenants that a person belongs to, as far as they serve, by slug.
///
/// # Errors
/// If the control plane does not answer.
pub async fn tenants_of(conn: &mut MainConn, person: Uuid) -> QueryResult<Vec<LinkedTenant>> {
    diesel::sql_query(
        "SELECT t.id, t.slug, t.name, l.user_id FROM person_links l JOIN tenants t ON t.id = l.tenant_id \
         WHERE l.person_id = $1 AND l.confirmed_at IS NOT NULL AND t.status = 'active' ORDER BY t.slug LIMIT $2",
    )
    .bind::<SqlUuid, _>(person)
    .bind::<diesel::sql_types::BigInt, _>(MOST)
    .load(conn)
    .await
}
