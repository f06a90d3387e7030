//! A role's password, and the SCRAM-SHA-256 verifier (RFC 5803) that alone travels to the server.
//!
//! The password is 256 random bits, which nobody guesses however fast he tries: one iteration loses nothing, and a new
//! connection does not pay for 4,096.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use secrecy::{ExposeSecret, SecretString};

use crate::kernel::crypto::random;

const ITERATIONS: NonZeroU32 = NonZeroU32::MIN;

/// A new password of 256 bits.
pub(crate) fn generate_password() -> SecretString {
    BASE64URL.encode(random::<32>()).into()
}

/// The verifier of a generated password, with a salt of its own.
pub(crate) fn verifier(password: &SecretString) -> SecretString {
    with_salt(password, &random::<16>(), ITERATIONS)
}

fn with_salt(password: &SecretString, salt: &[u8], iterations: NonZeroU32) -> SecretString {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.expose_secret().as_bytes(), &mut salted);
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&salted, b"Server Key");
    let (salt, stored, server) =
        (BASE64.encode(salt), BASE64.encode(stored_key.as_ref()), BASE64.encode(server_key.as_ref()));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677: its stored key must verify the proof that stands there.
    #[test]
    fn agrees_with_rfc_7677() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = with_salt(&"pencil".to_owned().into(), &salt, NonZeroU32::new(4096).unwrap());
        assert_eq!(
            text.expose_secret(),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}
