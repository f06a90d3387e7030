//! Browser mode: a session in cookies that no script reads, for whoever asks for it with `X-Session-Mode: cookie`.
//!
//! Answers that carry tokens have them as `__Host-` cookies instead of members of their body. A request that changes
//! something counts by its cookies only if it shows that a page of ours made it: by that very header, which another
//! origin cannot send without asking first (CORS), and by what the browser itself says of where it comes from
//! (`Sec-Fetch-Site`, `Origin`). The same holds for logging in, so that nobody is signed in as somebody else unawares.
//! Without the header everything is as it is for bearers of tokens.

use std::future::{Ready, ready};

use actix_web::body::{BoxBody, to_bytes};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN, SET_COOKIE};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, web};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use super::client::Client;
use super::problem::PublicUrl;
use crate::error::{ApiError, ApiResult, Code};

/// What asks for cookies: `cookie`.
pub const HEADER: &str = "x-session-mode";
const MODE: &str = "cookie";
const ACCESS: &str = "__Host-tenantry-access";
const REFRESH: &str = "__Host-tenantry-refresh";
const DEVICE: &str = "__Host-tenantry-device";
const API_KEY: &str = "x-api-key";
const FETCH_SITE: &str = "sec-fetch-site";
/// Longer than any session, and than any device is trusted; the server knows when one ends.
const LONG_SECONDS: i64 = 90 * 24 * 60 * 60;

/// Origins of other browser apps that may call: application data of the server.
#[derive(Debug, Clone, Default)]
pub struct TrustedOrigins(pub Vec<String>);

/// The refresh token that came in a cookie, if it counts.
#[derive(Debug, Clone, Default)]
pub struct RefreshCookie(pub Option<SecretString>);

/// The token of a trusted device that came in a cookie, if it counts.
#[derive(Debug, Clone, Default)]
struct DeviceCookie(Option<SecretString>);

/// Who comes to log in.
#[derive(Debug)]
pub struct Visitor {
    /// From where.
    pub client: Client,
    /// The token of a trusted device that came in a cookie, if it counts.
    pub device: Option<SecretString>,
}

/// There were cookies of a session, and they do not count: the request changes something, and is not known to come from a
/// page of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct CookiesIgnored;

impl FromRequest for RefreshCookie {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(request.extensions().get::<Self>().cloned().unwrap_or_default()))
    }
}

impl FromRequest for Visitor {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let device = request.extensions().get::<DeviceCookie>().cloned().unwrap_or_default().0;
        ready(Client::from_request(request, payload).into_inner().map(|client| Self { client, device }))
    }
}

/// The middleware.
///
/// # Errors
/// What the next one gives.
pub async fn cookies(mut request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    // As the router matches it: however it was spelled.
    let path = request.match_info().as_str();
    if !path.starts_with("/api/v1/") || path.starts_with("/api/v1/admin/") {
        return next.call(request).await;
    }
    let asked = request.headers().get(HEADER).is_some_and(|value| value == MODE);
    let changes = !request.method().is_safe();
    if asked && changes && !is_ours(request.request()) {
        return Ok(request.error_response(ApiError::new(Code::CsrfRefused)));
    }
    let bears = [AUTHORIZATION.as_str(), API_KEY].iter().any(|name| request.headers().contains_key(*name));
    let (access, refresh) = (cookie(request.headers(), ACCESS), cookie(request.headers(), REFRESH));
    if !bears && (asked || !changes) {
        if let Some(value) = access.as_deref().and_then(bearer) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request.extensions_mut().insert(RefreshCookie(refresh.map(SecretString::from)));
        let device = cookie(request.headers(), DEVICE);
        request.extensions_mut().insert(DeviceCookie(device.map(SecretString::from)));
    } else if !bears && access.is_some() {
        request.extensions_mut().insert(CookiesIgnored);
    }
    if !asked {
        return next.call(request).await;
    }
    let path = request.match_info().as_str();
    let ends = matches!(path, "/api/v1/auth/logout" | "/api/v1/auth/logout-all" | "/api/v1/auth/refresh");
    let carries = path.starts_with("/api/v1/auth/") || path == "/api/v1/tenants";
    let response = next.call(request).await?;
    let status = response.status();
    Ok(match status {
        StatusCode::NO_CONTENT | StatusCode::UNAUTHORIZED if ends => without_cookies(response),
        _ if carries && status.is_success() => with_cookies(response).await?,
        _ => response,
    })
}

/// The value of a cookie; none where it comes twice.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(COOKIE).filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    let value = found.next().filter(|value| !value.is_empty())?;
    found.next().is_none().then_some(value)
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a page of ours made a request, as far as the browser says. What is no browser says nothing.
fn is_ours(request: &HttpRequest) -> bool {
    let mut origins = request.headers().get_all(ORIGIN);
    let origin = origins.next();
    if origins.next().is_some() {
        return false;
    }
    let known = origin.map(|origin| origin.to_str().is_ok_and(|origin| is_known(request, origin)));
    match (known, request.headers().get(FETCH_SITE).map(HeaderValue::as_bytes)) {
        (Some(false), _) => false,
        (_, None | Some(b"same-origin")) => true,
        // From another origin it has to be one that is named, or part of our own host.
        (known, Some(b"same-site" | b"cross-site")) => known == Some(true),
        (_, Some(_)) => false,
    }
}

fn is_known(request: &HttpRequest, origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    if url.origin().ascii_serialization() != origin {
        return false;
    }
    if request.app_data::<TrustedOrigins>().is_some_and(|known| known.0.iter().any(|known| known == origin)) {
        return true;
    }
    let public = request.app_data::<web::Data<PublicUrl>>().and_then(|public| Url::parse(&public.0).ok());
    let Some(public) = public else { return false };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let host = request.uri().authority().map(|authority| authority.as_str());
    let host = host.or_else(|| request.headers().get(HOST).and_then(|value| value.to_str().ok()));
    // The host that was asked, by the scheme of the public address; or that address itself, where a proxy gives us another
    // `Host`.
    (authority == host && url.scheme() == public.scheme()) || public.origin() == url.origin()
}

fn set_cookie(headers: &mut HeaderMap, name: &str, value: &str, seconds: i64) {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict");
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        headers.append(SET_COOKIE, value);
    }
}

/// Those of the session are cleared; that of a trusted device stays for the next login.
fn without_cookies(mut response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    for name in [ACCESS, REFRESH] {
        set_cookie(response.headers_mut(), name, "", 0);
    }
    response
}

/// Moves tokens out of the body.
async fn with_cookies(response: ServiceResponse<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    let (request, response) = response.into_parts();
    let (mut head, body) = response.into_parts();
    let bytes = to_bytes(body).await.map_err(|error| ApiError::internal(error.to_string()))?;
    let mut said = serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
    let mut moved = false;
    if let Some(data) = said.get_mut("data").and_then(Value::as_object_mut) {
        let seconds = data.get("expiresIn").and_then(Value::as_i64).unwrap_or_default();
        for (member, name, seconds) in [
            ("accessToken", ACCESS, seconds),
            ("refreshToken", REFRESH, LONG_SECONDS),
            ("deviceToken", DEVICE, LONG_SECONDS),
        ] {
            if let Some(Value::String(token)) = data.remove(member) {
                set_cookie(head.headers_mut(), name, &token, seconds);
                moved = true;
            }
        }
        if moved {
            data.insert("tokenType".to_owned(), Value::from("Cookie"));
        }
    }
    let body = if moved { serde_json::to_vec(&said).map_err(ApiError::internal)?.into() } else { bytes };
    Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(body))))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn ours(headers: &[(&'static str, &'static str)]) -> bool {
        let request = TestRequest::post()
            .app_data(TrustedOrigins(vec!["https://app.example.com".into()]))
            .app_data(web::Data::new(PublicUrl("https://api.example.com".into())))
            .insert_header((HOST, "inner:8080"));
        is_ours(&headers.iter().fold(request, |request, header| request.append_header(*header)).to_http_request())
    }

    #[test]
    fn only_our_own_pages_count() {
        let (origin, site) = ("origin", "sec-fetch-site");
        assert!(ours(&[]), "no browser");
        assert!(ours(&[(site, "same-origin")]));
        assert!(ours(&[(site, "same-origin"), (origin, "https://inner:8080")]));
        assert!(ours(&[(origin, "https://api.example.com")]));
        assert!(ours(&[(site, "same-site"), (origin, "https://app.example.com")]));
        for from in ["cross-site", "same-site", "none", "", "SAME-ORIGIN"] {
            assert!(!ours(&[(site, from)]), "{from:?}");
        }
        for from in [
            "https://evil.example",
            "null",
            "",
            "http://api.example.com",
            "https://api.example.com:444",
            "https://app.example.com.evil.example",
            "https://app.example.com/",
            "https://inner",
            "inner:8080",
            "http://inner:8080",
        ] {
            assert!(!ours(&[(origin, from)]), "{from:?}");
            assert!(!ours(&[(site, "same-origin"), (origin, from)]), "{from:?}");
        }
        assert!(!ours(&[(origin, "https://api.example.com"), (origin, "https://api.example.com")]));
    }

    #[test]
    fn a_cookie_that_comes_twice_is_none() {
        let read =
            |text: &str| cookie(TestRequest::get().insert_header((COOKIE, text)).to_http_request().headers(), ACCESS);
        assert_eq!(read("a=b; __Host-tenantry-access=x.y_z-1; c=d").as_deref(), Some("x.y_z-1"));
        for none in ["", "a=b", "__host-tenantry-access=x", "__Host-tenantry-access="] {
            assert_eq!(read(none), None, "{none:?}");
        }
        assert_eq!(read("__Host-tenantry-access=x; __Host-tenantry-access=y"), None);
    }
}
