//! Who the person is, for an app that they let know (OpenID Connect Core, section 5.3).

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::clients::store as clients;
use super::refusal::{OauthError, OauthRefusals, Outcome, Refusal, bare};
use super::scopes;
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::router::{self, Router, TenantConn, TenantHints, extractor};
use crate::tenant::users::store as users;

/// The endpoint.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(oauth_userinfo).service(oauth_userinfo_by_post);
}

/// Who somebody is, as far as they agreed to.
#[derive(Debug, Serialize, ToSchema)]
pub struct OauthUserinfo {
    /// The person's id.
    pub sub: UserId,
    /// With `profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Ada Lovelace")]
    pub name: Option<String>,
    /// With `profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Ada")]
    pub given_name: Option<String>,
    /// With `profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Lovelace")]
    pub family_name: Option<String>,
    /// With `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "ada@acme.test")]
    pub email: Option<String>,
    /// With `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
}

/// What a person lets know of themselves, by these scopes.
pub(super) async fn of(conn: &mut TenantConn, user: UserId, granted: &[String]) -> ApiResult<OauthUserinfo> {
    #[derive(QueryableByName)]
    struct Verified {
        #[diesel(sql_type = Bool)]
        verified: bool,
    }
    let person = users::get(conn, user).await?;
    let query = diesel::sql_query("SELECT email_verified_at IS NOT NULL AS verified FROM users WHERE id = $1");
    let verified = query.bind::<SqlUuid, _>(user).get_result::<Verified>(conn).await.optional()?;
    let (profile, email) = (scopes::has(granted, "profile"), scopes::has(granted, "email"));
    let name = format!("{} {}", person.first_name, person.last_name).trim().to_owned();
    let said = |text: String| Some(text).filter(|text| profile && !text.is_empty());
    Ok(OauthUserinfo {
        sub: user,
        name: said(name),
        given_name: said(person.first_name),
        family_name: said(person.last_name),
        email: Some(person.email).filter(|_| email),
        email_verified: verified.map(|row| row.verified).filter(|_| email),
    })
}

/// Who the person is, by an access token with `openid`.
#[utoipa::path(
    tag = "oauth",
    params(("slug" = String, Path, description = "The tenant")),
    responses(
        (status = 200, description = "What they let know", body = OauthUserinfo),
        (status = 403, description = "The token was not given for this", body = OauthError),
        OauthRefusals,
    ),
    security(("bearer" = [])),
)]
#[get("/t/{slug}/oauth/userinfo")]
pub async fn oauth_userinfo(request: HttpRequest, router: web::Data<Router>) -> Outcome<HttpResponse> {
    tell(&request, &router).await
}

/// The same: an app may ask in either way (OpenID Connect Core, section 5.3). The token comes as `Authorization: Bearer` here, too.
#[utoipa::path(
    tag = "oauth",
    params(("slug" = String, Path, description = "The tenant")),
    responses(
        (status = 200, description = "What they let know", body = OauthUserinfo),
        (status = 403, description = "The token was not given for this", body = OauthError),
        OauthRefusals,
    ),
    security(("bearer" = [])),
)]
#[post("/t/{slug}/oauth/userinfo")]
pub async fn oauth_userinfo_by_post(request: HttpRequest, router: web::Data<Router>) -> Outcome<HttpResponse> {
    tell(&request, &router).await
}

async fn tell(request: &HttpRequest, router: &Router) -> Outcome<HttpResponse> {
    let token = extractor::bearer(request).map_err(|_| Refusal::token())?;
    let slug = request.match_info().get("slug").unwrap_or_default();
    let hints = TenantHints { header: Some(slug.to_owned()), ..extractor::hints(request, router) };
    let who = match router.authenticate(token, &hints).await {
        Ok(who) => who,
        Err(
            router::Error::TokenInvalid(_)
            | router::Error::TokenExpired
            | router::Error::TokenRevoked
            | router::Error::TenantMismatch
            | router::Error::TenantSuspended,
        ) => return Err(Refusal::token()),
        Err(error) => return Err(error.into()),
    };
    let said = scopes::read(who.claims.scope.as_deref().unwrap_or_default());
    // In its own name an app is nobody of whom there is something to know.
    let app = who.app.filter(|app| app.user == who.claims.sub).ok_or_else(Refusal::scope)?;
    let read = async |conn: &mut TenantConn| -> ApiResult<Option<OauthUserinfo>> {
        // What was taken from the app is lost to tokens that are out, too.
        let client = clients::find(conn, app.client).await?.map(|(client, _)| client);
        let granted = client.map(|client| client.left_of(&said)).filter(|granted| scopes::has(granted, "openid"));
        match granted {
            Some(granted) => of(conn, app.user, &granted).await.map(Some),
            None => Ok(None),
        }
    };
    let known = who.db.read(read).await?.ok_or_else(Refusal::scope)?;
    Ok(bare(&known))
}
