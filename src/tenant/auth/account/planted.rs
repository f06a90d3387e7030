//! What an impostor may have left in an account whose address nobody had shown to be theirs.

use diesel::QueryResult;
use diesel::sql_types::{Array, Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::{ApiKeyId, OauthClientId, TenantId, UserId};
use crate::router::TenantConn;
use crate::tenant::auth::Auth;
use crate::tenant::oauth;

/// How the audit says that somebody else has made a person: they cannot have signed up with an address that is not theirs.
/// The first person of an organisation was set up with it, and is among them.
const MADE: &[&str] = &["user.created", "user.imported", "scim.user_created", "federation.account_created"];

/// How it says that a person has shown before that an address is theirs. The person's row forgets it: in a copy, and with
/// another address that an administrator gives them.
const PROVED: &[&str] = &["email.verified", "email.changed", "password.reset"];

/// What is a person's, in the order in which a login takes it.
const THEIRS: &[(&str, &str)] = &[
    ("second_factors", "user_id"),
    ("recovery_codes", "user_id"),
    ("trusted_devices", "user_id"),
    ("passkeys", "user_id"),
    ("social_accounts", "user_id"),
    ("scim_tokens", "owner_id"),
];

#[derive(diesel::QueryableByName)]
struct Is {
    #[diesel(sql_type = Bool)]
    is: bool,
}

#[derive(diesel::QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// What was taken away.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub keys: Vec<ApiKeyId>,
    pub apps: Vec<OauthClientId>,
    /// Whether there was anything.
    pub any: bool,
    /// For the audit: how many of what.
    pub said: String,
}

impl Taken {
    /// Has the node forget at once what was taken away. To be called after the commit.
    pub(super) async fn forget(self, auth: &Auth, tenant: TenantId) {
        for key in self.keys {
            auth.admission.forget_key(tenant, key).await;
        }
        for app in self.apps {
            auth.admission.forget_app(tenant, app).await;
        }
    }
}

/// Takes away all that opens an account, and what acts in its name, if its person shows for the first time that the address
/// is theirs, and might have been signed up by somebody else. None otherwise. To be called with the person held, and before
/// the address is noted as verified; sessions, and what apps were given, are ended besides, and consents forgotten
/// ([`forget_consents`]).
pub(super) async fn take_away(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<Taken>> {
    if !is_first_proof(conn, user).await? {
        return Ok(None);
    }
    let (mut said, mut any) = (String::from("the address is verified by it; taken away"), false);
    for (table, column) in THEIRS {
        let gone = diesel::sql_query(format!("DELETE FROM {table} WHERE {column} = $1"));
        let gone = gone.bind::<SqlUuid, _>(user).execute(conn).await?;
        any |= gone > 0;
        said.push_str(&format!(", {}: {gone}", table.replace('_', " ")));
    }
    let keys = ids(conn, "DELETE FROM api_keys WHERE owner_id = $1 RETURNING id", user).await?;
    let mut apps = Vec::new();
    if conn.schema_version() >= oauth::SINCE {
        apps = ids(conn, "DELETE FROM oauth_clients WHERE owner_id = $1 RETURNING id", user).await?;
    }
    said.push_str(&format!(", API keys: {}, apps: {}", keys.len(), apps.len()));
    any |= !keys.is_empty() || !apps.is_empty();
    let keys = keys.into_iter().map(ApiKeyId::from).collect();
    Ok(Some(Taken { keys, apps: apps.into_iter().map(OauthClientId::from).collect(), any, said }))
}

/// Forgets which apps the person let have something: they open nothing by themselves, and whoever comes to sign up from an
/// app has given one before the address is verified.
pub(super) async fn forget_consents(conn: &mut TenantConn, user: UserId) -> QueryResult<()> {
    if conn.schema_version() < oauth::SINCE {
        return Ok(());
    }
    let consents = diesel::sql_query("DELETE FROM oauth_consents WHERE user_id = $1");
    consents.bind::<SqlUuid, _>(user).execute(conn).await.map(drop)
}

/// Whether a person has never verified an address, though they may have signed up by themselves.
async fn is_first_proof(conn: &mut TenantConn, user: UserId) -> QueryResult<bool> {
    let query = diesel::sql_query(
        "SELECT u.email_verified_at IS NULL \
         AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id AND a.action = ANY ($2)) AS \"is\" \
         FROM users u WHERE u.id = $1",
    );
    let known = [MADE, PROVED].concat();
    query.bind::<SqlUuid, _>(user).bind::<Array<Text>, _>(known).get_result::<Is>(conn).await.map(|row| row.is)
}

async fn ids(conn: &mut TenantConn, statement: &'static str, user: UserId) -> QueryResult<Vec<Uuid>> {
    let rows: Vec<Id> = diesel::sql_query(statement).bind::<SqlUuid, _>(user).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
