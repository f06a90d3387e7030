//! Bringing people along from another system.

use std::collections::{BTreeSet, HashMap, HashSet};

use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::{UserStatus, comparable, email_key, email_shape, may_grant, name_shape};
use super::store;
use crate::error::{ApiError, ApiResult, FieldError};
use crate::kernel::{RoleId, UserId};
use crate::rest::passwords::{Refused, check_foreign};
use crate::rest::{Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, NoQuery};
use crate::router::{Access, TenantConn, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::UsersWrite;
use crate::tenant::schema::{user_roles, users};

/// Rows of one statement.
const CHUNK: usize = 500;

/// One of the people.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportUser {
    /// Address; nobody else's in this tenant.
    #[garde(custom(email_shape))]
    #[schema(example = "grace@acme.test")]
    pub email: String,
    /// First name.
    #[serde(default)]
    #[garde(length(chars, max = 100), custom(name_shape))]
    #[schema(example = "Grace")]
    pub first_name: String,
    /// Last name.
    #[serde(default)]
    #[garde(length(chars, max = 100), custom(name_shape))]
    #[schema(example = "Hopper")]
    pub last_name: String,
    /// Hash of the password they have: Argon2, bcrypt (cost 10 at least), scrypt or PBKDF2 (100,000 rounds at least), in
    /// PHC, Django's or passlib's form. It is replaced at their first login. Without one they are `invited`, and have no
    /// password yet.
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy")]
    pub password_hash: Option<SecretString>,
    /// Names of roles.
    #[serde(default)]
    #[garde(length(max = 50))]
    #[schema(example = json!(["user"]))]
    pub roles: Vec<String>,
}

/// People to be brought along.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportUsers {
    /// Up to 1,000 of them.
    #[garde(length(min = 1, max = 1000), dive)]
    #[schema(min_items = 1, max_items = 1000)]
    pub users: Vec<ImportUser>,
    /// Pass over those whose address is somebody's here, so that an import can be sent again.
    #[serde(default)]
    #[garde(skip)]
    pub skip_existing: bool,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportedUsers {
    /// How many were added.
    #[schema(example = 998)]
    pub added: usize,
    /// Addresses of those who were here, and stay as they were.
    #[schema(example = json!(["ada@acme.test"]))]
    pub skipped: Vec<String>,
}

/// Adds many people at once, with the hashes of the passwords they have.
///
/// All are added or none: what is wrong with any of them is answered with its place, as in `users[3].passwordHash`.
/// Nobody can give a role that may do more than they themselves.
#[utoipa::path(
    tag = "users",
    request_body = ImportUsers,
    params(("Idempotency-Key" = Option<String>, Header, description = "Adds once, however often it is sent")),
    responses(
        (status = 201, description = "Added", body = Envelope<ImportedUsers>),
        (status = 409, description = "`already_exists`: an address is somebody's here", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a role is unknown", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/users/import")]
pub async fn import_users(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    idempotency: Idempotency,
    body: Json<ImportUsers>,
) -> ApiResult<HttpResponse> {
    let wanted = body.0;
    let faults = faults(&wanted.users);
    if !faults.is_empty() {
        return Err(ApiError::invalid(faults));
    }
    let (wanted, access, actor, now) = (&wanted, &*caller.access, &caller.actor(), auth.clock.now());
    let by = &audit::actor(&caller);
    idempotency
        .run(&caller.db, actor, async |conn: &mut TenantTx| -> ApiResult<Answer<ImportedUsers>> {
            let roles = grantable(conn, access, &wanted.users).await?;
            let added = insert(conn, &wanted.users, now).await?;
            let mut skipped = Vec::new();
            for (at, user) in wanted.users.iter().enumerate() {
                if added.contains_key(&email_key(&user.email)) {
                    continue;
                }
                if !wanted.skip_existing {
                    let said = "Somebody here has this address. `skipExisting` passes over such people.";
                    return Err(ApiError::already_exists(format!("users[{at}].email"), said));
                }
                skipped.push(user.email.clone());
            }
            give(conn, &wanted.users, &added, &roles).await?;
            let ids: Vec<UserId> = added.into_values().collect();
            audit::note_each(conn, by, "user.imported", &ids, now).await?;
            Ok(Answer::created(ImportedUsers { added: ids.len(), skipped }))
        })
        .await
}

/// What is wrong with them that can be said without the database.
fn faults(users: &[ImportUser]) -> Vec<FieldError> {
    let mut seen = HashSet::new();
    let mut faults = Vec::new();
    for (at, user) in users.iter().enumerate() {
        if !seen.insert(email_key(&user.email)) {
            let said = "Somebody before in the list has this address.";
            faults.push(FieldError::new(format!("users[{at}].email"), "duplicate", said));
        }
        let refused = user.password_hash.as_ref().and_then(|hash| check_foreign(hash.expose_secret()).err());
        if let Some(refused) = refused {
            let code = match refused {
                Refused::Unknown => "unknown_hash",
                Refused::TooCostly => "too_costly",
                Refused::TooWeak => "too_weak",
            };
            faults.push(FieldError::new(format!("users[{at}].passwordHash"), code, refused.to_string()));
        }
    }
    faults
}

/// The roles that are named, all of which the caller may give: held, so that it stays so.
async fn grantable(conn: &mut TenantConn, access: &Access, users: &[ImportUser]) -> ApiResult<HashMap<String, RoleId>> {
    let names: BTreeSet<&String> = users.iter().flat_map(|user| &user.roles).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let known: HashMap<String, RoleId> =
        store::hold_roles(conn, &names).await?.into_iter().map(|(id, name)| (name, id)).collect();
    for (at, user) in users.iter().enumerate() {
        if let Some(unknown) = user.roles.iter().position(|name| !known.contains_key(&comparable(name))) {
            let field = format!("users[{at}].roles[{unknown}]");
            return Err(ApiError::invalid_field(field, "unknown_role", "There is no such role."));
        }
    }
    let ids: Vec<RoleId> = known.values().copied().collect();
    may_grant("users", &access.permissions, &store::permissions_of_roles(conn, &ids).await?)?;
    Ok(known)
}

/// Adds those whose address is nobody's, and gives their ids by it.
async fn insert(
    conn: &mut TenantConn,
    wanted: &[ImportUser],
    now: DateTime<Utc>,
) -> QueryResult<HashMap<String, UserId>> {
    let mut added = HashMap::new();
    for some in wanted.chunks(CHUNK) {
        let rows: Vec<_> = some
            .iter()
            .map(|user| {
                let status = if user.password_hash.is_some() { UserStatus::Active } else { UserStatus::Invited };
                (
                    users::id.eq(UserId::generate()),
                    users::email.eq(user.email.trim()),
                    users::email_key.eq(email_key(&user.email)),
                    users::first_name.eq(user.first_name.trim()),
                    users::last_name.eq(user.last_name.trim()),
                    users::status.eq(status.as_str()),
                    users::password_hash.eq(user.password_hash.as_ref().map(ExposeSecret::expose_secret)),
                    users::created_at.eq(now),
                    users::updated_at.eq(now),
                )
            })
            .collect();
        let new: Vec<(String, UserId)> = diesel::insert_into(users::table)
            .values(rows)
            .on_conflict(users::email_key)
            .do_nothing()
            .returning((users::email_key, users::id))
            .get_results(conn)
            .await?;
        added.extend(new);
    }
    Ok(added)
}

/// Gives those who were added their roles.
async fn give(
    conn: &mut TenantConn,
    wanted: &[ImportUser],
    added: &HashMap<String, UserId>,
    roles: &HashMap<String, RoleId>,
) -> QueryResult<()> {
    let mut rows = Vec::new();
    for user in wanted {
        let Some(&id) = added.get(&email_key(&user.email)) else { continue };
        let theirs = user.roles.iter().filter_map(|name| roles.get(&comparable(name)));
        rows.extend(theirs.map(|&role| (user_roles::user_id.eq(id), user_roles::role_id.eq(role))));
    }
    for some in rows.chunks(CHUNK) {
        diesel::insert_into(user_roles::table).values(some).on_conflict_do_nothing().execute(conn).await?;
    }
    Ok(())
}
