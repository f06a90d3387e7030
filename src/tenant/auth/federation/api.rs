//! Signing in through a provider, over HTTP.

use actix_web::{post, web};
use chrono::TimeDelta;
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enter::enter;
use super::flow::{External, Flow, Returned, refused};
use super::store::{self, StateRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::SessionId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::{Client, Envelope, ErrorEnvelope, Hints, Json, NoQuery, Path, Reply};
use crate::router::{self, Router, TenantConn, TenantDb, TenantTx};
use crate::tenant::auth::begun::{self, Whence};
use crate::tenant::auth::mfa::LoggedIn;
use crate::tenant::auth::session::expose;
use crate::tenant::auth::settings::Auth;
use crate::tenant::docs::StrangerRefusals;
use crate::tenant::identity_providers::SINCE;
use crate::tenant::identity_providers::store::{self as providers, ProviderRow};
use crate::tenant::jose::Fault;

/// How long somebody may be away at a provider.
const AWAY: TimeDelta = TimeDelta::minutes(10);

/// Who wants to sign in through a provider.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartFederation {
    /// The tenant's slug, unless `X-Tenant-ID` or the host names it.
    #[garde(inner(length(max = 64)))]
    #[schema(example = "acme")]
    pub tenant: Option<String>,
    /// Where the provider is to send the person back to: one of those that the provider has here.
    #[garde(length(max = 2048))]
    #[schema(example = "https://app.example.com/callback")]
    pub redirect_uri: String,
    /// Whether the provider is to ask the person anew who they are, though they are signed in there (`prompt=login`,
    /// `max_age=0`): for a fresh proof. GitHub has no such thing, and does not.
    #[serde(default)]
    #[garde(skip)]
    #[schema(example = false)]
    pub fresh: bool,
}

/// Where the person goes on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FederationStarted {
    /// Send the person there.
    #[schema(example = "https://accounts.google.com/o/oauth2/v2/auth?client_id=…")]
    pub authorization_url: String,
    /// As it will come back. Keep it where the person's own browser has it, and go on only with a state that is there: so
    /// nobody is signed in by somebody else's link.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, example = "tfs_AZq…")]
    pub state: SecretString,
    /// For how many seconds it is good.
    #[schema(example = 600)]
    pub expires_in: i64,
}

/// With what somebody came back.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FederationCallback {
    /// As it came back.
    #[garde(skip)]
    #[schema(value_type = String, example = "tfs_AZq…")]
    pub state: SecretString,
    /// As the provider gave it.
    #[garde(skip)]
    #[schema(value_type = String, example = "SplxlOBeZQQYbYS6WxSbIA")]
    pub code: SecretString,
    /// The parameter `iss`, if there was one (RFC 9207). A provider that says it sends it has to.
    #[garde(inner(length(max = 2048)))]
    pub iss: Option<String>,
}

fn nowhere() -> ApiError {
    ApiError::not_found("identity provider")
}

/// Begins to sign in through an identity provider.
///
/// An unknown tenant, a suspended one and one without this provider answer alike. Whoever is refused with `step_up_required` and has
/// no password signs in anew with `fresh`: what a provider says of an old sign-in there is no fresh proof. Each call begins another sign-in;
/// `Idempotency-Key` has no effect here.
#[utoipa::path(
    tag = "auth",
    request_body = StartFederation,
    params(("provider" = String, Path, description = "Its name in addresses")),
    responses(
        (status = 200, description = "Where to go on", body = Envelope<FederationStarted>),
        (status = 404, description = "There is no such provider here", body = ErrorEnvelope),
        (status = 422, description = "The provider may not send anybody back there", body = ErrorEnvelope),
        (status = 429, description = "`rate_limited`: too many were begun from this address", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/federation/{provider}/start")]
pub async fn start(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    provider: Path<String>,
    body: Json<StartFederation>,
) -> ApiResult<Reply<FederationStarted>> {
    let StartFederation { tenant, redirect_uri, fresh } = body.0;
    let db = router.named(tenant.as_deref(), &hints).await.map_err(|error| match error {
        router::Error::TenantUnknown => nowhere(),
        other => other.into(),
    })?;
    let db = router.at_schema(db, SINCE).await?;
    let by = Beginner::Stranger { client: &client, fresh };
    Ok(Reply(begin(&auth, &db, &provider.0, redirect_uri, by).await?))
}

/// Who begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beginner<'a> {
    /// Whoever wants to sign in, and perhaps be asked anew by the provider.
    Stranger { client: &'a Client, fresh: bool },
    /// Somebody who links an account to their own, in this session.
    Known(SessionId),
}

/// Begins a sign-in, or a link of one's own account.
pub(super) async fn begin(
    auth: &Auth,
    db: &TenantDb,
    slug: &str,
    redirect_uri: String,
    by: Beginner<'_>,
) -> ApiResult<FederationStarted> {
    let (session, from, fresh) = match by {
        Beginner::Stranger { client, fresh } => (None, Whence::of(client), fresh),
        Beginner::Known(session) => (Some(session), None, false),
    };
    let slug = crate::tenant::users::rules::comparable(slug);
    let provider = db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(providers::find_open(conn, &slug).await?) })
        .await?
        .ok_or_else(nowhere)?;
    if !provider.redirect_uris.contains(&redirect_uri) {
        let said = "It is none of those that this provider may send people back to.";
        return Err(ApiError::invalid_field("redirectUri", "not_allowed", said));
    }
    let now = auth.clock.now();
    let state = OpaqueToken::generate(&db.router().installation().mac, TokenKind::Federation, db.tenant().id);
    let foreign = auth.admission.foreign();
    let flow =
        Flow { db, foreign, provider: &provider, redirect_uri: &redirect_uri, state: &state, now: now.timestamp() };
    let url = flow.authorization_url(fresh).await?;
    let row = StateRow {
        provider_id: provider.id,
        redirect_uri: redirect_uri.clone(),
        session_id: session,
        expires_at: now + AWAY,
    };
    let hash = state.hash();
    let met = db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<Option<i64>> {
            Ok(store::insert_state(conn, &hash, &row, from.as_ref(), now).await?)
        })
        .await?;
    if let Some(most) = met {
        return Err(begun::too_many(most, AWAY.to_std().unwrap_or_default()));
    }
    Ok(FederationStarted { authorization_url: url.into(), state: state.text().clone(), expires_in: AWAY.num_seconds() })
}

/// Who came back, through which provider. The state is spent, whatever comes of it; no connection is held while the
/// provider is asked.
pub(super) async fn identified(
    auth: &Auth,
    db: &TenantDb,
    state: &OpaqueToken,
    session: Option<SessionId>,
    answer: (&SecretString, Option<&str>),
) -> ApiResult<(ProviderRow, External)> {
    let hash = state.hash();
    let (begun, provider) = db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<_> {
            let Some(begun) = store::take_state(conn, &hash).await? else {
                return Ok((None, None));
            };
            let provider = providers::find_open_by_id(conn, begun.provider_id).await?;
            Ok((Some(begun), provider))
        })
        .await?;
    let begun = begun.ok_or_else(|| ApiError::new(Code::TokenInvalid))?;
    if auth.clock.now() >= begun.expires_at {
        return Err(ApiError::new(Code::TokenExpired));
    }
    // A link is completed in the session that asked for it, a sign-in in none.
    if begun.session_id != session {
        return Err(ApiError::new(Code::TokenInvalid));
    }
    let provider = provider.ok_or_else(|| refused(Fault("the provider was closed meanwhile")))?;
    let (foreign, now) = (auth.admission.foreign(), auth.clock.now().timestamp());
    let flow = Flow { db, foreign, provider: &provider, redirect_uri: &begun.redirect_uri, state, now };
    let external = flow.identify(&Returned { code: answer.0, iss: answer.1 }).await?;
    Ok((provider, external))
}

/// Signs in who came back from an identity provider.
///
/// A state is good once, for ten minutes. Somebody who comes for the first time is known by their address only if both
/// sides have verified it, or nobody could come in as this person yet; else `account_link_required`: they sign in and link
/// the account themselves. The same is said to whoever is known through another provider alone, and to whoever may do more
/// than whoever set the provider up, unless they have linked the account themselves. Nobody is made an account whose domain
/// the provider is not open for (`registration_closed`). Who has a second factor gets `mfaRequired`, as at a login.
#[utoipa::path(
    tag = "auth",
    request_body = FederationCallback,
    responses(
        (status = 200, description = "Signed in, or the second factor is asked for", body = Envelope<LoggedIn>),
        (status = 401, description = "`federation_failed`, `token_invalid`, `token_expired`", body = ErrorEnvelope),
        (status = 403, description = "`registration_closed`, `tenant_suspended`", body = ErrorEnvelope),
        (status = 409, description = "`account_link_required`", body = ErrorEnvelope),
        StrangerRefusals,
    ),
)]
#[post("/api/v1/auth/federation/callback")]
pub async fn callback(
    _: NoQuery,
    auth: web::Data<Auth>,
    router: web::Data<Router>,
    hints: Hints,
    client: Client,
    body: Json<FederationCallback>,
) -> ApiResult<Reply<LoggedIn>> {
    let FederationCallback { state, code, iss } = body.0;
    let mac = &router.installation().mac;
    let state =
        OpaqueToken::parse(mac, TokenKind::Federation, &state).ok_or_else(|| ApiError::new(Code::TokenInvalid))?;
    let db = router.at_schema(router.routed(&state, &hints).await?, SINCE).await?;
    let (auth, db) = (&**auth, &db);
    let (provider, external) = identified(auth, db, &state, None, (&code, iss.as_deref())).await?;
    let (provider, external, client) = (&provider, &external, &client);
    let next = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<LoggedIn> {
            enter(conn, auth, db, provider, external, client).await
        })
        .await?;
    if let LoggedIn::In(sign_in) = &next {
        // An invited person is an active one from here on.
        auth.admission.forget_user(db.tenant().id, sign_in.user.id).await;
    }
    Ok(Reply(next))
}
