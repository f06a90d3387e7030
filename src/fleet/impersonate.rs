//! A short-lived token of one of a tenant's people, for those who run the installation.

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncConnection;
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Fleet, admin, refused};
use crate::control::{signing_keys, tenants};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{SessionId, Slug, UserId};
use crate::router::token::{ACCESS_TYP, Actor, IMPERSONATION, roles_said};
use crate::router::{AccessClaims, AdminConn, KeyId, MainConn, SigningKey, TenantStatus};
use crate::tenant::audit::AUDITED_SINCE;
use crate::tenant::impersonation::{Impersonation, impersonate};

/// How long a token is good, and with it its session: there is no refresh token.
pub(super) const LIFETIME: TimeDelta = TimeDelta::minutes(15);

/// Who acts as whom, and why.
#[derive(Debug, Clone)]
pub struct TokenWanted {
    /// The tenant, by slug or id.
    pub tenant: String,
    /// The person's address there.
    pub user: String,
    /// Who acts: `cli:account` or `operator:id`.
    pub actor: String,
    /// Why; the tenant can read it. 1 to 500 characters.
    pub reason: String,
}

/// A token, shown once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenGiven {
    /// For `Authorization: Bearer …`.
    #[serde(serialize_with = "crate::tenant::auth::session::expose")]
    #[schema(value_type = String)]
    pub access_token: SecretString,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Life of the token in seconds.
    pub expires_in: i64,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// The session behind it: `POST /api/v1/auth/logout` with the token ends it.
    pub session_id: SessionId,
    /// The tenant.
    pub tenant: Slug,
    /// The person.
    pub user_id: UserId,
    /// Who acts, as the token's `act` claim says.
    pub actor: String,
}

impl Fleet {
    /// Opens a session in somebody's name, notes it in that tenant's audit, and gives its token. `public_url` is what the
    /// servers' issuers begin with.
    ///
    /// # Errors
    /// 404 for an unknown tenant or person; 409 for a tenant that does not serve or is of an older schema; 422 for a bad
    /// reason; 503 if its database does not answer.
    pub async fn impersonate(&self, wanted: &TokenWanted, public_url: &str) -> ApiResult<TokenGiven> {
        if !(1..=500).contains(&wanted.reason.trim().chars().count()) {
            return Err(ApiError::invalid_field("reason", "invalid", "A reason has 1 to 500 characters."));
        }
        let tenant = self.get(&wanted.tenant).await?;
        if tenant.status != TenantStatus::Active {
            return Err(refused(format!("The tenant is {}; it must be active to be acted in.", tenant.status)));
        }
        if tenant.schema_version < AUDITED_SINCE {
            let slug = &tenant.slug;
            return Err(refused(format!(
                "The tenant's schema has no audit yet. Run `tenantry fleet migrate --only {slug}`."
            )));
        }
        let (keys, id) = (self.control.keys.clone(), tenant.id);
        let read = async move |conn: &mut MainConn| {
            let target = tenants::target(conn, &keys, id).await?.1;
            Ok::<_, ApiError>((target, signing_keys::in_use(conn, id).await?))
        };
        let (target, key) = self.control.db.read(read).await?;
        let now = self.control.clock.now();
        let expires_at = now + LIFETIME;
        let act =
            Impersonation { email: &wanted.user, actor: &wanted.actor, reason: wanted.reason.trim(), now, expires_at };
        let mut own = admin::open_own(&target).await?;
        let opened = own.transaction(async |conn: &mut AdminConn| impersonate(conn, &act).await).await;
        let opened = opened.map_err(ApiError::internal)?.ok_or_else(|| ApiError::not_found("active person"))?;
        let kid = KeyId { tenant: id, key: key.id }.encode(&self.installation().await?.mac);
        let private = key.private(&self.control.keys).map_err(ApiError::internal)?;
        let signing = SigningKey::from_pkcs8(kid, key.algorithm()?, &private)
            .ok_or_else(|| ApiError::internal("not a key of its algorithm"))?;
        let issuer = crate::router::issuer(public_url, &tenant.slug);
        let claims = AccessClaims {
            aud: issuer.clone(),
            iss: issuer,
            sub: opened.user,
            tid: id.to_string(),
            sid: opened.session,
            jti: Uuid::now_v7(),
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
            roles: roles_said(&opened.roles),
            amr: vec![IMPERSONATION.to_owned()],
            auth_time: now.timestamp(),
            ver: opened.auth_version,
            act: Some(Actor { sub: wanted.actor.clone() }),
            client_id: None,
            scope: None,
            extra: Default::default(),
        };
        tracing::warn!(tenant = %tenant.slug, session = %opened.session, actor = wanted.actor, "somebody is impersonated");
        Ok(TokenGiven {
            access_token: signing.sign(ACCESS_TYP, &claims)?.into(),
            token_type: "Bearer",
            expires_in: claims.exp - claims.iat,
            expires_at,
            session_id: opened.session,
            tenant: tenant.slug,
            user_id: opened.user,
            actor: wanted.actor.clone(),
        })
    }
}
