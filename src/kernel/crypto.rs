//! Sealing of secrets at rest, keyed digests, random bytes.
//!
//! A sealed value is `version (1) ‖ key id (8) ‖ nonce (12) ‖ AES-256-GCM ciphertext and tag`, with the place it
//! belongs to (table, column, row) as associated data: a value moved to another row does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 8;
const NONCE_LEN: usize = 12;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// Where a sealed value belongs. It opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Table, as in the schema.
    pub table: &'static str,
    /// Column, as in the schema.
    pub column: &'static str,
    /// Primary key of the row.
    pub row: Uuid,
}

impl Place {
    /// A column of a row.
    #[must_use]
    pub const fn new(table: &'static str, column: &'static str, row: Uuid) -> Self {
        Self { table, column, row }
    }

    fn associated_data(&self) -> Vec<u8> {
        format!("{}.{}.{}", self.table, self.column, self.row).into_bytes()
    }
}

/// An AEAD-sealed secret, as stored in a `bytea` column.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The stored bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Sealed {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Sealed> for Vec<u8> {
    fn from(sealed: Sealed) -> Self {
        sealed.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// Why a master key list or a sealed value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The list of master keys is not what it should be.
    #[error("a master key is the base64 of 32 bytes (make one with `tenantry key generate`); entry {0} is not")]
    BadMasterKey(usize),
    /// The list is empty.
    #[error("no master key given")]
    NoMasterKey,
    /// The value names a key that is not in the list.
    #[error("sealed with a master key that is not in the list")]
    UnknownKey,
    /// Tampered with, truncated, or moved here from another row.
    #[error("a sealed value does not open: damaged, or moved from another row")]
    DoesNotOpen,
}

struct MasterKey {
    id: [u8; KEY_ID_LEN],
    key: RandomizedNonceKey,
}

/// The installation's master keys, newest first: the first seals, all open.
pub struct MasterKeys(Vec<MasterKey>);

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys({} keys)", self.0.len())
    }
}

impl MasterKeys {
    /// Reads a comma-separated list of base64 keys of 32 bytes, newest first.
    ///
    /// # Errors
    /// If the list is empty or an entry is not the base64 of 32 bytes.
    pub fn parse(list: &SecretString) -> Result<Self, CryptoError> {
        let mut keys = Vec::new();
        for (at, text) in list.expose_secret().split(',').map(str::trim).filter(|t| !t.is_empty()).enumerate() {
            let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| CryptoError::BadMasterKey(at + 1))?);
            let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| CryptoError::BadMasterKey(at + 1))?;
            let mut id = [0; KEY_ID_LEN];
            id.copy_from_slice(&digest::digest(&digest::SHA256, &bytes).as_ref()[..KEY_ID_LEN]);
            keys.push(MasterKey { id, key });
        }
        if keys.is_empty() { Err(CryptoError::NoMasterKey) } else { Ok(Self(keys)) }
    }

    /// A new master key in its text form.
    #[must_use]
    pub fn generate() -> SecretString {
        BASE64.encode(random::<32>()).into()
    }

    /// Seals `plain` for one place with the newest key.
    #[must_use]
    pub fn seal(&self, place: Place, plain: &[u8]) -> Sealed {
        let newest = &self.0[0];
        let mut body = plain.to_vec();
        let nonce = newest
            .key
            .seal_in_place_append_tag(Aad::from(place.associated_data()), &mut body)
            .expect("AES-GCM seals anything shorter than 64 GiB");
        let mut out = Vec::with_capacity(HEADER_LEN + body.len());
        out.push(VERSION);
        out.extend_from_slice(&newest.id);
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&body);
        Sealed(out)
    }

    /// Opens a value that was sealed for the same place.
    ///
    /// # Errors
    /// If the key is unknown, or the value was tampered with or belongs elsewhere.
    pub fn open(&self, place: Place, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let bytes = sealed.as_bytes();
        if bytes.len() < HEADER_LEN || bytes[0] != VERSION {
            return Err(CryptoError::DoesNotOpen);
        }
        let key = self.0.iter().find(|k| k.id == bytes[1..=KEY_ID_LEN]).ok_or(CryptoError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(&bytes[1 + KEY_ID_LEN..HEADER_LEN])
            .map_err(|_| CryptoError::DoesNotOpen)?;
        let mut body = Zeroizing::new(bytes[HEADER_LEN..].to_vec());
        let length = key
            .key
            .open_in_place(nonce, Aad::from(place.associated_data()), &mut body)
            .map_err(|_| CryptoError::DoesNotOpen)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// Opens a sealed UTF-8 text.
    ///
    /// # Errors
    /// As [`Self::open`]; also if the value is not UTF-8.
    pub fn open_text(&self, place: Place, sealed: &Sealed) -> Result<SecretString, CryptoError> {
        let bytes = self.open(place, sealed)?;
        std::str::from_utf8(&bytes).map(SecretString::from).map_err(|_| CryptoError::DoesNotOpen)
    }

    /// Whether a value was sealed by another key than the newest.
    #[must_use]
    pub fn is_stale(&self, sealed: &Sealed) -> bool {
        sealed.as_bytes().get(1..=KEY_ID_LEN) != Some(&self.0[0].id)
    }
}

/// A key for HMAC-SHA256 (RFC 2104), with a domain label in every digest so that no two uses can be confused.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

impl MacKey {
    /// A key from (at least 32) secret bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The digest of the parts; each is length-prefixed, so `("ab", "c")` and `("a", "bc")` differ.
    #[must_use]
    pub fn digest(&self, domain: &'static str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(&domain.as_bytes()).chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// Whether `tag` is the beginning of the digest, compared in constant time. A tag under 8 bytes never is.
    #[must_use]
    pub fn verify(&self, domain: &'static str, parts: &[&[u8]], tag: &[u8]) -> bool {
        (8..=32).contains(&tag.len())
            && constant_time::verify_slices_are_equal(&self.digest(domain, parts)[..tag.len()], tag).is_ok()
    }
}

/// A key made of another one, for secrets in tenants' databases. What it seals is `version (1) ‖ nonce (12) ‖ AES-256-GCM
/// ciphertext and tag`, bound to its place as by [`MasterKeys`].
#[derive(Debug)]
pub struct SealKey(RandomizedNonceKey);

impl MacKey {
    /// The key for one purpose, always the same.
    #[must_use]
    pub fn seal_key(&self, purpose: &'static str) -> SealKey {
        let bytes = Zeroizing::new(self.digest("seal-key", &[purpose.as_bytes()]));
        SealKey(RandomizedNonceKey::new(&AES_256_GCM, &*bytes).expect("a digest has the length of a key"))
    }
}

impl SealKey {
    /// Seals `plain` for one place.
    #[must_use]
    pub fn seal(&self, place: Place, plain: &[u8]) -> Sealed {
        let mut body = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(place.associated_data()), &mut body)
            .expect("AES-GCM seals anything shorter than 64 GiB");
        Sealed([&[VERSION], &nonce.as_ref()[..], &body].concat())
    }

    /// Opens a value that was sealed for the same place.
    ///
    /// # Errors
    /// If the value was tampered with or belongs elsewhere.
    pub fn open(&self, place: Place, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let bytes = sealed.as_bytes();
        if bytes.len() < 1 + NONCE_LEN || bytes[0] != VERSION {
            return Err(CryptoError::DoesNotOpen);
        }
        let nonce = Nonce::try_assume_unique_for_key(&bytes[1..=NONCE_LEN]).map_err(|_| CryptoError::DoesNotOpen)?;
        let mut body = Zeroizing::new(bytes[1 + NONCE_LEN..].to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(place.associated_data()), &mut body)
            .map_err(|_| CryptoError::DoesNotOpen)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

/// Cryptographically secure random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system's random source answers");
    bytes
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Bytes in hexadecimal digits, two for each.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_two_digits() {
        assert_eq!(hex(&[0, 9, 0xab, 0xff]), "0009abff");
        assert_eq!(hex(&[]), "");
    }

    fn keys(list: &[&SecretString]) -> MasterKeys {
        let text = list.iter().map(|k| k.expose_secret()).collect::<Vec<_>>().join(",");
        MasterKeys::parse(&text.into()).unwrap()
    }

    #[test]
    fn opens_only_where_it_belongs() {
        let keys = keys(&[&MasterKeys::generate()]);
        let (row, other) = (Uuid::now_v7(), Uuid::now_v7());
        let place = Place::new("tenants", "password", row);
        let sealed = keys.seal(place, b"hunter2");
        assert_eq!(keys.open(place, &sealed).unwrap().as_slice(), b"hunter2");
        for elsewhere in [
            Place::new("tenants", "password", other),
            Place::new("tenants", "url", row),
            Place::new("clusters", "password", row),
        ] {
            assert_eq!(keys.open(elsewhere, &sealed).unwrap_err(), CryptoError::DoesNotOpen);
        }
        for at in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(keys.open(place, &bytes.into()).is_err(), "byte {at} flipped");
        }
    }

    #[test]
    fn a_derived_key_seals_for_one_place_and_one_purpose() {
        let mac = MacKey::new(&random::<32>());
        let place = Place::new("t", "c", Uuid::now_v7());
        let sealed = mac.seal_key("a").seal(place, b"seed");
        assert_eq!(mac.seal_key("a").open(place, &sealed).unwrap().as_slice(), b"seed");
        assert_eq!(mac.seal_key("b").open(place, &sealed).unwrap_err(), CryptoError::DoesNotOpen);
        let elsewhere = Place::new("t", "c", Uuid::now_v7());
        assert_eq!(mac.seal_key("a").open(elsewhere, &sealed).unwrap_err(), CryptoError::DoesNotOpen);
        for at in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(mac.seal_key("a").open(place, &bytes.into()).is_err(), "byte {at} flipped");
        }
        assert!(mac.seal_key("a").open(place, &vec![VERSION].into()).is_err(), "cut short");
    }

    #[test]
    fn rotation_opens_old_and_seals_new() {
        let (old, new) = (MasterKeys::generate(), MasterKeys::generate());
        let place = Place::new("t", "c", Uuid::now_v7());
        let sealed = keys(&[&old]).seal(place, b"x");
        let both = keys(&[&new, &old]);
        assert!(both.is_stale(&sealed));
        assert!(both.open(place, &sealed).is_ok());
        assert!(!both.is_stale(&both.seal(place, b"x")));
        assert_eq!(keys(&[&new]).open(place, &sealed).unwrap_err(), CryptoError::UnknownKey);
    }

    #[test]
    fn refuses_bad_lists() {
        assert_eq!(MasterKeys::parse(&"".to_owned().into()).unwrap_err(), CryptoError::NoMasterKey);
        assert_eq!(MasterKeys::parse(&"c2hvcnQ=".to_owned().into()).unwrap_err(), CryptoError::BadMasterKey(1));
    }

    #[test]
    fn mac_parts_are_framed() {
        let key = MacKey::new(&random::<32>());
        assert_ne!(key.digest("d", &[b"ab", b"c"]), key.digest("d", &[b"a", b"bc"]));
        assert_ne!(key.digest("d", &[b"a"]), key.digest("e", &[b"a"]));
        assert!(!key.verify("d", &[b"a"], &[]));
    }
}
