//! Bodies: read within the limit, strict about their type and members, validated.

use std::fmt;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::BytesMut;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use futures_util::StreamExt as _;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use super::gate::Gate;
use super::strict::{NUL, NUL_SAID, Strict};
use crate::error::{ApiError, ApiResult, Code, FieldError};
use crate::kernel::crypto::sha256;

/// How long a client may take to send a body.
const ARRIVAL: Duration = Duration::from_secs(30);

/// The most bytes of a body: application data of the server. One MiB where nothing else is said.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(1024 * 1024)
    }
}

/// SHA-256 of the raw body, in the request's extensions; what tells two requests with one `Idempotency-Key` apart.
#[derive(Clone, Copy)]
pub(super) struct BodyDigest(pub(super) [u8; 32]);

/// A JSON body, its members known and valid.
pub struct Json<T>(pub T);

/// A [`Json`] body that may be left out, with its type or without, or be `null`.
pub struct OptionalJson<T>(pub Option<T>);

/// For handlers that take no body: there is none, or one with nothing in it (`{}`, `null`). Whoever sends a member means
/// something by it, `{"dryRun": true}` say, and is not to find that it was ignored.
#[derive(Debug)]
pub struct NoBody;

/// A JSON Merge Patch (RFC 7396), as `application/merge-patch+json` or `application/json`.
pub struct MergePatch<T>(pub T);

// Bodies carry passwords: their `Debug` says nothing.
impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json(…)")
    }
}

impl<T> fmt::Debug for OptionalJson<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OptionalJson(…)")
    }
}

impl<T> fmt::Debug for MergePatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MergePatch(…)")
    }
}

impl<T: DeserializeOwned + Validate<Context = ()> + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        read(request.clone(), payload.take(), &["application/json"]).map(|done| done.map(Self)).boxed_local()
    }
}

impl<T: DeserializeOwned + Validate<Context = ()> + 'static> FromRequest for OptionalJson<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        async move {
            match given(&request, payload).await? {
                Some(bytes) => parse(&bytes).map(Self),
                None => Ok(Self(None)),
            }
        }
        .boxed_local()
    }
}

impl FromRequest for NoBody {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields, expecting = "an object without members")]
        struct Nothing {}

        let (request, payload) = (request.clone(), payload.take());
        async move {
            match given(&request, payload).await? {
                Some(bytes) => known::<Option<Nothing>>(&bytes).map(|_| Self),
                None => Ok(Self),
            }
        }
        .boxed_local()
    }
}

impl<T: DeserializeOwned + Validate<Context = ()> + 'static> FromRequest for MergePatch<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let types = &["application/merge-patch+json", "application/json"];
        read(request.clone(), payload.take(), types).map(|done| done.map(Self)).boxed_local()
    }
}

async fn read<T: DeserializeOwned + Validate<Context = ()>>(
    request: HttpRequest,
    payload: Payload,
    types: &'static [&'static str],
) -> ApiResult<T> {
    Gate::pass(&request).await;
    check_type(&request, types)?;
    let bytes = raw_body(&request, payload).await?;
    request.extensions_mut().insert(BodyDigest(sha256(&bytes)));
    parse(&bytes)
}

/// The bytes of a JSON body that may be left out, if there are any: many clients name a type where they send nothing.
async fn given(request: &HttpRequest, payload: Payload) -> ApiResult<Option<BytesMut>> {
    Gate::pass(request).await;
    let bytes = raw_body(request, payload).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    check_type(request, &["application/json"])?;
    request.extensions_mut().insert(BodyDigest(sha256(&bytes)));
    Ok(Some(bytes))
}

/// The bytes of a body, whatever they are. For handlers that have made sure who asks.
///
/// # Errors
/// 413 beyond the limit, 408 if they do not come in time.
pub async fn raw_body(request: &HttpRequest, payload: Payload) -> ApiResult<BytesMut> {
    let limit = request.app_data::<BodyLimit>().copied().unwrap_or_default().0;
    let announced = request.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(ApiError::new(Code::PayloadTooLarge));
    }
    timeout(ARRIVAL, collect(payload, limit)).await.map_err(|_| ApiError::new(Code::RequestTimeout))?
}

async fn collect(mut payload: Payload, limit: usize) -> ApiResult<BytesMut> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| ApiError::new(Code::MalformedRequest).caused_by(error))?;
        if bytes.len() + chunk.len() > limit {
            return Err(ApiError::new(Code::PayloadTooLarge));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn check_type(request: &HttpRequest, types: &[&str]) -> ApiResult<()> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let utf8 = parts.filter_map(|p| p.split_once('=')).all(|(name, value)| {
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if utf8 && types.iter().any(|t| t.eq_ignore_ascii_case(essence)) {
        return Ok(());
    }
    Err(ApiError::new(Code::UnsupportedMediaType).detail(format!("Send the body as {}.", types.join(" or "))))
}

/// Reads and validates a body.
fn parse<T: DeserializeOwned + Validate<Context = ()>>(bytes: &[u8]) -> ApiResult<T> {
    let value: T = known(bytes)?;
    value.validate().map_err(|report| {
        ApiError::invalid(report.iter().map(|(path, error)| rule_broken(&path.to_string(), error.message())).collect())
    })?;
    Ok(value)
}

/// Reads a body whose members are all known.
fn known<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(Strict(&mut reader)).map_err(|error| {
        let path = error.path().to_string();
        // A fault of a field may come before the end of what is no JSON at all: that is told first.
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).err();
        unreadable(if path == "." { "" } else { &path }, whole.as_ref().unwrap_or(error.inner()))
    })?;
    reader.end().map_err(|error| unreadable("", &error))?;
    Ok(value)
}

fn unreadable(path: &str, error: &serde_json::Error) -> ApiError {
    if error.classify() != Category::Data {
        let detail = format!("The body is not JSON: see line {}, column {}.", error.line(), error.column());
        return ApiError::new(Code::MalformedRequest).detail(detail);
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(said, _)| said);
    ApiError::invalid(vec![field_fault(path, text)])
}

/// What serde says, in the contract's words and without the value: it might be a password.
pub(super) fn field_fault(path: &str, said: &str) -> FieldError {
    let named = |prefix: &str| said.strip_prefix(prefix)?.split('`').next();
    let beside = |name: &str| match path.rsplit_once('.') {
        Some((parent, last)) if last == name => format!("{parent}.{name}"),
        _ if path.is_empty() || path == name => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    if let Some(name) = named("unknown field `") {
        return FieldError::new(beside(name), "unknown_field", "There is no such field.");
    }
    if let Some(name) = named("missing field `") {
        let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        return FieldError::new(field, "required", "This field is required.");
    }
    if let Some(name) = named("duplicate field `") {
        return FieldError::new(beside(name), "duplicate_field", "This field is given twice.");
    }
    if (said.starts_with("invalid ") || said.starts_with("unknown variant"))
        && let Some((_, expected)) = said.rsplit_once(", expected ")
    {
        return FieldError::new(path, "invalid_type", format!("Must be {expected}.").replace('`', "'"));
    }
    if said.starts_with("UUID parsing failed") {
        return FieldError::new(path, "invalid", "Must be an id, as '01980000-0000-7000-8000-000000000000'.");
    }
    FieldError::new(path, if said == NUL_SAID { NUL } else { "invalid" }, said)
}

fn rule_broken(path: &str, message: &str) -> FieldError {
    let code = if message.starts_with("length is lower") {
        "too_short"
    } else if message.starts_with("length is greater") {
        "too_long"
    } else if message.starts_with("lower than") {
        "too_small"
    } else if message.starts_with("greater than") {
        "too_large"
    } else if message.starts_with("not set") {
        "required"
    } else {
        "invalid"
    };
    FieldError::new(camel_case(path), code, message)
}

/// Paths as the client wrote them: `postal_code` is `postalCode` on the wire.
pub(super) fn camel_case(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut upper = false;
    for c in path.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, Validate)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Address {
        #[garde(length(max = 5))]
        postal_code: String,
    }

    #[derive(Debug, Deserialize, Validate)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Person {
        #[garde(length(min = 2))]
        last_name: String,
        #[garde(dive)]
        #[serde(default)]
        addresses: Vec<Address>,
    }

    fn refused(body: &str) -> (Code, Vec<(String, String)>) {
        let error = parse::<Person>(body.as_bytes()).unwrap_err();
        let fields = error.fields().iter().map(|f| (f.field.clone(), f.code.to_string())).collect();
        (error.code(), fields)
    }

    #[test]
    fn faults_name_their_field() {
        let invalid = |field: &str, code: &str| (Code::ValidationFailed, vec![(field.to_owned(), code.to_owned())]);
        assert_eq!(refused(r#"{"lastName": "Li", "isAdmin": true}"#), invalid("isAdmin", "unknown_field"));
        assert_eq!(refused("{}"), invalid("lastName", "required"));
        assert_eq!(refused(r#"{"lastName": 12345}"#), invalid("lastName", "invalid_type"));
        assert_eq!(refused(r#"{"lastName": "L"}"#), invalid("lastName", "too_short"));
        assert_eq!(refused(r#"{"lastName": "Li", "lastName": "Lo"}"#), invalid("lastName", "duplicate_field"));
        let inner = |address: &str| {
            refused(&format!(r#"{{"lastName": "Li", "addresses": [{{"postalCode": "1"}}, {address}]}}"#))
        };
        assert_eq!(inner(r#"{"postalCode": "123456"}"#), invalid("addresses[1].postalCode", "too_long"));
        assert_eq!(inner(r#"{"postalCode": "1", "zip": "1"}"#), invalid("addresses[1].zip", "unknown_field"));
        assert_eq!(inner("{}"), invalid("addresses[1].postalCode", "required"));
        assert_eq!(refused(r#"{"lastName": "L\u0000i"}"#), invalid("lastName", "invalid_character"));
        assert_eq!(refused("[]").0, Code::ValidationFailed);
    }

    #[test]
    fn a_fault_never_repeats_the_value() {
        let error = parse::<Person>(br#"{"lastName": 12345}"#).unwrap_err();
        assert!(!error.fields()[0].message.contains("12345"));
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in ["", "{", "{\"lastName\": \"Li\"} x", "\u{feff}{}"] {
            assert_eq!(refused(body).0, Code::MalformedRequest, "{body}");
        }
    }

    #[actix_web::test]
    async fn types_and_sizes_are_checked() {
        let code = async |content_type: &str, limit: usize| {
            let (request, mut payload) = TestRequest::post()
                .insert_header((CONTENT_TYPE, content_type))
                .app_data(BodyLimit(limit))
                .set_payload(r#"{"lastName": "Li"}"#)
                .to_http_parts();
            Json::<Person>::from_request(&request, &mut payload).await.map_err(|e| e.code()).err()
        };
        assert_eq!(code("application/json", 100).await, None);
        assert_eq!(code("application/json; charset=UTF-8", 100).await, None);
        assert_eq!(code("text/plain", 100).await, Some(Code::UnsupportedMediaType));
        assert_eq!(code("application/json; charset=latin1", 100).await, Some(Code::UnsupportedMediaType));
        assert_eq!(code("application/merge-patch+json", 100).await, Some(Code::UnsupportedMediaType));
        assert_eq!(code("application/json", 5).await, Some(Code::PayloadTooLarge));
    }

    #[actix_web::test]
    async fn no_body_is_one_with_nothing_in_it() {
        let read = async |content_type: &str, body: &str| {
            let (request, mut payload) = TestRequest::post()
                .insert_header((CONTENT_TYPE, content_type))
                .app_data(BodyLimit(100))
                .set_payload(body.to_owned())
                .to_http_parts();
            match NoBody::from_request(&request, &mut payload).await {
                Ok(NoBody) => Ok(request.extensions().get::<BodyDigest>().map(|digest| digest.0)),
                Err(error) => Err((error.code(), error.fields().first().map(|fault| fault.field.clone()))),
            }
        };
        let json = "application/json";
        assert_eq!(read(json, "").await, Ok(None), "as none at all");
        for nothing in ["{}", " { } ", "null"] {
            assert_eq!(read(json, nothing).await, Ok(Some(sha256(nothing.as_bytes()))), "{nothing}");
        }
        let unknown = Err((Code::ValidationFailed, Some("dryRun".to_owned())));
        assert_eq!(read(json, r#"{"dryRun": true}"#).await, unknown);
        for (content_type, body, refused) in [
            (json, "[]", Code::ValidationFailed),
            (json, "7", Code::ValidationFailed),
            (json, "{", Code::MalformedRequest),
            (json, "{} {}", Code::MalformedRequest),
            (json, r#"{"dryRun": }"#, Code::MalformedRequest),
            ("text/plain", "{}", Code::UnsupportedMediaType),
        ] {
            assert_eq!(read(content_type, body).await.map_err(|(code, _)| code), Err(refused), "{body}");
        }
        let large = "          ".repeat(11);
        assert_eq!(read(json, &large).await.map_err(|(code, _)| code), Err(Code::PayloadTooLarge));
    }
}
