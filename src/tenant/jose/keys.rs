//! Public keys of others (RFC 7517), and what they are for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::{Claims, Document, Fault};

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;
/// Keys that are taken from one address.
const MOST_KEYS: usize = 100;
/// Bytes of an RSA modulus: 2048 bits.
const RSA_BYTES: usize = 256;
/// Bytes of a shared secret.
pub(in crate::tenant) const SECRET_BYTES: usize = 32;

/// What a token says of itself before anything of it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tenant) struct Head {
    alg: Algorithm,
    kid: Option<String>,
}

impl Head {
    /// Reads it. `jwk`, `jku` and their like may stand there, and are never looked at; what says that it must be
    /// understood (`crit`) is not.
    ///
    /// # Errors
    /// Unless it is three parts of a signed token with an algorithm of public keys, or of a shared secret.
    pub(in crate::tenant) fn read(token: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Said {
            alg: String,
            kid: Option<String>,
            crit: Option<Value>,
        }
        if token.len() > LONGEST {
            return Err(Fault("oversize"));
        }
        let mut parts = token.split('.');
        let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Fault("shape"));
        };
        let head = BASE64URL.decode(head).map_err(|_| Fault("header encoding"))?;
        let head: Said = serde_json::from_slice(&head).map_err(|_| Fault("header members"))?;
        if head.crit.is_some() {
            return Err(Fault("crit"));
        }
        let alg = head.alg.parse().map_err(|_| Fault("alg"))?;
        Ok(Self { alg, kid: head.kid })
    }
}

/// A key.
#[derive(Clone)]
pub(in crate::tenant) struct Key {
    kid: Option<String>,
    /// What it is for; a token says which of these it used.
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {:?})", self.kid, self.algorithms)
    }
}

impl Key {
    /// A secret that is shared with an issuer: for HS256 alone.
    pub(in crate::tenant) fn secret(secret: &[u8]) -> Self {
        Self { kid: None, algorithms: vec![Algorithm::HS256], decoding: DecodingKey::from_secret(secret) }
    }

    /// A public key, if it is one for signatures that are strong enough. A secret among public keys is none.
    fn public(jwk: &Jwk) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let bytes = BASE64URL.decode(&rsa.n).ok()?;
                let bytes = bytes.iter().skip_while(|byte| **byte == 0).count();
                if bytes < RSA_BYTES {
                    return None;
                }
                vec![RS256, RS384, RS512, PS256, PS384, PS512]
            }
            AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                EllipticCurve::P256 => vec![ES256],
                EllipticCurve::P384 => vec![ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => vec![EdDSA],
            _ => return None,
        };
        if let Some(only) = jwk.common.key_algorithm {
            let only: Algorithm = only.to_string().parse().ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self { kid: jwk.common.key_id.clone(), algorithms, decoding })
    }

    /// Verifies a token's signature and reads its claims, which are still to be checked.
    ///
    /// # Errors
    /// If this key did not sign it, by an algorithm that the key is for.
    pub(in crate::tenant) fn verify(&self, head: &Head, token: &str) -> Result<Claims, Fault> {
        if !self.algorithms.contains(&head.alg) {
            return Err(Fault("alg"));
        }
        let mut validation = Validation::new(head.alg);
        // Times are checked against our own clock, and the rest with words of our own: see `Claims::check`.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_required_spec_claims::<&str>(&[]);
        match jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation) {
            Ok(verified) => Ok(verified.claims),
            Err(error) => Err(Fault(match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature => "signature",
                jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => "alg",
                _ => "claims",
            })),
        }
    }
}

/// The keys at one address.
#[derive(Debug)]
pub(in crate::tenant) struct Keys(Vec<Key>);

impl Keys {
    /// The key that a token names; where neither has a name, the only one of its kind.
    pub(in crate::tenant) fn find(&self, head: &Head) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| key.algorithms.contains(&head.alg));
        match &head.kid {
            Some(kid) => fitting.find(|key| key.kid.as_ref() == Some(kid)),
            None => {
                let only = fitting.next()?;
                fitting.next().is_none().then_some(only)
            }
        }
    }
}

impl Document for Keys {
    /// What is no key, or none that we know how to use, is passed over.
    fn read(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes).ok()?;
        let keys = set.keys.into_iter().take(MOST_KEYS);
        Some(Self(keys.filter_map(|key| Key::public(&serde_json::from_value(key).ok()?)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;
    use crate::router::{KeyAlgorithm, SigningKey};

    fn token(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        format!("{}.{}.{}", part(header), part(claims), BASE64URL.encode(b"signature"))
    }

    #[test]
    fn a_head_is_read_with_suspicion() {
        let read = |header: Value| Head::read(&token(&header, &json!({}))).map_err(|fault| fault.0);
        assert!(read(json!({"alg": "RS256", "kid": "a", "jku": "https://evil"})).is_ok());
        assert_eq!(read(json!({"alg": "none"})), Err("alg"));
        assert_eq!(read(json!({"alg": "None"})), Err("alg"));
        assert_eq!(read(json!({"alg": "RS256", "crit": ["exp"]})), Err("crit"));
        assert_eq!(read(json!({"kid": "a"})), Err("header members"));
        assert_eq!(Head::read("a.b").unwrap_err().0, "shape");
        assert_eq!(Head::read(&"x".repeat(LONGEST + 1)).unwrap_err().0, "oversize");
    }

    #[test]
    fn a_key_is_for_its_own_algorithms() {
        let (private, public) = SigningKey::generate_pkcs8(KeyAlgorithm::EdDsa);
        let jwk = |more: Value| {
            let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": BASE64URL.encode(&public)});
            jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Keys::read(json!({"keys": [jwk, {"kty": "new"}]}).to_string().as_bytes()).unwrap()
        };
        let signed = |alg, kid: Option<&str>, key: &EncodingKey| {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(alg) };
            jsonwebtoken::encode(&header, &json!({"sub": "s"}), key).unwrap()
        };
        let good = signed(Algorithm::EdDSA, Some("k"), &EncodingKey::from_ed_der(&private));
        let head = Head::read(&good).unwrap();
        let keys = jwk(json!({}));
        assert_eq!(keys.find(&head).unwrap().verify(&head, &good).unwrap().sub, "s");
        assert!(keys.find(&Head { kid: Some("other".into()), ..head.clone() }).is_none());
        assert!(keys.find(&Head { kid: None, ..head.clone() }).is_some(), "the only one needs no name");
        // The public key as if it were a shared secret.
        let swapped = signed(Algorithm::HS256, Some("k"), &EncodingKey::from_secret(&public));
        let head = Head::read(&swapped).unwrap();
        assert!(keys.find(&head).is_none());
        assert_eq!(keys.0[0].verify(&head, &swapped).unwrap_err(), Fault("alg"));
        // Neither for encryption nor, by its own word, for anything else.
        assert!(jwk(json!({"use": "enc"})).0.is_empty());
        assert!(jwk(json!({"alg": "RS256"})).0.is_empty());
    }

    #[test]
    fn secrets_and_weak_keys_are_no_public_keys() {
        let small = BASE64URL.encode([0xff; 128]);
        let set = json!({"keys": [
            {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
            {"kty": "RSA", "n": small, "e": "AQAB"},
        ]});
        assert!(Keys::read(set.to_string().as_bytes()).unwrap().0.is_empty());
        assert!(Keys::read(b"<html>").is_none());
    }

    #[test]
    fn a_shared_secret_is_for_hs256() {
        let secret = [7; SECRET_BYTES];
        let sign = |alg| {
            jsonwebtoken::encode(&Header::new(alg), &json!({"sub": "s"}), &EncodingKey::from_secret(&secret)).unwrap()
        };
        let (good, other) = (sign(Algorithm::HS256), sign(Algorithm::HS512));
        let key = Key::secret(&secret);
        assert!(key.verify(&Head::read(&good).unwrap(), &good).is_ok());
        assert_eq!(key.verify(&Head::read(&other).unwrap(), &other).unwrap_err(), Fault("alg"));
        assert!(Key::secret(&[8; SECRET_BYTES]).verify(&Head::read(&good).unwrap(), &good).is_err());
    }
}
