//! Making, changing and removing teams.

use actix_web::{HttpResponse, delete, patch, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::Team;
use super::store::{self, TeamChange, TeamRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{RoleId, TeamId};
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, IfMatch, Json, MergePatch, NoContent, NoQuery, Patch,
    Path, Tagged,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::TeamsWrite;
use crate::tenant::users::api::grantable_roles;
use crate::tenant::users::rules::{may_control, may_grant, name_shape, not_blank};
use crate::tenant::users::void_invitations;

/// How deep teams may stand in each other.
const DEEPEST: usize = 10;

/// A team to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTeam {
    /// Name, which no other team has.
    #[garde(length(chars, max = 100), custom(name_shape), custom(not_blank))]
    #[schema(example = "Field sales")]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[garde(length(chars, max = 500), custom(name_shape))]
    #[schema(example = "Everybody who visits customers")]
    pub description: String,
    /// The team that it stands in.
    #[garde(skip)]
    pub parent_id: Option<TeamId>,
    /// Names of roles, none that may do more than you.
    #[serde(default)]
    #[garde(length(max = 50))]
    #[schema(example = json!(["user"]))]
    pub roles: Vec<String>,
}

/// A change of a team.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchTeam {
    /// Name, which no other team has; cannot be null.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>, example = "Field sales")]
    pub name: Patch<String>,
    /// What it is for; null empties it.
    #[serde(default)]
    #[garde(inner(length(chars, max = 500), custom(name_shape)))]
    #[schema(value_type = Option<String>, example = "Everybody who visits customers")]
    pub description: Patch<String>,
    /// The team that it stands in; null for none.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<TeamId>)]
    pub parent_id: Patch<TeamId>,
    /// Names of all its roles, none that may do more than you; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 50)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["user"]))]
    pub roles: Patch<Vec<String>>,
}

/// Makes a team.
#[utoipa::path(
    tag = "teams",
    request_body = CreateTeam,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes one, however often it is sent")),
    responses(
        (status = 201, description = "Made", body = Envelope<Team>),
        (status = 409, description = "`already_exists`: `name`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or rights come with it that you do not have", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/teams")]
pub async fn create_team(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TeamsWrite>,
    idempotency: Idempotency,
    body: Json<CreateTeam>,
) -> ApiResult<HttpResponse> {
    let CreateTeam { name, description, parent_id, roles } = &body.0;
    let (actor, by, now, caller) = (caller.actor(), &audit::actor(&caller), auth.clock.now(), &caller);
    idempotency
        .run(&caller.db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<Team>> {
            let id = TeamId::generate();
            store::hold_tree(conn).await?;
            let roles = grantable_roles(conn, &caller.access, roles).await?;
            if let Some(parent) = *parent_id {
                may_stand_in(conn, caller, None, parent).await?;
            }
            store::insert(conn, id, (name, description, *parent_id), now).await?;
            store::set_roles(conn, id, &roles).await?;
            let row = store::get(conn, id).await?;
            audit::note_tenant::<TenantConn>(conn, by, "team.created", &said(&row), now).await?;
            let team = Team::from(row);
            let (location, version) = (format!("/api/v1/teams/{id}"), team.version);
            Ok(Answer::created(team).location(location).etag(version))
        })
        .await
}

/// Whether a team may stand in another one: what its people get by that, the caller has; and it closes no ring.
async fn may_stand_in(
    conn: &mut TenantConn,
    caller: &Authorized<TeamsWrite>,
    team: Option<TeamId>,
    parent: TeamId,
) -> ApiResult<()> {
    let fault = |code: &'static str, said: &str| Err(ApiError::invalid_field("parentId", code, said));
    match store::get(conn, parent).await {
        Err(error) if error.code() == Code::NotFound => return fault("unknown_team", "There is no such team."),
        found => found?,
    };
    let above = store::above(conn, parent).await?;
    if team.is_some_and(|team| above.contains(&team)) {
        return fault("ring", "A team cannot stand in itself, nor in one that stands in it.");
    }
    let height = match team {
        Some(team) => usize::try_from(store::height(conn, team).await?).unwrap_or(DEEPEST),
        None => 1,
    };
    if above.len() + height > DEEPEST {
        return fault("too_deep", "Teams stand in each other at most ten deep.");
    }
    // What its people get stays as it is until this has happened.
    store::hold_roles(conn, &above, &[]).await?;
    may_grant("parentId", &caller.access.permissions, &store::permissions(conn, parent).await?)
}

/// Changes a team. What its people may do changes at once on this node, and within two seconds everywhere.
#[utoipa::path(
    tag = "teams",
    request_body(content = PatchTeam, content_type = "application/merge-patch+json"),
    params(
        ("id" = TeamId, Path, description = "The team"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<Team>),
        (status = 409, description = "`already_exists`: `name`", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or rights come with it that you do not have", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[patch("/api/v1/teams/{id}")]
pub async fn patch_team(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TeamsWrite>,
    id: Path<TeamId>,
    if_match: IfMatch,
    body: MergePatch<PatchTeam>,
) -> ApiResult<Tagged<Team>> {
    let PatchTeam { name, description, parent_id, roles } = &body.0;
    if *name == Patch::Null {
        return Err(ApiError::invalid_field("name", "required", "A team has a name."));
    }
    let (id, now, caller, by) = (id.0, auth.clock.now(), &caller, &audit::actor(&caller));
    let change = TeamChange {
        name: name.value().map(|name| name.trim().to_owned()),
        name_key: name.value().map(|name| store::name_key(name)),
        description: description.clone().trimmed(),
        parent_id: parent_id.into_change(),
    };
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<TeamRow> {
            store::hold_tree(conn).await?;
            let before = hold(conn, caller, id).await?;
            if_match.check(before.version)?;
            let could = store::permissions(conn, id).await?;
            let gives = !roles.is_absent() || matches!(parent_id, Patch::Value(_));
            let invited = if gives { store::hold_invited(conn, id).await? } else { Vec::new() };
            let names = roles.value().map_or(&[][..], Vec::as_slice);
            if !roles.is_absent() {
                store::hold_roles(conn, &[id], names).await?;
            }
            if let Patch::Value(parent) = parent_id {
                may_stand_in(conn, caller, Some(id), *parent).await?;
            }
            store::update(conn, id, &change, now).await?;
            if !roles.is_absent() {
                let roles: Vec<RoleId> = grantable_roles(conn, &caller.access, names).await?;
                store::set_roles(conn, id, &roles).await?;
            }
            if store::permissions(conn, id).await?.iter().any(|name| !could.contains(name)) {
                void_invitations(conn, by, &invited, now).await?;
            }
            let after = store::get(conn, id).await?;
            let what = format!("{}; before: {}", said(&after), said(&before));
            audit::note_tenant::<TenantConn>(conn, by, "team.changed", &what, now).await?;
            Ok(after)
        })
        .await?;
    auth.admission.forget_tenant(caller.db.tenant().id).await;
    Ok(Tagged(row.into()))
}

/// A team as the audit has it: its name, its id, where it stands, and its roles.
fn said(team: &TeamRow) -> String {
    let place = team.parent_id.map(|parent| format!(" in {parent}")).unwrap_or_default();
    format!("{} ({}){place}: {}", team.name, team.id, team.roles.join(", "))
}

/// A team whose people may do nothing by it that the caller may not.
async fn hold(conn: &mut TenantConn, caller: &Authorized<TeamsWrite>, id: TeamId) -> ApiResult<TeamRow> {
    let row = store::get(conn, id).await?;
    may_control(&caller.access.permissions, &store::permissions(conn, id).await?)?;
    Ok(row)
}

/// Removes a team, in which no other one stands. Its people stay, without the roles that they had by it.
#[utoipa::path(
    tag = "teams",
    params(
        ("id" = TeamId, Path, description = "The team"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "Other teams stand in it", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/teams/{id}")]
pub async fn delete_team(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TeamsWrite>,
    id: Path<TeamId>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let (id, caller, by, now) = (id.0, &caller, &audit::actor(&caller), auth.clock.now());
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            store::hold_tree(conn).await?;
            let before = hold(conn, caller, id).await?;
            if_match.check(before.version)?;
            if store::has_teams_below(conn, id).await? {
                let said = "Other teams stand in it. Put them elsewhere, or remove them first.";
                return Err(ApiError::new(Code::Conflict).detail(said));
            }
            audit::note_tenant::<TenantConn>(conn, by, "team.removed", &said(&before), now).await?;
            Ok(store::remove(conn, id).await?)
        })
        .await?;
    auth.admission.forget_tenant(caller.db.tenant().id).await;
    Ok(NoContent)
}
