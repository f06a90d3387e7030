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

    /// What else it says that changes without its version, in letters, digits and `_`; empty if nothing does.
    fn beside(&self) -> String {
        String::new()
    }
}

/// The strong tag of a version.
pub(super) fn tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// The strong tag of a thing as it is told: its version and, behind a dot, what changes without it.
pub(super) fn tag_of(told: &impl Versioned) -> String {
    let (version, beside) = (told.version(), told.beside());
    if beside.is_empty() { tag(version) } else { format!("\"{version}.{beside}\"") }
}

/// Whether `If-None-Match` lists this tag, or `*`. Weak comparison (RFC 9110, section 13.1.2).
pub fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let tag = opaque(tag);
    headers
        .get_all(IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || opaque(one) == tag)
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// A version that no row has.
const NO_VERSION: i64 = i64::MIN;

/// As many tags of a list are looked at.
const MOST: usize = 16;

/// The versions that the client has read, from `If-Match`: any of them will do. None where it does not care, or says `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfMatch(Option<[i64; MOST]>);

impl IfMatch {
    /// Compares with the version that the row has now.
    ///
    /// # Errors
    /// 412 `version_mismatch` if the client has read another one.
    pub fn check(&self, current: i64) -> ApiResult<()> {
        match self.0 {
            Some(read) if !read.contains(&current) => Err(ApiError::new(Code::VersionMismatch)),
            _ => Ok(()),
        }
    }

    /// The version that the row must still have when it is written, where the client cares.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn expected(&self, current: i64) -> ApiResult<Option<i64>> {
        self.check(current)?;
        Ok(self.0.map(|_| current))
    }

    /// One list, on one line or several (RFC 9110, section 13.1.1).
    fn read(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(IF_MATCH).map(|value| value.to_str().unwrap_or_default());
        let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
        let Some(first) = tags.next() else { return Self(None) };
        if first == "*" && tags.next().is_none() {
            return Self(None);
        }
        let mut read = [strong(first); MOST];
        for (place, tag) in read.iter_mut().skip(1).zip(tags) {
            *place = strong(tag);
        }
        Self(Some(read))
    }
}

/// The version in a strong tag, whatever stands beside it: that is no change of the row. A weak tag, or another server's, was
/// never given for one.
fn strong(text: &str) -> i64 {
    let told = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let written = told.map(|told| told.split_once('.').map_or(told, |(version, _)| version));
    let version = written.and_then(|written| written.parse::<i64>().ok());
    version.filter(|version| written == Some(&*version.to_string())).unwrap_or(NO_VERSION)
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
    fn only_a_strong_tag_of_the_version_matches() {
        for (header, matches) in [
            ("\"3\"", true),
            ("*", true),
            ("W/\"3\"", false),
            ("\"3.7\"", true),
            ("\"2\"", false),
            ("\"2.3\"", false),
            ("W/\"3.7\"", false),
            ("3", false),
            ("\"+3\"", false),
            ("", false),
            ("\"2\", \"3\"", true),
            ("\"3\",\"2\"", true),
            ("\"2\", W/\"3\"", false),
            ("\"2\", *", false),
            ("*, \"2\"", false),
        ] {
            let request = TestRequest::default().insert_header((IF_MATCH, header)).to_http_request();
            assert_eq!(IfMatch::read(request.headers()).check(3).is_ok(), matches, "{header}");
        }
        let (one, other) = ((IF_MATCH, "\"2\""), (IF_MATCH, "\"3\""));
        let two = TestRequest::default().append_header(one).append_header(other).to_http_request();
        assert_eq!(IfMatch::read(two.headers()).expected(3).ok(), Some(Some(3)));
        assert!(IfMatch::read(two.headers()).expected(4).is_err());
        let none = IfMatch::read(TestRequest::default().to_http_request().headers());
        assert_eq!(none.expected(3).ok(), Some(None));
    }

    #[test]
    fn a_client_that_has_it_is_known() {
        for (header, known) in [("\"3\"", true), ("\"1\", W/\"3\"", true), ("*", true), ("\"4\"", false)] {
            let request = TestRequest::default().insert_header((IF_NONE_MATCH, header)).to_http_request();
            assert_eq!(has_tag(request.headers(), &tag(3)), known, "{header}");
        }
    }
}
