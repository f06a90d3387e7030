//! A CAPTCHA, asked for where too much was tried, by organisations that have one.
//!
//! Who solved one proves it by a token that the provider is asked about. A provider that does not answer holds up nobody:
//! the limits of guessing hold all the same, and a login must not depend on somebody else's server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{get, web};
use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded};
use utoipa::ToSchema;

use super::attempts::SINCE;
use super::settings::Auth;
use crate::error::{ApiError, ApiResult, Code};
use crate::outbound::{Outbound, Request};
use crate::rest::{Client, Envelope, Hints, NoQuery, Reply};
use crate::router::{self, Router, TenantConn, TenantDb};
use crate::tenant::docs::StrangerRefusals;
use crate::tenant::security::{self, CaptchaKeys, CaptchaProvider};

/// How long a provider may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of its answer that are read.
const MOST: usize = 16 * 1024;
/// The longest token that is passed on; providers' have up to 2,048 characters, or somewhat more.
const LONGEST_TOKEN: usize = 8 * 1024;

/// The provider does not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Says whether a CAPTCHA was solved.
#[async_trait]
pub trait Verifier: fmt::Debug + Send + Sync {
    /// Whether the provider gave this token to somebody who solved one, from this address.
    ///
    /// # Errors
    /// [`NoAnswer`].
    async fn solved(&self, keys: &CaptchaKeys, token: &SecretString, ip: Option<&str>) -> Result<bool, NoAnswer>;
}

/// The verifier of this node; without one, nothing counts as solved.
#[derive(Debug, Clone, Default)]
pub struct Captcha(Option<Arc<dyn Verifier>>);

impl Captcha {
    /// With this verifier.
    pub fn new(verifier: impl Verifier + 'static) -> Self {
        Self(Some(Arc::new(verifier)))
    }
}

/// Turnstile and hCaptcha, which are asked alike: a form with `secret`, `response` and `remoteip`, answered with JSON.
#[derive(Debug, Clone)]
pub struct SiteVerify {
    turnstile: Url,
    hcaptcha: Url,
    outbound: Outbound,
}

impl SiteVerify {
    /// Asks at these addresses.
    #[must_use]
    pub const fn new(turnstile: Url, hcaptcha: Url, outbound: Outbound) -> Self {
        Self { turnstile, hcaptcha, outbound }
    }
}

#[derive(Deserialize)]
struct Verdict {
    success: bool,
    #[serde(default, rename = "error-codes")]
    errors: Vec<String>,
}

#[async_trait]
impl Verifier for SiteVerify {
    async fn solved(&self, keys: &CaptchaKeys, token: &SecretString, ip: Option<&str>) -> Result<bool, NoAnswer> {
        let url = match keys.provider {
            CaptchaProvider::Turnstile => &self.turnstile,
            CaptchaProvider::Hcaptcha => &self.hcaptcha,
        };
        let fields = [
            ("secret", Some(keys.secret.expose_secret())),
            ("response", Some(token.expose_secret())),
            ("remoteip", ip),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(url.clone(), "application/x-www-form-urlencoded", form.into_bytes());
        let asked = self.outbound.send(request.at_most(MOST).within(PATIENCE)).await;
        let answer = asked.map_err(|error| NoAnswer(error.to_string()))?;
        let verdict: Verdict = serde_json::from_slice(&answer.body)
            .map_err(|_| NoAnswer(format!("status {}, no JSON with `success`", answer.status)))?;
        // With a wrong secret nobody ever solves one; that is no word about who asks.
        if verdict.errors.iter().any(|code| code.ends_with("-input-secret") || code == "internal-error") {
            return Err(NoAnswer(verdict.errors.join(", ")));
        }
        Ok(verdict.success)
    }
}

/// Lets pass who solved a CAPTCHA, and everybody where the organisation has none.
///
/// # Errors
/// 403 `captcha_required`.
pub(super) async fn demand(auth: &Auth, db: &TenantDb, client: &Client, token: Option<SecretString>) -> ApiResult<()> {
    let Some(keys) = keys(db).await? else { return Ok(()) };
    let required = || ApiError::new(Code::CaptchaRequired);
    let token = token.filter(|token| (1..=LONGEST_TOKEN).contains(&token.expose_secret().len()));
    let token = token.ok_or_else(required)?;
    let verifier = auth.captcha.0.as_ref().ok_or_else(required)?;
    match verifier.solved(&keys, &token, client.ip.as_deref()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(required()),
        Err(error) => {
            tracing::warn!(tenant = %db.tenant().id, %error, "a CAPTCHA was not asked about; the login goes on");
            Ok(())
        }
    }
}

async fn keys(db: &TenantDb) -> ApiResult<Option<CaptchaKeys>> {
    if db.tenant().schema_version < SINCE {
        return Ok(None);
    }
    db.read(async |conn: &mut TenantConn| -> ApiResult<_> { security::captcha_keys(conn, db).await }).await
}

/// What a login page shows where a CAPTCHA is asked for.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaptchaSite {
    /// `turnstile` or `hcaptcha`; null where there is none.
    pub provider: Option<CaptchaProvider>,
    /// For the provider's script.
    #[schema(example = "1x00000000000000000000AA")]
    pub site_key: Option<String>,
}

/// The CAPTCHA of an organisation, for its login page after `captcha_required`.
///
/// The organisation is named by `X-Tenant-ID` or the host. One that is unknown has none.
#[utoipa::path(
    tag = "auth",
    responses(
        (status = 200, description = "What to show, if anything", body = Envelope<CaptchaSite>),
        StrangerRefusals,
    ),
)]
#[get("/api/v1/auth/captcha")]
pub async fn captcha(_: NoQuery, router: web::Data<Router>, hints: Hints) -> ApiResult<Reply<CaptchaSite>> {
    let db = match router.named(None, &hints).await {
        Ok(db) => db,
        Err(router::Error::TenantUnknown) => return Ok(Reply(CaptchaSite::default())),
        Err(error) => return Err(error.into()),
    };
    let keys = keys(&db).await?;
    Ok(Reply(keys.map_or_else(CaptchaSite::default, |keys| CaptchaSite {
        provider: Some(keys.provider),
        site_key: Some(keys.site_key),
    })))
}
