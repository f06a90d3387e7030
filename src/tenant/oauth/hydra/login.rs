//! Hydra asks who somebody is.

use actix_web::{post, web};
use garde::Validate;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::admin::{Hydra, Kind};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{Envelope, ErrorEnvelope, InPerson, Json, NoQuery, Reply};
use crate::tenant::auth::{self, Auth};
use crate::tenant::docs::Refusals;
use crate::tenant::oauth::authorize::Redirect;
use crate::tenant::oauth::ready;

/// How long Hydra remembers who somebody is, in seconds. A session that ends here ends nothing there.
const REMEMBERED: i64 = 60 * 60;

/// What Hydra asks.
#[derive(Debug, Deserialize)]
struct Login {
    /// It remembers somebody, and wants to hear that it is so.
    #[serde(default)]
    skip: bool,
    #[serde(default)]
    subject: String,
}

/// An answer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HydraLogin {
    /// `login_challenge`, as the browser brought it.
    #[garde(length(max = 4096))]
    #[schema(example = "f633a4b5c7d84e0c")]
    pub login_challenge: String,
    /// Whether it is you; false refuses.
    #[garde(skip)]
    #[schema(example = true)]
    pub accept: bool,
    /// Whether Hydra remembers you for an hour.
    #[serde(default)]
    #[garde(skip)]
    #[schema(example = false)]
    pub remember: bool,
}

/// Tells the organisation's Hydra who you are.
#[utoipa::path(
    tag = "oauth",
    request_body = HydraLogin,
    responses(
        (status = 200, description = "Where the browser goes", body = Envelope<Redirect>),
        (status = 409, description = "It was answered before, or Hydra remembers somebody else", body = ErrorEnvelope),
        (status = 422, description = "Hydra knows no such challenge", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[post("/api/v1/oauth/hydra/login")]
pub async fn answer_hydra_login(
    _: NoQuery,
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    body: Json<HydraLogin>,
) -> ApiResult<Reply<Redirect>> {
    let HydraLogin { login_challenge, accept, remember } = body.0;
    let db = ready(&caller.db).await?;
    let hydra = Hydra::of(&auth, &db, Kind::Login, &login_challenge).await?;
    if !accept {
        return Ok(Reply(Redirect { redirect_to: hydra.reject().await?.into() }));
    }
    let asked: Login = hydra.ask().await?;
    let me = caller.user().to_string();
    if asked.skip && asked.subject != me {
        return Err(ApiError::new(Code::Conflict).detail("Hydra remembers somebody else: log out there first."));
    }
    let amr = &caller.claims.amr;
    let acr = if auth::is_satisfied(amr) { "aal2" } else { "aal1" };
    let mut said = json!({"subject": me, "amr": amr, "acr": acr});
    if !asked.skip {
        said["remember"] = json!(remember);
        said["remember_for"] = json!(REMEMBERED);
    }
    Ok(Reply(Redirect { redirect_to: hydra.accept(&said).await?.into() }))
}
