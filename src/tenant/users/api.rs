//! People as clients see them; making one.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::{self, UserStatus, email_shape, name_shape};
use super::store::{self, NewUser, UserRow};
use crate::error::{ApiError, ApiResult};
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::kernel::{RoleId, TenantId, UserId};
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, Json, NoQuery, Path, ShownOnce, Tagged, Versioned,
};
use crate::router::{Access, TenantConn, TenantDb, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::session::expose_some;
use crate::tenant::auth::{Auth, delta, insert_invitation};
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, Mail, Recipient};
use crate::tenant::passwords::{Whose, choose};
use crate::tenant::permissions::{UsersRead, UsersWrite};

/// A person of the tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Identity.
    pub id: UserId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Address, as it was given.
    #[schema(example = "ada@acme.test")]
    pub email: String,
    /// First name.
    #[schema(example = "Ada")]
    pub first_name: String,
    /// Last name.
    #[schema(example = "Lovelace")]
    pub last_name: String,
    /// Whether they may come in.
    pub status: UserStatus,
    /// Names of their roles.
    #[schema(example = json!(["user"]))]
    pub roles: Vec<String>,
    /// They have yet to replace a password that somebody else made.
    pub password_change_required: bool,
    /// When they were added.
    pub created_at: DateTime<Utc>,
    /// When they were last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl User {
    /// A person from their row.
    #[must_use]
    pub fn new(row: UserRow, tenant_id: TenantId) -> Self {
        Self {
            id: row.id,
            tenant_id,
            email: row.email,
            first_name: row.first_name,
            last_name: row.last_name,
            status: row.status,
            roles: row.roles,
            password_change_required: row.password_change_required,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

impl Versioned for User {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A person as they were made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewUserView {
    /// The person.
    #[serde(flatten)]
    pub user: User,
    /// Lets an invited person register; shown here and never again.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "tin_AZq…")]
    pub invitation_token: Option<SecretString>,
    /// When the invitation runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invitation_expires_at: Option<DateTime<Utc>>,
}

impl ShownOnce for NewUserView {
    const SECRET: &'static str = "invitationToken";
}

/// A person to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateUser {
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
    /// With one the person is active at once; without one they are invited.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<SecretString>,
    /// Names of roles.
    #[serde(default)]
    #[garde(length(max = 50))]
    #[schema(example = json!(["user"]))]
    pub roles: Vec<String>,
}

/// Adds a person, or invites one.
///
/// With a password the person is active at once. Without one they are `invited`, by a mail; the answer holds the
/// invitation's token too. Nobody can give a role that may do more than they themselves. Sent again with the same
/// `Idempotency-Key`, it answers the same without the token, and mails nothing: if neither came,
/// `POST /api/v1/invitations/{id}/resend` sends another one.
#[utoipa::path(
    tag = "users",
    request_body = CreateUser,
    params(("Idempotency-Key" = Option<String>, Header, description = "Adds once, however often it is sent")),
    responses(
        (status = 201, description = "Added", body = Envelope<NewUserView>),
        (status = 409, description = "`already_exists`: `email`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a role is unknown", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/users")]
pub async fn create_user(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<UsersWrite>,
    idempotency: Idempotency,
    body: Json<CreateUser>,
) -> ApiResult<HttpResponse> {
    let mut request = body.0;
    let hash = match request.password.take() {
        None => None,
        Some(password) => {
            let name = [&*request.first_name, &*request.last_name];
            let whose = Whose::New { email: &request.email, name, roles: &request.roles };
            Some(choose(&auth, &caller.db, whose, "password", password).await?)
        }
    };
    let (auth, db, access, request) = (&**auth, &caller.db, &*caller.access, &request);
    let (actor, by) = (caller.actor(), &audit::actor(&caller));
    if let Some(hash) = hash {
        return idempotency
            .run(db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<NewUserView>> {
                let row = insert(conn, auth, (access, by), request, Some(&hash)).await?;
                Ok(created(User::new(row, db.tenant().id), None))
            })
            .await;
    }
    idempotency
        .run_shown_once(db, &actor, async |conn: &mut TenantTx| -> ApiResult<Answer<NewUserView>> {
            let row = insert(conn, auth, (access, by), request, None).await?;
            let invitation = invite(conn, auth, db, (&row, false), by).await?;
            Ok(created(User::new(row, db.tenant().id), Some(invitation)))
        })
        .await
}

pub(super) async fn insert(
    conn: &mut TenantConn,
    auth: &Auth,
    (access, actor): (&Access, &str),
    request: &CreateUser,
    hash: Option<&str>,
) -> ApiResult<UserRow> {
    let roles = grantable_roles(conn, access, &request.roles).await?;
    let user = NewUser {
        id: UserId::generate(),
        email: &request.email,
        first_name: &request.first_name,
        last_name: &request.last_name,
        status: if hash.is_some() { UserStatus::Active } else { UserStatus::Invited },
        password_hash: hash,
    };
    let now = auth.clock.now();
    store::insert(conn, &user, now).await?;
    store::set_roles(conn, user.id, &roles).await?;
    let row = store::get(conn, user.id).await?;
    let with = format!("{}, roles: {}", row.status.as_str(), row.roles.join(", "));
    audit::note_person(conn, (actor, user.id), "user.created", Some(&with), now).await?;
    Ok(row)
}

/// The roles behind names, all of which the caller may give: held, so that it stays so.
pub(in crate::tenant) async fn grantable_roles(
    conn: &mut TenantConn,
    access: &Access,
    names: &[String],
) -> ApiResult<Vec<RoleId>> {
    let found = store::hold_roles(conn, names).await?;
    if let Some(unknown) = names.iter().position(|name| !found.iter().any(|(_, known)| known == name)) {
        return Err(ApiError::invalid_field(format!("roles[{unknown}]"), "unknown_role", "There is no such role."));
    }
    let ids: Vec<RoleId> = found.into_iter().map(|(id, _)| id).collect();
    rules::may_grant("roles", &access.permissions, &store::permissions_of_roles(conn, &ids).await?)?;
    Ok(ids)
}

pub(super) async fn invite(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    (user, by_mail_alone): (&UserRow, bool),
    actor: &str,
) -> ApiResult<(SecretString, DateTime<Utc>)> {
    let token = OpaqueToken::generate(&db.router().installation().mac, TokenKind::Invitation, db.tenant().id);
    let now = auth.clock.now();
    let expires_at = now + delta(auth.settings.invitation_ttl);
    insert_invitation(conn, db, (user.id, by_mail_alone), &token.hash(), now, expires_at).await?;
    audit::note_person(conn, (actor, user.id), "invitation.sent", None, now).await?;
    let to = Recipient { user: Some(user.id), address: user.email.clone(), name: user.first_name.clone() };
    let text = token.text().expose_secret().to_owned();
    mail::queue(conn, db, &to, Mail::Invitation { token: text, by: String::new() }).await?;
    Ok((token.text().clone(), expires_at))
}

fn created(user: User, invitation: Option<(SecretString, DateTime<Utc>)>) -> Answer<NewUserView> {
    let (location, version) = (format!("/api/v1/users/{}", user.id), user.version);
    let (invitation_token, invitation_expires_at) = invitation.unzip();
    Answer::created(NewUserView { user, invitation_token, invitation_expires_at }).location(location).etag(version)
}

/// A person.
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path, description = "The person")),
    responses(
        (status = 200, description = "The person, with `ETag`", body = Envelope<User>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/users/{id}")]
pub async fn get_user(_: NoQuery, caller: Authorized<UsersRead>, id: Path<UserId>) -> ApiResult<Tagged<User>> {
    let row = caller.db.read(async |conn: &mut TenantConn| store::get(conn, id.0).await).await?;
    Ok(Tagged(User::new(row, caller.db.tenant().id)))
}
