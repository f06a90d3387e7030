//! Second factors, challenges and trusted devices, in the tenant's database.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::UserId;
use crate::rest::Client;
use crate::router::TenantConn;

diesel::table! {
    second_factors (user_id) {
        user_id -> Uuid,
        totp_sealed -> Bytea,
        confirmed_at -> Nullable<Timestamptz>,
        last_step -> BigInt,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    recovery_codes (user_id, digest) {
        user_id -> Uuid,
        digest -> Bytea,
    }
}

diesel::table! {
    mfa_challenges (token_hash) {
        token_hash -> Bytea,
        user_id -> Uuid,
        auth_version -> BigInt,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    trusted_devices (id) {
        id -> Uuid,
        user_id -> Uuid,
        token_hash -> Bytea,
        ip -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

use mfa_challenges as c;
use recovery_codes as r;
use second_factors as f;
use trusted_devices as d;

/// Open challenges of one person; the oldest give way.
const CHALLENGES: i64 = 20;
/// Trusted devices of one person; the oldest give way.
const DEVICES: i64 = 20;

/// A second factor.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = second_factors)]
pub(super) struct FactorRow {
    pub totp_sealed: Vec<u8>,
    pub confirmed_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Is {
    #[diesel(sql_type = Bool)]
    is: bool,
}

/// Whether the database has second factors at all. A node may be the last to hear that a tenant was migrated.
pub(super) async fn exists(conn: &mut TenantConn) -> QueryResult<bool> {
    let query = diesel::sql_query("SELECT to_regclass('public.second_factors') IS NOT NULL AS \"is\"");
    query.get_result::<Is>(conn).await.map(|row| row.is)
}

/// Whether the organisation demands a second factor of people with these roles.
pub(crate) async fn is_demanded(conn: &mut TenantConn, roles: &[String]) -> QueryResult<bool> {
    let query = diesel::sql_query("SELECT mfa_required_roles && $1 AS \"is\" FROM security_policy");
    query.bind::<Array<Text>, _>(roles).get_result::<Is>(conn).await.map(|row| row.is)
}

/// A person's second factor, confirmed or not.
pub(super) async fn find(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<FactorRow>> {
    f::table.find(user).select(FactorRow::as_select()).first(conn).await.optional()
}

/// The same, held until the transaction ends: the seed that a code is compared with is the one that it is taken of.
pub(super) async fn hold(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<FactorRow>> {
    f::table.find(user).select(FactorRow::as_select()).for_update().first(conn).await.optional()
}

/// Whether a person has a second factor that counts.
pub(super) async fn is_enrolled(conn: &mut TenantConn, user: UserId) -> QueryResult<bool> {
    let confirmed = f::table.find(user).filter(f::confirmed_at.is_not_null());
    diesel::select(diesel::dsl::exists(confirmed)).get_result(conn).await
}

/// Keeps a new seed that does not count yet. False if there is one that does.
pub(super) async fn enrol(conn: &mut TenantConn, user: UserId, sealed: &[u8], now: DateTime<Utc>) -> QueryResult<bool> {
    use diesel::query_dsl::methods::FilterDsl as _;
    let row = (f::user_id.eq(user), f::totp_sealed.eq(sealed), f::created_at.eq(now));
    let kept = diesel::insert_into(f::table)
        .values(row)
        .on_conflict(f::user_id)
        .do_update()
        .set((f::totp_sealed.eq(sealed), f::last_step.eq(0), f::created_at.eq(now)))
        .filter(f::confirmed_at.is_null());
    Ok(kept.execute(conn).await? == 1)
}

/// Notes that the code of a time step was taken. False if that one, or a later one, was taken before.
pub(super) async fn take_step(conn: &mut TenantConn, user: UserId, step: i64) -> QueryResult<bool> {
    let taken = diesel::update(f::table.find(user).filter(f::last_step.lt(step))).set(f::last_step.eq(step));
    Ok(taken.execute(conn).await? == 1)
}

/// The factor counts from here on. What stood for one before it does not stand for this one.
pub(super) async fn confirm(conn: &mut TenantConn, user: UserId, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::delete(d::table.filter(d::user_id.eq(user))).execute(conn).await?;
    diesel::update(f::table.find(user)).set(f::confirmed_at.eq(now)).execute(conn).await.map(drop)
}

/// Takes the factor away, with all that stands for it.
pub(super) async fn remove(conn: &mut TenantConn, user: UserId) -> QueryResult<bool> {
    // In the order in which a login takes them.
    let removed = diesel::delete(f::table.find(user)).execute(conn).await? == 1;
    diesel::delete(r::table.filter(r::user_id.eq(user))).execute(conn).await?;
    forget_challenges(conn, user).await?;
    diesel::delete(d::table.filter(d::user_id.eq(user))).execute(conn).await?;
    Ok(removed)
}

/// Ends a person's logins that wait for their second half.
pub(super) async fn forget_challenges(conn: &mut TenantConn, user: UserId) -> QueryResult<()> {
    diesel::delete(c::table.filter(c::user_id.eq(user))).execute(conn).await.map(drop)
}

/// Replaces a person's recovery codes.
pub(super) async fn set_recovery_codes(conn: &mut TenantConn, user: UserId, digests: &[[u8; 32]]) -> QueryResult<()> {
    diesel::delete(r::table.filter(r::user_id.eq(user))).execute(conn).await?;
    let rows: Vec<_> = digests.iter().map(|digest| (r::user_id.eq(user), r::digest.eq(digest.as_slice()))).collect();
    diesel::insert_into(r::table).values(rows).execute(conn).await.map(drop)
}

/// Takes a recovery code, once.
pub(super) async fn take_recovery_code(conn: &mut TenantConn, user: UserId, digest: &[u8; 32]) -> QueryResult<bool> {
    Ok(diesel::delete(r::table.find((user, digest.as_slice()))).execute(conn).await? == 1)
}

/// How many recovery codes a person has left.
pub(super) async fn recovery_codes_left(conn: &mut TenantConn, user: UserId) -> QueryResult<i64> {
    r::table.filter(r::user_id.eq(user)).count().get_result(conn).await
}

/// Keeps a login that waits for its second half; sweeps out this person's expired ones, and all but the newest.
pub(super) async fn insert_challenge(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    (user, auth_version): (UserId, i64),
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    let newest = mfa_challenges::table
        .filter(c::user_id.eq(user))
        .filter(c::expires_at.gt(now))
        .order(c::created_at.desc())
        .limit(CHALLENGES - 1)
        .select(c::token_hash);
    let newest: Vec<Vec<u8>> = newest.load(conn).await?;
    diesel::delete(c::table.filter(c::user_id.eq(user)).filter(c::token_hash.ne_all(newest))).execute(conn).await?;
    diesel::insert_into(c::table)
        .values((
            c::token_hash.eq(hash.as_slice()),
            c::user_id.eq(user),
            c::auth_version.eq(auth_version),
            c::created_at.eq(now),
            c::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// Whose login waits under this token, with which rights it began, and until when.
pub(super) async fn challenge(
    conn: &mut TenantConn,
    hash: &[u8; 32],
) -> QueryResult<Option<(UserId, i64, DateTime<Utc>)>> {
    c::table.find(hash.as_slice()).select((c::user_id, c::auth_version, c::expires_at)).first(conn).await.optional()
}

/// Ends a challenge. False if it was ended before.
pub(super) async fn take_challenge(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<bool> {
    Ok(diesel::delete(c::table.find(hash.as_slice())).execute(conn).await? == 1)
}

/// A device that is asked for no second factor.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = trusted_devices)]
pub(super) struct DeviceRow {
    pub id: Uuid,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Keeps a device; sweeps out this person's expired ones, and all but the newest.
pub(super) async fn insert_device(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    user: UserId,
    client: &Client,
    now: DateTime<Utc>,
    kept: TimeDelta,
) -> QueryResult<()> {
    let newest: Vec<Uuid> = d::table
        .filter(d::user_id.eq(user))
        .filter(d::expires_at.gt(now))
        .order(d::created_at.desc())
        .limit(DEVICES - 1)
        .select(d::id)
        .load(conn)
        .await?;
    diesel::delete(d::table.filter(d::user_id.eq(user)).filter(d::id.ne_all(newest))).execute(conn).await?;
    diesel::insert_into(d::table)
        .values((
            d::id.eq(Uuid::now_v7()),
            d::user_id.eq(user),
            d::token_hash.eq(hash.as_slice()),
            d::ip.eq(&client.ip),
            d::user_agent.eq(&client.user_agent),
            d::created_at.eq(now),
            d::last_used_at.eq(now),
            d::expires_at.eq(now + kept),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// Notes that a device came back. False if it is not this person's, or not any more.
pub(super) async fn use_device(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    user: UserId,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let known =
        d::table.filter(d::token_hash.eq(hash.as_slice())).filter(d::user_id.eq(user)).filter(d::expires_at.gt(now));
    Ok(diesel::update(known).set(d::last_used_at.eq(now)).execute(conn).await? == 1)
}

/// A person's trusted devices, the latest first.
pub(super) async fn devices(conn: &mut TenantConn, user: UserId, now: DateTime<Utc>) -> QueryResult<Vec<DeviceRow>> {
    d::table
        .filter(d::user_id.eq(user))
        .filter(d::expires_at.gt(now))
        .order((d::created_at.desc(), d::id))
        .select(DeviceRow::as_select())
        .load(conn)
        .await
}

/// Forgets all devices of a person.
pub(super) async fn remove_devices(conn: &mut TenantConn, user: UserId) -> QueryResult<()> {
    diesel::delete(d::table.filter(d::user_id.eq(user))).execute(conn).await.map(drop)
}

/// Forgets a device. False if it is not this person's.
pub(super) async fn remove_device(conn: &mut TenantConn, user: UserId, id: Uuid) -> QueryResult<bool> {
    Ok(diesel::delete(d::table.find(id).filter(d::user_id.eq(user))).execute(conn).await? == 1)
}
