//! Verified addresses, as the installation's blind index is told of them: see `V17__address_news.sql`. The database notes
//! what changes; who changes it rings (`announce`), and a node carries it on.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnectionCore, RunQueryDsl};
use uuid::Uuid;

use super::mail::{self, Mail, Recipient};
use super::users::rules::email_key;
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::router::{TenantConn, TenantDb, TenantTx, Waiting};

pub use super::mail::Workspace;

/// The built-in schema that notes what changes.
pub const SINCE: i32 = 17;

/// Tells that the transaction under way changes who has verified which address. To be called before its commit.
pub(in crate::tenant) async fn announce(db: &TenantDb) {
    if db.tenant().schema_version >= SINCE {
        db.router().ring(db.tenant().id, Waiting::Addresses).await;
    }
}

/// What has changed: of whom, and the address that they have verified, if they have one and may come in.
#[derive(Debug, Clone, QueryableByName)]
pub struct News {
    /// Who; the nil id for everybody.
    #[diesel(sql_type = SqlUuid)]
    pub user_id: Uuid,
    /// Of this change.
    #[diesel(sql_type = SqlUuid)]
    pub mark: Uuid,
    /// The normalised address.
    #[diesel(sql_type = Nullable<Text>)]
    pub address: Option<String>,
}

/// The next changes.
///
/// # Errors
/// What the database answers.
pub async fn news<C>(conn: &mut C, most: i64) -> QueryResult<Vec<News>>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    diesel::sql_query(
        "SELECT n.user_id, n.mark, u.email_key AS address FROM public.address_news n LEFT JOIN public.users u \
         ON u.id = n.user_id AND u.status = 'active' AND u.email_verified_at IS NOT NULL ORDER BY n.user_id LIMIT $1",
    )
    .bind::<BigInt, _>(most)
    .load(conn)
    .await
}

/// These were carried on: what has changed since stays.
///
/// # Errors
/// What the database answers.
pub async fn carried<C>(conn: &mut C, news: &[News]) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    diesel::sql_query(
        "DELETE FROM public.address_news WHERE (user_id, mark) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
    )
    .bind::<Array<SqlUuid>, _>(news.iter().map(|one| one.user_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(news.iter().map(|one| one.mark).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Somebody with a verified address who may come in.
#[derive(Debug, Clone, QueryableByName)]
pub struct Verified {
    /// Who.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The normalised address.
    #[diesel(sql_type = Text)]
    pub address: String,
}

/// The next of all of them, by id.
///
/// # Errors
/// What the database answers.
pub async fn verified<C>(conn: &mut C, after: Uuid, most: i64) -> QueryResult<Vec<Verified>>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    diesel::sql_query(
        "SELECT id, email_key AS address FROM public.users WHERE status = 'active' AND email_verified_at IS NOT NULL \
         AND id > $1 ORDER BY id LIMIT $2",
    )
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(most)
    .load(conn)
    .await
}

/// Somebody as they are written to.
#[derive(Debug, Clone, QueryableByName)]
pub struct Reached {
    /// The normalised address.
    #[diesel(sql_type = Text)]
    pub address: String,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    first_name: String,
}

impl Reached {
    /// The address that a mail to them goes to, normalised.
    #[must_use]
    pub fn written_to(&self) -> String {
        email_key(&self.email)
    }
}

/// A person, if they have verified their address and may come in.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn reach(db: &TenantDb, user: Uuid) -> ApiResult<Option<Reached>> {
    db.read(async |conn: &mut TenantConn| -> ApiResult<Option<Reached>> {
        let found = diesel::sql_query(
            "SELECT email_key AS address, email, first_name FROM users \
             WHERE id = $1 AND status = 'active' AND email_verified_at IS NOT NULL",
        );
        Ok(found.bind::<SqlUuid, _>(user).get_result(conn).await.optional()?)
    })
    .await
}

/// Queues the mail that lists somebody's workspaces, unless they were sent one since they last asked.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn tell(
    db: &TenantDb,
    (user, person): (Uuid, &Reached),
    workspaces: Vec<Workspace>,
    asked_at: DateTime<Utc>,
) -> ApiResult<()> {
    let user = UserId::from(user);
    let to = Recipient { user: Some(user), address: person.email.clone(), name: person.first_name.clone() };
    let mail = Mail::Workspaces { workspaces };
    db.transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
        // Of two nodes that come to it at the same time, the second sees what the first did.
        crate::tenant::users::store::hold(conn, user).await?;
        if mail::was_sent(conn, user, &mail, asked_at).await? {
            return Ok(());
        }
        mail::queue(conn, db, &to, mail).await
    })
    .await
}

/// Has everybody's said anew: the database is another one than what was said last was read from.
///
/// # Errors
/// What the database answers.
pub async fn say_anew<C>(conn: &mut C) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    diesel::sql_query(
        "INSERT INTO public.address_news (user_id) VALUES ($1) ON CONFLICT (user_id) DO UPDATE \
         SET mark = gen_random_uuid()",
    )
    .bind::<SqlUuid, _>(Uuid::nil())
    .execute(conn)
    .await
    .map(drop)
}

/// Claims nobody: in a copy of another tenant's database, nobody has shown yet that they want to be found there.
///
/// # Errors
/// What the database answers.
pub async fn claim_nobody<C>(conn: &mut C) -> QueryResult<()>
where
    C: AsyncConnectionCore<Backend = diesel::pg::Pg>,
{
    for statement in [
        "UPDATE public.users SET email_verified_at = NULL WHERE email_verified_at IS NOT NULL",
        "DELETE FROM public.address_news",
    ] {
        diesel::sql_query(statement).execute(conn).await?;
    }
    Ok(())
}
