//! What an OpenID provider says of itself (OpenID Connect Discovery 1.0, RFC 8414).

use serde::Deserialize;
use url::Url;

use super::{Document, Fault};
use crate::outbound::Outbound;

/// A provider's own description, as far as it concerns who signs people in through it.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::tenant) struct Description {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// RFC 9207: each of its answers names it.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl Document for Description {
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Where a provider is asked what: each address may be reached.
#[derive(Debug, Clone)]
pub(in crate::tenant) struct Endpoints {
    pub authorization: Url,
    pub token: Url,
    pub keys: Url,
    pub userinfo: Option<Url>,
    /// Whether the client proves itself in the body, not in `Authorization`.
    pub secret_in_body: bool,
    /// Whether each answer names the provider.
    pub names_itself: bool,
}

impl Description {
    /// Where the description of an issuer is.
    pub(in crate::tenant) fn address(issuer: &str) -> Option<Url> {
        Url::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).ok()
    }

    /// The endpoints, if the description is that of this issuer.
    ///
    /// # Errors
    /// If it speaks of another issuer, or names an address that may not be reached.
    pub(in crate::tenant) fn endpoints(&self, issuer: &str, outbound: &Outbound) -> Result<Endpoints, Fault> {
        if self.issuer != issuer {
            return Err(Fault("the description is another issuer's"));
        }
        let read = |text: &str| outbound.read(text).map_err(|_| Fault("an endpoint may not be reached"));
        let methods = self.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
        let has = |method: &str| methods.iter().any(|one| one == method);
        Ok(Endpoints {
            authorization: read(&self.authorization_endpoint)?,
            token: read(&self.token_endpoint)?,
            keys: read(&self.jwks_uri)?,
            userinfo: self.userinfo_endpoint.as_deref().map(read).transpose()?,
            secret_in_body: has("client_secret_post") && !has("client_secret_basic"),
            names_itself: self.authorization_response_iss_parameter_supported,
        })
    }
}
