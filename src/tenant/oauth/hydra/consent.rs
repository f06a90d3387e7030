//! Hydra asks what a person lets an app have.

use actix_web::{get, post, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::admin::{App, Hydra, Kind};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{Envelope, ErrorEnvelope, InPerson, Json, NoQuery, Query, Reply, SignedIn};
use crate::router::{TenantConn, TenantDb};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::oauth::authorize::Redirect;
use crate::tenant::oauth::{ready, userinfo};
use crate::tenant::permissions::catalog::PERMISSIONS;
use crate::tenant::teams;
use crate::tenant::users::store as users;

/// What Hydra asks.
#[derive(Debug, Deserialize)]
struct Consent {
    subject: String,
    #[serde(default)]
    skip: bool,
    #[serde(default)]
    requested_scope: Vec<String>,
    #[serde(default)]
    requested_access_token_audience: Vec<String>,
    #[serde(default)]
    client: App,
}

/// Which question.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HydraConsentQuery {
    /// `consent_challenge`, as the browser brought it.
    pub consent_challenge: String,
}

/// What an app at Hydra asks you for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HydraConsent {
    /// The app's id at Hydra.
    #[schema(example = "time-sheets")]
    pub client_id: String,
    /// What it is called.
    #[schema(example = "Time sheets")]
    pub client_name: String,
    /// What it asks for.
    #[schema(example = json!(["openid", "email"]))]
    pub scopes: Vec<String>,
    /// Whether you agreed before: the page need not ask again.
    pub consented: bool,
}

/// An answer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HydraConsentAnswer {
    /// `consent_challenge`, as the browser brought it.
    #[garde(length(max = 4096))]
    #[schema(example = "f633a4b5c7d84e0c")]
    pub consent_challenge: String,
    /// Whether you agree.
    #[garde(skip)]
    #[schema(example = true)]
    pub accept: bool,
    /// Some of what was asked for; all of it, if left out.
    #[garde(inner(length(max = 200)))]
    #[schema(example = json!(["openid"]))]
    pub scopes: Option<Vec<String>>,
    /// Whether Hydra need not ask again.
    #[serde(default)]
    #[garde(skip)]
    #[schema(example = false)]
    pub remember: bool,
}

/// The question, if it is about the caller.
async fn ask(hydra: &Hydra, caller: &SignedIn) -> ApiResult<Consent> {
    let asked: Consent = hydra.ask().await?;
    if asked.subject != caller.user().to_string() {
        return Err(ApiError::new(Code::Conflict).detail("Hydra asks somebody else."));
    }
    Ok(asked)
}

/// What an app at the organisation's Hydra asks you for.
#[utoipa::path(
    tag = "oauth",
    params(HydraConsentQuery),
    responses(
        (status = 200, description = "What it asks", body = Envelope<HydraConsent>),
        (status = 409, description = "It was answered before, or is about somebody else", body = ErrorEnvelope),
        (status = 422, description = "Hydra knows no such challenge", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[get("/api/v1/oauth/hydra/consent")]
pub async fn get_hydra_consent(
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    query: Query<HydraConsentQuery>,
) -> ApiResult<Reply<HydraConsent>> {
    let db = ready(&caller.db).await?;
    let hydra = Hydra::of(&auth, &db, Kind::Consent, &query.0.consent_challenge).await?;
    let Consent { client, requested_scope, skip, .. } = ask(&hydra, &caller).await?;
    let App { client_id, client_name } = client;
    Ok(Reply(HydraConsent { client_id, client_name, scopes: requested_scope, consented: skip }))
}

/// Tells the organisation's Hydra what you let an app have.
///
/// A scope that is a permission here is granted only if you have it. The tokens say the organisation and your roles; the ID
/// token your names with `profile`, your address with `email`.
#[utoipa::path(
    tag = "oauth",
    request_body = HydraConsentAnswer,
    responses(
        (status = 200, description = "Where the browser goes", body = Envelope<Redirect>),
        (status = 409, description = "It was answered before, or is about somebody else", body = ErrorEnvelope),
        (status = 422, description = "Hydra knows no such challenge, or a scope was not asked for", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/oauth/hydra/consent")]
pub async fn answer_hydra_consent(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    body: Json<HydraConsentAnswer>,
) -> ApiResult<Reply<Redirect>> {
    let HydraConsentAnswer { consent_challenge, accept, scopes, remember } = body.0;
    let db = ready(&caller.db).await?;
    let hydra = Hydra::of(&auth, &db, Kind::Consent, &consent_challenge).await?;
    let asked = ask(&hydra, &caller).await?;
    if !accept {
        return Ok(Reply(Redirect { redirect_to: hydra.reject().await?.into() }));
    }
    let wanted = scopes.unwrap_or_else(|| asked.requested_scope.clone());
    if let Some(at) = wanted.iter().position(|scope| !asked.requested_scope.contains(scope)) {
        return Err(ApiError::invalid_field(format!("scopes[{at}]"), "not_asked", "It was not asked for."));
    }
    let is_right = |scope: &String| PERMISSIONS.iter().any(|right| right.name == scope);
    let granted: Vec<String> =
        wanted.into_iter().filter(|scope| !is_right(scope) || caller.access.allows(scope)).collect();
    let session = session(&db, &caller, &granted).await?;
    let said = json!({
        "grant_scope": granted,
        "grant_access_token_audience": asked.requested_access_token_audience,
        "remember": remember,
        "remember_for": 0,
        "session": session,
    });
    Ok(Reply(Redirect { redirect_to: hydra.accept(&said).await?.into() }))
}

/// What Hydra's tokens say of the person.
async fn session(db: &TenantDb, caller: &SignedIn, granted: &[String]) -> ApiResult<Value> {
    let me = caller.user();
    let read = async |conn: &mut TenantConn| -> ApiResult<_> {
        let person = users::get(conn, me).await?;
        let roles = teams::all_roles(conn, db, &person).await?;
        Ok((userinfo::of(conn, me, granted).await?, roles))
    };
    let (known, roles) = db.read(read).await?;
    let mut id_token = serde_json::to_value(&known).map_err(ApiError::internal)?;
    // Hydra says the subject itself.
    if let Some(members) = id_token.as_object_mut() {
        members.remove("sub");
    }
    let tid = db.tenant().id.to_string();
    id_token["tid"] = json!(tid);
    Ok(json!({"access_token": {"tid": tid, "roles": roles}, "id_token": id_token}))
}
