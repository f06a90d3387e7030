//! The header `Idempotency-Key`, and what tells the body under it from others.

use actix_web::HttpRequest;

use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::{MacKey, sha256};

const HEADER: &str = "idempotency-key";

/// A request's key and what tells its body from others.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// `Idempotency-Key`.
    pub key: String,
    /// Keyed digest of the body.
    pub fingerprint: Vec<u8>,
}

/// The key of a request, if it has one.
pub(super) fn read(request: &HttpRequest) -> ApiResult<Option<String>> {
    let mut values = request.headers().get_all(HEADER);
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=255).contains(&text.len()));
    let printable = text.filter(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)));
    match printable {
        Some(text) if values.next().is_none() => Ok(Some(text.to_owned())),
        _ => Err(ApiError::new(Code::MalformedRequest)
            .detail("Idempotency-Key is one value of 1 to 255 printable ASCII characters.")),
    }
}

/// Keyed, so that a stolen table does not serve to try passwords out against.
pub(super) fn fingerprint(mac: &MacKey, body: Option<[u8; 32]>) -> Vec<u8> {
    let body = body.unwrap_or_else(|| sha256(b""));
    mac.digest("idempotency", &[&body]).to_vec()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn keys_are_short_and_printable() {
        let key = |value: &str| read(&TestRequest::post().insert_header((HEADER, value)).to_http_request());
        assert_eq!(key("a b-1").unwrap().as_deref(), Some("a b-1"));
        assert_eq!(read(&TestRequest::post().to_http_request()).unwrap(), None);
        for bad in ["", "ä", &"x".repeat(256)] {
            assert_eq!(key(bad).unwrap_err().code(), Code::MalformedRequest);
        }
    }

    #[test]
    fn fingerprints_are_keyed() {
        let (one, two) = (MacKey::new(b"one"), MacKey::new(b"two"));
        assert_eq!(fingerprint(&one, None), fingerprint(&one, Some(sha256(b""))));
        assert_ne!(fingerprint(&one, None), fingerprint(&two, None));
    }
}
