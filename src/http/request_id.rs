//! Ids that follow a request.

use actix_web::http::header::HeaderMap;
use uuid::Uuid;

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

/// The trace id of a W3C `traceparent`.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<String> {
    let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let good = version.len() == 2 && version != "ff" && hex(version) && trace.len() == 32 && hex(trace);
    (good && trace.bytes().any(|b| b != b'0')).then(|| trace.to_owned())
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

    #[test]
    fn reads_the_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of = |sent: String| {
            trace_id(TestRequest::default().insert_header(("traceparent", sent)).to_http_request().headers())
        };
        assert_eq!(of(format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(of(format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))), None);
        assert_eq!(of("nonsense".into()), None);
    }
}
