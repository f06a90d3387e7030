//! Roles, over SCIM: who has which. What a role may do is decided here, never by a directory.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, put, web};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answer::{self, Fault, IfMatch, Result, Success, dressed, respond};
use super::asked::{Asked, asked, id_of};
use super::caller::{Caller, body};
use super::group::{Members, Wanted, column, json_of, version_of};
use super::patch;
use super::store::{self, Group, Told};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{RoleId, UserId};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::roles::store::{self as roles, RoleChange};
use crate::tenant::teams::store as teams;
use crate::tenant::users::rules::may_control;
use crate::tenant::users::store::{self as users, UserChange};
use crate::tenant::users::{check_control, keep_an_admin, void_invitation};

/// Members that one list may tell: each is an object of its own, and a page has up to two hundred roles.
const MOST_TOLD: i64 = 10_000;

fn too_many() -> Fault {
    let said = format!(
        "These groups have more than {MOST_TOLD} members: leave them out (excludedAttributes=members), ask for fewer \
         groups (count), or for one by its id."
    );
    Fault::Said(400, "tooMany", said)
}

async fn found(conn: &mut TenantConn, id: RoleId, told: Told) -> ApiResult<Group> {
    store::group(conn, id, told).await?.ok_or_else(|| ApiError::not_found("group"))
}

fn written(request: &HttpRequest, group: &Group, without_members: bool) -> Value {
    dressed(request, json_of(group, without_members), "Group", version_of(group))
}

/// Refuses a change of a role that has changed since it was read, whether that was with members or without.
async fn check(conn: &mut TenantConn, id: RoleId, if_match: &IfMatch) -> ApiResult<Group> {
    let known = found(conn, id, Told::Version).await?;
    if_match.check(&version_of(&known).unwrap_or_default())?;
    Ok(known)
}

/// The roles, filtered and in parts.
///
/// A part with more than 10000 members is 400 `tooMany`, unless they are left out.
#[utoipa::path(
    tag = "scim",
    params(
        ("filter" = Option<String>, Query, description = "As `displayName eq \"admin\"`"),
        ("startIndex" = Option<i64>, Query, description = "The first one, from 1"),
        ("count" = Option<i64>, Query, description = "How many, at most 200"),
        ("attributes" = Option<String>, Query, description = "Leaves members out where `members` is not among them"),
        ("excludedAttributes" = Option<String>, Query, description = "`members` leaves them out"),
    ),
    responses((status = 200, description = "A ListResponse", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[get("/scim/v2/Groups")]
pub async fn scim_list_groups(request: HttpRequest) -> HttpResponse {
    respond(&request, list(&request).await)
}

async fn list(request: &HttpRequest) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let Asked { condition, part, start, without_members } = asked(request, column)?;
    let read = async |conn: &mut TenantConn| -> ApiResult<_> {
        // Without members no version: a page of digests costs as much as the members themselves.
        let told = if without_members { Told::Role } else { Told::Members };
        if told == Told::Members && store::count_members(conn, &condition, part, MOST_TOLD + 1).await? > MOST_TOLD {
            return Ok(None);
        }
        Ok(Some(store::groups(conn, &condition, part, told).await?))
    };
    let (rows, total) = caller.db.read(read).await?.ok_or_else(too_many)?;
    let rows = rows.iter().map(|row| written(request, row, without_members)).collect();
    Ok(Success::Document(answer::list(rows, total, start)))
}

/// A role, with who has it.
#[utoipa::path(
    tag = "scim",
    params(
        ("id" = RoleId, Path, description = "The role"),
        ("attributes" = Option<String>, Query, description = "Leaves members out where `members` is not among them"),
        ("excludedAttributes" = Option<String>, Query, description = "`members` leaves them out"),
    ),
    responses((status = 200, description = "A Group", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[get("/scim/v2/Groups/{id}")]
pub async fn scim_get_group(request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    let answer = async {
        let caller = Caller::of(&request).await?;
        let (id, Asked { without_members, .. }) = (id_of(&id, "group")?, asked(&request, column)?);
        let told = if without_members { Told::Version } else { Told::Members };
        let row = caller.db.read(async |conn: &mut TenantConn| found(conn, id, told).await).await?;
        Ok(Success::Resource(written(&request, &row, without_members), false))
    };
    respond(&request, answer.await)
}

/// Takes a role over, or makes one that may do nothing yet.
#[utoipa::path(
    tag = "scim",
    request_body(
        content = Object,
        content_type = "application/scim+json",
        example = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
            "displayName": "Sales",
            "members": [{"value": "01890000-0000-7000-8000-000000000000"}],
        })
    ),
    responses(
        (status = 201, description = "A Group", content_type = "application/scim+json", body = Object),
        (status = 409, description = "`uniqueness`: a directory has a group of this name already"),
    ),
    security(("scim" = [])),
)]
#[post("/scim/v2/Groups")]
pub async fn scim_create_group(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    respond(&request, create(&request, payload).await)
}

async fn create(request: &HttpRequest, payload: web::Payload) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let wanted = Wanted::of(&body(request, payload).await?)?;
    let (caller, wanted, now, by) = (&caller, &wanted, caller.auth.clock.now(), &caller.name());
    let (row, changed) = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<_> {
            users::hold_admins(conn).await?;
            let name = wanted.name.clone().unwrap_or_default();
            let known = users::role_ids(conn, std::slice::from_ref(&name)).await?.first().map(|(id, _)| *id);
            let external = wanted.external_id.clone().flatten();
            let id = match known {
                Some(id) if found(conn, id, Told::Role).await?.external_id.is_some() => {
                    return Err(ApiError::already_exists("displayName", "There is such a group."));
                }
                Some(id) => id,
                None => {
                    let id = RoleId::generate();
                    let change = RoleChange { name: Some(name), description: Some(String::new()) };
                    roles::insert(conn, id, &change, now).await?;
                    let what = format!("{} ({id})", change.name.as_deref().unwrap_or_default());
                    audit::note_tenant::<TenantConn>(conn, by, "role.created", &what, now).await?;
                    id
                }
            };
            store::set_group(conn, id, external.as_deref(), known.is_none()).await?;
            // A role that was here keeps whom it has: a directory that takes it over adds its own.
            let members: Vec<Members> = match (known, &wanted.members[..]) {
                (Some(_), [Members::Set(ids)]) => vec![Members::Add(ids.clone())],
                (_, members) => members.to_vec(),
            };
            let changed = apply(conn, caller, id, &members, now).await?;
            Ok((found(conn, id, Told::Members).await?, changed))
        })
        .await?;
    forget(caller, &changed).await;
    Ok(Success::Resource(written(request, &row, false), true))
}

async fn forget(caller: &Caller, changed: &BTreeSet<UserId>) {
    for user in changed {
        caller.auth.admission.forget_user(caller.db.tenant().id, *user).await;
    }
}

/// Replaces who has a role.
#[utoipa::path(
    tag = "scim",
    request_body(
        content = Object,
        content_type = "application/scim+json",
        example = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
            "displayName": "Sales",
            "members": [{"value": "01890000-0000-7000-8000-000000000000"}],
        })
    ),
    params(("id" = RoleId, Path, description = "The role")),
    responses((status = 200, description = "A Group", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[put("/scim/v2/Groups/{id}")]
pub async fn scim_replace_group(request: HttpRequest, id: web::Path<String>, payload: web::Payload) -> HttpResponse {
    respond(&request, change(&request, &id, payload, Wanted::of).await)
}

/// Changes who has a role. Nobody is given one that may do more than the token's owner.
#[utoipa::path(
    tag = "scim",
    request_body(
        content = Object,
        content_type = "application/scim+json",
        example = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "add", "path": "members", "value": [{"value": "01890000-0000-7000-8000-000000000000"}]}],
        })
    ),
    params(("id" = RoleId, Path, description = "The role")),
    responses((status = 200, description = "A Group", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[patch("/scim/v2/Groups/{id}")]
pub async fn scim_patch_group(request: HttpRequest, id: web::Path<String>, payload: web::Payload) -> HttpResponse {
    respond(&request, change(&request, &id, payload, |body| Wanted::patched(&patch::read(body)?)).await)
}

async fn change(
    request: &HttpRequest,
    id: &str,
    payload: web::Payload,
    read: impl Fn(&Value) -> Result<Wanted>,
) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let id: RoleId = id_of(id, "group")?;
    let wanted = read(&body(request, payload).await?)?;
    let (caller, wanted, now) = (&caller, &wanted, caller.auth.clock.now());
    let if_match = &IfMatch::of(request);
    let (row, changed) = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<_> {
            users::hold_admins(conn).await?;
            let known = check(conn, id, if_match).await?;
            if wanted.name.as_ref().is_some_and(|name| *name != known.name) {
                let said = "A role is renamed here, not by a directory.";
                return Err(ApiError::new(Code::Conflict).detail(said));
            }
            if let Some(external) = &wanted.external_id {
                store::set_group(conn, id, external.as_deref(), known.made).await?;
            }
            let changed = apply(conn, caller, id, &wanted.members, now).await?;
            Ok((found(conn, id, Told::Members).await?, changed))
        })
        .await?;
    forget(caller, &changed).await;
    Ok(Success::Resource(written(request, &row, false), false))
}

/// Gives and takes a role; gives whom that concerned. To be called with [`users::hold_admins`], first of all: directories change
/// roles one after the other, each from what the one before it left.
async fn apply(
    conn: &mut TenantConn,
    caller: &Caller,
    role: RoleId,
    members: &[Members],
    now: DateTime<Utc>,
) -> ApiResult<BTreeSet<UserId>> {
    let before: BTreeSet<UserId> = store::members(conn, role).await?.into_iter().collect();
    let mut after = before.clone();
    for step in members {
        match step {
            Members::Add(ids) => after.extend(ids),
            Members::Remove(ids) => after.retain(|id| !ids.contains(id)),
            Members::Set(ids) => after = ids.iter().copied().collect(),
        }
    }
    let changed: BTreeSet<UserId> = before.symmetric_difference(&after).copied().collect();
    if changed.is_empty() {
        return Ok(changed);
    }
    // Nobody gives, and nobody takes, what goes beyond their own rights.
    may_control(&caller.permissions, &users::permissions_of_roles(conn, &[role]).await?)?;
    let by = caller.name();
    let mut people = Vec::new();
    // In the order in which everybody holds people.
    for id in &changed {
        let person = users::hold(conn, *id).await?;
        check_control(conn, &caller.permissions, *id).await?;
        let action = if after.contains(id) {
            users::add_role(conn, *id, role).await?;
            void_invitation(conn, &by, *id, now).await?;
            "scim.role_given"
        } else {
            users::remove_role(conn, *id, role).await?;
            "scim.role_taken"
        };
        users::update(conn, *id, &UserChange::default(), true, now).await?;
        let what = role.to_string();
        let entry = Entry { actor: &by, action, user: *id, session: None, reason: Some(&what) };
        audit::note(conn, &entry, now).await?;
        people.push((person, users::get(conn, *id).await?));
    }
    // After all of them: whoever takes the last administrator's place may come behind them.
    for (before, now_is) in &people {
        keep_an_admin(conn, before, Some(now_is)).await?;
    }
    Ok(changed)
}

/// Removes a role that a directory made. One that was here before stays.
#[utoipa::path(
    tag = "scim",
    params(("id" = RoleId, Path, description = "The role")),
    responses((status = 204, description = "Removed"), (status = 403, description = "`mutability`: it was not made by a directory")),
    security(("scim" = [])),
)]
#[delete("/scim/v2/Groups/{id}")]
pub async fn scim_delete_group(request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    respond(&request, remove(&request, &id).await)
}

async fn remove(request: &HttpRequest, id: &str) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let id: RoleId = id_of(id, "group")?;
    let before = caller.db.read(async |conn: &mut TenantConn| found(conn, id, Told::Role).await).await?;
    if !before.made {
        return Err(Fault::Said(403, "mutability", "A role that was made here stays.".to_owned()));
    }
    let (caller, now, by) = (&caller, caller.auth.clock.now(), &caller.name());
    let if_match = &IfMatch::of(request);
    let changed = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<_> {
            teams::hold_tree(conn).await?;
            users::hold_admins(conn).await?;
            check(conn, id, if_match).await?;
            roles::hold_members(conn, id).await?;
            roles::hold(conn, id).await?;
            let changed = apply(conn, caller, id, &[Members::Set(Vec::new())], now).await?;
            may_control(&caller.permissions, &users::permissions_of_roles(conn, &[id]).await?)?;
            let name = found(conn, id, Told::Role).await?.name;
            teams::touch_having(conn, id, now).await?;
            roles::remove(conn, id).await?;
            audit::note_tenant::<TenantConn>(conn, by, "role.removed", &format!("{name} ({id})"), now).await?;
            crate::tenant::security::rename_role(conn, &name, None, now).await?;
            Ok(changed)
        })
        .await?;
    forget(caller, &changed).await;
    Ok(Success::Nothing)
}
