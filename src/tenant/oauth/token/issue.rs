//! Making an app's tokens.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::store::GrantRow;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{OauthClientId, SessionId, UserId};
use crate::router::token::ACCESS_TYP;
use crate::router::{AccessClaims, TenantDb};
use crate::tenant::auth::session::{expose, expose_some};
use crate::tenant::auth::{Auth, delta};
use crate::tenant::oauth::scopes;
use crate::tenant::security::ClaimRules;
use crate::tenant::users::store::UserRow;

/// What an app gets (RFC 6749, section 5.1).
#[derive(Debug, Serialize, ToSchema)]
pub struct OauthTokens {
    /// For `Authorization: Bearer …`.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, example = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiJ9…")]
    pub access_token: SecretString,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// Life of the access token in seconds.
    #[schema(example = 900)]
    pub expires_in: i64,
    /// What was granted.
    #[schema(example = "openid contacts:read")]
    pub scope: String,
    /// To be exchanged for the next tokens, once.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "tof_AZq…")]
    pub refresh_token: Option<SecretString>,
    /// Who the person is, for the app; where `openid` was granted.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiJ9…")]
    pub id_token: Option<SecretString>,
}

/// The claims of an ID token (OpenID Connect Core, section 2).
#[derive(Debug, Serialize)]
struct IdClaims<'a> {
    iss: &'a str,
    sub: UserId,
    aud: OauthClientId,
    iat: i64,
    exp: i64,
    auth_time: i64,
    amr: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

/// What tokens are made of.
pub(super) struct Given<'a> {
    pub(super) grant: &'a GrantRow,
    /// No more than these scopes of it.
    pub(super) scopes: &'a [String],
    /// None: the app acts in its own name.
    pub(super) person: Option<&'a UserRow>,
    /// What the organisation has tokens say besides.
    pub(super) claims: &'a ClaimRules,
}

/// Access and ID token of a grant.
pub(super) fn issue(
    auth: &Auth,
    db: &TenantDb,
    given: &Given<'_>,
    refresh_token: Option<SecretString>,
    now: DateTime<Utc>,
) -> ApiResult<OauthTokens> {
    let Given { grant, scopes: granted, person, claims: rules } = *given;
    let tenant = db.tenant();
    let key = tenant.signing_key(now).ok_or_else(|| ApiError::new(Code::TenantUnavailable))?;
    let issuer = db.router().issuer(&tenant.slug);
    let exp = (now + delta(auth.settings.access_token_ttl)).min(grant.expires_at).timestamp();
    let scope = scopes::written(granted);
    let id_token = match grant.user_id {
        Some(sub) if scopes::has(granted, "openid") => {
            let (auth_time, nonce) = (grant.auth_time.timestamp(), grant.nonce.as_deref());
            let (aud, iat, iss) = (grant.client_id, now.timestamp(), &*issuer);
            let claims = IdClaims { iss, sub, aud, iat, exp, auth_time, amr: &grant.amr, nonce };
            Some(key.sign("JWT", &claims)?.into())
        }
        _ => None,
    };
    let claims = AccessClaims {
        aud: issuer.clone(),
        iss: issuer,
        sub: grant.user_id.unwrap_or_else(|| UserId::from(grant.client_id.uuid())),
        tid: tenant.id.to_string(),
        sid: SessionId::from(grant.id.uuid()),
        jti: Uuid::now_v7(),
        iat: now.timestamp(),
        exp,
        roles: Vec::new(),
        amr: grant.amr.clone(),
        auth_time: grant.auth_time.timestamp(),
        ver: 0,
        act: None,
        client_id: Some(grant.client_id),
        scope: Some(scope.clone()),
        extra: rules.of_app(db, person, granted).said(),
    };
    Ok(OauthTokens {
        access_token: key.sign(ACCESS_TYP, &claims)?.into(),
        token_type: "Bearer",
        expires_in: claims.exp - claims.iat,
        scope,
        refresh_token,
        id_token,
    })
}
