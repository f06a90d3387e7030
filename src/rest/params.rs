//! Query and path parameters.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::body::field_fault;
use super::gate::Gate;
use super::strict::{NUL, NUL_SAID};
use crate::error::{ApiError, ApiResult, Code, FieldError};

/// The routing hint that every route takes, but for those of operators.
pub(crate) const TENANT_HINT: &str = "tenant";

/// Query parameters. `T` carries `#[serde(deny_unknown_fields)]`; the hint `tenant` is taken out before, where there is one.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// For handlers that take no query parameters: any is refused, but for the hint `tenant` where there is one.
#[derive(Debug)]
pub struct NoQuery;

/// Path parameters. What cannot be one names nothing: 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move {
            Gate::pass(&request).await;
            parse(request.query_string(), !is_of_operators(&request)).map(Self)
        }
        .boxed_local()
    }
}

impl FromRequest for NoQuery {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let request = request.clone();
        async move {
            Gate::pass(&request).await;
            parse::<Nothing>(request.query_string(), !is_of_operators(&request)).map(|Nothing {}| Self)
        }
        .boxed_local()
    }
}

/// The longest text that a list is searched by, in characters.
const LONGEST: usize = 200;

/// 400 `invalid_query`: what is wrong with a parameter.
pub(crate) fn bad_parameter(parameter: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(Code::InvalidQuery)
        .detail(format!("The query parameter '{parameter}' has a bad value."))
        .field(FieldError::new(parameter, "invalid", message))
}

/// Refuses a text to search a list by that has more than 200 characters, or a NUL.
///
/// # Errors
/// 400 `invalid_query`.
pub fn check_search(parameter: &'static str, text: Option<&str>) -> ApiResult<()> {
    if text.is_some_and(|text| text.chars().count() > LONGEST || text.contains('\0')) {
        return Err(bad_parameter(parameter, format!("At most {LONGEST} characters, none of them NUL.")));
    }
    Ok(())
}

/// Refuses a path with a NUL in one of its parameters: PostgreSQL has no such text, so it names nothing.
///
/// # Errors
/// 404 `not_found`.
pub fn nameable(request: &HttpRequest) -> ApiResult<()> {
    let nul = request.match_info().iter().any(|(_, value)| value.contains('\0'));
    if nul { Err(ApiError::new(Code::NotFound)) } else { Ok(()) }
}

/// Whether it is asked by operators: they are routed to no tenant, and narrow lists to one by the same word.
fn is_of_operators(request: &HttpRequest) -> bool {
    request.match_info().as_str().starts_with("/api/v1/admin/")
}

/// `hinted`: the word of the routing hint is no parameter.
fn parse<T: DeserializeOwned>(query: &str, hinted: bool) -> ApiResult<T> {
    let bad = |name: &str, code: &'static str, said: &'static str| {
        let detail = format!("The query parameter '{name}' has a bad value.");
        Err(ApiError::new(Code::InvalidQuery).detail(detail).field(FieldError::new(name, code, said)))
    };
    // The parser would put a replacement character in the place of what is no text.
    if let Some(pair) = query.split('&').find(|pair| percent_decode_str(pair).decode_utf8().is_err()) {
        let name = pair.split('=').next().unwrap_or_default();
        return bad(&percent_decode_str(name).decode_utf8_lossy(), "invalid", "This is not UTF-8.");
    }
    let given = || form_urlencoded::parse(query.as_bytes()).filter(move |(name, _)| !hinted || name != TENANT_HINT);
    if let Some((name, _)) = given().find(|(_, value)| value.contains('\0')) {
        return bad(&name, NUL, NUL_SAID);
    }
    let mut kept = form_urlencoded::Serializer::new(String::new());
    kept.extend_pairs(given());
    let kept = kept.finish();
    let reader = serde_urlencoded::Deserializer::new(form_urlencoded::parse(kept.as_bytes()));
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        let fault = field_fault(if path == "." { "" } else { &path }, &error.inner().to_string());
        let detail = match &*fault.code {
            "unknown_field" => format!("There is no query parameter '{}' here.", fault.field),
            "required" => format!("The query parameter '{}' is required.", fault.field),
            _ => format!("The query parameter '{}' has a bad value.", fault.field),
        };
        ApiError::new(Code::InvalidQuery).detail(detail).field(fault)
    })
}

impl<T: DeserializeOwned + 'static> FromRequest for Path<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let path = web::Path::<T>::from_request(&request, payload);
        async move {
            Gate::pass(&request).await;
            nameable(&request)?;
            path.await.map(|path| Self(path.into_inner())).map_err(|_| ApiError::new(Code::NotFound))
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Filter {
        page_size: Option<u32>,
        q: Option<String>,
    }

    #[test]
    fn names_the_parameter() {
        for (query, field) in [
            ("pageSize=x", "pageSize"),
            ("limit=1", "limit"),
            ("q=1&q=2", "q"),
            ("pageSize=-1", "pageSize"),
            ("q=a%00", "q"),
            ("pageSize=5&q=%ff", "q"),
        ] {
            let error = parse::<Filter>(query, true).unwrap_err();
            assert_eq!((error.code(), &*error.fields()[0].field), (Code::InvalidQuery, field), "{query}");
        }
    }

    #[actix_web::test]
    async fn none_means_none() {
        let code = async |uri: &str| {
            let request = actix_web::test::TestRequest::with_uri(uri).to_http_request();
            NoQuery::from_request(&request, &mut Payload::None).await.map_err(|error| error.code()).err()
        };
        assert_eq!(code("/x").await, None);
        assert_eq!(code("/x?tenant=acme").await, None);
        assert_eq!(code("/x?limit=1").await, Some(Code::InvalidQuery));
        assert_eq!(code("/api/v1/admin/x?tenant=acme").await, Some(Code::InvalidQuery));
    }

    #[test]
    fn routes_of_operators_are_known_by_any_spelling() {
        for (path, known) in [("/api/v1/admin/x", true), ("/%61pi/v1/%61dmin/x", true), ("/api/v1/users", false)] {
            let request = actix_web::test::TestRequest::with_uri(path).to_http_request();
            assert_eq!(is_of_operators(&request), known, "{path}");
        }
    }

    #[test]
    fn takes_the_tenant_hint_out() {
        let read: Filter = parse("tenant=acme&q=a%26b+c&pageSize=5", true).unwrap();
        assert_eq!(read, Filter { page_size: Some(5), q: Some("a&b c".into()) });
    }
}
