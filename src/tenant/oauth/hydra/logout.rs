//! Hydra asks whether somebody wants to be signed out there.

use actix_web::{post, web};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::admin::{Hydra, Kind};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{Envelope, ErrorEnvelope, InPerson, Json, NoQuery, Reply};
use crate::tenant::auth::Auth;
use crate::tenant::auth::session::expose_some;
use crate::tenant::docs::Refusals;
use crate::tenant::oauth::ready;

/// What Hydra asks.
#[derive(Debug, Deserialize)]
struct Logout {
    #[serde(default)]
    subject: String,
}

/// An answer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HydraLogout {
    /// `logout_challenge`, as the browser brought it.
    #[garde(length(max = 4096))]
    #[schema(example = "f633a4b5c7d84e0c")]
    pub logout_challenge: String,
    /// Whether you want to be signed out; false stays.
    #[garde(skip)]
    #[schema(example = true)]
    pub accept: bool,
}

/// Where the browser goes now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HydraLoggedOut {
    /// To Hydra; null if you stay.
    #[serde(serialize_with = "expose_some")]
    #[schema(value_type = Option<String>, example = "https://hydra.example.com/oauth2/sessions/logout?logout_verifier=…")]
    pub redirect_to: Option<SecretString>,
}

/// Tells the organisation's Hydra whether you want to be signed out there. Your session here stays.
#[utoipa::path(
    tag = "oauth",
    request_body = HydraLogout,
    responses(
        (status = 200, description = "Where the browser goes", body = Envelope<HydraLoggedOut>),
        (status = 409, description = "It was answered before, or is about somebody else", body = ErrorEnvelope),
        (status = 422, description = "Hydra knows no such challenge", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/oauth/hydra/logout")]
pub async fn answer_hydra_logout(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    body: Json<HydraLogout>,
) -> ApiResult<Reply<HydraLoggedOut>> {
    let HydraLogout { logout_challenge, accept } = body.0;
    let db = ready(&caller.db).await?;
    let hydra = Hydra::of(&auth, &db, Kind::Logout, &logout_challenge).await?;
    let asked: Logout = hydra.ask().await?;
    // Nobody signs somebody else out.
    if asked.subject != caller.user().to_string() {
        return Err(ApiError::new(Code::Conflict).detail("Hydra asks somebody else."));
    }
    if !accept {
        hydra.stay().await?;
        return Ok(Reply(HydraLoggedOut { redirect_to: None }));
    }
    let redirect_to = hydra.accept(&json!({})).await?;
    Ok(Reply(HydraLoggedOut { redirect_to: Some(redirect_to.into()) }))
}
