//! The second factor: time-based one-time passwords (RFC 6238: SHA-1, six digits, 30 seconds, as every authenticator
//! has it), and codes for whoever lost the device.

use qrcode::QrCode;
use qrcode::render::svg;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::{Serialize, Serializer};
use totp_rs::{Builder, Secret, Totp};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{random, sha256};

/// Bytes of a seed, as RFC 4226 recommends.
const SEED_BYTES: usize = 20;
/// Codes for whoever lost the device.
const RECOVERY_CODES: usize = 10;
/// Of five bits each; shown in groups of four.
const RECOVERY_LETTERS: usize = 24;
/// Letters and digits that are not mistaken for each other (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What an authenticator is told. Shown once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// `otpauth://totp/…`.
    #[serde(serialize_with = "shown_once")]
    #[schema(value_type = String)]
    pub uri: SecretString,
    /// The seed in base 32, to be typed in.
    #[serde(serialize_with = "shown_once")]
    #[schema(value_type = String)]
    pub secret: SecretString,
    /// The URI as a picture.
    #[serde(serialize_with = "shown_once")]
    #[schema(value_type = String)]
    pub qr_svg: SecretString,
}

fn shown_once<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// A new seed.
#[must_use]
pub fn seed() -> SecretSlice<u8> {
    random::<SEED_BYTES>().to_vec().into()
}

fn totp(seed: &[u8], issuer: &str, account: &str) -> ApiResult<Totp> {
    // A colon separates issuer and account in the URI.
    let plain = |text: &str| text.replace(':', " ");
    Builder::new()
        .with_secret(Secret::from(seed.to_vec()))
        .with_issuer(Some(plain(issuer)))
        .with_account_name(plain(account))
        .build()
        .map_err(ApiError::internal)
}

/// What an authenticator is told of a seed.
///
/// # Errors
/// Never for a seed of [`seed`].
pub fn enrolment(seed: &SecretSlice<u8>, issuer: &str, account: &str) -> ApiResult<Enrolment> {
    let uri = totp(seed.expose_secret(), issuer, account)?.to_url().map_err(ApiError::internal)?;
    let code = QrCode::new(uri.as_bytes()).map_err(ApiError::internal)?;
    let qr_svg = code.render::<svg::Color<'_>>().min_dimensions(200, 200).build();
    let secret = Secret::from(seed.expose_secret().to_vec()).to_base32();
    Ok(Enrolment { uri: uri.into(), secret: secret.into(), qr_svg: qr_svg.into() })
}

/// The time step that a code belongs to: the one of `now` (Unix seconds), or a neighbour, for clocks differ. Whether
/// that step was used before is for the caller to see.
#[must_use]
pub fn step_of(seed: &SecretSlice<u8>, code: &str, now: i64) -> Option<i64> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let totp = totp(seed.expose_secret(), "", "").ok()?;
    totp.check(&code, u64::try_from(now).ok()?).and_then(|step| i64::try_from(step).ok())
}

/// Codes of 120 bits for whoever lost the device, each good once, and what is kept of them.
#[must_use]
pub fn recovery_codes() -> (Vec<SecretString>, Vec<[u8; 32]>) {
    let code = || {
        let letters: Vec<u8> =
            random::<RECOVERY_LETTERS>().iter().map(|byte| ALPHABET[usize::from(byte & 31)]).collect();
        letters.chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join("-")
    };
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| code()).collect();
    let digests = codes.iter().map(|code| recovery_digest(code)).collect();
    (codes.into_iter().map(SecretString::from).collect(), digests)
}

/// What is kept of a recovery code, however it was typed.
#[must_use]
pub fn recovery_digest(code: &str) -> [u8; 32] {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    sha256(plain.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, SHA-1 (the last six of its eight digits).
    #[test]
    fn codes_of_the_standard() {
        let seed: SecretSlice<u8> = b"12345678901234567890".to_vec().into();
        for (now, code) in [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924")] {
            assert_eq!(step_of(&seed, code, now), Some(now / 30), "{code}");
        }
        assert_eq!(step_of(&seed, "287 082", 59 + 30), Some(1), "a neighbour, typed with a space");
        assert_eq!(step_of(&seed, "287082", 59 + 90), None);
        for bad in ["", "28708", "2870822", "abcdef"] {
            assert_eq!(step_of(&seed, bad, 59), None, "{bad}");
        }
    }

    #[test]
    fn an_authenticator_is_told_all_it_needs() {
        let told = enrolment(&seed(), "Tenantry: operators", "ops@example.com").unwrap();
        let uri = told.uri.expose_secret();
        assert!(uri.starts_with("otpauth://totp/") && uri.contains(told.secret.expose_secret()), "{uri}");
        assert!(told.qr_svg.expose_secret().contains("<svg"));
    }

    #[test]
    fn recovery_codes_differ_and_are_known_however_they_are_typed() {
        let (codes, digests) = recovery_codes();
        assert_eq!(codes.len(), RECOVERY_CODES);
        let groups: Vec<_> = codes[0].expose_secret().split('-').map(str::len).collect();
        assert_eq!(groups, [4; 6], "six groups of four letters of five bits: 120 bits, where ASVS asks for 112");
        let typed = codes[0].expose_secret().to_uppercase().replace('-', " ");
        assert_eq!(recovery_digest(&typed), digests[0]);
        assert_ne!(digests[0], digests[1]);
    }
}
