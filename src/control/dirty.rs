//! Tenants in whose databases something waits to be done: see `V12__dirty_tenants.sql`. Of each kind of work a list.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::TenantId;
use crate::router::{MainConn, Waiting};

/// The list of a kind of work.
const fn table(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Mail => "dirty_tenants",
        Waiting::Addresses => "tenants_with_news",
    }
}

/// A tenant to look into.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub struct Dirty {
    /// Which.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: TenantId,
    /// Until when work may still become visible that was announced.
    #[diesel(sql_type = Timestamptz)]
    pub settled_at: DateTime<Utc>,
    /// Of the listing: the same afterwards, and nobody has listed it meanwhile.
    #[diesel(sql_type = SqlUuid)]
    mark: Uuid,
    /// Looks since it was last listed, this one included.
    #[diesel(sql_type = diesel::sql_types::Integer)]
    pub looks: i32,
}

#[cfg(test)]
impl Dirty {
    /// One that was listed.
    pub(crate) fn listed(tenant_id: TenantId, settled_at: DateTime<Utc>, looks: i32) -> Self {
        Self { tenant_id, settled_at, mark: Uuid::now_v7(), looks }
    }
}

/// Lists a tenant, to be looked into at once.
///
/// # Errors
/// If the control plane does not answer. A tenant that is gone is none.
pub async fn mark(
    conn: &mut MainConn,
    (tenant, waiting): (TenantId, Waiting),
    settles: DateTime<Utc>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let list = table(waiting);
    diesel::sql_query(format!(
        "INSERT INTO {list} AS d (tenant_id, due_at, settled_at) SELECT id, $2, $3 FROM tenants WHERE id = $1 \
         ON CONFLICT (tenant_id) DO UPDATE SET due_at = least(d.due_at, excluded.due_at), \
         settled_at = greatest(d.settled_at, excluded.settled_at), mark = gen_random_uuid(), looks = 0"
    ))
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(settles)
    .execute(conn)
    .await
    .map(drop)
}

/// Takes tenants that are due, for as long as a look may take: should this node die, they are due again after that. No two
/// nodes get the same one.
///
/// # Errors
/// If the control plane does not answer.
pub async fn take(
    conn: &mut MainConn,
    waiting: Waiting,
    most: i64,
    look: TimeDelta,
    now: DateTime<Utc>,
) -> QueryResult<Vec<Dirty>> {
    let list = table(waiting);
    diesel::sql_query(format!(
        "UPDATE {list} SET due_at = $2, looks = looks + 1 WHERE tenant_id IN \
         (SELECT tenant_id FROM {list} WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED) \
         RETURNING tenant_id, settled_at, mark, looks"
    ))
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now + look)
    .bind::<BigInt, _>(most)
    .load(conn)
    .await
}

/// Looks again at `next`, unless the tenant was listed meanwhile: then at once.
///
/// # Errors
/// If the control plane does not answer.
pub async fn look_again(
    conn: &mut MainConn,
    (seen, waiting): (&Dirty, Waiting),
    next: DateTime<Utc>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let list = table(waiting);
    diesel::sql_query(format!(
        "UPDATE {list} SET due_at = CASE WHEN mark = $2 THEN $3 ELSE least($3, $4) END WHERE tenant_id = $1"
    ))
    .bind::<SqlUuid, _>(seen.tenant_id.uuid())
    .bind::<SqlUuid, _>(seen.mark)
    .bind::<Timestamptz, _>(next)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await
    .map(drop)
}

/// Takes a tenant off the list, unless it was listed meanwhile: then it is due at once.
///
/// # Errors
/// If the control plane does not answer.
pub async fn clear(conn: &mut MainConn, (seen, waiting): (&Dirty, Waiting), now: DateTime<Utc>) -> QueryResult<()> {
    let gone = diesel::sql_query(format!("DELETE FROM {} WHERE tenant_id = $1 AND mark = $2", table(waiting)))
        .bind::<SqlUuid, _>(seen.tenant_id.uuid())
        .bind::<SqlUuid, _>(seen.mark)
        .execute(conn)
        .await?;
    if gone == 0 { look_again(conn, (seen, waiting), now, now).await } else { Ok(()) }
}
