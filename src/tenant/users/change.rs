//! Changing and removing a person.

use actix_web::{delete, patch, put, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{User, grantable_roles};
use super::power::{check_control, keep_an_admin};
use super::reassign;
use super::rules::{self, UserStatus, email_key, email_shape, name_shape};
use super::store::{self, UserChange, UserRow};
use super::trail;
use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::rest::{
    Authorized, Envelope, ErrorEnvelope, IfMatch, Json, MergePatch, NoContent, NoQuery, Patch, Path, Query, Tagged,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::addresses;
use crate::tenant::audit;
use crate::tenant::auth::{Auth, account, end_sessions, forget_challenges};
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::passwords::{Whose, choose};
use crate::tenant::permissions::UsersWrite;
use crate::tenant::teams;

/// A person as they are to be.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceUser {
    /// Address.
    #[garde(custom(email_shape))]
    #[schema(example = "grace@acme.test")]
    pub email: String,
    /// First name; empty if left out.
    #[serde(default)]
    #[garde(length(chars, max = 100), custom(name_shape))]
    #[schema(example = "Grace")]
    pub first_name: String,
    /// Last name; empty if left out.
    #[serde(default)]
    #[garde(length(chars, max = 100), custom(name_shape))]
    #[schema(example = "Hopper")]
    pub last_name: String,
    /// A new password, which ends the person's sessions; left out, it stays.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<SecretString>,
    /// Names of all their roles; left out, they stay.
    #[garde(inner(length(max = 50)))]
    #[schema(example = json!(["user"]))]
    pub roles: Option<Vec<String>>,
    /// Whether they may come in; left out, it stays.
    #[garde(skip)]
    pub status: Option<UserStatus>,
}

/// What changes of a person.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchUser {
    /// Address; cannot be null.
    #[serde(default)]
    #[garde(inner(custom(email_shape)))]
    #[schema(value_type = Option<String>, example = "grace@acme.test")]
    pub email: Patch<String>,
    /// First name; null empties it.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape)))]
    #[schema(value_type = Option<String>, example = "Grace")]
    pub first_name: Patch<String>,
    /// Last name; null empties it.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape)))]
    #[schema(value_type = Option<String>, example = "Hopper")]
    pub last_name: Patch<String>,
    /// A new password, which ends the person's sessions; cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Patch<SecretString>,
    /// Names of all their roles; null takes all.
    #[serde(default)]
    #[garde(inner(length(max = 50)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["user"]))]
    pub roles: Patch<Vec<String>>,
    /// Whether they may come in; cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<UserStatus>)]
    pub status: Patch<UserStatus>,
}

/// What an administrator wants changed, from either verb.
struct Wanted {
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    password: Option<SecretString>,
    roles: Option<Vec<String>>,
    status: Option<UserStatus>,
}

impl From<ReplaceUser> for Wanted {
    fn from(user: ReplaceUser) -> Self {
        Self {
            email: Some(user.email.trim().to_owned()),
            first_name: Some(user.first_name.trim().to_owned()),
            last_name: Some(user.last_name.trim().to_owned()),
            password: user.password,
            roles: user.roles,
            status: user.status,
        }
    }
}

impl TryFrom<PatchUser> for Wanted {
    type Error = ApiError;

    fn try_from(user: PatchUser) -> ApiResult<Self> {
        Ok(Self {
            email: user.email.needed("email")?.map(|email| email.trim().to_owned()),
            first_name: user.first_name.trimmed(),
            last_name: user.last_name.trimmed(),
            password: user.password.needed("password")?,
            roles: user.roles.or_empty(),
            status: user.status.needed("status")?,
        })
    }
}

/// Replaces a person. Password, roles and status stay where they are left out.
#[utoipa::path(
    tag = "users",
    request_body = ReplaceUser,
    params(
        ("id" = UserId, Path, description = "The person"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<User>),
        (status = 409, description = "The address is taken, or this is the last administrator", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[put("/api/v1/users/{id}")]
pub async fn replace_user(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
    if_match: IfMatch,
    body: Json<ReplaceUser>,
) -> ApiResult<Tagged<User>> {
    change(&auth, &caller, id.0, if_match, body.0.into()).await
}

/// Changes a person. Another address or password wants a proof that is not older than ten minutes (`step_up_required`).
///
/// Who is invited and gets another address or another role needs another link: the one they have is void, until
/// `POST /api/v1/invitations/{id}/resend` sends one.
#[utoipa::path(
    tag = "users",
    request_body(content = PatchUser, content_type = "application/merge-patch+json"),
    params(
        ("id" = UserId, Path, description = "The person"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<User>),
        (status = 409, description = "The address is taken, or this is the last administrator", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[patch("/api/v1/users/{id}")]
pub async fn patch_user(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
    if_match: IfMatch,
    body: MergePatch<PatchUser>,
) -> ApiResult<Tagged<User>> {
    change(&auth, &caller, id.0, if_match, body.0.try_into()?).await
}

async fn change(
    auth: &Auth,
    caller: &Authorized<UsersWrite>,
    id: UserId,
    if_match: IfMatch,
    mut wanted: Wanted,
) -> ApiResult<Tagged<User>> {
    caller.in_person_on(id)?;
    let db = &caller.db;
    // Before the hashing, so that a stale or vain request costs little; and before a password is compared with those they had, of
    // which nobody learns anything who may not set it.
    let sets_password = wanted.password.is_some();
    let before = db
        .read(async |conn: &mut TenantConn| -> ApiResult<UserRow> {
            let before = store::get(conn, id).await?;
            if sets_password {
                check_control(conn, &caller.access.permissions, id).await?;
            }
            Ok(before)
        })
        .await?;
    if_match.check(before.version)?;
    let password_hash = match wanted.password.take() {
        None => None,
        Some(_) if id == caller.user() => {
            let said = "Your own is changed with POST /api/v1/auth/change-password, by whoever knows the present one.";
            return Err(ApiError::invalid_field("password", "own_password", said));
        }
        Some(password) => {
            caller.recently()?;
            Some(choose(auth, db, Whose::Theirs(id), "password", password).await?)
        }
    };
    let (wanted, password_hash, actor) = (&wanted, &password_hash, &audit::actor(caller));
    let row = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<UserRow> {
            store::hold_admins(conn).await?;
            let before = store::hold(conn, id).await?;
            if_match.check(before.version)?;
            if password_hash.is_some() {
                account::drop_trust(conn, db, id).await?;
            }
            let has_password = before.has_password || password_hash.is_some();
            let status = rules::next_status(before.status, wanted.status, has_password)?;
            let email_changes =
                wanted.email.as_deref().is_some_and(|email| rules::is_other_address(&before.email, email));
            if email_changes {
                // Where their mails go, the link to their next password goes.
                caller.recently()?;
            }
            if email_changes || password_hash.is_some() || status != before.status || wanted.roles.is_some() {
                check_control(conn, &caller.access.permissions, id).await?;
            }
            if let Some(names) = &wanted.roles {
                let ids = grantable_roles(conn, &caller.access, names).await?;
                store::set_roles(conn, id, &ids).await?;
            }
            if email_changes || status != before.status {
                addresses::announce(db).await;
            }
            trail::tell(conn, db, &before, (wanted.email.as_deref(), status)).await?;
            if password_hash.is_some() {
                mail::notify_security(conn, db, id, SecurityNotice::PasswordSetByAdmin, None).await?;
            }
            let now = auth.clock.now();
            let change = UserChange {
                email: wanted.email.clone(),
                email_key: wanted.email.as_deref().map(email_key),
                first_name: wanted.first_name.clone(),
                last_name: wanted.last_name.clone(),
                status: Some(status.as_str().to_owned()),
                password_hash: password_hash.clone(),
                password_change_required: password_hash.is_some().then_some(false),
            };
            let rights = wanted.roles.is_some() || status != before.status || password_hash.is_some();
            store::update(conn, id, &change, rights, now).await?;
            if password_hash.is_some() || status != UserStatus::Active {
                let but =
                    (id == caller.user() && status == UserStatus::Active).then(|| caller.principal.session()).flatten();
                forget_challenges(conn, db, id).await?;
                end_sessions(conn, id, but, "changed_by_admin", now).await?;
            }
            let after = store::get(conn, id).await?;
            trail::note_change(conn, actor, (&before, &after), password_hash.is_some(), now).await?;
            trail::void_if_other(conn, actor, (&before, &after), now).await?;
            keep_an_admin(conn, &before, Some(&after)).await?;
            Ok(after)
        })
        .await?;
    auth.admission.forget_user(db.tenant().id, id).await;
    Ok(Tagged(User::new(row, db.tenant().id)))
}

/// To whom what the person has goes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteUser {
    /// Somebody active, who gets their places in teams; left out, the places go with the person.
    pub reassign_to: Option<UserId>,
}

/// Removes a person, with their sessions, API keys, tokens of directories and places in teams. With `reassignTo` somebody else
/// gets the places: as `POST /api/v1/users/{id}/reassign`, in the same transaction. Contacts stay.
#[utoipa::path(
    tag = "users",
    params(
        ("id" = UserId, Path, description = "The person"),
        DeleteUser,
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "This is the last administrator", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "`reassignTo` is the same, unknown or may not come in, or gets rights that you do not have", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/users/{id}")]
pub async fn delete_user(
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    id: Path<UserId>,
    query: Query<DeleteUser>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let (id, to, now) = (id.0, query.0.reassign_to, auth.clock.now());
    caller.in_person_on(id)?;
    let (db, caller, actor) = (&caller.db, &caller, &audit::actor(&caller));
    let stale = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<reassign::Stale> {
            if to.is_some() {
                // Before people, as by whoever puts somebody into a team.
                teams::store::hold_tree(conn).await?;
            }
            store::hold_admins(conn).await?;
            let before = reassign::hold(conn, id, to).await?;
            if_match.check(before.version)?;
            check_control(conn, &caller.access.permissions, id).await?;
            let stale = match to {
                Some(to) => reassign::hand_over(conn, caller, (id, to), "reassignTo", now).await?.1,
                None => reassign::Stale::default(),
            };
            addresses::announce(db).await;
            mail::notify_security(conn, db, id, SecurityNotice::AccountRemoved, None).await?;
            // Lines about a person lose them with the person; this one says who it was.
            audit::note_person(conn, (actor, id), "user.removed", Some(&id.to_string()), now).await?;
            store::remove(conn, id).await?;
            keep_an_admin(conn, &before, None).await?;
            Ok(stale)
        })
        .await?;
    reassign::forget(&auth, caller, (id, to.unwrap_or(id)), stale).await;
    Ok(NoContent)
}
