//! `TenantDb` in the signature of an actix handler.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};

use super::db::TenantDb;
use super::error::Error;
use super::passing::Passing;
use super::resolver::TenantHints;
use super::{Authenticated, Router, RouterConfig};

/// The token of `Authorization: Bearer …`.
///
/// # Errors
/// [`Error::Unauthenticated`] if there is none, [`Error::TokenInvalid`] if there are several.
pub fn bearer(request: &HttpRequest) -> Result<&str, Error> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let value = values.next().ok_or(Error::Unauthenticated)?;
    if values.next().is_some() {
        return Err(Error::TokenInvalid("several tokens"));
    }
    let text = value.to_str().map_err(|_| Error::TokenInvalid("characters"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Error::Unauthenticated),
    }
}

/// The tenant names in `X-Tenant-ID`, in the subdomain of the tenants' domain and in `?tenant=`.
#[must_use]
pub fn hints(request: &HttpRequest, router: &Router) -> TenantHints {
    named_in(request, router.config())
}

fn named_in(request: &HttpRequest, config: &RouterConfig) -> TenantHints {
    let header = request.headers().get_all("x-tenant-id").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let query = url::form_urlencoded::parse(request.query_string().as_bytes());
    TenantHints {
        header: joined(header),
        host: host(request).and_then(|host| config.subdomain(host)),
        query: joined(query.filter(|(name, _)| name == "tenant").map(|(_, value)| value)),
    }
}

/// One value, or several different ones in a form that is no tenant's name.
fn joined(values: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    values
        .map(|value| value.as_ref().trim().to_owned())
        .reduce(|all, one| if all == one { all } else { format!("{all},{one}") })
}

/// The host that was asked for. HTTP/2 has an authority in place of the header. Forwarded hosts are not believed:
/// anyone can send them.
fn host(request: &HttpRequest) -> Option<&str> {
    if let Some(host) = request.uri().host() {
        return Some(host);
    }
    let value = request.headers().get(header::HOST)?.to_str().ok()?;
    let port = value.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    Some(port.map_or(value, |(host, _)| host))
}

/// Authenticates a request.
///
/// # Errors
/// [`Error::Unauthenticated`] without a token, else as [`Router::authenticate`].
pub async fn authenticate(request: &HttpRequest) -> Result<Authenticated, Error> {
    let router = request
        .app_data::<Data<Router>>()
        .ok_or_else(|| Error::control_plane("no Router in the application's data: add web::Data::new(router)"))?;
    let token = bearer(request)?;
    router.authenticate(token, &hints(request, router)).await
}

impl FromRequest for Authenticated {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { authenticate(&request).await })
    }
}

impl FromRequest for TenantDb {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { authenticate(&request).await.map(|who| who.db) })
    }
}

impl Error {
    fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::TokenInvalid(_) => (StatusCode::UNAUTHORIZED, "token_invalid"),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "token_expired"),
            Self::TokenRevoked => (StatusCode::UNAUTHORIZED, "token_revoked"),
            Self::TenantRequired => (StatusCode::BAD_REQUEST, "tenant_required"),
            Self::TenantMismatch => (StatusCode::NOT_FOUND, "tenant_mismatch"),
            Self::TenantUnknown => (StatusCode::NOT_FOUND, "not_found"),
            Self::TenantSuspended => (StatusCode::FORBIDDEN, "tenant_suspended"),
            Self::TenantUnavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "tenant_unavailable"),
            Self::DatabaseUnavailable { .. } | Self::Deadline => {
                (StatusCode::SERVICE_UNAVAILABLE, "tenant_database_unavailable")
            }
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::PoolExhausted { .. } => (StatusCode::SERVICE_UNAVAILABLE, "tenant_pool_exhausted"),
            Self::SchemaOutdated { .. } => (StatusCode::SERVICE_UNAVAILABLE, "tenant_schema_outdated"),
            Self::ControlPlane(_) => (StatusCode::SERVICE_UNAVAILABLE, "control_plane_unavailable"),
            Self::Query(error) => match Passing::of(error) {
                Some(Passing::Away) => (StatusCode::SERVICE_UNAVAILABLE, "tenant_database_unavailable"),
                Some(Passing::Deadlock) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
                None => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
            },
            Self::BudgetCannotHold(_) | Self::Config(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// What whoever asked may read.
    fn title(&self) -> String {
        match self {
            // Why is for the log: whoever forges tokens is not told how far they came.
            Self::TokenInvalid(_) => "token refused".to_owned(),
            other => other.to_string(),
        }
    }
}

/// For embedders: a short problem document (RFC 9457). The server has its own, richer answer.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.answer().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = self.answer();
        let mut response = HttpResponse::build(status);
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            response.insert_header((header::RETRY_AFTER, self.retry_after().as_secs().max(1)));
        }
        response
            .content_type("application/problem+json")
            .body(serde_json::json!({"status": status.as_u16(), "code": code, "title": self.title()}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody as _;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn reads_one_bearer_token() {
        let with = |value: &str| TestRequest::default().insert_header((header::AUTHORIZATION, value)).to_http_request();
        assert_eq!(bearer(&with("bearer abc")).unwrap(), "abc");
        assert!(matches!(bearer(&with("Basic abc")), Err(Error::Unauthenticated)));
        assert!(matches!(bearer(&TestRequest::default().to_http_request()), Err(Error::Unauthenticated)));
        let two = TestRequest::default()
            .append_header((header::AUTHORIZATION, "Bearer a"))
            .append_header((header::AUTHORIZATION, "Bearer b"));
        assert!(matches!(bearer(&two.to_http_request()), Err(Error::TokenInvalid(_))));
    }

    #[test]
    fn the_applications_own_host_names_nobody_where_hosts_do_not() {
        let request = TestRequest::with_uri("/?tenant=acme").insert_header((header::HOST, "crm.example.com:443"));
        let request = request.insert_header(("x-tenant-id", "acme")).to_http_request();
        let server = RouterConfig::new("https://example.com");
        assert_eq!(named_in(&request, &server).host.as_deref(), Some("crm"));
        let hints = named_in(&request, &RouterConfig { tenant_domain: None, ..server });
        assert_eq!((hints.header.as_deref(), hints.host, hints.query.as_deref()), (Some("acme"), None, Some("acme")));
    }

    #[test]
    fn a_statement_that_failed_by_no_fault_of_its_own_may_be_repeated() {
        for passing in [Passing::Away, Passing::Deadlock] {
            let answer = Error::Query(passing.error()).error_response();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers().get(header::RETRY_AFTER).unwrap(), "1");
        }
        let fault = Error::Query(diesel::result::Error::RollbackTransaction).error_response();
        assert_eq!(fault.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn why_a_token_is_refused_is_not_told() {
        let body = Error::TokenInvalid("tenant archived").error_response().into_body();
        let body = body.try_into_bytes().expect("a body that is there");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let told = serde_json::json!({"status": 401, "code": "token_invalid", "title": "token refused"});
        assert_eq!(body, told);
    }

    #[test]
    fn several_different_names_are_nobodys() {
        assert_eq!(joined(["acme", " acme"].iter()).as_deref(), Some("acme"));
        assert_eq!(joined(["a", "b"].iter()).as_deref(), Some("a,b"));
        assert_eq!(joined(std::iter::empty::<&str>()), None);
    }
}
