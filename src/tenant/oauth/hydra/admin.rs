//! Asking Hydra's admin API (`/admin/oauth2/auth/requests/…`), through the guarded client.

use reqwest::header::{ACCEPT, AUTHORIZATION};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::error::{ApiError, ApiResult, Code};
use crate::outbound::{Outbound, Request, Response};
use crate::router::{TenantConn, TenantDb};
use crate::tenant::auth::Auth;
use crate::tenant::oauth::settings;

/// The longest challenge.
const LONGEST: usize = 4096;

/// What Hydra asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Login,
    Consent,
    Logout,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Consent => "consent",
            Self::Logout => "logout",
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Login => "loginChallenge",
            Self::Consent => "consentChallenge",
            Self::Logout => "logoutChallenge",
        }
    }
}

/// An app, as Hydra knows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct App {
    pub client_id: String,
    pub client_name: String,
}

/// The organisation's Hydra, and one question of its.
pub(super) struct Hydra {
    outbound: Outbound,
    base: String,
    token: Option<SecretString>,
    kind: Kind,
    challenge: String,
}

impl Hydra {
    /// The organisation's, if it has one.
    ///
    /// # Errors
    /// 404 if it has none; 422 if the challenge can be none.
    pub(super) async fn of(auth: &Auth, db: &TenantDb, kind: Kind, challenge: &str) -> ApiResult<Self> {
        if challenge.is_empty() || challenge.len() > LONGEST {
            return Err(ApiError::invalid_field(kind.field(), "invalid", "It is no challenge."));
        }
        let read = async |conn: &mut TenantConn| -> ApiResult<_> { settings::hydra(conn, db).await };
        let (base, token) = db.read(read).await?.ok_or_else(|| ApiError::not_found("Hydra"))?;
        let outbound = auth.admission.foreign().outbound().clone();
        Ok(Self { outbound, base, token, kind, challenge: challenge.to_owned() })
    }

    fn address(&self, end: &str) -> ApiResult<Url> {
        let kind = self.kind.as_str();
        let text = format!("{}/admin/oauth2/auth/requests/{kind}{end}", self.base.trim_end_matches('/'));
        let mut url = Url::parse(&text).map_err(ApiError::internal)?;
        url.query_pairs_mut().append_pair(&format!("{kind}_challenge"), &self.challenge);
        Ok(url)
    }

    /// The body of a good answer.
    async fn send(&self, request: Request) -> ApiResult<Vec<u8>> {
        let mut request = request.header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, &format!("Bearer {}", token.expose_secret()));
        }
        let Response { status, body } = self.outbound.send(request).await.map_err(|error| {
            tracing::warn!(%error, "an organisation's Hydra does not answer");
            unavailable()
        })?;
        match status {
            200..=299 => Ok(body),
            404 => Err(ApiError::invalid_field(self.kind.field(), "unknown", "Hydra knows no such challenge.")),
            409 | 410 => Err(ApiError::new(Code::Conflict).detail("The challenge was answered before.")),
            _ => {
                tracing::warn!(status, "an organisation's Hydra refuses");
                Err(unavailable())
            }
        }
    }

    /// What it asks.
    ///
    /// # Errors
    /// 422 if there is no such challenge, 409 if it was answered before, 503 if Hydra does not answer as it should.
    pub(super) async fn ask<T: DeserializeOwned>(&self) -> ApiResult<T> {
        read(&self.send(Request::get(self.address("")?)).await?)
    }

    async fn put(&self, end: &str, body: &Value) -> ApiResult<Vec<u8>> {
        self.send(Request::put(self.address(end)?, "application/json", body.to_string().into_bytes())).await
    }

    /// Agrees. Gives where the browser goes.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn accept(&self, body: &Value) -> ApiResult<String> {
        Ok(read::<To>(&self.put("/accept", body).await?)?.redirect_to)
    }

    /// Refuses. Gives where the browser goes.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn reject(&self) -> ApiResult<String> {
        let said = serde_json::json!({"error": "access_denied", "error_description": "The person did not agree."});
        Ok(read::<To>(&self.put("/reject", &said).await?)?.redirect_to)
    }

    /// Refuses a logout, which has no answer.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn stay(&self) -> ApiResult<()> {
        self.put("/reject", &serde_json::json!({})).await.map(drop)
    }
}

/// Where the browser goes.
#[derive(Deserialize)]
struct To {
    redirect_to: String,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> ApiResult<T> {
    serde_json::from_slice(body).map_err(|_| unavailable())
}

fn unavailable() -> ApiError {
    ApiError::new(Code::IdentityProviderUnavailable).detail("The organisation's Hydra does not answer as it should.")
}
