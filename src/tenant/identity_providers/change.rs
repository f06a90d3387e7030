//! Changing and removing identity providers. What a provider is, its kind and its issuer, stays: another one is another.

use actix_web::{delete, patch, web};
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::{IdentityProvider, grantable, note};
use super::rules::{self, ProviderKind, client_secret_shape};
use super::store::{self, ProviderChange, ProviderRow};
use crate::error::{ApiError, ApiResult};
use crate::kernel::IdentityProviderId;
use crate::rest::{Authorized, Envelope, ErrorEnvelope, IfMatch, MergePatch, NoContent, NoQuery, Patch, Path, Tagged};
use crate::router::TenantTx;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::IdentityProvidersWrite;
use crate::tenant::users::rules::{name_shape, not_blank};

/// A change of an identity provider.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchIdentityProvider {
    /// Its name for people.
    #[serde(default)]
    #[garde(inner(length(chars, max = 100), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>, example = "Google")]
    pub name: Patch<String>,
    /// What this organisation is called there.
    #[serde(default)]
    #[garde(inner(length(chars, max = 500), custom(name_shape), custom(not_blank)))]
    #[schema(value_type = Option<String>)]
    pub client_id: Patch<String>,
    /// Another secret of the client; null for none.
    #[serde(default)]
    #[garde(inner(custom(client_secret_shape)))]
    #[schema(value_type = Option<String>, format = Password)]
    pub client_secret: Patch<SecretString>,
    /// What it is asked for; null for who somebody is.
    #[serde(default)]
    #[garde(inner(length(max = 20)))]
    #[schema(value_type = Option<Vec<String>>)]
    pub scopes: Patch<Vec<String>>,
    /// Where it may send people back to.
    #[serde(default)]
    #[garde(inner(length(max = 20)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["https://app.example.com/callback"]))]
    pub redirect_uris: Patch<Vec<String>>,
    /// Domains whose people get an account when they first come; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 50)))]
    #[schema(value_type = Option<Vec<String>>)]
    pub allowed_domains: Patch<Vec<String>>,
    /// The role that they get, which may do no more than you; null for none.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<String>)]
    pub default_role: Patch<String>,
    /// Whether people may sign in through it. Whoever opens it gives newcomers the role: it may do no more than they.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<bool>)]
    pub enabled: Patch<bool>,
}

/// Changes an identity provider. Sign-ins that have begun are void.
///
/// Newcomers get the role only while it may do no more than whoever was the last to change more of the provider than its
/// name and its secret. Nor does anybody come in who may do more, until they have linked their account anew.
///
/// Wants a proof that is not older than ten minutes (`step_up_required`). Kind and issuer stay.
#[utoipa::path(
    tag = "identity-providers",
    request_body(content = PatchIdentityProvider, content_type = "application/merge-patch+json"),
    params(
        ("id" = IdentityProviderId, Path, description = "The provider"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As changed", body = Envelope<IdentityProvider>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid, or the role is beyond your own rights", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/identity-providers/{id}")]
pub async fn patch_provider(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<IdentityProvidersWrite>,
    id: Path<IdentityProviderId>,
    if_match: IfMatch,
    body: MergePatch<PatchIdentityProvider>,
) -> ApiResult<Tagged<IdentityProvider>> {
    let actor = caller.recently()?;
    let (id, now, db, access) = (id.0, auth.clock.now(), &caller.db, &*caller.access);
    let wanted = body.0;
    let redirect_uris = wanted.redirect_uris.needed("redirectUris")?;
    if let Some(uris) = &redirect_uris {
        rules::check_redirects(uris)?;
    }
    let role = wanted.default_role;
    let scopes = wanted.scopes;
    let secret = match wanted.client_secret {
        Patch::Absent => None,
        Patch::Value(secret) if !secret.expose_secret().is_empty() => Some(Some(store::seal(db, id, &secret))),
        Patch::Null | Patch::Value(_) => Some(None),
    };
    let trimmed = |text: String| text.trim().to_owned();
    let change = ProviderChange {
        name: wanted.name.needed("name")?.map(trimmed),
        client_id: wanted.client_id.needed("clientId")?.map(trimmed),
        client_secret_sealed: secret,
        redirect_uris,
        allowed_domains: wanted.allowed_domains.or_empty().map(|given| rules::domains(&given)).transpose()?,
        enabled: wanted.enabled.needed("enabled")?,
        ..ProviderChange::default()
    };
    let row = db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<ProviderRow> {
            let before = store::hold(conn, id).await?;
            if_match.check(before.version)?;
            let mut change = change;
            change.scopes =
                scopes.into_change().map(|scopes| scopes.unwrap_or_else(|| rules::default_scopes(before.kind)));
            rules::check_scopes(before.kind, change.scopes.as_deref().unwrap_or(&before.scopes))?;
            if before.kind == ProviderKind::Github && change.client_secret_sealed == Some(None) {
                return Err(ApiError::invalid_field("clientSecret", "required", "GitHub asks for it."));
            }
            // Whoever opens the door, or opens it for more people, gives them the role, too: also one that somebody else had named.
            let opens = change.allowed_domains.is_some() || change.enabled == Some(true);
            change.default_role_id = match &role {
                Patch::Null => Some(None),
                Patch::Value(name) => Some(grantable(conn, access, Some(name)).await?),
                Patch::Absent if opens => Some(grantable(conn, access, before.default_role.as_deref()).await?),
                Patch::Absent => None,
            };
            if change.tells_who_comes_in() {
                change.ceiling = Some(access.permissions.iter().cloned().collect());
                store::forget_word_of_people(conn, id).await?;
            }
            let row = store::update(conn, id, &change, now).await?;
            note(conn, actor, &row, "identity_provider.changed", now).await?;
            Ok(row)
        })
        .await?;
    Ok(Tagged(row.into()))
}

/// Removes an identity provider. Its people stay, and cannot sign in through it any more.
///
/// Wants a proof that is not older than ten minutes (`step_up_required`).
#[utoipa::path(
    tag = "identity-providers",
    params(
        ("id" = IdentityProviderId, Path, description = "The provider"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[delete("/api/v1/identity-providers/{id}")]
pub async fn delete_provider(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<IdentityProvidersWrite>,
    id: Path<IdentityProviderId>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let actor = caller.recently()?;
    let (id, now) = (id.0, auth.clock.now());
    caller
        .db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<()> {
            let row = store::hold(conn, id).await?;
            if_match.check(row.version)?;
            note(conn, actor, &row, "identity_provider.removed", now).await?;
            Ok(store::remove(conn, id).await?)
        })
        .await?;
    Ok(NoContent)
}
