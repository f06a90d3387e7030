//! Access tokens: JWS compact, `typ: at+jwt` (RFC 9068), EdDSA (RFC 8037) or ES256, each tenant with its own keys.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::error::{Error, Result};
use super::tenant::words;
use crate::kernel::crypto::MacKey;
use crate::kernel::{OauthClientId, SessionId, SigningKeyId, TenantId, UserId};

const MAC_LEN: usize = 8;
/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_LEN: usize = 4096;
/// The `typ` of an access token of a tenant.
pub const ACCESS_TYP: &str = "at+jwt";

/// The `amr` of a session in which somebody acts in the person's name.
pub const IMPERSONATION: &str = "impersonation";

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
    pub(super) fn agree(&self) -> bool {
        let impersonated = self.amr.iter().any(|method| method == IMPERSONATION);
        let by_app = self.client_id.is_some();
        self.act.is_some() == impersonated
            && self.scope.is_some() == by_app
            && !(impersonated && by_app)
            && self.extra.keys().all(|name| is_free_claim(name))
    }
}

/// A `kid`: tenant, key, and a MAC under the installation's key, so that an invented one costs no look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// The tenant whose key it is.
    pub tenant: TenantId,
    /// The key.
    pub key: SigningKeyId,
}

impl KeyId {
    fn tag(self, mac: &MacKey) -> [u8; 32] {
        mac.digest("kid", &[self.tenant.uuid().as_bytes(), self.key.uuid().as_bytes()])
    }

    /// The text that stands in the token's header and in the JWKS.
    #[must_use]
    pub fn encode(self, mac: &MacKey) -> String {
        let mut bytes = Vec::with_capacity(32 + MAC_LEN);
        bytes.extend_from_slice(self.tenant.uuid().as_bytes());
        bytes.extend_from_slice(self.key.uuid().as_bytes());
        bytes.extend_from_slice(&self.tag(mac)[..MAC_LEN]);
        BASE64URL.encode(bytes)
    }

    /// Reads a `kid` that this installation made. `None` for any other text.
    #[must_use]
    pub fn decode(mac: &MacKey, text: &str) -> Option<Self> {
        let bytes: [u8; 32 + MAC_LEN] = BASE64URL.decode(text).ok()?.try_into().ok()?;
        let id = Self {
            tenant: Uuid::from_slice(&bytes[..16]).ok()?.into(),
            key: Uuid::from_slice(&bytes[16..32]).ok()?.into(),
        };
        mac.verify("kid", &[id.tenant.uuid().as_bytes(), id.key.uuid().as_bytes()], &bytes[32..]).then_some(id)
    }
}

words! {
    /// What a key signs with.
    KeyAlgorithm {
        /// Ed25519 (RFC 8037).
        EdDsa = "EdDSA",
        /// ECDSA over P-256 with SHA-256.
        Es256 = "ES256",
    }
}

impl KeyAlgorithm {
    const fn jws(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
        }
    }

    /// The raw public key of a private one in PKCS #8. `None` if it is no key of this algorithm.
    #[must_use]
    pub fn public_of(self, pkcs8: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).ok()?.public_key().as_ref().to_vec(),
            Self::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
                pair.public_key().as_ref().to_vec()
            }
        })
    }
}

/// The public half of a key.
#[derive(Clone)]
pub struct VerificationKey {
    /// Which key.
    pub id: SigningKeyId,
    /// What it signs with: what a token says of that is only compared.
    pub algorithm: KeyAlgorithm,
    /// The raw public key: 32 bytes of Ed25519, or the uncompressed point of P-256.
    pub public: Vec<u8>,
    /// Until when its signatures count; none while it is in use.
    pub until: Option<DateTime<Utc>>,
    decoding: DecodingKey,
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationKey({})", self.id)
    }
}

impl VerificationKey {
    /// A key from its raw public bytes.
    #[must_use]
    pub fn new(id: SigningKeyId, algorithm: KeyAlgorithm, public: Vec<u8>) -> Self {
        let decoding = match algorithm {
            KeyAlgorithm::EdDsa => DecodingKey::from_ed_der(&public),
            KeyAlgorithm::Es256 => DecodingKey::from_ec_der(&public),
        };
        Self { id, algorithm, public, until: None, decoding }
    }

    /// Whether its signatures count.
    #[must_use]
    pub fn counts(&self, now: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// The key as a member of a JWKS (RFC 7517, RFC 7518, RFC 8037).
    #[must_use]
    pub fn to_jwk(&self, kid: &str) -> serde_json::Value {
        let mut jwk = serde_json::json!({"use": "sig", "alg": self.algorithm.as_str(), "kid": kid});
        let members = match self.algorithm {
            KeyAlgorithm::EdDsa => vec![("kty", "OKP".into()), ("crv", "Ed25519".into()), ("x", self.base64(0..32))],
            KeyAlgorithm::Es256 => vec![
                ("kty", "EC".into()),
                ("crv", "P-256".into()),
                ("x", self.base64(1..33)),
                ("y", self.base64(33..65)),
            ],
        };
        for (name, value) in members {
            jwk[name] = serde_json::Value::String(value);
        }
        jwk
    }

    fn base64(&self, part: std::ops::Range<usize>) -> String {
        BASE64URL.encode(self.public.get(part).unwrap_or_default())
    }

    /// Verifies signature, `iss`, `aud` and `exp` of a token and reads its claims.
    ///
    /// # Errors
    /// [`Error::TokenExpired`], else [`Error::TokenInvalid`] with a word for the log.
    pub fn verify<C: serde::de::DeserializeOwned + Clone>(
        &self,
        token: &str,
        issuer: &str,
        audience: &str,
        leeway_seconds: u64,
    ) -> Result<C> {
        let mut validation = Validation::new(self.algorithm.jws());
        validation.leeway = leeway_seconds;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        self.decode(token, &validation)
    }

    /// Verifies the signature alone: what is left when the binding of key and tenant is turned off for a test.
    pub(super) fn verify_signature_only<C: serde::de::DeserializeOwned + Clone>(&self, token: &str) -> Result<C> {
        let mut validation = Validation::new(self.algorithm.jws());
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.set_required_spec_claims::<&str>(&[]);
        self.decode(token, &validation)
    }

    fn decode<C: serde::de::DeserializeOwned + Clone>(&self, token: &str, validation: &Validation) -> Result<C> {
        match jsonwebtoken::decode::<C>(token, &self.decoding, validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => Error::TokenExpired,
                jsonwebtoken::errors::ErrorKind::InvalidSignature => Error::TokenInvalid("signature"),
                jsonwebtoken::errors::ErrorKind::InvalidIssuer => Error::TokenInvalid("iss"),
                jsonwebtoken::errors::ErrorKind::InvalidAudience => Error::TokenInvalid("aud"),
                _ => Error::TokenInvalid("claims"),
            }),
        }
    }
}

/// The private half of a key.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    algorithm: KeyAlgorithm,
    encoding: EncodingKey,
    public: Vec<u8>,
    /// From when on it signs.
    pub from: DateTime<Utc>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

impl SigningKey {
    /// A new key in PKCS #8 (to be sealed) and its raw public key.
    #[must_use]
    pub fn generate_pkcs8(algorithm: KeyAlgorithm) -> (Zeroizing<Vec<u8>>, Vec<u8>) {
        let private = match algorithm {
            KeyAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().expect("the operating system's random source answers");
                pair.to_pkcs8v1().expect("an Ed25519 key has a PKCS #8 form").as_ref().to_vec()
            }
            KeyAlgorithm::Es256 => {
                let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
                made.expect("the operating system's random source answers").as_ref().to_vec()
            }
        };
        let private = Zeroizing::new(private);
        let public = algorithm.public_of(&private).expect("a key that was just made");
        (private, public)
    }

    /// A key from its PKCS #8 form. `None` if it is none of this algorithm.
    #[must_use]
    pub fn from_pkcs8(kid: String, algorithm: KeyAlgorithm, pkcs8: &[u8]) -> Option<Self> {
        let public = algorithm.public_of(pkcs8)?;
        let encoding = match algorithm {
            KeyAlgorithm::EdDsa => EncodingKey::from_ed_der(pkcs8),
            KeyAlgorithm::Es256 => EncodingKey::from_ec_der(pkcs8),
        };
        Some(Self { kid, algorithm, encoding, public, from: DateTime::UNIX_EPOCH })
    }

    /// The `kid` that its tokens carry.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The raw public key.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Signs claims as a JWS of the given `typ`.
    ///
    /// # Errors
    /// If the claims cannot be written as JSON.
    pub fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> Result<String> {
        let header =
            Header { typ: Some(typ.to_owned()), kid: Some(self.kid.clone()), ..Header::new(self.algorithm.jws()) };
        jsonwebtoken::encode(&header, claims, &self.encoding).map_err(|_| Error::TokenInvalid("unsignable"))
    }
}

/// The only header members that a token may have: no `jwk`, `jku`, `x5u`, `crit`, `b64` or `zip` is ever followed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: String,
    kid: String,
}

/// Reads a token's header before anything of it is believed, and gives its `kid`.
///
/// # Errors
/// [`Error::TokenInvalid`] unless it is short enough, three parts, EdDSA or ES256, of this `typ`, with no further members.
pub fn strict_kid(token: &str, typ: impl Into<Option<&'static str>>) -> Result<String> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(Error::TokenInvalid("oversize"));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Error::TokenInvalid("shape"));
    };
    let header = BASE64URL.decode(header).map_err(|_| Error::TokenInvalid("header encoding"))?;
    let header: StrictHeader = serde_json::from_slice(&header).map_err(|_| Error::TokenInvalid("header members"))?;
    if header.alg.parse::<KeyAlgorithm>().is_err() {
        return Err(Error::TokenInvalid("alg"));
    }
    if typ.into().is_some_and(|typ| header.typ != typ) {
        return Err(Error::TokenInvalid("typ"));
    }
    Ok(header.kid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::crypto::random;

    #[test]
    fn signs_and_verifies() {
        let mac = MacKey::new(&random::<32>());
        let id = KeyId { tenant: TenantId::generate(), key: SigningKeyId::generate() };
        let kid = id.encode(&mac);
        assert_eq!(KeyId::decode(&mac, &kid), Some(id));
        assert_eq!(KeyId::decode(&MacKey::new(&random::<32>()), &kid), None);
        let claims = serde_json::json!({"iss": "i", "aud": "i", "sub": "s", "exp": 4_000_000_000_i64});
        for &algorithm in KeyAlgorithm::ALL {
            let (private, public) = SigningKey::generate_pkcs8(algorithm);
            let signing = SigningKey::from_pkcs8(kid.clone(), algorithm, &private).unwrap();
            let token = signing.sign(ACCESS_TYP, &claims).unwrap();
            assert_eq!(strict_kid(&token, ACCESS_TYP).unwrap(), kid);
            assert!(strict_kid(&token, "JWT").is_err());
            let key = VerificationKey::new(id.key, algorithm, public);
            assert_eq!(key.verify::<serde_json::Value>(&token, "i", "i", 0).unwrap(), claims);
            assert!(key.verify::<serde_json::Value>(&token, "j", "i", 0).is_err());
            for &another in KeyAlgorithm::ALL {
                let other = VerificationKey::new(id.key, another, SigningKey::generate_pkcs8(another).1);
                let refused = other.verify::<serde_json::Value>(&token, "i", "i", 0);
                let word = if another == algorithm { "signature" } else { "claims" };
                assert!(matches!(refused, Err(Error::TokenInvalid(said)) if said == word), "{refused:?}");
            }
            assert!(KeyAlgorithm::ALL.iter().all(|&a| (a == algorithm) == a.public_of(&private).is_some()));
        }
    }
}
