//! Hashes of passwords in PHC form: ours are Argon2id with a pepper, where the installation has one.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{Error, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, KeyId, Params, ParamsBuilder, Version};
use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::{UnicodeNormalization as _, is_nfkc};
use zeroize::Zeroizing;

use super::foreign;
use super::pepper::Peppers;
use crate::kernel::crypto::random;

/// Memory of one hash in KiB (OWASP's first choice for Argon2id with two passes).
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Whether a password is the one behind a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Wrong,
    Right,
    /// It is, but the hash is not as it would be made today.
    Stale,
    /// Nobody can say: the pepper of the hash is not configured any more.
    Lost,
}

/// The same text typed on another machine is the same password (NIST SP 800-63B-4, section 3.1.1.2).
fn normal(password: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(password.expose_secret().nfkc().collect())
}

/// The hash of a password.
pub(super) fn make(password: &SecretString, peppers: &Peppers) -> Result<String, Error> {
    let newest = peppers.newest();
    let id = newest.map(|pepper| KeyId::new(pepper.id())).transpose().map_err(|_| Error::ParamsInvalid)?;
    let params = params(id).map_err(|_| Error::ParamsInvalid)?;
    let secret = newest.map_or(&[][..], |pepper| pepper.key());
    let argon2 =
        Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params).map_err(|_| Error::Crypto)?;
    let hash: PasswordHash = argon2.hash_password_with_salt(normal(password).as_bytes(), &random::<16>())?;
    Ok(hash.to_string())
}

/// A hash as [`make`] makes them with no password behind it: to compare with it is the same work, and it is no work to
/// make.
pub(super) fn of_nobody(peppers: &Peppers) -> Result<String, Error> {
    let id = peppers.newest().map(|pepper| KeyId::new(pepper.id())).transpose().map_err(|_| Error::ParamsInvalid)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params(id).map_err(|_| Error::ParamsInvalid)?)?,
        salt: Some(Salt::new(&random::<16>())?),
        hash: Some(Output::new(&random::<32>())?),
    };
    Ok(hash.to_string())
}

fn params(pepper: Option<KeyId>) -> Result<Params, argon2::Error> {
    let mut params = ParamsBuilder::new();
    params.m_cost(MEMORY_KIB).t_cost(PASSES).p_cost(LANES);
    if let Some(id) = pepper {
        params.keyid(id);
    }
    params.build()
}

/// Compares a password with a hash: one of ours, of any age, or one that was brought along.
pub(super) fn verify(password: &SecretString, hash: &str, peppers: &Peppers) -> Result<Verdict, Error> {
    let normal = normal(password);
    let verdict = verify_bytes(normal.as_bytes(), hash, peppers)?;
    let text = password.expose_secret();
    // One that was hashed as it was typed.
    if verdict == Verdict::Wrong && !is_nfkc(text) {
        let as_typed = verify_bytes(text.as_bytes(), hash, peppers)?;
        return Ok(if as_typed == Verdict::Wrong { Verdict::Wrong } else { Verdict::Stale });
    }
    Ok(verdict)
}

fn verify_bytes(password: &[u8], hash: &str, peppers: &Peppers) -> Result<Verdict, Error> {
    if !hash.starts_with("$argon2") {
        let foreign = foreign::Hash::parse(hash).map_err(|_| Error::EncodingInvalid)?;
        let matches = foreign.verify(password).map_err(|_| Error::Crypto)?;
        return Ok(if matches { Verdict::Stale } else { Verdict::Wrong });
    }
    let parsed = PasswordHash::new(hash).map_err(|_| Error::EncodingInvalid)?;
    let made_with = Params::try_from(&parsed)?;
    let pepper = match made_with.keyid() {
        [] => None,
        id => match peppers.find(id) {
            None => return Ok(Verdict::Lost),
            found => found,
        },
    };
    let secret = pepper.map_or(&[][..], |pepper| pepper.key());
    let argon2 = Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, made_with.clone());
    match argon2.map_err(|_| Error::Crypto)?.verify_password(password, &parsed) {
        Ok(()) => {}
        Err(Error::PasswordInvalid) => return Ok(Verdict::Wrong),
        Err(error) => return Err(error),
    }
    let today = (MEMORY_KIB, PASSES, LANES, peppers.newest().map_or(&[][..], |pepper| pepper.id()));
    let then = (made_with.m_cost(), made_with.t_cost(), made_with.p_cost(), made_with.keyid());
    let ours = parsed.algorithm.as_str() == "argon2id" && parsed.version == Some(Version::V0x13.into());
    Ok(if ours && today == then { Verdict::Right } else { Verdict::Stale })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    fn peppers(list: &str) -> Peppers {
        Peppers::parse(&secret(list)).unwrap()
    }

    const OLD: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
    const NEW: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

    #[test]
    fn a_pepper_is_needed_again_and_can_be_changed() {
        let (none, old, both) = (Peppers::default(), peppers(OLD), peppers(&format!("{NEW},{OLD}")));
        let password = secret("correct horse battery");
        let hash = make(&password, &old).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1,keyid="), "{hash}");
        assert_eq!(verify(&password, &hash, &old), Ok(Verdict::Right));
        assert_eq!(verify(&secret("incorrect horse"), &hash, &old), Ok(Verdict::Wrong));
        assert_eq!(verify(&password, &hash, &both), Ok(Verdict::Stale));
        assert_eq!(verify(&password, &hash, &none), Ok(Verdict::Lost));
        // Without its id it is no match either: the pepper is part of the hash, not of its name.
        let id =
            &hash[hash.find(",keyid=").unwrap()..hash.rfind("$").map(|at| hash[..at].rfind('$').unwrap()).unwrap()];
        assert_eq!(verify(&password, &hash.replace(id, ""), &old), Ok(Verdict::Wrong));
        let plain = make(&password, &none).unwrap();
        assert_eq!(verify(&password, &plain, &none), Ok(Verdict::Right));
        assert_eq!(verify(&password, &plain, &old), Ok(Verdict::Stale));
    }

    /// What is told by its length or its parameters would be told by the time that comparing takes.
    #[test]
    fn a_hash_of_nobody_looks_like_one_of_somebody() {
        let password = secret("correct horse battery");
        for peppers in [Peppers::default(), peppers(OLD), peppers(&format!("{NEW},{OLD}"))] {
            let (nobody, somebody) = (of_nobody(&peppers).unwrap(), make(&password, &peppers).unwrap());
            let shape = |hash: &str| {
                let parts: Vec<_> = hash.split('$').map(str::to_owned).collect();
                (parts[..4].to_vec(), parts[4].len(), parts[5].len(), parts.len())
            };
            assert_eq!(shape(&nobody), shape(&somebody));
            assert_eq!(verify(&password, &nobody, &peppers), Ok(Verdict::Wrong));
        }
    }

    #[test]
    fn the_same_text_is_the_same_password() {
        let none = Peppers::default();
        let hash = make(&secret("caf\u{e9} au lait ﬁne"), &none).unwrap();
        assert_eq!(verify(&secret("cafe\u{301} au lait fine"), &hash, &none), Ok(Verdict::Right));
        // One that was hashed as it was typed still opens.
        let typed = "cafe\u{301} au lait";
        let hash: PasswordHash = Argon2::default().hash_password_with_salt(typed.as_bytes(), &random::<16>()).unwrap();
        assert_eq!(verify(&secret(typed), &hash.to_string(), &none), Ok(Verdict::Stale));
    }
}
