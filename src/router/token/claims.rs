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

/// What `roles` may take in a token, in bytes of JSON. With it, the other bounds and a slug of 48 letters, a token is
/// shorter than [`MAX_TOKEN_LEN`](super::MAX_TOKEN_LEN), and than the 4,096 bytes of a cookie: header and signature are
/// 212 characters, and 4 characters of the rest are 3 bytes, of which what is always there takes about 330, and the public
/// URL twice [`MAX_PUBLIC_URL_LEN`](crate::kernel::MAX_PUBLIC_URL_LEN) at the most.
pub const MAX_ROLES_LEN: usize = 1_024;
/// What the `scope` of an app may take, in bytes: its tokens have it, and `client_id`, in place of roles.
pub const MAX_SCOPE_LEN: usize = 960;
/// What [`AccessClaims::extra`] may take, in bytes of JSON.
pub const MAX_EXTRA_LEN: usize = 1_024;

/// The names that a token says of a person's roles: as many, from the first on, as [`MAX_ROLES_LEN`] has room for. Who has
/// more is not locked out for it: nothing here is decided by this claim.
#[must_use]
pub fn roles_said(names: &[String]) -> Vec<String> {
    // Two brackets, and a comma less than there are names.
    let mut bytes = 1;
    let fits = |name: &&String| {
        bytes += serde_json::Value::from(name.as_str()).to_string().len() + 1;
        bytes <= MAX_ROLES_LEN
    };
    names.iter().take_while(fits).cloned().collect()
}

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
    /// Names of roles at the time of issue, as far as there is room: see [`roles_said`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::crypto::{MacKey, random};
    use crate::kernel::{MAX_PUBLIC_URL_LEN, SigningKeyId, TenantId};
    use crate::router::token::{ACCESS_TYP, KeyAlgorithm, KeyId, MAX_TOKEN_LEN, SigningKey, strict_kid};

    fn widest(names: &[String]) -> AccessClaims {
        let url = format!("https://{}", "h".repeat(MAX_PUBLIC_URL_LEN - 8));
        let issuer = format!("{url}/t/{}", "s".repeat(48));
        // Beside the value its name, a colon, a comma and four quotes.
        let value = "v".repeat(MAX_EXTRA_LEN - 7);
        AccessClaims {
            aud: issuer.clone(),
            iss: issuer,
            sub: UserId::generate(),
            tid: TenantId::generate().to_string(),
            sid: SessionId::generate(),
            jti: Uuid::now_v7(),
            iat: 4_000_000_000,
            exp: 4_000_000_000,
            roles: roles_said(names),
            amr: ["pwd", "otp", "mfa", "hwk", "user"].map(str::to_owned).to_vec(),
            auth_time: 4_000_000_000,
            ver: i64::MAX,
            act: None,
            client_id: None,
            scope: None,
            extra: BTreeMap::from([("c".to_owned(), value.into())]),
        }
    }

    /// Browsers keep cookies of 4,096 bytes, of which name and attributes take less than ninety.
    #[test]
    fn the_widest_token_is_taken() {
        let mac = MacKey::new(&random::<32>());
        let kid = KeyId { tenant: TenantId::generate(), key: SigningKeyId::generate() }.encode(&mac);
        for name in ["r", "\"", "\\", "\u{416}", "\u{1f512}"] {
            let names = vec![name.repeat(64); 400];
            let person = widest(&names);
            let said = serde_json::to_string(&person.roles).unwrap().len();
            let one = serde_json::to_string(&names[0]).unwrap().len() + 1;
            assert!(said <= MAX_ROLES_LEN && said + one > MAX_ROLES_LEN, "{said} bytes of {name}");
            let (client_id, scope) = (Some(OauthClientId::generate()), Some("s".repeat(MAX_SCOPE_LEN)));
            let app = AccessClaims { client_id, scope, ..widest(&[]) };
            for (&algorithm, claims) in KeyAlgorithm::ALL.iter().flat_map(|one| [(one, &person), (one, &app)]) {
                let (private, _) = SigningKey::generate_pkcs8(algorithm);
                let signing = SigningKey::from_pkcs8(kid.clone(), algorithm, &private).unwrap();
                let token = signing.sign(ACCESS_TYP, claims).unwrap();
                assert!(token.len() + 90 <= MAX_TOKEN_LEN, "{} characters with {name}", token.len());
                assert_eq!(strict_kid(&token, ACCESS_TYP).unwrap(), kid);
            }
        }
    }

    #[test]
    fn few_roles_are_all_said() {
        let names = ["admin", "auditor", "user"].map(str::to_owned);
        assert_eq!(roles_said(&names), names);
        assert_eq!(roles_said(&[]), Vec::<String>::new());
    }
}
