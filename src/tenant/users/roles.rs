//! Giving a person a role, and taking it.

use actix_web::{HttpResponse, delete, post, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::User;
use super::power::{check_control, keep_an_admin};
use super::rules;
use super::store::{self, UserChange, UserRow};
use super::trail;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{RoleId, UserId};
use crate::rest::{Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, IfMatch, Json, NoQuery, Path, Tagged};
use crate::router::TenantTx;
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::UsersWrite;

/// A role to be given.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddRole {
    /// Which one.
    #[garde(skip)]
    pub role_id: RoleId,
}

/// Gives a person a role. One that they have already changes nothing.
///
/// Nobody can give a role that may do more than they themselves. The link of somebody who is invited is void then, until
/// `POST /api/v1/invitations/{id}/resend` sends another one.
#[utoipa::path(
    tag = "users",
    request_body(content = AddRole, example = json!({"roleId": "01890000-0000-7000-8000-000000000000"})),
    params(
        ("id" = UserId, Path, description = "The person"),
        ("Idempotency-Key" = Option<String>, Header, description = "Gives once, however often it is sent"),
    ),
    responses(
        (status = 200, description = "The person", body = Envelope<User>),
        (status = 422, description = "The role is unknown, or may do more than the caller", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/users/{id}/roles")]
pub async fn add_role(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
    idempotency: Idempotency,
    body: Json<AddRole>,
) -> ApiResult<HttpResponse> {
    let (id, role) = (id.0, body.0.role_id);
    let (auth, caller) = (&**auth, &caller);
    let tenant = caller.db.tenant().id;
    let (actor, by, now) = (caller.actor(), &audit::actor(caller), auth.clock.now());
    let answer = idempotency
        .run(&caller.db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<User>> {
            // A directory that changes who has the role, by its tag, does so before or after.
            store::hold_admins(conn).await?;
            let before = store::hold(conn, id).await?;
            if !store::role_exists(conn, role).await? {
                return Err(ApiError::invalid_field("roleId", "unknown_role", "There is no such role."));
            }
            let granted = store::permissions_of_roles(conn, &[role]).await?;
            rules::may_grant("roleId", &caller.access.permissions, &granted)?;
            if store::add_role(conn, id, role).await? {
                store::update(conn, id, &UserChange::default(), true, now).await?;
            }
            let after = store::get(conn, id).await?;
            trail::note_change(conn, by, (&before, &after), false, now).await?;
            trail::void_if_other(conn, by, (&before, &after), now).await?;
            let user = User::new(after, tenant);
            let version = user.version;
            Ok(Answer::ok(user).etag(version))
        })
        .await?;
    auth.admission.forget_user(tenant, id).await;
    Ok(answer)
}

/// Takes a role from a person.
#[utoipa::path(
    tag = "users",
    params(
        ("id" = UserId, Path, description = "The person"),
        ("roleId" = RoleId, Path, description = "The role"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the person that was read"),
    ),
    responses(
        (status = 200, description = "The person", body = Envelope<User>),
        (status = 409, description = "This is the last administrator", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/users/{id}/roles/{roleId}")]
pub async fn remove_role(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    path: Path<(UserId, RoleId)>,
    if_match: IfMatch,
) -> ApiResult<Tagged<User>> {
    let ((id, role), by, now) = (path.0, &audit::actor(&caller), auth.clock.now());
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<UserRow> {
            store::hold_admins(conn).await?;
            let before = store::hold(conn, id).await?;
            if_match.check(before.version)?;
            check_control(conn, &caller.access.permissions, id).await?;
            if !store::remove_role(conn, id, role).await? {
                return Err(ApiError::not_found("role of this user"));
            }
            store::update(conn, id, &UserChange::default(), true, now).await?;
            let after = store::get(conn, id).await?;
            trail::note_change(conn, by, (&before, &after), false, now).await?;
            keep_an_admin(conn, &before, Some(&after)).await?;
            Ok(after)
        })
        .await?;
    let tenant = caller.db.tenant().id;
    auth.admission.forget_user(tenant, id).await;
    Ok(Tagged(User::new(row, tenant)))
}
