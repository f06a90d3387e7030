//! Signing in with nothing but a passkey.

use actix_web::{post, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use garde::Validate;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ceremony::{self, Answered, PasskeyOptions};
use super::{AMR, SINCE, store};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{Client, Envelope, ErrorEnvelope, Hints, Json, NoQuery, Reply};
use crate::router::{self, Router, TenantDb, TenantTx};
use crate::tenant::auth::attempts::{self, Kind, Line, locked};
use crate::tenant::auth::begun::Whence;
use crate::tenant::auth::session::{self, SignIn};
use crate::tenant::auth::settings::Auth;
use crate::tenant::docs::StrangerRefusals;
use crate::tenant::teams;
use crate::tenant::users::rules::{UserStatus, email_key};
use crate::tenant::users::store::{self as users, UserRow};

/// Where to sign in.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasskeyLoginOptions {
    /// The tenant's slug, unless `X-Tenant-ID` or the host names it.
    #[garde(inner(length(max = 64)))]
    #[schema(example = "acme")]
    pub tenant: Option<String>,
}

/// The answer of a passkey.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasskeyLogin {
    /// The tenant's slug, unless `X-Tenant-ID` or the host names it.
    #[garde(inner(length(max = 64)))]
    #[schema(example = "acme")]
    pub tenant: Option<String>,
    /// As the options say.
    #[garde(skip)]
    pub ceremony_id: Uuid,
    /// What `navigator.credentials.get` gave, by `toJSON()`.
    #[garde(skip)]
    #[schema(value_type = Object)]
    pub credential: Value,
}

async fn named(router: &Router, tenant: Option<&str>, hints: &Hints) -> ApiResult<TenantDb> {
    let db = router.named(tenant, hints).await.map_err(|error| match error {
        // As where there is no such passkey.
        router::Error::TenantUnknown => ApiError::new(Code::InvalidCredentials),
        error => error.into(),
    })?;
    Ok(router.at_schema(db, SINCE).await?)
}

/// Begins a login with a passkey alone: what `navigator.credentials.get` is asked with. Whose it is, the device says.
#[utoipa::path(
    tag = "auth",
    request_body = PasskeyLoginOptions,
    responses(
        (status = 200, description = "For the browser", body = Envelope<PasskeyOptions>),
        (status = 401, description = "`invalid_credentials`: there is no such tenant", body = ErrorEnvelope),
        (status = 409, description = "There are no passkeys here", body = ErrorEnvelope),
        (status = 429, description = "`rate_limited`: too many were begun from this address", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/passkeys/login/options")]
pub async fn login_options(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    body: Json<PasskeyLoginOptions>,
) -> ApiResult<Reply<PasskeyOptions>> {
    let db = named(&router, body.0.tenant.as_deref(), &hints).await?;
    let (auth, from) = (&**auth, Whence::of(&client));
    let from = from.as_ref();
    let ask =
        async |conn: &mut TenantTx| -> ApiResult<PasskeyOptions> { ceremony::ask_anybody(conn, auth, from).await };
    Ok(Reply(db.transaction(ask).await?))
}

/// Signs in with a passkey alone: it takes the device and what unlocks it, so no second factor is asked for.
///
/// A passkey that is unknown or does not answer well counts as a failed login of its person and of the address; an answer to what
/// is asked no more is refused alike, and counts for nothing.
#[utoipa::path(
    tag = "auth",
    request_body = PasskeyLogin,
    responses(
        (status = 200, description = "Signed in", body = Envelope<SignIn>),
        (status = 401, description = "`invalid_credentials`", body = ErrorEnvelope),
        (status = 409, description = "There are no passkeys here", body = ErrorEnvelope),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/passkeys/login")]
pub async fn passkey_login(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    body: Json<PasskeyLogin>,
) -> ApiResult<Reply<SignIn>> {
    let PasskeyLogin { tenant, ceremony_id, credential } = body.0;
    let db = &named(&router, tenant.as_deref(), &hints).await?;
    let (auth, client) = (&**auth, &client);
    let id = ceremony::credential_id(&credential)?;
    // A refusal is an outcome, not an error: what was counted has to stay.
    let signed_in = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<ApiResult<SignIn>> {
            let row = store::find(conn, &id).await?;
            let person = match &row {
                Some(row) => Some(users::get(conn, row.user_id).await?),
                None => None,
            };
            let whose = person.as_ref().map_or_else(|| BASE64URL.encode(&id), |person| email_key(&person.email));
            let line = Line::new(auth, db, &whose, client, Kind::Passkey);
            if let Some(left) = attempts::hold(conn, &line).await? {
                return Ok(Err(locked(left, &auth.settings.limits)));
            }
            // After the account's tries, as everywhere: the person, then what is theirs. Whoever deactivates them is waited for.
            let person = match person {
                Some(person) => Some(users::hold(conn, person.id).await?),
                None => None,
            };
            let row = store::hold(conn, &id).await?;
            let answered = ceremony::identify(conn, auth, row, (ceremony_id, &credential)).await?;
            let is_good = |p: &UserRow| answered == Answered::By(p.id) && p.status == UserStatus::Active;
            let known = person.as_ref().map(|person| person.id);
            let Some(person) = person.filter(is_good) else {
                if answered != Answered::TooLate {
                    attempts::fail(conn, &line, known).await?;
                }
                return Ok(Err(ApiError::new(Code::InvalidCredentials)));
            };
            attempts::succeed(conn, &line, person.id).await?;
            let roles = teams::all_roles(conn, db, &person).await?;
            Ok(Ok(session::open(conn, auth, db, (person, roles), client, &AMR).await?))
        })
        .await??;
    Ok(Reply(signed_in))
}
