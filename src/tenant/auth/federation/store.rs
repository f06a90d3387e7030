//! Sign-ins under way and social accounts, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::kernel::crypto::sha256;
use crate::kernel::{IdentityProviderId, SessionId, SocialAccountId, UserId};
use crate::router::TenantConn;
use crate::tenant::auth::begun::{self, Whence};
use crate::tenant::identity_providers::LINKS_SINCE;

diesel::table! {
    social_accounts (id) {
        id -> Uuid,
        user_id -> Uuid,
        provider_id -> Uuid,
        issuer -> Text,
        subject -> Text,
        email -> Nullable<Text>,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
    }
}

diesel::table! {
    federation_states (state_hash) {
        state_hash -> Bytea,
        provider_id -> Uuid,
        redirect_uri -> Text,
        session_id -> Nullable<Uuid>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        network -> Nullable<Text>,
        site -> Nullable<Text>,
    }
}

use federation_states as f;
use social_accounts as a;

/// Sign-ins under way of one tenant; the oldest give way.
const MOST: i64 = 50_000;
/// The same from one network, and [`begun::NETWORKS`] times as many from one site: they get no more, so that neither alone takes
/// everybody else's away.
const MOST_FROM_ONE: i64 = 1_000;

/// A sign-in that has begun.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = federation_states)]
pub(super) struct StateRow {
    pub provider_id: IdentityProviderId,
    pub redirect_uri: String,
    pub session_id: Option<SessionId>,
    pub expires_at: DateTime<Utc>,
}

/// Holds a person and their session until the transaction ends. False if the session has ended: whoever ends it at this moment
/// is waited for.
pub(super) async fn hold_session(
    conn: &mut TenantConn,
    (user, session): (UserId, SessionId),
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let person = diesel::sql_query("SELECT FROM users WHERE id = $1 FOR KEY SHARE");
    person.bind::<SqlUuid, _>(user).execute(conn).await?;
    let stands =
        "SELECT FROM sessions WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3 FOR SHARE";
    let stands = diesel::sql_query(stands).bind::<SqlUuid, _>(session).bind::<SqlUuid, _>(user);
    Ok(stands.bind::<Timestamptz, _>(now).execute(conn).await? == 1)
}

/// Keeps a sign-in that begins; sweeps out some that never came back. If there are too many from its network, or its site, gives
/// the limit, and keeps nothing.
pub(super) async fn insert_state(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    state: &StateRow,
    from: Option<&Whence>,
    now: DateTime<Utc>,
) -> QueryResult<Option<i64>> {
    diesel::sql_query(
        "DELETE FROM federation_states WHERE state_hash IN (\
         (SELECT state_hash FROM federation_states WHERE created_at < $1 - interval '1 hour' ORDER BY created_at LIMIT 100) \
         UNION ALL (SELECT state_hash FROM federation_states ORDER BY created_at DESC OFFSET $2 LIMIT 100))",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(MOST)
    .execute(conn)
    .await?;
    let row = (
        f::state_hash.eq(hash.as_slice()),
        f::provider_id.eq(state.provider_id),
        f::redirect_uri.eq(&state.redirect_uri),
        f::session_id.eq(state.session_id),
        f::created_at.eq(now),
        f::expires_at.eq(state.expires_at),
    );
    if conn.schema_version() < begun::SINCE {
        diesel::insert_into(f::table).values(row).execute(conn).await?;
        return Ok(None);
    }
    if let Some(from) = from
        && let Some(most) = limit_met(conn, from, now).await?
    {
        return Ok(Some(most));
    }
    let whence = (f::network.eq(from.map(|from| &*from.network)), f::site.eq(from.map(|from| &*from.site)));
    diesel::insert_into(f::table).values((row, whence)).execute(conn).await?;
    Ok(None)
}

/// The limit, if as many sign-ins are under way from a network, or from its site, as may.
async fn limit_met(conn: &mut TenantConn, from: &Whence, now: DateTime<Utc>) -> QueryResult<Option<i64>> {
    let under_way = || f::table.filter(f::expires_at.gt(now)).select(f::provider_id);
    let most = MOST_FROM_ONE;
    let of_network = under_way().filter(f::network.eq(&*from.network)).offset(most - 1);
    if of_network.first::<IdentityProviderId>(conn).await.optional()?.is_some() {
        return Ok(Some(most));
    }
    let most = MOST_FROM_ONE * begun::NETWORKS;
    let of_site = under_way().filter(f::site.eq(&*from.site)).offset(most - 1);
    Ok(of_site.first::<IdentityProviderId>(conn).await.optional()?.map(|_| most))
}

/// Takes a sign-in that has begun, once: whoever comes after gets none.
pub(super) async fn take_state(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<Option<StateRow>> {
    diesel::delete(f::table.find(hash.as_slice())).returning(StateRow::as_returning()).get_result(conn).await.optional()
}

/// Somebody's account at a provider.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = social_accounts)]
pub(super) struct AccountRow {
    pub id: SocialAccountId,
    pub provider_id: IdentityProviderId,
    pub email: Option<String>,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
}

/// Lets one at a time decide whose an account at a provider is.
pub(super) async fn hold_identity(conn: &mut TenantConn, issuer: &str, subject: &str) -> QueryResult<()> {
    let digest = sha256(format!("social-account\n{issuer}\n{subject}").as_bytes());
    let key = i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default());
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(key).execute(conn).await.map(drop)
}

/// What ties an account at a provider to a person.
#[derive(Debug, QueryableByName)]
pub(super) struct Link {
    #[diesel(sql_type = SqlUuid)]
    pub user_id: UserId,
    /// Through which it was made, and counts.
    #[diesel(sql_type = SqlUuid)]
    pub provider_id: IdentityProviderId,
    /// Whether the person has made it, signed in. Before `V22__links.sql` only the audit has noted that.
    #[diesel(sql_type = Bool)]
    pub by_person: bool,
}

/// Whose account it is, and by whose word.
pub(super) async fn link_of(conn: &mut TenantConn, issuer: &str, subject: &str) -> QueryResult<Option<Link>> {
    let by_person = if conn.schema_version() >= LINKS_SINCE { "by_person" } else { "false AS by_person" };
    let link =
        format!("SELECT user_id, provider_id, {by_person} FROM social_accounts WHERE issuer = $1 AND subject = $2");
    diesel::sql_query(link).bind::<Text, _>(issuer).bind::<Text, _>(subject).get_result(conn).await.optional()
}

/// Unties an account, whosever it is.
pub(super) async fn remove_link(conn: &mut TenantConn, issuer: &str, subject: &str) -> QueryResult<()> {
    let link = a::table.filter(a::issuer.eq(issuer)).filter(a::subject.eq(subject));
    diesel::delete(link).execute(conn).await.map(drop)
}

/// Notes that a person has made a link themselves, where there is room for it.
pub(super) async fn note_by_person(conn: &mut TenantConn, id: SocialAccountId) -> QueryResult<()> {
    if conn.schema_version() < LINKS_SINCE {
        return Ok(());
    }
    let noted = diesel::sql_query("UPDATE social_accounts SET by_person = true WHERE id = $1");
    noted.bind::<SqlUuid, _>(id).execute(conn).await.map(drop)
}

/// Ties an account at a provider to a person.
pub(super) async fn insert_account(
    conn: &mut TenantConn,
    (user, provider): (UserId, IdentityProviderId),
    (issuer, subject): (&str, &str),
    email: Option<&str>,
    now: DateTime<Utc>,
) -> QueryResult<AccountRow> {
    diesel::insert_into(a::table)
        .values((
            a::id.eq(SocialAccountId::generate()),
            a::user_id.eq(user),
            a::provider_id.eq(provider),
            a::issuer.eq(issuer),
            a::subject.eq(subject),
            a::email.eq(email),
            a::created_at.eq(now),
            a::last_used_at.eq(now),
        ))
        .returning(AccountRow::as_returning())
        .get_result(conn)
        .await
}

/// Notes that somebody came in with their account.
pub(super) async fn used(
    conn: &mut TenantConn,
    (issuer, subject): (&str, &str),
    email: Option<&str>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::update(a::table.filter(a::issuer.eq(issuer)).filter(a::subject.eq(subject)))
        .set((a::last_used_at.eq(now), a::email.eq(email)))
        .execute(conn)
        .await
        .map(drop)
}

/// A person's accounts at providers, the first one first.
pub(super) async fn accounts(conn: &mut TenantConn, user: UserId) -> QueryResult<Vec<AccountRow>> {
    a::table.filter(a::user_id.eq(user)).order((a::created_at, a::id)).select(AccountRow::as_select()).load(conn).await
}

/// Whether a person has any.
pub(in crate::tenant::auth) async fn has_account(conn: &mut TenantConn, user: UserId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(a::table.filter(a::user_id.eq(user)))).get_result(conn).await
}

/// Unties an account. None if it is not this person's.
pub(super) async fn remove_account(
    conn: &mut TenantConn,
    user: UserId,
    id: SocialAccountId,
) -> QueryResult<Option<AccountRow>> {
    let gone = diesel::delete(a::table.find(id).filter(a::user_id.eq(user)));
    gone.returning(AccountRow::as_returning()).get_result(conn).await.optional()
}

#[derive(QueryableByName)]
struct Is {
    #[diesel(sql_type = Bool)]
    is: bool,
}

/// Whether a person has shown us that their address is theirs.
pub(super) async fn is_verified(conn: &mut TenantConn, user: UserId) -> QueryResult<bool> {
    let query = diesel::sql_query("SELECT u.email_verified_at IS NOT NULL AS \"is\" FROM users u WHERE u.id = $1");
    query.bind::<SqlUuid, _>(user).get_result::<Is>(conn).await.map(|row| row.is)
}

/// Notes that a login's first half was a provider's.
pub(in crate::tenant::auth) async fn note_challenge(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<()> {
    let query = diesel::sql_query("INSERT INTO federated_challenges (token_hash) VALUES ($1)");
    query.bind::<diesel::sql_types::Bytea, _>(hash.as_slice()).execute(conn).await.map(drop)
}

/// Whether it was.
pub(in crate::tenant::auth) async fn is_noted_challenge(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<bool> {
    let query = diesel::sql_query("SELECT EXISTS (SELECT FROM federated_challenges WHERE token_hash = $1) AS \"is\"");
    query.bind::<diesel::sql_types::Bytea, _>(hash.as_slice()).get_result::<Is>(conn).await.map(|row| row.is)
}
