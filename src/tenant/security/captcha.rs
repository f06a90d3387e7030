//! The organisation's account with a provider of CAPTCHAs.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use garde::Validate;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::{PolicyRow, security_policy as p};
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{Place, SealKey, Sealed};
use crate::rest::Patch;
use crate::router::{TenantConn, TenantDb};

/// Whose CAPTCHA it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptchaProvider {
    /// Cloudflare's.
    Turnstile,
    /// hCaptcha, and what answers like it.
    Hcaptcha,
}

impl CaptchaProvider {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Turnstile => "turnstile",
            Self::Hcaptcha => "hcaptcha",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [Self::Turnstile, Self::Hcaptcha].into_iter().find(|provider| provider.as_str() == word)
    }
}

/// The CAPTCHA of a login that looks like guessing. Its secret is never shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaptchaPolicy {
    /// Whose it is.
    pub provider: CaptchaProvider,
    /// For the login page.
    #[schema(example = "1x00000000000000000000AA")]
    pub site_key: String,
}

impl CaptchaPolicy {
    pub(super) fn of(row: &PolicyRow) -> Option<Self> {
        let provider = CaptchaProvider::read(row.captcha_provider.as_deref()?)?;
        Some(Self { provider, site_key: row.captcha_site_key.clone()? })
    }
}

/// A change of it.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchCaptcha {
    /// Whose it is.
    #[garde(skip)]
    pub provider: CaptchaProvider,
    /// For the login page.
    #[garde(length(chars, min = 1, max = 200))]
    #[schema(example = "1x00000000000000000000AA")]
    pub site_key: String,
    /// What the provider is asked with. Left out, it stays.
    #[garde(skip)]
    #[schema(value_type = Option<String>, format = Password, example = "1x0000000000000000000000000000000AA")]
    pub secret: Option<SecretString>,
}

/// What a provider is asked with.
#[derive(Debug, Clone)]
pub struct CaptchaKeys {
    /// Whose it is.
    pub provider: CaptchaProvider,
    /// For the login page.
    pub site_key: String,
    /// For the provider.
    pub secret: SecretString,
}

fn place(db: &TenantDb) -> Place {
    Place::new("security_policy", "captcha_secret_sealed", db.tenant().id.uuid())
}

fn key(db: &TenantDb) -> SealKey {
    db.router().installation().mac.seal_key("tenant-secrets")
}

/// What is asked with, if the organisation has a CAPTCHA. A secret that came with another tenant's data does not open, and
/// is none.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn captcha_keys(conn: &mut TenantConn, db: &TenantDb) -> ApiResult<Option<CaptchaKeys>> {
    type Row = (Option<String>, Option<String>, Option<Vec<u8>>);
    let columns = (p::captcha_provider, p::captcha_site_key, p::captcha_secret_sealed);
    let row: Row = p::table.find(true).select(columns).first(conn).await?;
    let (Some(provider), Some(site_key), Some(sealed)) = row else { return Ok(None) };
    let opened = key(db).open(place(db), &Sealed::from(sealed));
    let secret = match opened {
        Ok(bytes) => std::str::from_utf8(&bytes).map(SecretString::from).map_err(ApiError::internal)?,
        Err(error) => {
            tracing::error!(tenant = %db.tenant().id, %error, "the secret of a CAPTCHA does not open");
            return Ok(None);
        }
    };
    Ok(CaptchaProvider::read(&provider).map(|provider| CaptchaKeys { provider, site_key, secret }))
}

/// Changes it.
pub(super) async fn set(
    conn: &mut TenantConn,
    db: &TenantDb,
    row: &PolicyRow,
    change: Patch<PatchCaptcha>,
) -> ApiResult<()> {
    type Row = (Option<&'static str>, Option<String>, Option<Vec<u8>>);
    let row: Row = match change {
        Patch::Absent => return Ok(()),
        Patch::Null => (None, None, None),
        Patch::Value(PatchCaptcha { provider, site_key, secret }) => {
            let sealed = match secret.as_ref().map(|secret| secret.expose_secret()) {
                Some(secret) if (1..=500).contains(&secret.len()) => key(db).seal(place(db), secret.as_bytes()).into(),
                Some(_) => return Err(wrong("invalid", "A secret has 1 to 500 characters.")),
                None if row.captcha_provider.as_deref() == Some(provider.as_str()) => {
                    row.captcha_secret_sealed.clone().unwrap_or_default()
                }
                None => return Err(wrong("required", "Another provider has another secret.")),
            };
            (Some(provider.as_str()), Some(site_key), Some(sealed))
        }
    };
    diesel::update(p::table.find(true))
        .set((p::captcha_provider.eq(row.0), p::captcha_site_key.eq(row.1), p::captcha_secret_sealed.eq(row.2)))
        .execute(conn)
        .await?;
    Ok(())
}

fn wrong(code: &'static str, said: &'static str) -> ApiError {
    ApiError::invalid_field("captcha.secret", code, said)
}
