//! What a person leaves behind, handed over to somebody else.
//!
//! Places in teams and apps are handed over. What stands for the person themselves cannot be: their API keys and the tokens of
//! directories work with their rights and may be known to them, and their sessions are theirs. Those end. Contacts belong to
//! the organisation, and stay as they are.

use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::power::check_control;
use super::rules::{UserStatus, may_grant};
use super::store::{self, UserRow};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{ApiKeyId, OauthClientId, TeamId, UserId};
use crate::rest::{Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, NoQuery, Path};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::{Auth, end_sessions, forget_challenges};
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::UsersWrite;
use crate::tenant::{oauth, teams};

/// To whom.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reassign {
    /// Somebody active.
    #[garde(skip)]
    pub to: UserId,
}

/// What was handed over, and what has ended.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reassigned {
    /// Places in teams that somebody else has now. Where they were in a team already, the place counts too.
    #[schema(example = 2)]
    pub teams: usize,
    /// Apps that somebody else answers for now. Whoever has left may know their secrets: rotate them.
    #[schema(example = 1)]
    pub apps: usize,
    /// What could not be handed over.
    pub ended: Ended,
}

/// What could not be handed over, and so has ended.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// API keys that are revoked.
    #[schema(example = 1)]
    pub api_keys: usize,
    /// Tokens of directories that are revoked.
    #[schema(example = 0)]
    pub scim_tokens: usize,
    /// Sessions.
    #[schema(example = 3)]
    pub sessions: usize,
}

/// What is other than it was: keys that are revoked, apps with another owner.
#[derive(Debug, Default)]
pub(super) struct Stale {
    keys: Vec<ApiKeyId>,
    apps: Vec<OauthClientId>,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Runs a statement that gives ids of what is of a person.
async fn ids(conn: &mut TenantConn, statement: &str, user: UserId) -> QueryResult<Vec<Uuid>> {
    let rows: Vec<Id> = diesel::sql_query(statement).bind::<SqlUuid, _>(user.uuid()).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Holds a person and whoever gets what they have, if anybody does, and gives the person.
pub(super) async fn hold(conn: &mut TenantConn, from: UserId, to: Option<UserId>) -> ApiResult<UserRow> {
    let both: Vec<UserId> = to.into_iter().chain([from]).collect();
    let held = store::hold_all(conn, &both).await?;
    held.into_iter().find(|row| row.id == from).ok_or_else(|| ApiError::not_found("user"))
}

/// Hands over what a person has, in the transaction under way, which holds the teams and both ([`hold`]). Whoever does may do
/// all that the other one gets by it, the rights of the apps that act in their name included. Gives what came of it, and what
/// nobody may remember any more.
pub(super) async fn hand_over(
    conn: &mut TenantConn,
    caller: &Authorized<UsersWrite>,
    (from, to): (UserId, UserId),
    field: &'static str,
    now: DateTime<Utc>,
) -> ApiResult<(Reassigned, Stale)> {
    let refused = |said: &'static str| Err(ApiError::invalid_field(field, "not_possible", said));
    if from == to {
        return refused("It is the same person.");
    }
    match store::find(conn, to).await?.map(|target| target.status) {
        Some(UserStatus::Active) => {}
        Some(_) => return refused("This person may not come in."),
        None => return refused("There is no such person."),
    }
    let places = "SELECT team_id AS id FROM team_members WHERE user_id = $1 ORDER BY team_id";
    let places: Vec<TeamId> = ids(conn, places, from).await?.into_iter().map(TeamId::from).collect();
    for team in &places {
        may_grant(field, &caller.access.permissions, &teams::store::permissions(conn, *team).await?)?;
        teams::store::add_member(conn, *team, to, now).await?;
        teams::store::remove_member(conn, *team, from).await?;
    }
    let apps = match caller.db.tenant().schema_version {
        oauth::SINCE.. => oauth::hand_over(conn, (from, to), now).await?,
        _ => Vec::new(),
    };
    for (_, scopes) in &apps {
        may_grant(field, &caller.access.permissions, &oauth::permissions(scopes))?;
    }
    let keys = ids(conn, "DELETE FROM api_keys WHERE owner_id = $1 RETURNING id", from).await?;
    let tokens = ids(conn, "DELETE FROM scim_tokens WHERE owner_id = $1 RETURNING id", from).await?;
    let open =
        diesel::sql_query("SELECT id FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2");
    let open: Vec<Id> = open.bind::<SqlUuid, _>(from.uuid()).bind::<Timestamptz, _>(now).load(conn).await?;
    forget_challenges(conn, &caller.db, from).await?;
    end_sessions(conn, from, None, "reassigned", now).await?;
    let ended = Ended { api_keys: keys.len(), scim_tokens: tokens.len(), sessions: open.len() };
    let done = Reassigned { teams: places.len(), apps: apps.len(), ended };
    note(conn, &audit::actor(caller), (from, to), &done, now).await?;
    let apps = apps.into_iter().map(|(app, _)| app).collect();
    Ok((done, Stale { keys: keys.into_iter().map(ApiKeyId::from).collect(), apps }))
}

/// A line in the audit for either of the two.
async fn note(
    conn: &mut TenantConn,
    actor: &str,
    (from, to): (UserId, UserId),
    done: &Reassigned,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let Reassigned { teams, apps, ended: Ended { api_keys, scim_tokens, sessions } } = done;
    let gave = format!(
        "to {to}: {teams} places in teams, {apps} apps; ended: {api_keys} API keys, {scim_tokens} tokens of directories, \
         {sessions} sessions"
    );
    let got = format!("from {from}: {teams} places in teams, {apps} apps");
    for (user, reason) in [(from, gave), (to, got)] {
        let entry = Entry { actor, action: "user.reassigned", user, session: None, reason: Some(&reason) };
        audit::note::<TenantConn>(conn, &entry, now).await?;
    }
    Ok(())
}

/// Hands over what a person has to somebody else: their places in teams and their apps. Their API keys, tokens of directories and sessions
/// end, which nobody else can have. The person stays; `DELETE` with `?reassignTo=` does both at once.
///
/// Nobody can hand over rights that they do not have themselves.
#[utoipa::path(
    tag = "users",
    request_body(content = Reassign, example = json!({"to": "01890000-0000-7000-8000-000000000000"})),
    params(
        ("id" = UserId, Path, description = "The person"),
        ("Idempotency-Key" = Option<String>, Header, description = "Hands over once, however often it is sent"),
    ),
    responses(
        (status = 200, description = "What was handed over, and what has ended", body = Envelope<Reassigned>),
        (status = 422, description = "The other one is the same, unknown or may not come in, or gets rights that you do not have", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/users/{id}/reassign")]
pub async fn reassign_user(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
    idempotency: Idempotency,
    body: Json<Reassign>,
) -> ApiResult<HttpResponse> {
    let (from, to) = (id.0, body.0.to);
    caller.in_person_on(from)?;
    let (auth, db, actor, caller) = (&**auth, &caller.db, caller.actor(), &caller);
    let (revoked, gone) = tokio::sync::oneshot::channel();
    let answer = idempotency
        .run(db, &actor, async move |conn: &mut TenantTx| -> ApiResult<Answer<Reassigned>> {
            // What the teams may do stays as it is until this has happened. Before people, as by whoever puts somebody into one.
            teams::store::hold_tree(conn).await?;
            store::hold_admins(conn).await?;
            hold(conn, from, Some(to)).await?;
            check_control(conn, &caller.access.permissions, from).await?;
            let (done, stale) = hand_over(conn, caller, (from, to), "to", auth.clock.now()).await?;
            // Nobody waits for it where this is a replay.
            let _ = revoked.send(stale);
            Ok(Answer::ok(done))
        })
        .await?;
    forget(auth, caller, (from, to), gone.await.unwrap_or_default()).await;
    Ok(answer)
}

/// What this node remembers of the two, and of the keys, does not hold any more. To be called after the commit.
pub(super) async fn forget(auth: &Auth, caller: &Authorized<UsersWrite>, (from, to): (UserId, UserId), stale: Stale) {
    let tenant = caller.db.tenant().id;
    auth.admission.forget_user(tenant, from).await;
    auth.admission.forget_user(tenant, to).await;
    for key in stale.keys {
        auth.admission.forget_key(tenant, key).await;
    }
    for app in stale.apps {
        auth.admission.forget_app(tenant, app).await;
    }
}
