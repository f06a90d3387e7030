//! Changing and removing token issuers. Who an issuer is stays: another one is another.

use actix_web::{delete, patch, web};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::{RoleWord, TokenIssuer, grantable, note, shown};
use super::rules::{self, MatchBy};
use super::store::{self, IssuerChange};
use crate::error::ApiResult;
use crate::kernel::TokenIssuerId;
use crate::rest::{Authorized, Envelope, ErrorEnvelope, IfMatch, MergePatch, NoContent, NoQuery, Patch, Path, Tagged};
use crate::router::TenantTx;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::TokenIssuersWrite;
use crate::tenant::users::rules::{name_shape, not_blank};

/// A change of a token issuer.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchTokenIssuer {
    /// What it is.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>, example = "Our old login")]
    pub name: Patch<String>,
    /// The `aud` that its tokens have for us.
    #[serde(default)]
    #[garde(inner(length(chars, max = 500), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>)]
    pub audience: Patch<String>,
    /// Where its public keys are, in place of another address, or of the secret that an operator registered it with.
    #[serde(default)]
    #[garde(inner(length(max = 2048)))]
    #[schema(value_type = Option<String>)]
    pub jwks_url: Patch<String>,
    /// Refused (422 `operator_only`): an operator of the installation alone registers an issuer with a shared secret.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password)]
    pub secret: Patch<SecretString>,
    /// By what its subjects are known here.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<MatchBy>)]
    pub match_by: Patch<MatchBy>,
    /// The claim with the address; null for `email`.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(name_shape)))]
    #[schema(value_type = Option<String>)]
    pub email_claim: Patch<String>,
    /// The claim whose words stand for roles; null, and bearers have their own.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(name_shape)))]
    #[schema(value_type = Option<String>)]
    pub roles_claim: Patch<String>,
    /// Its words, for roles that may do no more than you; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 100)))]
    #[schema(value_type = Option<Vec<RoleWord>>)]
    pub roles: Patch<Vec<RoleWord>>,
    /// Whether its tokens are taken.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<bool>)]
    pub enabled: Patch<bool>,
}

/// Changes a token issuer, at once on this node and within two seconds everywhere.
///
/// From here on no bearer may do more than you may do now. Wants a proof that is not older than ten minutes
/// (`step_up_required`).
#[utoipa::path(
    tag = "token-issuers",
    request_body(content = PatchTokenIssuer, content_type = "application/merge-patch+json"),
    params(
        ("id" = TokenIssuerId, Path, description = "The issuer"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<TokenIssuer>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or a role is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/token-issuers/{id}")]
pub async fn patch_issuer(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TokenIssuersWrite>,
    id: Path<TokenIssuerId>,
    if_match: IfMatch,
    body: MergePatch<PatchTokenIssuer>,
) -> ApiResult<Tagged<TokenIssuer>> {
    let actor = caller.recently()?;
    let (id, now, db, access) = (id.0, auth.clock.now(), &caller.db, &*caller.access);
    let wanted = body.0;
    if wanted.secret.needed("secret")?.is_some() {
        return Err(rules::operators_alone());
    }
    let (jwks_url, secret_sealed) = match wanted.jwks_url.needed("jwksUrl")? {
        None => (None, None),
        Some(address) => {
            rules::check_address(&address, auth.admission.foreign().outbound())?;
            (Some(Some(address)), Some(None))
        }
    };
    let roles = wanted.roles.or_empty();
    let change = IssuerChange {
        name: wanted.name.needed("name")?.map(|name| name.trim().to_owned()),
        audience: wanted.audience.needed("audience")?,
        jwks_url,
        secret_sealed,
        match_by: wanted.match_by.needed("matchBy")?.map(|by| by.as_str().to_owned()),
        email_claim: wanted.email_claim.into_change().map(|claim| claim.unwrap_or_else(|| "email".to_owned())),
        roles_claim: wanted.roles_claim.into_change(),
        ceiling: access.permissions.iter().cloned().collect(),
        enabled: wanted.enabled.needed("enabled")?,
    };
    let issuer = db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<TokenIssuer> {
            let before = store::hold(conn, id).await?;
            if_match.check(before.version)?;
            if let Some(words) = &roles {
                let words = grantable(conn, access, words).await?;
                store::set_words(conn, id, &words).await?;
            }
            store::update(conn, id, &change, now).await?;
            note(conn, &actor.into(), (id, &before.issuer), "token_issuer.changed", now).await?;
            shown(conn, id).await
        })
        .await?;
    auth.admission.forget_issuers(db.tenant().id).await;
    Ok(Tagged(issuer))
}

/// Takes an issuer's tokens no more, at once on this node and within two seconds everywhere.
///
/// Wants a proof that is not older than ten minutes (`step_up_required`).
#[utoipa::path(
    tag = "token-issuers",
    params(
        ("id" = TokenIssuerId, Path, description = "The issuer"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Its tokens are taken no more"),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[delete("/api/v1/token-issuers/{id}")]
pub async fn delete_issuer(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<TokenIssuersWrite>,
    id: Path<TokenIssuerId>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let actor = caller.recently()?;
    let (id, now) = (id.0, auth.clock.now());
    caller
        .db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<()> {
            let row = store::hold(conn, id).await?;
            if_match.check(row.version)?;
            note(conn, &actor.into(), (id, &row.issuer), "token_issuer.removed", now).await?;
            Ok(store::remove(conn, id).await?)
        })
        .await?;
    auth.admission.forget_issuers(caller.db.tenant().id).await;
    Ok(NoContent)
}
