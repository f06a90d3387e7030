//! Registration, as the tenant's policy has it.

use actix_web::{HttpResponse, post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::account;
use super::mfa::{LoggedIn, gate};
use super::settings::Auth;
use super::store;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::Client;
use crate::rest::{Answer, Envelope, ErrorEnvelope, Hints, Idempotency, Json, NoQuery, Replay};
use crate::router::{self, Router, TenantConn, TenantDb, TenantTx};
use crate::tenant::audit;
use crate::tenant::docs::StrangerRefusals;
use crate::tenant::passwords::{self, Whose, choose};
use crate::tenant::permissions::catalog::USER;
use crate::tenant::users::rules::{UserStatus, email_key, email_shape, name_shape};
use crate::tenant::users::store::{self as users, NewUser, UserChange, UserRow};

/// Who wants to belong to a tenant.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterRequest {
    /// The tenant's slug, unless `X-Tenant-ID`, the host, or the invitation names it.
    #[garde(inner(length(max = 64)))]
    #[schema(example = "acme")]
    pub tenant: Option<String>,
    /// Address.
    #[garde(custom(email_shape))]
    #[schema(example = "grace@acme.test")]
    pub email: String,
    /// By the organisation's policy: 15 characters at least, unless it says otherwise.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub password: SecretString,
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
    /// The token of an invitation.
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "tin_AZq…")]
    pub invitation: Option<SecretString>,
}

/// Registers, and signs in.
///
/// Whoever holds an invitation for their address may. With the policy `open` so may anyone, with `domain` whoever has an
/// address of certain domains; with `invite` and `closed` nobody else. Where addresses are verified first, the answer is 202, the same
/// whether or not somebody has the address, and the account is made by `POST /api/v1/auth/verify-email`. A tenant that is closed to the caller, unknown or suspended answers the same `registration_closed`.
#[utoipa::path(
    tag = "auth",
    request_body = RegisterRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Registers once, however often it is sent")),
    responses(
        (status = 201, description = "Registered, and signed in as by a login", body = Envelope<LoggedIn>),
        (status = 202, description = "Waits for its address to be verified: a mail is on its way", body = Envelope<account::ByMail>),
        (status = 403, description = "`registration_closed`", body = ErrorEnvelope),
        (status = 409, description = "`already_exists`: `email`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/register")]
pub async fn register(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    idempotency: Idempotency,
    body: Json<RegisterRequest>,
) -> ApiResult<HttpResponse> {
    let mut request = body.0;
    let invitation = match request.invitation.take() {
        None => None,
        Some(text) => {
            let mac = &router.installation().mac;
            Some(OpaqueToken::parse(mac, TokenKind::Invitation, &text).ok_or_else(void_invitation)?)
        }
    };
    let db = match &invitation {
        // The token says whose it is; a tenant named beside it can only confirm.
        Some(token) => router.routed(token, &hints).await,
        None => router.named(request.tenant.as_deref(), &hints).await,
    };
    let db = db.map_err(|error| closed_to_strangers(error, invitation.is_some()))?;
    let db = router.at_schema(db, passwords::SINCE).await?;
    if invitation.is_some() && request.tenant.as_deref().is_some_and(|named| named != db.tenant().slug.as_str()) {
        return Err(void_invitation());
    }
    let policy = account::policy_of(&db).await?;
    if invitation.is_none() && !policy.lets_in(&request.email) {
        return Err(ApiError::new(Code::RegistrationClosed));
    }
    let name = [&*request.first_name, &*request.last_name];
    let usual = [USER.to_owned()];
    let whose = match invited(&db, invitation.as_ref()).await? {
        Some(user) => Whose::Invited { user, name },
        None => Whose::New { email: &request.email, name, roles: &usual },
    };
    let hash = choose(&auth, &db, whose, "password", request.password.clone()).await?;
    let (auth, db, request) = (&**auth, &db, &request);
    if policy.verify_email && invitation.is_none() {
        return idempotency
            .run(db, "register", async |conn: &mut TenantTx| -> ApiResult<Answer<account::ByMail>> {
                account::verify::keep(conn, auth, db, request, &hash).await
            })
            .await;
    }
    idempotency
        .run_secret(db, "register", async |(conn, replay): (&mut TenantTx, Replay)| -> ApiResult<Answer<LoggedIn>> {
            let user = match (replay, &invitation) {
                (Replay::Again, _) => again(conn, auth, db, request).await?,
                (Replay::First, None) => join(conn, auth, request, &hash).await?,
                (Replay::First, Some(token)) => accept(conn, (auth, db), request, &hash, token).await?,
            };
            let version = user.version;
            let answer = gate::enter(conn, auth, db, user, &client, None).await?;
            Ok(Answer::created(answer).location("/api/v1/users/me").etag(version))
        })
        .await
}

/// Whose an invitation is: by their roles their password is judged, also where the request is told again.
async fn invited(db: &TenantDb, invitation: Option<&OpaqueToken>) -> ApiResult<Option<UserId>> {
    let Some(hash) = invitation.map(OpaqueToken::hash) else { return Ok(None) };
    db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::invitation_of(conn, &hash).await?) }).await
}

fn closed_to_strangers(error: router::Error, invited: bool) -> ApiError {
    match error {
        router::Error::TenantUnknown | router::Error::TenantSuspended => ApiError::new(Code::RegistrationClosed),
        router::Error::TokenInvalid(_) if invited => void_invitation(),
        other => other.into(),
    }
}

fn void_invitation() -> ApiError {
    ApiError::invalid_field("invitation", "invalid", "It is not valid for this address, or not any more.")
}

async fn join(conn: &mut TenantConn, auth: &Auth, request: &RegisterRequest, hash: &str) -> ApiResult<UserRow> {
    let user = NewUser {
        id: UserId::generate(),
        email: &request.email,
        first_name: &request.first_name,
        last_name: &request.last_name,
        status: UserStatus::Active,
        password_hash: Some(hash),
    };
    users::insert(conn, &user, auth.clock.now()).await?;
    let roles = users::newcomer_roles(conn).await?;
    users::set_roles(conn, user.id, &roles).await?;
    users::get(conn, user.id).await
}

async fn accept(
    conn: &mut TenantConn,
    (auth, db): (&Auth, &TenantDb),
    request: &RegisterRequest,
    hash: &str,
    token: &OpaqueToken,
) -> ApiResult<UserRow> {
    let now = auth.clock.now();
    let id = store::accept_invitation(conn, &token.hash(), now).await?.ok_or_else(void_invitation)?;
    let invited = users::hold(conn, id).await?;
    if invited.status != UserStatus::Invited || email_key(&invited.email) != email_key(&request.email) {
        return Err(void_invitation());
    }
    let given = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    let change = UserChange {
        first_name: given(&request.first_name),
        last_name: given(&request.last_name),
        status: Some(UserStatus::Active.as_str().to_owned()),
        password_hash: Some(hash.to_owned()),
        ..UserChange::default()
    };
    users::update(conn, id, &change, true, now).await?;
    if store::came_by_mail(conn, db, &token.hash()).await? {
        account::store::verified(conn, db, id, now).await?;
    }
    audit::note_person(conn, (&format!("user:{id}"), id), "invitation.accepted", None, now).await?;
    users::get(conn, id).await
}

/// A repeated request whose first answer was not kept, for it held tokens: a new session, if the password still holds.
async fn again(conn: &mut TenantConn, auth: &Auth, db: &TenantDb, request: &RegisterRequest) -> ApiResult<UserRow> {
    let found = store::credentials(conn, &email_key(&request.email)).await?;
    let password = request.password.clone();
    let hasher = auth.passwords.of(db.tenant().id);
    let matches = hasher.verify(password, found.as_ref().and_then(store::Credentials::usable_hash)).await?;
    match found {
        Some(credentials) if matches => users::get(conn, credentials.user).await,
        _ => Err(ApiError::new(Code::InvalidCredentials)),
    }
}
