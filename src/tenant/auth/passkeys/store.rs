//! Passkeys and challenges that wait, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::auth::begun::{self, Whence};

diesel::table! {
    passkeys (id) {
        id -> Uuid,
        user_id -> Uuid,
        name -> Text,
        credential_id -> Bytea,
        credential -> Jsonb,
        created_at -> Timestamptz,
        last_used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    passkey_ceremonies (id) {
        id -> Uuid,
        user_id -> Nullable<Uuid>,
        purpose -> Text,
        state -> Jsonb,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        network -> Nullable<Text>,
        site -> Nullable<Text>,
    }
}

use passkey_ceremonies as c;
use passkeys as p;

/// Passkeys of one person.
pub(in crate::tenant::auth) const MOST: i64 = 20;
/// Challenges that wait in one tenant, of people who are not known yet; the oldest give way.
const WAITING: i64 = 10_000;
/// The same from one network, and [`begun::NETWORKS`] times as many from one site: they get no more, so that neither alone takes
/// everybody else's away.
const WAITING_FROM_ONE: i64 = 500;

/// A passkey to look at.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = passkeys)]
pub(super) struct PasskeyRow {
    pub id: Uuid,
    pub user_id: UserId,
    pub name: String,
    pub credential: Value,
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A person's passkeys, the latest first.
pub(super) async fn list(conn: &mut TenantConn, user: UserId) -> QueryResult<Vec<PasskeyRow>> {
    p::table
        .filter(p::user_id.eq(user))
        .order((p::created_at.desc(), p::id.desc()))
        .select(PasskeyRow::as_select())
        .load(conn)
        .await
}

/// Whether a person has any.
pub(in crate::tenant::auth) async fn any(conn: &mut TenantConn, user: UserId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(p::table.filter(p::user_id.eq(user)))).get_result(conn).await
}

/// Keeps a new one.
pub(super) async fn insert(
    conn: &mut TenantConn,
    user: UserId,
    name: &str,
    (credential_id, credential): (&[u8], &Value),
    now: DateTime<Utc>,
) -> QueryResult<PasskeyRow> {
    diesel::insert_into(p::table)
        .values((
            p::id.eq(Uuid::now_v7()),
            p::user_id.eq(user),
            p::name.eq(name),
            p::credential_id.eq(credential_id),
            p::credential.eq(credential),
            p::created_at.eq(now),
        ))
        .returning(PasskeyRow::as_returning())
        .get_result(conn)
        .await
}

/// The passkey with this credential id.
pub(super) async fn find(conn: &mut TenantConn, credential_id: &[u8]) -> QueryResult<Option<PasskeyRow>> {
    let found = p::table.filter(p::credential_id.eq(credential_id)).select(PasskeyRow::as_select());
    found.first(conn).await.optional()
}

/// The same, held until the transaction ends: its counter is compared with what it is then.
pub(super) async fn hold(conn: &mut TenantConn, credential_id: &[u8]) -> QueryResult<Option<PasskeyRow>> {
    let found = p::table.filter(p::credential_id.eq(credential_id)).select(PasskeyRow::as_select());
    found.for_update().first(conn).await.optional()
}

/// Notes that it was used.
pub(super) async fn used(conn: &mut TenantConn, id: Uuid, credential: &Value, now: DateTime<Utc>) -> QueryResult<()> {
    let change = (p::credential.eq(credential), p::last_used_at.eq(now));
    diesel::update(p::table.find(id)).set(change).execute(conn).await.map(drop)
}

/// Gives one of a person's passkeys another name.
pub(super) async fn rename(
    conn: &mut TenantConn,
    user: UserId,
    id: Uuid,
    name: &str,
) -> QueryResult<Option<PasskeyRow>> {
    diesel::update(p::table.find(id).filter(p::user_id.eq(user)))
        .set(p::name.eq(name))
        .returning(PasskeyRow::as_returning())
        .get_result(conn)
        .await
        .optional()
}

/// Removes one of a person's passkeys, and gives what it was called. None if it is not theirs.
pub(super) async fn remove(conn: &mut TenantConn, user: UserId, id: Uuid) -> QueryResult<Option<String>> {
    let mine = p::table.find(id).filter(p::user_id.eq(user));
    diesel::delete(mine).returning(p::name).get_result(conn).await.optional()
}

/// Removes all of a person's passkeys. False if there were none.
pub(in crate::tenant::auth) async fn remove_all(conn: &mut TenantConn, user: UserId) -> QueryResult<bool> {
    Ok(diesel::delete(p::table.filter(p::user_id.eq(user))).execute(conn).await? > 0)
}

/// The limit, if as many challenges wait from a network, or from its site, as may. `now`: what has ended waits no more.
pub(super) async fn limit_met(
    conn: &mut TenantConn,
    from: Option<&Whence>,
    purpose: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<i64>> {
    let Some(from) = from.filter(|_| conn.schema_version() >= begun::SINCE) else { return Ok(None) };
    let waiting = || c::table.filter(c::purpose.eq(purpose)).filter(c::expires_at.gt(now)).select(c::id);
    let most = WAITING_FROM_ONE;
    let of_network = waiting().filter(c::network.eq(&*from.network)).offset(most - 1);
    if of_network.first::<Uuid>(conn).await.optional()?.is_some() {
        return Ok(Some(most));
    }
    let most = WAITING_FROM_ONE * begun::NETWORKS;
    let of_site = waiting().filter(c::site.eq(&*from.site)).offset(most - 1);
    Ok(of_site.first::<Uuid>(conn).await.optional()?.map(|_| most))
}

/// Keeps a challenge until it is answered; sweeps out what is too old, and too many.
pub(super) async fn begin(
    conn: &mut TenantConn,
    (user, from): (Option<UserId>, Option<&Whence>),
    purpose: &str,
    state: &Value,
    (now, expires_at): (DateTime<Utc>, DateTime<Utc>),
) -> QueryResult<Uuid> {
    diesel::delete(c::table.filter(c::expires_at.lt(now))).execute(conn).await?;
    match user {
        // One at a time of a person.
        Some(user) => {
            let mine = c::table.filter(c::user_id.eq(user)).filter(c::purpose.eq(purpose));
            diesel::delete(mine).execute(conn).await?;
        }
        None => {
            let kept = c::table.filter(c::purpose.eq(purpose)).order(c::created_at.desc()).offset(WAITING - 1);
            let first: Option<DateTime<Utc>> = kept.select(c::created_at).first(conn).await.optional()?;
            if let Some(first) = first {
                let old = c::table.filter(c::purpose.eq(purpose)).filter(c::created_at.le(first));
                diesel::delete(old).execute(conn).await?;
            }
        }
    }
    let id = Uuid::now_v7();
    let row = (
        c::id.eq(id),
        c::user_id.eq(user),
        c::purpose.eq(purpose),
        c::state.eq(state),
        c::created_at.eq(now),
        c::expires_at.eq(expires_at),
    );
    if conn.schema_version() >= begun::SINCE {
        let whence = (c::network.eq(from.map(|from| &*from.network)), c::site.eq(from.map(|from| &*from.site)));
        diesel::insert_into(c::table).values((row, whence)).execute(conn).await?;
    } else {
        diesel::insert_into(c::table).values(row).execute(conn).await?;
    }
    Ok(id)
}

/// Takes a challenge, once.
pub(super) async fn take(
    conn: &mut TenantConn,
    id: Uuid,
    user: Option<UserId>,
    purpose: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<Value>> {
    let waiting = c::table
        .find(id)
        .filter(c::user_id.is_not_distinct_from(user))
        .filter(c::purpose.eq(purpose))
        .filter(c::expires_at.gt(now));
    diesel::delete(waiting).returning(c::state).get_result(conn).await.optional()
}
