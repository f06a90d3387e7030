//! The token endpoint (RFC 6749, section 3.2).

mod code;
mod issue;
mod own;
mod refresh;
pub(super) mod store;

pub(super) use issue::OauthTokens;

use actix_web::{HttpResponse, post};
use chrono::{DateTime, Utc};
use diesel::QueryResult;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::clients::rules::OauthGrantType;
use super::clients::store::ClientRow;
use super::endpoint::Asked;
use super::refusal::{OauthRefusals, Outcome, Refusal, bare};
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::{is_demanded, is_satisfied};
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::teams;
use crate::tenant::users::rules::UserStatus;
use crate::tenant::users::store::{self as users, UserRow};

/// The endpoint.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(oauth_token);
}

/// A request for tokens. The client proves itself by `Authorization: Basic`, or by `client_id` and `client_secret`.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it says in OpenAPI what is read from the form")]
pub struct OauthTokenRequest {
    /// How.
    pub grant_type: OauthGrantType,
    /// With `authorization_code`.
    #[schema(example = "toc_AZq…")]
    pub code: Option<String>,
    /// With `authorization_code`: as it was when the code was asked for.
    #[schema(example = "https://app.example.com/callback")]
    pub redirect_uri: Option<String>,
    /// With `authorization_code`: what the challenge was made of (RFC 7636).
    #[schema(example = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")]
    pub code_verifier: Option<String>,
    /// With `refresh_token`.
    #[schema(example = "tof_AZq…")]
    pub refresh_token: Option<String>,
    /// No more than there is: all of it, if left out.
    #[schema(example = "contacts:read")]
    pub scope: Option<String>,
    /// Of the app.
    #[schema(example = "01980000-0000-7000-8000-000000000000")]
    pub client_id: Option<String>,
    /// Of an app that keeps one.
    #[schema(format = Password, example = "tos_AZq…")]
    pub client_secret: Option<String>,
}

/// Gives an app its tokens.
///
/// A code is exchanged once, by its own client, with the redirect address and the verifier that it was asked for with; one
/// that comes twice ends what it was exchanged for. A refresh token is exchanged once; again within the grace (30 s by
/// default) it gives the same successor, later it ends all of the grant.
#[utoipa::path(
    tag = "oauth",
    params(("slug" = String, Path, description = "The tenant")),
    request_body(content = OauthTokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The tokens", body = OauthTokens), OauthRefusals),
)]
#[post("/t/{slug}/oauth/token")]
pub async fn oauth_token(asked: Asked) -> Outcome<HttpResponse> {
    let client = asked.client().await?;
    let grant: Option<OauthGrantType> = asked.form.need("grant_type")?.parse().ok();
    let Some(grant) = grant else {
        return Err(Refusal::new("unsupported_grant_type", "There is no such grant here."));
    };
    if !client.may(grant) {
        return Err(Refusal::new("unauthorized_client", "The client was not registered for this grant."));
    }
    let tokens = match grant {
        OauthGrantType::AuthorizationCode => code::exchange(&asked, &client).await?,
        OauthGrantType::RefreshToken => refresh::rotate(&asked, &client).await?,
        OauthGrantType::ClientCredentials => own::give(&asked, &client).await?,
    };
    Ok(bare(&tokens))
}

/// The person, if they may do anything.
pub(super) async fn active(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<UserRow>> {
    Ok(users::find(conn, user).await?.filter(|person| person.status == UserStatus::Active))
}

/// For whom a grant lets an app act, if it may now. Where a second factor is demanded by now that was not shown when the
/// app was let in, the grant ends, as such a session does: the person lets the app in anew.
async fn person_of(
    conn: &mut TenantConn,
    asked: &Asked,
    grant: &store::GrantRow,
    now: DateTime<Utc>,
) -> ApiResult<Option<UserRow>> {
    let Some(user) = grant.user_id else { return Ok(None) };
    let Some(person) = active(conn, user).await? else { return Ok(None) };
    if !is_satisfied(&grant.amr) {
        let roles = teams::all_roles(conn, &asked.db, &person).await?;
        if is_demanded(conn, &asked.db, &roles).await? {
            store::end(conn, grant.id, "second_factor_demanded", now).await?;
            return Ok(None);
        }
    }
    Ok(Some(person))
}

/// Ends a grant of which somebody has a copy, and tells whose it is.
async fn stolen(
    conn: &mut TenantConn,
    asked: &Asked,
    (client, grant): (&ClientRow, &store::GrantRow),
    action: &'static str,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    store::end(conn, grant.id, action, now).await?;
    let Some(user) = grant.user_id.filter(|_| grant.revoked_at.is_none()) else { return Ok(()) };
    let (actor, what) = (format!("app:{}", client.id), format!("{} ({})", client.name, client.id));
    let entry = Entry { actor: &actor, action, user, session: None, reason: Some(&what) };
    audit::note(conn, &entry, now).await?;
    let notice = SecurityNotice::AppTokenStolen { name: client.name.clone() };
    mail::notify_security(conn, &asked.db, user, notice, None).await
}
