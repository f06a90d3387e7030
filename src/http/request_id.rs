//! Ids that follow a request.

use actix_web::http::header::HeaderMap;
use uuid::Uuid;

use crate::kernel::trace::Trace;

pub(super) const HEADER: &str = "x-request-id";

/// The client's own id if it is 1 to 64 of `[A-Za-z0-9._-]`, else a new UUIDv7.
pub(super) fn of(headers: &HeaderMap) -> String {
    let sent = headers.get(HEADER).and_then(|value| value.to_str().ok());
    match sent {
        Some(id) if (1..=64).contains(&id.len()) && id.bytes().all(harmless) => id.to_owned(),
        _ => Uuid::now_v7().to_string(),
    }
}

const fn harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The trace that the client says the request belongs to.
pub(super) fn trace(headers: &HeaderMap) -> Option<Trace> {
    Trace::parse(headers.get("traceparent")?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn harmless_ids_are_kept() {
        let id = |sent: &str| of(TestRequest::default().insert_header((HEADER, sent)).to_http_request().headers());
        assert_eq!(id("abc-1.2_X"), "abc-1.2_X");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert_eq!(id(bad).parse::<Uuid>().unwrap().get_version_num(), 7, "{bad}");
        }
    }
}
