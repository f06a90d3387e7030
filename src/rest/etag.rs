//! Row versions as strong entity tags (RFC 9110, section 8.8.3).

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};
use actix_web::{FromRequest, HttpRequest};

use crate::error::{ApiError, ApiResult, Code};

/// A thing whose row carries a version.
pub trait Versioned {
    /// Grows with every change of the row.
    fn version(&self) -> i64;
}

/// The strong tag of a version.
pub(super) fn tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Whether `If-None-Match` names this version: the client has it already. Weak comparison, as RFC 9110 has it.
pub(super) fn known_to_client(headers: &HeaderMap, version: i64) -> bool {
    let tag = tag(version);
    headers
        .get_all(IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// A version that no row has.
const NO_VERSION: i64 = i64::MIN;

/// The version that the client has read, from `If-Match`. None where it does not care, or says `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfMatch(pub Option<i64>);

impl IfMatch {
    /// Compares with the version that the row has now.
    ///
    /// # Errors
    /// 412 `version_mismatch` if the client has read another one.
    pub fn check(&self, current: i64) -> ApiResult<()> {
        match self.0 {
            Some(expected) if expected != current => Err(ApiError::new(Code::VersionMismatch)),
            _ => Ok(()),
        }
    }

    fn read(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(IF_MATCH);
        let Some(value) = values.next() else { return Self(None) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Self(None);
        }
        // A weak tag, another server's tag, or several: nothing of the kind was ever given for a row.
        let version = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|v| v.parse().ok());
        Self(Some(if values.next().is_some() { NO_VERSION } else { version.unwrap_or(NO_VERSION) }))
    }
}

impl FromRequest for IfMatch {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::read(request.headers())))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_the_strong_tag_of_the_version_matches() {
        for (header, matches) in
            [("\"3\"", true), ("*", true), ("W/\"3\"", false), ("\"2\"", false), ("3", false), ("\"2\", \"3\"", false)]
        {
            let request = TestRequest::default().insert_header((IF_MATCH, header)).to_http_request();
            assert_eq!(IfMatch::read(request.headers()).check(3).is_ok(), matches, "{header}");
        }
        assert!(IfMatch::read(TestRequest::default().to_http_request().headers()).check(3).is_ok());
    }

    #[test]
    fn a_client_that_has_it_is_known() {
        for (header, known) in [("\"3\"", true), ("\"1\", W/\"3\"", true), ("*", true), ("\"4\"", false)] {
            let request = TestRequest::default().insert_header((IF_NONE_MATCH, header)).to_http_request();
            assert_eq!(known_to_client(request.headers(), 3), known, "{header}");
        }
    }
}
