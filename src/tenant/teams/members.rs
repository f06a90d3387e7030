//! Who is in a team.

use actix_web::{delete, get, put, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::store;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{TeamId, UserId};
use crate::rest::{Authorized, ErrorEnvelope, ListEnvelope, Listed, NoBody, NoContent, NoQuery, Paging, Path, Query};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::{TeamsRead, TeamsWrite};
use crate::tenant::users::api::User;
use crate::tenant::users::rules::may_grant;
use crate::tenant::users::{check_control, store as people, void_invitation};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListMembers {
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// The people of a team, those of teams below not among them.
#[utoipa::path(
    tag = "teams",
    params(("id" = TeamId, Path, description = "The team"), ListMembers),
    responses((status = 200, description = "A page", body = ListEnvelope<User>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/teams/{id}/members")]
pub async fn list_members(
    caller: Authorized<TeamsRead>,
    id: Path<TeamId>,
    query: Query<ListMembers>,
) -> ApiResult<Listed<User>> {
    let ListMembers { page_size, cursor, include_total } = query.0;
    let (id, tenant) = (id.0, caller.db.tenant().id);
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let pages = paging.of(&caller.db, "team members", "id", id.to_string());
    let seek = pages.seek::<UserId>()?;
    let (limit, counted) = (pages.limit(), pages.include_total());
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            store::get(conn, id).await?;
            let rows = store::members(conn, id, seek, limit).await?;
            Ok((rows, if counted { Some(store::count_members(conn, id).await?) } else { None }))
        })
        .await?;
    Ok(pages.listed(rows, |row| row.id, total).map(|row| User::new(row, tenant)))
}

/// Puts a person into a team. Whoever does has every right that the person gets by it. The link of somebody who is invited is
/// void then, until `POST /api/v1/invitations/{id}/resend` sends another one.
#[utoipa::path(
    tag = "teams",
    params(("id" = TeamId, Path, description = "The team"), ("userId" = UserId, Path, description = "The person")),
    responses(
        (status = 204, description = "They are in it"),
        (status = 422, description = "There is no such person, or rights come with it that you do not have", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[put("/api/v1/teams/{id}/members/{userId}")]
pub async fn add_member(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TeamsWrite>,
    path: Path<(TeamId, UserId)>,
    _: NoBody,
) -> ApiResult<NoContent> {
    let ((team, user), now, caller) = (path.0, auth.clock.now(), &caller);
    let by = &audit::actor(caller);
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            // What the team may do stays as it is until this has happened.
            store::hold_tree(conn).await?;
            store::get(conn, team).await?;
            people::hold(conn, user).await.map_err(|error| match error.code() {
                Code::NotFound => ApiError::invalid_field("userId", "unknown_user", "There is no such person."),
                _ => error,
            })?;
            may_grant("userId", &caller.access.permissions, &store::permissions(conn, team).await?)?;
            if store::add_member(conn, team, user, now).await? {
                let which = team.to_string();
                audit::note_person(conn, (by, user), "team.member_added", Some(&which), now).await?;
                void_invitation(conn, by, user, now).await?;
            }
            Ok(())
        })
        .await?;
    auth.admission.forget_user(caller.db.tenant().id, user).await;
    Ok(NoContent)
}

/// Takes a person out of a team, who may do no more than the caller.
#[utoipa::path(
    tag = "teams",
    params(("id" = TeamId, Path, description = "The team"), ("userId" = UserId, Path, description = "The person")),
    responses((status = 204, description = "They are not in it any more"), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/teams/{id}/members/{userId}")]
pub async fn remove_member(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TeamsWrite>,
    path: Path<(TeamId, UserId)>,
) -> ApiResult<NoContent> {
    let ((team, user), caller, by, now) = (path.0, &caller, &audit::actor(&caller), auth.clock.now());
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            store::get(conn, team).await?;
            if !store::is_member(conn, team, user).await? {
                return Err(ApiError::not_found("member of this team"));
            }
            people::hold(conn, user).await?;
            check_control(conn, &caller.access.permissions, user).await?;
            if !store::remove_member(conn, team, user).await? {
                return Err(ApiError::not_found("member of this team"));
            }
            let which = team.to_string();
            Ok(audit::note_person(conn, (by, user), "team.member_removed", Some(&which), now).await?)
        })
        .await?;
    auth.admission.forget_user(caller.db.tenant().id, user).await;
    Ok(NoContent)
}
