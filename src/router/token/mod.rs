//! Access tokens: JWS compact, `typ: at+jwt` (RFC 9068), EdDSA (RFC 8037) or ES256, each tenant with its own keys.

mod claims;
mod header;
mod keys;

pub use claims::{AccessClaims, Actor, MAX_EXTRA_LEN, MAX_ROLES_LEN, MAX_SCOPE_LEN, is_free_claim, roles_said};
pub use header::{KeyId, MAX_TOKEN_LEN, strict_kid};
pub use keys::{KeyAlgorithm, SigningKey, VerificationKey};

/// The `typ` of an access token of a tenant.
pub const ACCESS_TYP: &str = "at+jwt";

/// The `amr` of a session in which somebody acts in the person's name.
pub const IMPERSONATION: &str = "impersonation";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::crypto::{MacKey, random};
    use crate::kernel::{SigningKeyId, TenantId};
    use crate::router::error::Error;

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
