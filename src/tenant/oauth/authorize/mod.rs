//! The authorization endpoint (RFC 6749, section 3.1), and the person's answer.
//!
//! We show no page: what an app asks is kept under an opaque word, and the browser is sent with it to the organisation's
//! own page. That page asks here what it is about, as the person, and gives their answer.

mod api;
mod asked;
mod back;
mod demands;
pub(super) mod store;

pub(super) use api::Redirect;

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use chrono::TimeDelta;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use self::asked::Wanted;
use self::back::Back;
use super::clients::rules::is_registered;
use super::clients::store as clients;
use super::endpoint::{Form, tenant};
use super::refusal::{OauthRefusals, Outcome, Refusal};
use super::settings;
use crate::error::ApiResult;
use crate::kernel::OauthClientId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::Client;
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::Auth;

/// How long a person may take with their answer.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(oauth_authorize)
        .service(oauth_authorize_by_form)
        .service(api::get_oauth_request)
        .service(api::accept_oauth_request)
        .service(api::deny_oauth_request);
}

/// What an app asks.
#[derive(Debug, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it says in OpenAPI what is read from the query or the form")]
pub struct AuthorizeRequest {
    /// `code`.
    #[param(example = "code")]
    #[schema(example = "code")]
    pub response_type: Option<String>,
    /// The app.
    #[param(example = "01980000-0000-7000-8000-000000000000")]
    #[schema(example = "01980000-0000-7000-8000-000000000000")]
    pub client_id: Option<String>,
    /// As it was registered, to the letter; on the person's own machine (`http://127.0.0.1`) with any port.
    #[param(example = "https://app.example.com/callback")]
    #[schema(example = "https://app.example.com/callback")]
    pub redirect_uri: Option<String>,
    /// No more than the app may ask for: all of it, if left out.
    #[param(example = "openid contacts:read")]
    #[schema(example = "openid contacts:read")]
    pub scope: Option<String>,
    /// Comes back with the answer.
    #[param(example = "af0ifjsldkj")]
    #[schema(example = "af0ifjsldkj")]
    pub state: Option<String>,
    /// SHA-256 of the verifier, as base64url (RFC 7636).
    #[param(example = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")]
    #[schema(example = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")]
    pub code_challenge: Option<String>,
    /// `S256`.
    #[param(example = "S256")]
    #[schema(example = "S256")]
    pub code_challenge_method: Option<String>,
    /// Comes back in the ID token.
    #[param(example = "n-0S6_WzA2Mj")]
    #[schema(example = "n-0S6_WzA2Mj")]
    pub nonce: Option<String>,
    /// Seconds that may have passed since the person proved who they are; else they prove it anew before they answer.
    #[param(example = 3600)]
    #[schema(example = 3600)]
    pub max_age: Option<i32>,
    /// `login` (the person proves anew who they are), `consent` (they are asked whatever they agreed to before),
    /// `select_account`, or several of them. With `none` nobody can be asked.
    #[param(example = "login")]
    #[schema(example = "login")]
    pub prompt: Option<String>,
}

/// Asks a person for access: for their browser.
///
/// It is sent on to the organisation's own page (`consentUrl`) with `request`. What is wrong with the request is told to
/// the app by redirect, unless nobody knows to whom: with an unknown client or an address that is not registered, nobody
/// is sent anywhere. Parameters that mean nothing here are ignored, as the standard wants it.
#[utoipa::path(
    tag = "oauth",
    params(("slug" = String, Path, description = "The tenant"), AuthorizeRequest),
    responses((status = 303, description = "To the page, or back to the app"), OauthRefusals),
)]
#[get("/t/{slug}/oauth/authorize")]
pub async fn oauth_authorize(request: HttpRequest, auth: web::Data<Auth>, from: Client) -> Outcome<HttpResponse> {
    ask(&request, &auth, &from, Form::read(request.query_string().as_bytes())).await
}

/// The same by a form, for requests that are too long for an address (OpenID Connect Core, section 3.1.2.1).
#[utoipa::path(
    tag = "oauth",
    params(("slug" = String, Path, description = "The tenant")),
    request_body(content = AuthorizeRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To the page, or back to the app"), OauthRefusals),
)]
#[post("/t/{slug}/oauth/authorize")]
pub async fn oauth_authorize_by_form(
    request: HttpRequest,
    auth: web::Data<Auth>,
    from: Client,
    form: Form,
) -> Outcome<HttpResponse> {
    ask(&request, &auth, &from, Ok(form)).await
}

async fn ask(request: &HttpRequest, auth: &Auth, from: &Client, form: Outcome<Form>) -> Outcome<HttpResponse> {
    let unknown = || Refusal::request("The client is not known here.");
    let db = tenant(request)
        .await
        .map_err(|refusal| if refusal.parts().0 == "invalid_client" { unknown() } else { refusal })?;
    let form = form?;
    let id: OauthClientId = form.need("client_id")?.parse().map_err(|_| unknown())?;
    let read = async |conn: &mut TenantConn| -> ApiResult<_> {
        Ok((clients::find(conn, id).await?, settings::consent_url(conn).await?))
    };
    let (client, page) = db.read(read).await?;
    let (client, _) = client.filter(|(client, _)| client.enabled).ok_or_else(unknown)?;
    let redirect_uri = form.need("redirect_uri")?;
    if !is_registered(&client.redirect_uris, redirect_uri) {
        return Err(Refusal::request("The redirect_uri is not registered."));
    }
    // From here on it is known whom to tell.
    let issuer = db.router().issuer(&db.tenant().slug);
    let back = Back { redirect_uri, state: form.get("state").filter(|state| asked::is_state(state)), issuer: &issuer };
    let wanted = match Wanted::read(&form, &client) {
        Ok(wanted) => wanted,
        Err(refusal) => return Ok(see(&back.refused(&refusal))),
    };
    // Only who demands something waits for the schema that keeps it.
    let ready = if wanted.demands.is_none() { Ok(db) } else { db.router().at_schema(db.clone(), demands::SINCE).await };
    let db = match ready {
        Ok(db) => db,
        Err(error) => return Ok(see(&back.refused(&error.into()))),
    };
    let Some(page) = page else {
        let refusal = Refusal::new("temporarily_unavailable", "The organisation has no page to ask people on yet.");
        return Ok(see(&back.refused(&refusal)));
    };
    let token = OpaqueToken::generate(&db.router().installation().mac, TokenKind::OauthRequest, db.tenant().id);
    let now = auth.clock.now();
    let demands = wanted.demands.clone();
    let row = wanted.row(&back, from, now, now + PATIENCE);
    let (kept, demands, hash) = (&row, &demands, token.hash());
    let keep = async |conn: &mut TenantTx| -> ApiResult<bool> { Ok(store::insert(conn, &hash, kept, demands).await?) };
    let kept = db.transaction(keep).await?;
    if !kept {
        let refusal = Refusal::new("temporarily_unavailable", "Too much is being asked from here.");
        return Ok(see(&back.refused(&refusal)));
    }
    Ok(see(&back::with(&page, &[("request", secrecy::ExposeSecret::expose_secret(token.text()))])))
}

/// Sends a browser on, by GET whatever it came with.
fn see(address: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, address)).insert_header((CACHE_CONTROL, "no-store")).finish()
}
