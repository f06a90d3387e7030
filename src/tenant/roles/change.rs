//! Making, changing and removing roles. Those of the product stay as they are.

use actix_web::{HttpResponse, delete, patch, post, put, web};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::Role;
use super::store::{self, RoleChange, RoleRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::RoleId;
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, IfMatch, Json, MergePatch, NoContent, NoQuery, Patch,
    Path, Tagged,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::RolesWrite;
use crate::tenant::security::rename_role;
use crate::tenant::teams::store as teams;
use crate::tenant::users::rules::{may_control, name_shape, not_blank};
use crate::tenant::users::store::hold_admins;
use crate::tenant::users::void_invitations;

/// A role to be made, or to take another one's place.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteRole {
    /// Name, which no other role has.
    #[garde(length(chars, max = 64), custom(name_shape), custom(not_blank))]
    #[schema(example = "auditor")]
    pub name: String,
    /// Whom it is for.
    #[serde(default)]
    #[garde(length(chars, max = 500), custom(name_shape))]
    #[schema(example = "Sees the address book, changes nothing")]
    pub description: String,
    /// Permissions, none that you do not have yourself.
    #[serde(default)]
    #[garde(length(max = 200))]
    #[schema(example = json!(["contacts:read"]))]
    pub permissions: Vec<String>,
}

/// A change of a role.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchRole {
    /// Name, which no other role has.
    #[serde(default)]
    #[garde(inner(length(chars, max = 64), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>, example = "auditor")]
    pub name: Patch<String>,
    /// Whom it is for; null empties it.
    #[serde(default)]
    #[garde(inner(length(chars, max = 500), custom(name_shape)))]
    #[schema(value_type = Option<String>, example = "Sees the address book, changes nothing")]
    pub description: Patch<String>,
    /// Permissions, none that you do not have yourself; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 200)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["contacts:read"]))]
    pub permissions: Patch<Vec<String>>,
}

/// Refuses what the caller does not have, and what is no permission.
fn check(caller: &Authorized<RolesWrite>, permissions: &[String]) -> ApiResult<()> {
    match permissions.iter().position(|name| !caller.access.allows(name)) {
        None => Ok(()),
        Some(at) => {
            let said = format!("You do not have the permission '{}' yourself.", permissions[at]);
            Err(ApiError::invalid_field(format!("permissions[{at}]"), "beyond_own_permissions", said))
        }
    }
}

/// Makes a role.
#[utoipa::path(
    tag = "roles",
    request_body = WriteRole,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes one, however often it is sent")),
    responses(
        (status = 201, description = "Made", body = Envelope<Role>),
        (status = 409, description = "`already_exists`: `name`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a permission is beyond your own", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/roles")]
pub async fn create_role(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<RolesWrite>,
    idempotency: Idempotency,
    body: Json<WriteRole>,
) -> ApiResult<HttpResponse> {
    let WriteRole { name, description, permissions } = body.0;
    check(&caller, &permissions)?;
    let (actor, by, now) = (caller.actor(), &audit::actor(&caller), auth.clock.now());
    let change = RoleChange { name: Some(name.trim().to_owned()), description: Some(description.trim().to_owned()) };
    idempotency
        .run(&caller.db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<Role>> {
            let id = RoleId::generate();
            store::insert(conn, id, &change, now).await?;
            store::set_permissions(conn, id, &permissions).await?;
            let role = get(conn, id).await?;
            audit::note_tenant::<TenantConn>(conn, by, "role.created", &said(&role), now).await?;
            let role = Role::from(role);
            let (location, version) = (format!("/api/v1/roles/{id}"), role.version);
            Ok(Answer::created(role).location(location).etag(version))
        })
        .await
}

/// A role as the audit has it: its name, its id, and what it may do.
fn said(role: &RoleRow) -> String {
    format!("{} ({}): {}", role.name, role.id, role.permissions.join(", "))
}

async fn get(conn: &mut TenantConn, id: RoleId) -> ApiResult<RoleRow> {
    store::find(conn, id).await?.ok_or_else(|| ApiError::not_found("role"))
}

/// Replaces a role. Whoever has it may do at once what it says now, and no more; everywhere within two seconds. Where it gains
/// permissions, the link of whoever is invited and has it is void, until `POST /api/v1/invitations/{id}/resend` sends another one.
#[utoipa::path(
    tag = "roles",
    request_body = WriteRole,
    params(
        ("id" = RoleId, Path, description = "The role"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<Role>),
        (status = 409, description = "The name is taken, or the role comes with the product", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a permission is beyond your own", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[put("/api/v1/roles/{id}")]
pub async fn replace_role(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<RolesWrite>,
    id: Path<RoleId>,
    if_match: IfMatch,
    body: Json<WriteRole>,
) -> ApiResult<Tagged<Role>> {
    let WriteRole { name, description, permissions } = body.0;
    let change = RoleChange { name: Some(name.trim().to_owned()), description: Some(description.trim().to_owned()) };
    rewrite(&auth, &caller, id.0, if_match, change, Some(permissions)).await
}

/// Changes a role. Whoever has it may do at once what it says now, and no more; everywhere within two seconds. Where it gains
/// permissions, the link of whoever is invited and has it is void, until `POST /api/v1/invitations/{id}/resend` sends another one.
#[utoipa::path(
    tag = "roles",
    request_body(content = PatchRole, content_type = "application/merge-patch+json"),
    params(
        ("id" = RoleId, Path, description = "The role"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<Role>),
        (status = 409, description = "The name is taken, or the role comes with the product", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a permission is beyond your own", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[patch("/api/v1/roles/{id}")]
pub async fn patch_role(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<RolesWrite>,
    id: Path<RoleId>,
    if_match: IfMatch,
    body: MergePatch<PatchRole>,
) -> ApiResult<Tagged<Role>> {
    let PatchRole { name, description, permissions } = body.0;
    if name == Patch::Null {
        return Err(ApiError::invalid_field("name", "required", "A role has a name."));
    }
    let change = RoleChange { name: name.trimmed(), description: description.trimmed() };
    rewrite(&auth, &caller, id.0, if_match, change, permissions.or_empty()).await
}

async fn rewrite(
    auth: &Auth,
    caller: &Authorized<RolesWrite>,
    id: RoleId,
    if_match: IfMatch,
    change: RoleChange,
    permissions: Option<Vec<String>>,
) -> ApiResult<Tagged<Role>> {
    check(caller, permissions.as_deref().unwrap_or_default())?;
    let (by, now) = (&audit::actor(caller), auth.clock.now());
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<RoleRow> {
            judge(conn, caller, id, if_match).await?;
            let (named, permits) = (change.name.is_some(), permissions.is_some());
            if named {
                // Teams come first of all.
                teams::hold_tree(conn).await?;
            }
            if named || permits {
                // Administrators come before people and people before roles, as where one is removed.
                hold_admins(conn).await?;
                store::hold_concerned(conn, id, named, permits).await?;
            }
            let before = hold(conn, caller, id, if_match).await?;
            store::update(conn, id, &change, now).await?;
            if let Some(name) = change.name.as_deref().filter(|name| *name != before.name) {
                rename_role(conn, &before.name, Some(name), now).await?;
                store::touch_members(conn, id, now).await?;
                teams::touch_having(conn, id, now).await?;
            }
            if let Some(names) = &permissions {
                store::set_permissions(conn, id, names).await?;
            }
            let after = get(conn, id).await?;
            if after.permissions.iter().any(|name| !before.permissions.contains(name)) {
                // As they are now: one may have come while the role was waited for.
                let invited = store::invited(conn, id).await?;
                void_invitations(conn, by, &invited, now).await?;
            }
            let what = format!("{}; before: {}", said(&after), said(&before));
            audit::note_tenant::<TenantConn>(conn, by, "role.changed", &what, now).await?;
            Ok(after)
        })
        .await?;
    auth.admission.forget_tenant(caller.db.tenant().id).await;
    Ok(Tagged(row.into()))
}

/// A role that may be changed: not one of the product's, none that can do more than the caller, and as the client has read it.
/// To be asked before anybody is held, so that a refusal keeps nobody waiting.
async fn judge(
    conn: &mut TenantConn,
    caller: &Authorized<RolesWrite>,
    id: RoleId,
    if_match: IfMatch,
) -> ApiResult<RoleRow> {
    let row = get(conn, id).await?;
    if row.system {
        let said = "This role comes with the product and stays as it is. Make one of your own.";
        return Err(ApiError::new(Code::Conflict).detail(said));
    }
    may_control(&caller.access.permissions, &row.permissions)?;
    if_match.check(row.version)?;
    Ok(row)
}

/// Holds a role that may be changed still, after the people whom that concerns.
async fn hold(
    conn: &mut TenantConn,
    caller: &Authorized<RolesWrite>,
    id: RoleId,
    if_match: IfMatch,
) -> ApiResult<RoleRow> {
    store::hold(conn, id).await?;
    judge(conn, caller, id, if_match).await
}

/// Removes a role, from everybody who has it too.
#[utoipa::path(
    tag = "roles",
    params(
        ("id" = RoleId, Path, description = "The role"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "The role comes with the product", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/roles/{id}")]
pub async fn delete_role(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<RolesWrite>,
    id: Path<RoleId>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let (id, by, now) = (id.0, &audit::actor(&caller), auth.clock.now());
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            judge(conn, &caller, id, if_match).await?;
            teams::hold_tree(conn).await?;
            hold_admins(conn).await?;
            store::hold_members(conn, id).await?;
            let before = hold(conn, &caller, id, if_match).await?;
            store::touch_members(conn, id, now).await?;
            teams::touch_having(conn, id, now).await?;
            store::remove(conn, id).await?;
            audit::note_tenant::<TenantConn>(conn, by, "role.removed", &said(&before), now).await?;
            Ok(rename_role(conn, &before.name, None, now).await?)
        })
        .await?;
    auth.admission.forget_tenant(caller.db.tenant().id).await;
    Ok(NoContent)
}
