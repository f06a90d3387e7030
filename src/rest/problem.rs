//! Answers that are an error: RFC 9457 members inside the envelope, or bare where `Accept` asks for them.

use std::borrow::Cow;
use std::error::Error as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, Accept, Header as _, Quality, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Caller;
use super::client_ip::ClientIp;
use super::envelope::{Meta, RequestId};
use super::rate::RateStanding;
use crate::error::{ApiError, Code, FieldError};

/// The base of every public address, without a trailing slash: application data of the server.
#[derive(Debug, Clone)]
pub struct PublicUrl(pub String);

/// What is wrong with one field.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// Path of the field, as sent: `emails[0].value`.
    pub field: String,
    /// A stable word.
    pub code: Cow<'static, str>,
    /// A sentence for a person.
    pub message: String,
}

impl From<&FieldError> for ProblemField {
    fn from(error: &FieldError) -> Self {
        Self { field: error.field.clone(), code: error.code.clone(), message: error.message.clone() }
    }
}

/// What went wrong (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Where the code is explained.
    #[serde(rename = "type")]
    #[schema(example = "https://example.com/docs/errors#not_found")]
    pub kind: String,
    /// The code in words.
    pub title: Cow<'static, str>,
    /// HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The stable word to program against.
    #[schema(example = "not_found")]
    pub code: Cow<'static, str>,
    /// As in the header `x-request-id`.
    pub request_id: String,
    /// What is wrong, field by field.
    pub errors: Vec<ProblemField>,
}

/// An error in the envelope.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorEnvelope {
    /// Always false.
    pub success: bool,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub data: Option<()>,
    /// What went wrong.
    pub error: Problem,
    /// About the answer.
    pub meta: Meta,
}

/// The answer to `request`, in the form that it accepts.
#[must_use]
pub fn respond(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    let base = request.app_data::<web::Data<PublicUrl>>().map(|url| url.0.clone()).unwrap_or_default();
    render(error, &base, RequestId::of(request), prefers_bare(request))
}

/// Whether `application/problem+json` is asked for, and no less than `application/json` (RFC 9110, section 12.5.1).
fn prefers_bare(request: &HttpRequest) -> bool {
    let Ok(Accept(asked)) = Accept::parse(request) else { return false };
    let weight = |kind: &str| asked.iter().filter(|one| one.item.essence_str() == kind).map(|one| one.quality).max();
    weight("application/problem+json")
        .is_some_and(|bare| bare > Quality::ZERO && weight("application/json").is_none_or(|dressed| bare >= dressed))
}

/// The security event that a refusal is, as `docs/security.md` lists them.
fn event(code: Code) -> Option<&'static str> {
    match code {
        Code::InvalidCredentials => Some("login.failed"),
        Code::TooManyAttempts => Some("login.locked"),
        Code::TokenInvalid => Some("token.refused"),
        Code::CsrfRefused => Some("csrf.refused"),
        code if code.status() == 403 => Some("access.refused"),
        _ => None,
    }
}

/// Writes an error to the log, once: its cause; and, if it is a security event, a line to be alerted on.
pub fn log(error: &ApiError, request: &HttpRequest) {
    log_for(error, request, request.match_pattern());
}

/// As [`log`], where it is known which route the request is for.
pub fn log_for(error: &ApiError, request: &HttpRequest, route: Option<String>) {
    let request_id = RequestId::of(request);
    let mut chain = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        if !chain.is_empty() {
            chain.push_str(": ");
        }
        chain.push_str(&cause.to_string());
        next = cause.source();
    }
    let code = error.code().as_str();
    match error.code().status() {
        500 => tracing::error!(requestId = request_id, code, cause = chain, "request failed"),
        501.. => tracing::warn!(requestId = request_id, code, cause = chain, "request failed"),
        _ if !chain.is_empty() => tracing::debug!(requestId = request_id, code, cause = chain, "request refused"),
        _ => {}
    }
    if let Some(event) = event(error.code()) {
        let caller = request.extensions().get::<Caller>().cloned();
        tracing::warn!(
            target: "tenantry::security",
            event,
            code,
            method = request.method().as_str(),
            route,
            requestId = request_id,
            tenant = caller.as_ref().map(|caller| caller.slug.as_str()),
            user = caller.as_ref().map(|caller| caller.user.to_string()),
            client = ClientIp::of(request).0.map(|ip| ip.to_string()),
            "refused"
        );
    }
}

/// The answer where the request is not at hand: `base` is the public URL, and `bare` leaves the envelope out.
#[must_use]
pub fn render(error: &ApiError, base: &str, request_id: String, bare: bool) -> HttpResponse {
    let code = error.code();
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = HttpResponse::build(status);
    if code.status() == 401 {
        builder.insert_header((WWW_AUTHENTICATE, challenge(code)));
    }
    if let Some(after) = error.retry_after_value() {
        builder.insert_header((RETRY_AFTER, after.as_secs_f64().ceil().max(1.0).to_string()));
    }
    if let Some(limit) = error.limit_value() {
        for header in RateStanding::beyond(limit, error.retry_after_value().unwrap_or_default()).told() {
            builder.insert_header(header);
        }
    }
    if let Some(methods) = error.allow_value() {
        builder.insert_header((ALLOW, methods));
    }
    let problem = Problem {
        kind: format!("{base}/docs/errors#{}", code.as_str()),
        title: Cow::Borrowed(code.title()),
        status: code.status(),
        detail: error.client_detail().to_owned(),
        code: Cow::Borrowed(code.as_str()),
        request_id: request_id.clone(),
        errors: error.fields().iter().map(ProblemField::from).collect(),
    };
    if bare {
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        return builder.content_type("application/problem+json").body(body);
    }
    let body = ErrorEnvelope { success: false, data: None, error: problem, meta: Meta { request_id } };
    builder.content_type("application/json").body(serde_json::to_vec(&body).unwrap_or_default())
}

/// RFC 6750: no error word where no token was sent.
const fn challenge(code: Code) -> &'static str {
    match code {
        Code::TokenInvalid | Code::TokenExpired | Code::TokenRevoked => "Bearer error=\"invalid_token\"",
        _ => "Bearer",
    }
}

/// The plain form, for an application without the server's middleware; that one renders with [`respond`] instead.
impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        render(self, "", String::new(), false)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actix_web::http::header::ACCEPT;
    use actix_web::test::TestRequest;
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Limit;

    async fn answer(accept: &str, error: ApiError) -> (HttpResponse<()>, Value) {
        let request = TestRequest::default()
            .insert_header((ACCEPT, accept))
            .app_data(web::Data::new(PublicUrl("https://t.example".into())))
            .to_http_request();
        let (head, body) = respond(&request, &error).into_parts();
        (head, serde_json::from_slice(&to_bytes(body).await.unwrap()).unwrap())
    }

    #[actix_web::test]
    async fn in_the_envelope_or_bare() {
        let (head, body) = answer("*/*", ApiError::invalid_field("slug", "invalid", "No.")).await;
        assert_eq!(head.status(), 422);
        assert_eq!(body["success"], json!(false));
        assert_eq!(body["error"]["type"], json!("https://t.example/docs/errors#validation_failed"));
        assert_eq!(body["error"]["errors"], json!([{"field": "slug", "code": "invalid", "message": "No."}]));
        let (head, body) = answer("application/problem+json", ApiError::new(Code::NotFound)).await;
        assert_eq!(head.headers().get("content-type").unwrap(), "application/problem+json");
        assert_eq!(body["code"], json!("not_found"));
        for (accept, bare) in [
            ("application/json, application/problem+json", true),
            ("application/json, application/problem+json;q=0.1", false),
            ("application/problem+json;q=0", false),
            ("text/html, application/problem+json;q=0.5, */*;q=0.1", true),
            ("nonsense", false),
        ] {
            let (_, body) = answer(accept, ApiError::new(Code::NotFound)).await;
            assert_eq!(body.get("success").is_none(), bare, "{accept}");
        }
    }

    #[actix_web::test]
    async fn headers_that_the_status_asks_for() {
        let (head, _) = answer("*/*", ApiError::new(Code::Unauthenticated)).await;
        assert_eq!(head.headers().get(WWW_AUTHENTICATE).unwrap(), "Bearer");
        let (head, _) = answer("*/*", ApiError::new(Code::Overloaded)).await;
        assert_eq!(head.headers().get(RETRY_AFTER).unwrap(), "1");
        let late = ApiError::new(Code::TooManyAttempts).retry_after(std::time::Duration::from_millis(1500));
        let late = late.limited(Limit { name: "login", quota: 5, window: std::time::Duration::from_secs(900) });
        let (head, _) = answer("*/*", late).await;
        assert_eq!(head.headers().get(RETRY_AFTER).unwrap(), "2");
        assert_eq!(head.headers().get("ratelimit-policy").unwrap(), r#""login";q=5;w=900"#);
        assert_eq!(head.headers().get("ratelimit").unwrap(), r#""login";r=0;t=2"#);
        let (head, _) = answer("*/*", ApiError::new(Code::MethodNotAllowed).allow("GET, POST")).await;
        assert_eq!(head.headers().get(ALLOW).unwrap(), "GET, POST");
    }

    #[actix_web::test]
    async fn the_cause_stays_inside() {
        let (_, body) = answer("*/*", ApiError::internal("password=hunter2 at db.internal")).await;
        assert!(!body.to_string().contains("hunter2"));
    }
}
