//! What apps ask, until a person answers, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::demands::Demands;
use crate::kernel::{OauthClientId, SessionId, UserId};
use crate::router::TenantConn;
use crate::tenant::oauth::clients::store as clients;

diesel::table! {
    oauth_requests (token_hash) {
        token_hash -> Bytea,
        client_id -> Uuid,
        redirect_uri -> Text,
        scopes -> Array<Text>,
        state -> Nullable<Text>,
        nonce -> Nullable<Text>,
        code_challenge -> Text,
        network -> Nullable<Text>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        max_age -> Nullable<Integer>,
        prompt -> Nullable<Text>,
    }
}

use oauth_requests as q;

/// Unanswered questions of one tenant; anybody can make some. The oldest give way.
const MOST: i64 = 50_000;
/// The same from one address: it gets no more.
const MOST_FROM_ONE: i64 = 1_000;

/// What an app asks.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = oauth_requests)]
pub(super) struct RequestRow {
    pub client_id: OauthClientId,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub state: Option<String>,
    pub nonce: Option<String>,
    pub code_challenge: String,
    pub network: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Keeps a question, and sweeps out some that nobody answered. False if there are too many from this address.
pub(super) async fn insert(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    row: &RequestRow,
    demands: &Demands,
) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Many {
        #[diesel(sql_type = Bool)]
        many: bool,
    }
    diesel::sql_query(
        "DELETE FROM oauth_requests WHERE token_hash IN (\
         (SELECT token_hash FROM oauth_requests WHERE created_at < $1 - interval '1 hour' \
          ORDER BY created_at LIMIT 100) \
         UNION ALL (SELECT token_hash FROM oauth_requests ORDER BY created_at DESC OFFSET $2 LIMIT 100))",
    )
    .bind::<Timestamptz, _>(row.created_at)
    .bind::<BigInt, _>(MOST)
    .execute(conn)
    .await?;
    let many = diesel::sql_query(
        "SELECT count(*) >= $2 AS many FROM (SELECT FROM oauth_requests \
         WHERE network = $1 AND expires_at > $3 LIMIT $2) n",
    )
    .bind::<Nullable<Text>, _>(&row.network)
    .bind::<BigInt, _>(MOST_FROM_ONE)
    .bind::<Timestamptz, _>(row.created_at)
    .get_result::<Many>(conn)
    .await?
    .many;
    if many {
        return Ok(false);
    }
    let row = (q::token_hash.eq(hash.as_slice()), row);
    if demands.is_none() {
        diesel::insert_into(q::table).values(row).execute(conn).await?;
    } else {
        let row = (row, q::max_age.eq(demands.max_age), q::prompt.eq(demands.prompt.as_deref()));
        diesel::insert_into(q::table).values(row).execute(conn).await?;
    }
    Ok(true)
}

/// How the app wants the person to be asked. Read from whatever columns there are: a node that has not heard yet that the
/// tenant was migrated does not pass over what another has kept.
pub(super) async fn demands(conn: &mut TenantConn, hash: &[u8; 32]) -> QueryResult<Demands> {
    #[derive(QueryableByName)]
    struct Kept {
        #[diesel(sql_type = Nullable<Integer>)]
        max_age: Option<i32>,
        #[diesel(sql_type = Nullable<Text>)]
        prompt: Option<String>,
    }
    let kept: Option<Kept> = diesel::sql_query(
        "SELECT (to_jsonb(q) ->> 'max_age')::integer AS max_age, to_jsonb(q) ->> 'prompt' AS prompt \
         FROM oauth_requests q WHERE token_hash = $1",
    )
    .bind::<Binary, _>(hash.as_slice())
    .get_result(conn)
    .await
    .optional()?;
    Ok(kept.map(|Kept { max_age, prompt }| Demands { max_age, prompt }).unwrap_or_default())
}

/// A question that waits for its answer.
pub(super) async fn find(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Option<RequestRow>> {
    let waiting = q::table.find(hash.as_slice()).filter(q::expires_at.gt(now));
    waiting.select(RequestRow::as_select()).first(conn).await.optional()
}

/// Holds those by whom a question is answered until the transaction ends: the person, the app, and the session if it stands.
/// False if it has ended. To be called before [`take`]: whoever removes an app holds it before what it asked.
pub(super) async fn hold(
    conn: &mut TenantConn,
    (user, session): (UserId, SessionId),
    row: &RequestRow,
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let person = diesel::sql_query("SELECT FROM users WHERE id = $1 FOR KEY SHARE");
    person.bind::<SqlUuid, _>(user).execute(conn).await?;
    clients::stay(conn, row.client_id).await?;
    // Whoever ends it at this moment ends what comes of it, or is seen here.
    let session_stands =
        "SELECT FROM sessions WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3 FOR SHARE";
    let session_stands = diesel::sql_query(session_stands).bind::<SqlUuid, _>(session).bind::<SqlUuid, _>(user);
    Ok(session_stands.bind::<Timestamptz, _>(now).execute(conn).await? == 1)
}

/// Takes one to be answered, once: whoever comes after gets none.
pub(super) async fn take(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Option<RequestRow>> {
    let waiting = q::table.find(hash.as_slice()).filter(q::expires_at.gt(now));
    diesel::delete(waiting).returning(RequestRow::as_returning()).get_result(conn).await.optional()
}
