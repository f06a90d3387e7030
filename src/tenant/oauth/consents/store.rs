//! What people agreed to, in the tenant's database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::kernel::{OauthClientId, UserId};
use crate::router::TenantConn;

diesel::table! {
    oauth_consents (user_id, client_id) {
        user_id -> Uuid,
        client_id -> Uuid,
        scopes -> Array<Text>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

use oauth_consents as k;

/// What a person agreed to, with the app's name.
#[derive(Debug, QueryableByName)]
pub(super) struct ConsentRow {
    #[diesel(sql_type = SqlUuid)]
    pub client_id: OauthClientId,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Array<Text>)]
    pub scopes: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// What a person lets an app have.
pub(in crate::tenant::oauth) async fn find(
    conn: &mut TenantConn,
    user: UserId,
    client: OauthClientId,
) -> QueryResult<Option<Vec<String>>> {
    k::table.find((user, client)).select(k::scopes).first(conn).await.optional()
}

/// The same, held until the transaction ends: who takes it back meanwhile, ends what comes of it.
pub(in crate::tenant::oauth) async fn hold(
    conn: &mut TenantConn,
    user: UserId,
    client: OauthClientId,
) -> QueryResult<Option<Vec<String>>> {
    k::table.find((user, client)).select(k::scopes).for_no_key_update().first(conn).await.optional()
}

/// Lets an app have these.
pub(in crate::tenant::oauth) async fn set(
    conn: &mut TenantConn,
    (user, client): (UserId, OauthClientId),
    scopes: &[String],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(k::table)
        .values((
            k::user_id.eq(user),
            k::client_id.eq(client),
            k::scopes.eq(scopes),
            k::created_at.eq(now),
            k::updated_at.eq(now),
        ))
        .on_conflict((k::user_id, k::client_id))
        .do_update()
        .set((k::scopes.eq(scopes), k::updated_at.eq(now)))
        .execute(conn)
        .await
        .map(drop)
}

/// All that a person agreed to, the latest first: a hundred at most.
pub(super) async fn list(conn: &mut TenantConn, user: UserId) -> QueryResult<Vec<ConsentRow>> {
    diesel::sql_query(
        "SELECT k.client_id, c.name, k.scopes, k.created_at, k.updated_at FROM oauth_consents k \
         JOIN oauth_clients c ON c.id = k.client_id WHERE k.user_id = $1 ORDER BY k.updated_at DESC, k.client_id LIMIT 100",
    )
    .bind::<SqlUuid, _>(user)
    .load(conn)
    .await
}

/// Takes it back. False if there is none.
pub(super) async fn remove(conn: &mut TenantConn, user: UserId, client: OauthClientId) -> QueryResult<bool> {
    Ok(diesel::delete(k::table.find((user, client))).execute(conn).await? == 1)
}
