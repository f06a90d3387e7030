//! One person with accounts at several tenants: what a tenant's own database has to say to it.
//!
//! An account names the person whom it belongs to by an opaque id. The control plane says which accounts name the same
//! one; it is believed only where the account agrees. Trust has a direction: an account that was accepted from elsewhere
//! names that organisation too, and lets its person in from there, never the other way round. Whoever runs an
//! organisation can sign in as any of its people.

use diesel::prelude::*;
use diesel::sql_types::{Nullable, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::account;
use super::mfa::{LoggedIn, gate};
use super::settings::Auth;
use super::store;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::opaque::OpaqueToken;
use crate::kernel::{TenantId, UserId};
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::users::rules::UserStatus;
use crate::tenant::users::store::{self as users, UserChange};

/// The built-in schema that knows from where a person is let in (`V20__where_trust_comes_from.sql`).
pub const SINCE: i32 = 20;

#[derive(QueryableByName)]
struct Person {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    person_id: Option<Uuid>,
}

#[derive(QueryableByName)]
struct Trust {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    person_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    person_from: Option<Uuid>,
}

/// The person whom an account belongs to, if it says so.
pub(super) async fn person(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<Uuid>> {
    let found = diesel::sql_query("SELECT person_id FROM users WHERE id = $1").bind::<SqlUuid, _>(user.uuid());
    Ok(found.get_result::<Person>(conn).await.optional()?.and_then(|found| found.person_id))
}

async fn set_person(conn: &mut TenantConn, user: UserId, person: Uuid) -> QueryResult<()> {
    let set = diesel::sql_query("UPDATE users SET person_id = $2 WHERE id = $1");
    set.bind::<SqlUuid, _>(user.uuid()).bind::<SqlUuid, _>(person).execute(conn).await.map(drop)
}

async fn trust(conn: &mut TenantConn, user: UserId) -> QueryResult<Trust> {
    let found = diesel::sql_query("SELECT person_id, person_from FROM users WHERE id = $1");
    found.bind::<SqlUuid, _>(user.uuid()).get_result(conn).await
}

/// Whether an account lets its person in from elsewhere.
pub(super) async fn lets_in(conn: &mut TenantConn, db: &TenantDb, user: UserId) -> QueryResult<bool> {
    Ok(db.tenant().schema_version >= SINCE && trust(conn, user).await?.person_from.is_some())
}

async fn set_trust(conn: &mut TenantConn, user: UserId, from: TenantId) -> QueryResult<()> {
    let set = diesel::sql_query("UPDATE users SET person_from = $2 WHERE id = $1");
    set.bind::<SqlUuid, _>(user.uuid()).bind::<SqlUuid, _>(from.uuid()).execute(conn).await.map(drop)
}

/// The person whom an account belongs to, if it says so.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn person_of(db: &TenantDb, user: UserId) -> ApiResult<Option<Uuid>> {
    let db = db.router().at_schema(db.clone(), account::SINCE).await?;
    db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(person(conn, user).await?) }).await
}

/// The same; an account that has said nothing yet belongs to a new person from here on.
///
/// # Errors
/// As [`person_of`].
pub async fn ensure_person(db: &TenantDb, user: UserId) -> ApiResult<Uuid> {
    let db = db.router().at_schema(db.clone(), account::SINCE).await?;
    db.transaction(async |conn: &mut TenantTx| -> ApiResult<Uuid> {
        users::hold(conn, user).await?;
        if let Some(person) = person(conn, user).await? {
            return Ok(person);
        }
        let new = Uuid::now_v7();
        set_person(conn, user, new).await?;
        Ok(new)
    })
    .await
}

fn void() -> ApiError {
    ApiError::invalid_field("token", "invalid", "The invitation is not valid, or not any more.")
}

/// Whom an invitation is for, if it can still be accepted.
///
/// # Errors
/// 422 if it cannot.
pub async fn invited(auth: &Auth, db: &TenantDb, token: &OpaqueToken) -> ApiResult<UserId> {
    let (hash, now) = (token.hash(), auth.clock.now());
    let found = db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::open_invitation(conn, &hash, now).await?) })
        .await?;
    found.ok_or_else(void)
}

/// Whose an invitation is that this person has accepted already.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn accepted(db: &TenantDb, token: &OpaqueToken, person: Uuid) -> ApiResult<Option<UserId>> {
    let hash = token.hash();
    db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::accepted_by(conn, &hash, person).await?) }).await
}

/// Accepts an invitation for a person who has proved who they are at another organisation: the account has no password,
/// belongs to them, and lets them in from there.
///
/// # Errors
/// 422 for an invitation that is not valid (any more).
pub async fn accept(
    auth: &Auth,
    db: &TenantDb,
    token: &OpaqueToken,
    (person, from): (Uuid, TenantId),
) -> ApiResult<UserId> {
    let hash = token.hash();
    db.transaction(async |conn: &mut TenantTx| -> ApiResult<UserId> {
        let now = auth.clock.now();
        let user = store::accept_invitation(conn, &hash, now).await?.ok_or_else(void)?;
        if users::hold(conn, user).await?.status != UserStatus::Invited {
            return Err(void());
        }
        set_person(conn, user, person).await?;
        set_trust(conn, user, from).await?;
        let status = Some(UserStatus::Active.as_str().to_owned());
        users::update(conn, user, &UserChange { status, ..UserChange::default() }, true, now).await?;
        if store::came_by_mail(conn, db, &hash).await? {
            account::store::verified(conn, db, user, now).await?;
        }
        mail::notify_security(conn, db, user, SecurityNotice::AccountsLinked, None).await?;
        let actor = format!("user:{user}");
        let entry = Entry { actor: &actor, action: "invitation.accepted", user, session: None, reason: None };
        audit::note::<TenantConn>(conn, &entry, now).await?;
        Ok(user)
    })
    .await
}

/// Whether there is this account, and it is this person's, be it one that may not come in now.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn is_theirs(db: &TenantDb, user: UserId, person_id: Uuid) -> ApiResult<bool> {
    Ok(person_of(db, user).await? == Some(person_id))
}

/// Whether an account is this person's and may come in.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn belongs(db: &TenantDb, user: UserId, person_id: Uuid) -> ApiResult<bool> {
    let db = db.router().at_schema(db.clone(), account::SINCE).await?;
    db.read(async |conn: &mut TenantConn| -> ApiResult<bool> {
        let active = users::find(conn, user).await?.is_some_and(|user| user.status == UserStatus::Active);
        Ok(active && person(conn, user).await? == Some(person_id))
    })
    .await
}

/// Lets a person in who has just proved at another organisation who they are, by this tenant's own rules: a second factor is
/// asked for where it would be after a password.
///
/// # Errors
/// 404 if the account is not theirs, may not come in, or was not accepted from there.
pub async fn enter(
    auth: &Auth,
    db: &TenantDb,
    user: UserId,
    (person_id, from): (Uuid, TenantId),
    client: &Client,
) -> ApiResult<LoggedIn> {
    let db = &db.router().at_schema(db.clone(), SINCE).await?;
    db.transaction(async |conn: &mut TenantTx| -> ApiResult<LoggedIn> {
        let nobody = || ApiError::new(Code::NotFound).detail("There is no such tenant.");
        users::find(conn, user).await?.ok_or_else(nobody)?;
        // Nobody takes the account away, or ends its sessions, while one is opened.
        let found = users::hold(conn, user).await?;
        let trust = trust(conn, user).await?;
        let theirs = trust.person_id == Some(person_id) && trust.person_from == Some(from.uuid());
        if found.status != UserStatus::Active || !theirs {
            return Err(nobody());
        }
        let actor = format!("user:{user}");
        let entry = Entry { actor: &actor, action: "session.switched", user, session: None, reason: None };
        audit::note::<TenantConn>(conn, &entry, auth.clock.now()).await?;
        gate::enter(conn, auth, db, found, client, None).await
    })
    .await
}
