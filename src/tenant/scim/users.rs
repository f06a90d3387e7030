//! People, over SCIM.

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, put, web};
use serde_json::Value;

use super::answer::{self, Fault, IfMatch, Result, Success, dressed, respond, version};
use super::asked::{Asked, asked, id_of};
use super::caller::{Caller, body};
use super::patch;
use super::store::{self, Person};
use super::user::{Wanted, column, json_of};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::router::{TenantConn, TenantTx};
use crate::tenant::addresses;
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::{end_sessions, forget_challenges};
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::users::rules::{UserStatus, email_key, is_other_address};
use crate::tenant::users::store::{self as users, NewUser, UserChange};
use crate::tenant::users::{check_control, keep_an_admin, tell, void_invitation};

async fn found(conn: &mut TenantConn, id: UserId) -> ApiResult<Person> {
    store::person(conn, id).await?.ok_or_else(|| ApiError::not_found("user"))
}

fn told(request: &HttpRequest, person: &Person) -> Value {
    let json = json_of(person);
    let version = version(&json);
    dressed(request, json, "User", Some(version))
}

/// The people whom a directory may see, filtered and in parts.
#[utoipa::path(
    tag = "scim",
    params(
        ("filter" = Option<String>, Query, description = "As `userName eq \"ada@acme.test\"`"),
        ("startIndex" = Option<i64>, Query, description = "The first one, from 1"),
        ("count" = Option<i64>, Query, description = "How many, at most 200"),
        ("attributes" = Option<String>, Query, description = "Taken and passed over"),
        ("excludedAttributes" = Option<String>, Query, description = "Taken and passed over"),
    ),
    responses((status = 200, description = "A ListResponse", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[get("/scim/v2/Users")]
pub async fn scim_list_users(request: HttpRequest) -> HttpResponse {
    respond(&request, list(&request).await)
}

async fn list(request: &HttpRequest) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let Asked { condition, part, start, .. } = asked(request, column)?;
    let (rows, total) = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::people(conn, &condition, part).await?) })
        .await?;
    let rows = rows.iter().map(|row| told(request, row)).collect();
    Ok(Success::Document(answer::list(rows, total, start)))
}

/// A person.
#[utoipa::path(
    tag = "scim",
    params(
        ("id" = UserId, Path, description = "The person"),
        ("attributes" = Option<String>, Query, description = "Taken and passed over"),
        ("excludedAttributes" = Option<String>, Query, description = "Taken and passed over"),
    ),
    responses((status = 200, description = "A User", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[get("/scim/v2/Users/{id}")]
pub async fn scim_get_user(request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    let answer = async {
        let caller = Caller::of(&request).await?;
        let id = id_of(&id, "user")?;
        let row = caller.db.read(async |conn: &mut TenantConn| found(conn, id).await).await?;
        Ok(Success::Resource(told(&request, &row), false))
    };
    respond(&request, answer.await)
}

/// Makes a person, who is active at once and has the role `user`, where the directory may give it.
///
/// They have no password: they come in through an identity provider that vouches for their address, or by a new password
/// that they ask for.
#[utoipa::path(
    tag = "scim",
    request_body(
        content = Object,
        content_type = "application/scim+json",
        example = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": "grace@acme.test",
            "name": {"givenName": "Grace", "familyName": "Hopper"},
            "emails": [{"value": "grace@acme.test", "primary": true}],
            "active": true,
        })
    ),
    responses(
        (status = 201, description = "A User", content_type = "application/scim+json", body = Object),
        (status = 409, description = "`uniqueness`: somebody has this name or address"),
    ),
    security(("scim" = [])),
)]
#[post("/scim/v2/Users")]
pub async fn scim_create_user(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    respond(&request, create(&request, payload).await)
}

async fn create(request: &HttpRequest, payload: web::Payload) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let wanted = Wanted::of(&body(request, payload).await?)?;
    let (email, now) = (wanted.address()?, caller.auth.clock.now());
    let (wanted, email, by) = (&wanted, &email, &caller.name());
    let caller = &caller;
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<Person> {
            let active = wanted.active.unwrap_or(true);
            let new = NewUser {
                id: UserId::generate(),
                email,
                first_name: wanted.first_name.as_deref().unwrap_or_default(),
                last_name: wanted.last_name.as_deref().unwrap_or_default(),
                status: if active { UserStatus::Active } else { UserStatus::Deactivated },
                password_hash: None,
            };
            users::insert(conn, &new, now).await?;
            let user_name = wanted.user_name.as_deref().unwrap_or(email);
            let external = wanted.external_id.clone().flatten();
            check_name(conn, new.id, user_name).await?;
            store::set_names(conn, new.id, user_name, external.as_deref()).await?;
            let roles = users::newcomer_roles(conn).await?;
            let gives = users::permissions_of_roles(conn, &roles).await?;
            if gives.iter().all(|permission| caller.permissions.contains(permission)) {
                users::set_roles(conn, new.id, &roles).await?;
            }
            note(conn, by, new.id, "scim.user_created", now).await?;
            found(conn, new.id).await
        })
        .await?;
    Ok(Success::Resource(told(request, &row), true))
}

/// Refuses a user name by which somebody else is found: 409 `uniqueness`.
async fn check_name(conn: &mut TenantConn, id: UserId, user_name: &str) -> ApiResult<()> {
    if store::is_taken(conn, id, user_name).await? {
        return Err(
            ApiError::new(Code::AlreadyExists).detail("Somebody else has this userName, or has it for an address.")
        );
    }
    Ok(())
}

/// Has a person called as a directory wants, if they are not: what is as it should be is not written, so that whoever is
/// called like somebody else since before can be deactivated.
async fn rename(conn: &mut TenantConn, before: &Person, wanted: &Wanted) -> ApiResult<()> {
    let user_name = wanted.user_name.as_ref().unwrap_or(&before.user_name);
    let external = wanted.external_id.as_ref().unwrap_or(&before.external_id);
    if *user_name != before.user_name {
        check_name(conn, before.id, user_name).await?;
    }
    // Who has no name of a directory's is called by their address, which may have changed.
    let called = found(conn, before.id).await?;
    if (user_name, external) != (&called.user_name, &called.external_id) {
        store::set_names(conn, before.id, user_name, external.as_deref()).await?;
    }
    Ok(())
}

async fn note(
    conn: &mut TenantConn,
    by: &str,
    user: UserId,
    action: &'static str,
    now: chrono::DateTime<chrono::Utc>,
) -> ApiResult<()> {
    Ok(audit::note(conn, &Entry { actor: by, action, user, session: None, reason: None }, now).await?)
}

/// Replaces a person. What is left out stays.
#[utoipa::path(
    tag = "scim",
    request_body(
        content = Object,
        content_type = "application/scim+json",
        example = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": "grace@acme.test",
            "name": {"givenName": "Grace", "familyName": "Hopper"},
            "emails": [{"value": "grace@acme.test", "primary": true}],
            "active": true,
        })
    ),
    params(("id" = UserId, Path, description = "The person")),
    responses((status = 200, description = "A User", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[put("/scim/v2/Users/{id}")]
pub async fn scim_replace_user(request: HttpRequest, id: web::Path<String>, payload: web::Payload) -> HttpResponse {
    respond(&request, change(&request, &id, payload, Wanted::of).await)
}

/// Changes a person: `active: false` ends their sessions at once.
#[utoipa::path(
    tag = "scim",
    request_body(
        content = Object,
        content_type = "application/scim+json",
        example = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "active", "value": false}],
        })
    ),
    params(("id" = UserId, Path, description = "The person")),
    responses((status = 200, description = "A User", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[patch("/scim/v2/Users/{id}")]
pub async fn scim_patch_user(request: HttpRequest, id: web::Path<String>, payload: web::Payload) -> HttpResponse {
    respond(&request, change(&request, &id, payload, |body| Wanted::patched(&patch::read(body)?)).await)
}

async fn change(
    request: &HttpRequest,
    id: &str,
    payload: web::Payload,
    read: impl Fn(&Value) -> Result<Wanted>,
) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let id: UserId = id_of(id, "user")?;
    let wanted = read(&body(request, payload).await?)?;
    let (caller, wanted, now) = (&caller, &wanted, caller.auth.clock.now());
    let if_match = &IfMatch::of(request);
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<Person> {
            users::hold_admins(conn).await?;
            let before = users::hold(conn, id).await?;
            let known = found(conn, id).await?;
            if_match.check(&version(&json_of(&known)))?;
            check_control(conn, &caller.permissions, id).await?;
            let status = match wanted.active {
                Some(true) => UserStatus::Active,
                Some(false) => UserStatus::Deactivated,
                None => before.status,
            };
            let email = wanted.email.clone().filter(|email| *email != before.email);
            let change = UserChange {
                email_key: email.as_deref().map(email_key),
                email,
                first_name: wanted.first_name.clone(),
                last_name: wanted.last_name.clone(),
                status: Some(status.as_str().to_owned()),
                ..UserChange::default()
            };
            if change.email.is_some() || status != before.status {
                addresses::announce(&caller.db).await;
            }
            tell(conn, &caller.db, &before, (change.email.as_deref(), status)).await?;
            if change.email.as_ref().is_some_and(|email| is_other_address(&before.email, email)) {
                note(conn, &caller.name(), id, "scim.user_email_changed", now).await?;
            }
            users::update(conn, id, &change, status != before.status, now).await?;
            rename(conn, &known, wanted).await?;
            if status != before.status {
                let action = if status == UserStatus::Active { "scim.user_activated" } else { "scim.user_deactivated" };
                note(conn, &caller.name(), id, action, now).await?;
            }
            if status != UserStatus::Active {
                forget_challenges(conn, &caller.db, id).await?;
                end_sessions(conn, id, None, "deactivated_by_directory", now).await?;
            }
            let after = users::get(conn, id).await?;
            if before.status == UserStatus::Invited
                && (is_other_address(&before.email, &after.email) || after.status != before.status)
            {
                void_invitation(conn, &caller.name(), id, now).await?;
            }
            keep_an_admin(conn, &before, Some(&after)).await?;
            found(conn, id).await
        })
        .await?;
    caller.auth.admission.forget_user(caller.db.tenant().id, id).await;
    Ok(Success::Resource(told(request, &row), false))
}

/// Removes a person, with their sessions.
#[utoipa::path(
    tag = "scim",
    params(("id" = UserId, Path, description = "The person")),
    responses((status = 204, description = "Removed")),
    security(("scim" = [])),
)]
#[delete("/scim/v2/Users/{id}")]
pub async fn scim_delete_user(request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    respond(&request, remove(&request, &id).await)
}

async fn remove(request: &HttpRequest, id: &str) -> Result<Success> {
    let caller = Caller::of(request).await?;
    let id: UserId = id_of(id, "user")?;
    if id == caller.owner {
        let said = "The token is this person's own: it would go with them.".to_owned();
        return Err(Fault::Said(403, "mutability", said));
    }
    let (caller, now, if_match) = (&caller, caller.auth.clock.now(), &IfMatch::of(request));
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            users::hold_admins(conn).await?;
            let before = users::hold(conn, id).await?;
            if_match.check(&version(&json_of(&found(conn, id).await?)))?;
            check_control(conn, &caller.permissions, id).await?;
            addresses::announce(&caller.db).await;
            mail::notify_security(conn, &caller.db, id, SecurityNotice::AccountRemoved, None).await?;
            // Lines about a person lose them with the person; this one says who it was.
            audit::note_person(conn, (&caller.name(), id), "scim.user_removed", Some(&id.to_string()), now).await?;
            users::remove(conn, id).await?;
            keep_an_admin(conn, &before, None).await
        })
        .await?;
    caller.auth.admission.forget_user(caller.db.tenant().id, id).await;
    Ok(Success::Nothing)
}
