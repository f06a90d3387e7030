//! What an access token says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::IMPERSONATION;
use crate::kernel::{OauthClientId, SessionId, UserId};

/// Claims that mean something to whoever decides what a bearer may do. Beside those that are known here, none of them is
/// accepted, so that such a claim is never half-understood.
const MEANINGFUL: &[&str] = &[
    "acr",
    "act",
    "amr",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "client_id",
    "cnf",
    "crit",
    "events",
    "exp",
    "iat",
    "iss",
    "jti",
    "may_act",
    "nbf",
    "nonce",
    "roles",
    "scope",
    "scopes",
    "scp",
    "sid",
    "sub",
    "tenant",
    "tid",
    "typ",
    "ver",
];

/// Whether an organisation may have its tokens say something under this name, which nothing here then believes.
#[must_use]
pub fn is_free_claim(name: &str) -> bool {
    !MEANINGFUL.contains(&name.to_ascii_lowercase().as_str())
}

/// The claims of an access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccessClaims {
    /// `<public url>/t/<slug>`.
    pub iss: String,
    /// The same as `iss`: a token is for its own tenant's API alone.
    pub aud: String,
    /// The person; of an app that came in its own name, the app.
    pub sub: UserId,
    /// The tenant, in the canonical form of its id.
    pub tid: String,
    /// The session; of an app, what it was given.
    pub sid: SessionId,
    /// This token.
    pub jti: Uuid,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Expires at, Unix seconds.
    pub exp: i64,
    /// Names of roles at the time of issue.
    pub roles: Vec<String>,
    /// How the person proved who they are (RFC 8176).
    pub amr: Vec<String>,
    /// When they did, Unix seconds.
    pub auth_time: i64,
    /// Version of the person's authorisation.
    pub ver: i64,
    /// Who acts in the person's name (RFC 8693). Goes with [`IMPERSONATION`] in `amr`, and never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// The app that the token was given to. Goes with `scope`, and never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<OauthClientId>,
    /// What the app may do, as far as whoever it acts for may (RFC 9068): words with spaces between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What the organisation has its tokens say besides, for its own apps. Nothing here is decided by it.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Somebody who acts in another's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Who: `cli:account` or `operator:id`.
    pub sub: String,
}

impl AccessClaims {
    /// Whether the claims say of one another what they must, and no more that could mean something.
    pub(in crate::router) fn agree(&self) -> bool {
        let impersonated = self.amr.iter().any(|method| method == IMPERSONATION);
        let by_app = self.client_id.is_some();
        self.act.is_some() == impersonated
            && self.scope.is_some() == by_app
            && !(impersonated && by_app)
            && self.extra.keys().all(|name| is_free_claim(name))
    }
}
