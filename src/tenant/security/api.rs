//! The policy over HTTP.

use std::collections::BTreeMap;

use actix_web::{get, patch, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::captcha::{self, CaptchaPolicy, PatchCaptcha};
use super::claims::{self, ClaimRules, Claims, TokenClaim};
use super::lifetimes::{self, PatchSession, SessionPolicy};
use super::store::{self, PolicyRow};
use super::view::{PasswordRules, PatchPasswordRules};
use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::rest::{
    Authorized, Envelope, ErrorEnvelope, IfMatch, MergePatch, NoQuery, Patch, Path, Reply, Tagged, Versioned,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::oauth;
use crate::tenant::permissions::{SecurityRead, SecurityWrite};

/// What the organisation demands of its people.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityPolicy {
    /// Names of the roles whose people need a second factor.
    #[schema(example = json!(["admin"]))]
    pub mfa_required_roles: Vec<String>,
    /// What a password has to be like.
    pub password: PasswordRules,
    /// How long sessions live.
    pub session: SessionPolicy,
    /// What a login that looks like guessing has to solve; null for nothing.
    pub captcha: Option<CaptchaPolicy>,
    /// What access tokens say besides the usual.
    pub token_claims: Vec<TokenClaim>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl From<PolicyRow> for SecurityPolicy {
    fn from(row: PolicyRow) -> Self {
        let (session, captcha) = (SessionPolicy::of(&row), CaptchaPolicy::of(&row));
        let PolicyRow { mfa_required_roles, password, token_claims, updated_at, version, .. } = row;
        let token_claims = ClaimRules::read(token_claims).list();
        Self { mfa_required_roles, password: password.into(), session, captcha, token_claims, updated_at, version }
    }
}

impl Versioned for SecurityPolicy {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A change of it.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchSecurityPolicy {
    /// Names of the roles whose people need a second factor; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 100)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["auditor"]))]
    pub mfa_required_roles: Patch<Vec<String>>,
    /// What a password has to be like; null for the usual.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = Option<PatchPasswordRules>)]
    pub password: Patch<PatchPasswordRules>,
    /// How long sessions live; null gives both back to the installation.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = Option<PatchSession>)]
    pub session: Patch<PatchSession>,
    /// What a login that looks like guessing has to solve; null for nothing.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = Option<PatchCaptcha>)]
    pub captcha: Patch<PatchCaptcha>,
    /// What access tokens say besides the usual, 20 at most; null for nothing. Needs proof of who one is that is not older than
    /// ten minutes.
    #[serde(default)]
    #[garde(dive)]
    #[schema(value_type = Option<Vec<TokenClaim>>)]
    pub token_claims: Patch<Vec<TokenClaim>>,
}

/// What the organisation demands of its people.
#[utoipa::path(
    tag = "security",
    responses(
        (status = 200, description = "The policy, with `ETag`", body = Envelope<SecurityPolicy>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/security-policy")]
pub async fn get_policy(_: NoQuery, caller: Authorized<SecurityRead>) -> ApiResult<Tagged<SecurityPolicy>> {
    let row = caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::get(conn).await?) }).await?;
    Ok(Tagged(row.into()))
}

/// Changes what the organisation demands of its people.
///
/// Sessions of those who have shown no second factor and need one from here on end, but for the caller's own, which is
/// refreshed no more. Their next login has them enrol one. Shorter lifetimes hold for sessions that are open, the caller's
/// own included: what is older ends.
#[utoipa::path(
    tag = "security",
    request_body(content = PatchSecurityPolicy, content_type = "application/merge-patch+json"),
    params(("If-Match" = Option<String>, Header, description = "The `ETag` that was read")),
    responses(
        (status = 200, description = "As changed", body = Envelope<SecurityPolicy>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "A role is unknown", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/security-policy")]
pub async fn patch_policy(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<SecurityWrite>,
    if_match: IfMatch,
    body: MergePatch<PatchSecurityPolicy>,
) -> ApiResult<Tagged<SecurityPolicy>> {
    let PatchSecurityPolicy { mfa_required_roles, password, session: lived, captcha: solved, token_claims } = body.0;
    let nothing = mfa_required_roles.is_absent()
        && password.is_absent()
        && lived.is_absent()
        && solved.is_absent()
        && token_claims.is_absent();
    let (demanded, password) = (&mfa_required_roles, &password);
    let lived = match lived {
        Patch::Absent => PatchSession::default(),
        Patch::Null => {
            PatchSession { idle_minutes: Patch::Null, absolute_hours: Patch::Null, max_per_person: Patch::Null }
        }
        Patch::Value(change) => change,
    };
    let me = if token_claims.is_absent() { caller.in_person()? } else { caller.recently()? };
    let actor = format!("user:{me}");
    let db = &caller.db;
    let (session, now) = (caller.principal.session(), auth.clock.now());
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<PolicyRow> {
            let mut row = store::hold(conn).await?;
            if_match.check(row.version)?;
            if nothing {
                return Ok(row);
            }
            if !demanded.is_absent() {
                row.mfa_required_roles = roles(conn, demanded.value().map_or(&[], Vec::as_slice)).await?;
                store::end_sessions_without_factor(conn, &row.mfa_required_roles, session, now).await?;
                if db.tenant().schema_version >= oauth::SINCE {
                    store::end_grants_without_factor(conn, &row.mfa_required_roles, now).await?;
                }
            }
            super::view::apply(password, &mut row.password);
            store::set(conn, &row).await?;
            lifetimes::set(conn, &row, lived, now).await?;
            captcha::set(conn, db, &row, solved).await?;
            claims::set(conn, db, token_claims, me).await?;
            audit::note_tenant::<TenantConn>(conn, &actor, "security_policy.changed", "by its API", now).await?;
            Ok(store::changed(conn, now).await?)
        })
        .await?;
    auth.admission.forget_tenant(caller.db.tenant().id).await;
    Ok(Tagged(row.into()))
}

/// What somebody's access tokens say besides the usual.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenClaimsPreview {
    /// The claims.
    #[schema(value_type = Object, example = json!({"https://acme.example/team": ["Sales"]}))]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// Names of those that have no room in this person's tokens.
    #[schema(example = json!([]))]
    pub left_out: Vec<String>,
}

/// What a person's next access token will say besides the usual.
#[utoipa::path(
    tag = "security",
    params(("id" = UserId, Path, description = "The person")),
    responses((status = 200, description = "The claims", body = Envelope<TokenClaimsPreview>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/users/{id}/token-claims")]
pub async fn preview_token_claims(
    _: NoQuery,
    caller: Authorized<SecurityRead>,
    id: Path<UserId>,
) -> ApiResult<Reply<TokenClaimsPreview>> {
    let (db, id) = (&caller.db, id.0);
    let read = async |conn: &mut TenantConn| -> ApiResult<Claims> {
        let rules = ClaimRules::read(store::get(conn).await?.token_claims);
        claims::preview(conn, db, &rules, id).await
    };
    let claims = db.read(read).await?;
    Ok(Reply(TokenClaimsPreview { claims: claims.said(), left_out: claims.left_out() }))
}

/// The names in order, each once, if all are a role's.
async fn roles(conn: &mut TenantConn, names: &[String]) -> ApiResult<Vec<String>> {
    let known = store::known_roles(conn, names).await?;
    if let Some(at) = names.iter().position(|name| !known.contains(name)) {
        let said = "There is no such role.";
        return Err(ApiError::invalid_field(format!("mfaRequiredRoles[{at}]"), "unknown_role", said));
    }
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
