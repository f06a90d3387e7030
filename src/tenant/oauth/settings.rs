//! Where people are asked, and the organisation's own Ory Hydra.

use actix_web::{get, patch, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{Place, SealKey, Sealed};
use crate::rest::{Authorized, Envelope, ErrorEnvelope, IfMatch, MergePatch, NoQuery, Patch, Tagged, Versioned};
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::identity_providers::rules::check_redirects;
use crate::tenant::permissions::{OauthRead, OauthWrite};

diesel::table! {
    oauth_settings (only_row) {
        only_row -> Bool,
        consent_url -> Nullable<Text>,
        hydra_admin_url -> Nullable<Text>,
        hydra_token_sealed -> Nullable<Bytea>,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

use oauth_settings as s;

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(get_oauth_settings).service(patch_oauth_settings);
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = oauth_settings)]
struct SettingsRow {
    consent_url: Option<String>,
    hydra_admin_url: Option<String>,
    hydra_token_sealed: Option<Vec<u8>>,
    updated_at: DateTime<Utc>,
    version: i64,
}

/// Where people are asked, and by whom else.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthSettings {
    /// The page that browsers are sent to with `request`.
    #[schema(example = "https://app.example.com/consent")]
    pub consent_url: Option<String>,
    /// The admin API of the organisation's Ory Hydra.
    #[schema(example = "https://hydra-admin.example.com")]
    pub hydra_admin_url: Option<String>,
    /// Whether it is asked with a token. Which, is never shown.
    pub hydra_token_set: bool,
    /// When they were last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl From<SettingsRow> for OauthSettings {
    fn from(row: SettingsRow) -> Self {
        Self {
            consent_url: row.consent_url,
            hydra_admin_url: row.hydra_admin_url,
            hydra_token_set: row.hydra_token_sealed.is_some(),
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}

impl Versioned for OauthSettings {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A change of them.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchOauthSettings {
    /// The page that browsers are sent to; null for none.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "https://app.example.com/consent")]
    pub consent_url: Patch<String>,
    /// The admin API of the organisation's Ory Hydra; null for none. Another address forgets the token.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<String>, example = "https://hydra-admin.example.com")]
    pub hydra_admin_url: Patch<String>,
    /// What it is asked with, as a bearer token; null for nothing.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password, example = "a token of the proxy before it")]
    pub hydra_token: Patch<SecretString>,
}

fn place(db: &TenantDb) -> Place {
    Place::new("oauth_settings", "hydra_token_sealed", db.tenant().id.uuid())
}

fn key(db: &TenantDb) -> SealKey {
    db.router().installation().mac.seal_key("tenant-secrets")
}

/// The page that people are asked on.
pub(super) async fn consent_url(conn: &mut TenantConn) -> QueryResult<Option<String>> {
    s::table.find(true).select(s::consent_url).first(conn).await
}

/// The admin API of the organisation's Hydra, and what it is asked with.
///
/// A token that came with another tenant's data does not open, and there is no Hydra.
///
/// # Errors
/// If the database does not answer.
pub(super) async fn hydra(conn: &mut TenantConn, db: &TenantDb) -> ApiResult<Option<(String, Option<SecretString>)>> {
    let columns = (s::hydra_admin_url, s::hydra_token_sealed);
    let (url, sealed): (Option<String>, Option<Vec<u8>>) = s::table.find(true).select(columns).first(conn).await?;
    let (Some(url), Some(sealed)) = (url.clone(), sealed) else { return Ok(url.map(|url| (url, None))) };
    match key(db).open(place(db), &Sealed::from(sealed)) {
        Ok(bytes) => {
            let token = std::str::from_utf8(&bytes).map(SecretString::from).map_err(ApiError::internal)?;
            Ok(Some((url, Some(token))))
        }
        Err(error) => {
            tracing::error!(tenant = %db.tenant().id, %error, "the token of a Hydra does not open");
            Ok(None)
        }
    }
}

/// Where people are asked, and the organisation's own Ory Hydra.
#[utoipa::path(
    tag = "oauth",
    responses(
        (status = 200, description = "The settings, with `ETag`", body = Envelope<OauthSettings>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/oauth/settings")]
pub async fn get_oauth_settings(_: NoQuery, caller: Authorized<OauthRead>) -> ApiResult<Tagged<OauthSettings>> {
    let read = async |conn: &mut TenantConn| -> ApiResult<SettingsRow> {
        Ok(s::table.find(true).select(SettingsRow::as_select()).first(conn).await?)
    };
    Ok(Tagged(caller.db.read(read).await?.into()))
}

/// Changes where people are asked, and the organisation's own Ory Hydra.
///
/// Wants a proof that is not older than ten minutes (`step_up_required`): whoever has the page has people's answers.
#[utoipa::path(
    tag = "oauth",
    request_body(content = PatchOauthSettings, content_type = "application/merge-patch+json"),
    params(("If-Match" = Option<String>, Header, description = "The `ETag` that was read")),
    responses(
        (status = 200, description = "As changed", body = Envelope<OauthSettings>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/oauth/settings")]
pub async fn patch_oauth_settings(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<OauthWrite>,
    if_match: IfMatch,
    body: MergePatch<PatchOauthSettings>,
) -> ApiResult<Tagged<OauthSettings>> {
    let actor = caller.recently()?;
    let PatchOauthSettings { consent_url, hydra_admin_url, hydra_token } = body.0;
    if let Some(page) = consent_url.value()
        && check_redirects(std::slice::from_ref(page)).is_err()
    {
        return Err(invalid("consentUrl", "Write it as https://app.example.com/consent, without a fragment."));
    }
    if let Some(url) = hydra_admin_url.value() {
        let read = auth.admission.foreign().outbound().read(url);
        let read = read.map_err(|error| ApiError::invalid_field("hydraAdminUrl", "invalid", error.to_string()))?;
        if read.query().is_some() || read.fragment().is_some() {
            return Err(invalid("hydraAdminUrl", "Write it without parameters and fragment."));
        }
    }
    if hydra_token.value().is_some_and(|token| !is_token(token)) {
        return Err(invalid("hydraToken", "A token has 1 to 4000 characters, none of them a blank."));
    }
    let (db, now) = (&caller.db, auth.clock.now());
    let row = db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<SettingsRow> {
            let held = s::table.find(true).select(SettingsRow::as_select()).for_update();
            let before: SettingsRow = held.first(conn).await?;
            if_match.check(before.version)?;
            let url = hydra_admin_url.apply(before.hydra_admin_url.clone());
            let moved = url != before.hydra_admin_url;
            let sealed = match hydra_token {
                Patch::Value(_) if url.is_none() => {
                    return Err(invalid("hydraToken", "There is no Hydra that it would be shown to."));
                }
                Patch::Value(token) => Some(key(db).seal(place(db), token.expose_secret().as_bytes()).into()),
                // No other address is shown what this one was given.
                Patch::Absent => before.hydra_token_sealed.filter(|_| !moved),
                Patch::Null => None,
            };
            let sealed: Option<Vec<u8>> = sealed;
            let row = diesel::update(s::table.find(true))
                .set((
                    s::consent_url.eq(consent_url.apply(before.consent_url)),
                    s::hydra_admin_url.eq(url),
                    s::hydra_token_sealed.eq(sealed),
                    s::updated_at.eq(now),
                    s::version.eq(s::version + 1),
                ))
                .returning(SettingsRow::as_returning())
                .get_result(conn)
                .await?;
            let (actor, row): (_, SettingsRow) = (format!("user:{actor}"), row);
            let said = |url: &Option<String>| url.clone().unwrap_or_else(|| "none".to_owned());
            let what = format!("page: {}; Hydra: {}", said(&row.consent_url), said(&row.hydra_admin_url));
            audit::note_tenant::<TenantConn>(conn, &actor, "oauth.settings_changed", &what, now).await?;
            Ok(row)
        })
        .await?;
    Ok(Tagged(row.into()))
}

fn is_token(token: &SecretString) -> bool {
    let text = token.expose_secret();
    (1..=4000).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn invalid(field: &'static str, said: &'static str) -> ApiError {
    ApiError::invalid_field(field, "invalid", said)
}
