//! A sign-in under way: from its state to who the provider says has come.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{github, oidc};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::sha256;
use crate::kernel::opaque::OpaqueToken;
use crate::outbound::OutboundError;
use crate::router::TenantDb;
use crate::tenant::identity_providers::rules::ProviderKind;
use crate::tenant::identity_providers::store::{self as providers, ProviderRow};
use crate::tenant::jose::{Fault, Foreign, NoKey};

/// A sign-in with its provider.
pub(super) struct Flow<'a> {
    pub db: &'a TenantDb,
    pub foreign: &'a Foreign,
    pub provider: &'a ProviderRow,
    pub redirect_uri: &'a str,
    pub state: &'a OpaqueToken,
    /// Now, and how far clocks may differ, in seconds.
    pub now: i64,
}

/// What the provider sent with whom it sent back.
pub(super) struct Returned<'a> {
    pub code: &'a SecretString,
    /// RFC 9207: who it says it is.
    pub iss: Option<&'a str>,
}

/// The longest address of an account at a provider that is kept, in characters.
const LONGEST: usize = 320;

/// Who has come, as the provider says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct External {
    pub issuer: String,
    pub subject: String,
    pub email: Option<String>,
    pub email_verified: bool,
    pub first_name: String,
    pub last_name: String,
    /// How long ago they proved there who they are, if the provider says.
    pub signed_in_ago: Option<TimeDelta>,
}

impl External {
    /// The same without an address that no database could keep: who somebody is does not hang on it.
    fn fitting(mut self) -> Self {
        let fits = |email: &String| email.chars().count() <= LONGEST && !email.chars().any(char::is_control);
        self.email = self.email.filter(fits);
        self
    }
}

impl Flow<'_> {
    fn derived(&self, purpose: &'static str) -> String {
        let mac = &self.db.router().installation().mac;
        BASE64URL.encode(mac.digest(purpose, &[self.state.text().expose_secret().as_bytes()]))
    }

    /// What the ID token has to repeat.
    pub(super) fn nonce(&self) -> String {
        self.derived("federation-nonce")
    }

    /// What only we can show of the challenge (RFC 7636).
    pub(super) fn verifier(&self) -> String {
        self.derived("federation-pkce")
    }

    /// The client's secret, if it has one.
    pub(super) fn secret(&self) -> ApiResult<Option<SecretString>> {
        providers::open(self.db, self.provider)
    }

    /// Where the person is sent; with `fresh`, to be asked anew who they are (OpenID Connect Core, section 3.1.2.1).
    pub(super) async fn authorization_url(&self, fresh: bool) -> ApiResult<Url> {
        let oidc = self.provider.kind != ProviderKind::Github;
        let mut url = if oidc { oidc::authorization(self).await } else { github::authorization(self) }?;
        let challenge = BASE64URL.encode(sha256(self.verifier().as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.provider.client_id)
            .append_pair("redirect_uri", self.redirect_uri)
            .append_pair("scope", &self.provider.scopes.join(" "))
            .append_pair("state", self.state.text().expose_secret())
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if oidc {
            url.query_pairs_mut().append_pair("nonce", &self.nonce());
        }
        if oidc && fresh {
            url.query_pairs_mut().append_pair("prompt", "login").append_pair("max_age", "0");
        }
        Ok(url)
    }

    /// Exchanges the code for who has come.
    pub(super) async fn identify(&self, returned: &Returned<'_>) -> ApiResult<External> {
        let found = match self.provider.kind {
            ProviderKind::Github => github::identify(self, returned).await,
            ProviderKind::Oidc | ProviderKind::Google => oidc::identify(self, returned).await,
        };
        found.map(External::fitting).inspect_err(|error| {
            let cause = error.cause().map(ToString::to_string).unwrap_or_default();
            tracing::info!(tenant = %self.db.tenant().id, provider = %self.provider.id, cause, "a provider's answer was refused");
        })
    }
}

/// What a provider sent is not taken. Why stands in the log: whoever tries things out is not told.
pub(super) fn refused(fault: Fault) -> ApiError {
    ApiError::new(Code::FederationFailed).caused_by(fault)
}

impl From<NoKey> for ApiError {
    fn from(error: NoKey) -> Self {
        match error {
            NoKey::Fault(fault) => refused(fault),
            NoKey::Outbound(error) => unavailable(error),
        }
    }
}

/// The provider cannot be asked.
pub(super) fn unavailable(error: OutboundError) -> ApiError {
    ApiError::new(Code::IdentityProviderUnavailable).caused_by(error)
}
