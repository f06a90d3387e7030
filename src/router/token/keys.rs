//! The keys of a tenant: one half signs its tokens, the other verifies them.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::kernel::SigningKeyId;
use crate::router::error::{Error, Result};
use crate::router::tenant::words;

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
    pub(in crate::router) fn verify_signature_only<C: serde::de::DeserializeOwned + Clone>(
        &self,
        token: &str,
    ) -> Result<C> {
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
