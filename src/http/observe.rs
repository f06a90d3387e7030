//! Around every request: its id, its one line in the access log, its metrics, and the headers of every answer. Errors
//! of whatever origin leave here in the contract's shape.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, web};
use futures_util::FutureExt as _;

use super::metrics::Durations;
use super::request_id;
use super::surface::{self, Surface};
use crate::control::operators::audit::{Begun, Outcome};
use crate::error::{ApiError, Code};
use crate::kernel;
use crate::kernel::trace::{self, Trace};
use crate::rest::{Caller, ClientIp, PublicUrl, RateStanding, RequestId, problem};
use crate::router::Router;

/// The middleware.
pub(super) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let trace = request_id::trace(request.headers());
    let id: Arc<str> = request_id::of(request.headers()).into();
    let attended = trace::within(trace, attend(request, next, trace, id.clone()));
    kernel::request::within(Some(id), attended).await
}

async fn attend(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    trace: Option<Trace>,
    id: Arc<str>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    request.extensions_mut().insert(RequestId((*id).to_owned()));
    let before = Before::of(&request);
    let response = match AssertUnwindSafe(async { next.call(request).await }).catch_unwind().await {
        Ok(response) => response?.map_into_boxed_body(),
        Err(panic) => return Err(before.panicked(&*panic, &id, started)),
    };
    let mut response = in_shape(response);
    dress(response.headers_mut(), &id, before.secure, before.private);
    record(response.request(), response.status(), &id, trace, started);
    let request = response.request().clone();
    RateStanding::write(&request, response.headers_mut());
    let action = response.request().extensions_mut().remove::<Begun>();
    if let Some(action) = action {
        action.end(Outcome::of_status(response.status().as_u16())).await;
    }
    Ok(response)
}

/// What is known of a request before it is handled. If its handler panics, the request is gone with it.
struct Before {
    method: &'static str,
    url: Option<web::Data<PublicUrl>>,
    secure: bool,
    private: bool,
    durations: Option<Durations>,
}

impl Before {
    fn of(request: &ServiceRequest) -> Self {
        let url = request.app_data::<web::Data<PublicUrl>>().cloned();
        // As the router matches it: however it was spelled.
        let path = request.match_info().as_str();
        Self {
            method: known(request.method()),
            secure: url.as_ref().is_some_and(|url| url.0.starts_with("https://")),
            url,
            private: ["/api/", "/scim/"].iter().any(|plane| path.starts_with(plane)),
            durations: request.app_data::<Durations>().cloned(),
        }
    }

    /// An answer like that of any other fault of ours, instead of a connection that breaks off.
    fn panicked(&self, panic: &(dyn Any + Send), id: &str, started: Instant) -> Error {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(requestId = id, method = self.method, cause = said, "a handler panicked");
        let base = self.url.as_ref().map(|url| url.0.as_str()).unwrap_or_default();
        let mut answer = problem::render(&ApiError::new(Code::Internal), base, id.to_owned(), false);
        dress(answer.headers_mut(), id, self.secure, self.private);
        if let Some(durations) = &self.durations {
            durations.record("panicked", self.method, answer.status(), started.elapsed());
        }
        InternalError::from_response("a handler panicked", answer).into()
    }
}

/// Errors of handlers are rendered here, where the request is known; so are those of the framework.
fn in_shape(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let ours = response.response().error().and_then(|error| error.as_error::<ApiError>());
    let mut answer = match ours {
        Some(error) => {
            problem::log_for(error, response.request(), surface::route(response.request()));
            problem::respond(response.request(), error)
        }
        None if is_json(response.headers()) => return response,
        None => problem::respond(response.request(), &framework_error(&response)),
    };
    keep_headers(response.headers(), answer.headers_mut());
    response.into_response(answer)
}

/// What other middlewares said beside the body stays: the cookies of a session that is over are cleared by its refusal,
/// and a page of another origin may read it (CORS).
fn keep_headers(said: &HeaderMap, answer: &mut HeaderMap) {
    let own = answer.clone();
    let of_the_body = |name: &HeaderName| {
        name.as_str().starts_with("content-") || [ETAG, LAST_MODIFIED, TRANSFER_ENCODING].contains(name)
    };
    for (name, value) in said {
        if !own.contains_key(name) && !of_the_body(name) {
            answer.append(name.clone(), value.clone());
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.contains("json")
}

fn framework_error(response: &ServiceResponse<BoxBody>) -> ApiError {
    match response.status() {
        StatusCode::NOT_FOUND => ApiError::new(Code::NotFound),
        StatusCode::METHOD_NOT_ALLOWED => {
            let surface = response.request().app_data::<web::Data<Surface>>();
            let methods = surface.and_then(|surface| surface.methods(response.request().match_info().as_str()));
            ApiError::new(Code::MethodNotAllowed).allow(methods.unwrap_or_default())
        }
        StatusCode::NOT_ACCEPTABLE => ApiError::new(Code::NotAcceptable),
        StatusCode::REQUEST_TIMEOUT => ApiError::new(Code::RequestTimeout),
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Code::PayloadTooLarge),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(Code::UnsupportedMediaType),
        status if status.is_client_error() => ApiError::new(Code::MalformedRequest),
        _ => ApiError::new(Code::Internal),
    }
}

/// The headers of every answer.
fn dress(headers: &mut HeaderMap, id: &str, secure: bool, private: bool) {
    let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    if secure {
        set(STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains");
    }
    if private {
        set(CACHE_CONTROL, "no-store");
    }
    // All text is UTF-8, that of files that others wrote too.
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let bare = kind.filter(|kind| kind.starts_with("text/") && !kind.contains("charset"));
    if let Some(kind) = bare.and_then(|kind| HeaderValue::from_str(&format!("{kind}; charset=utf-8")).ok()) {
        headers.insert(CONTENT_TYPE, kind);
    }
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        let nothing =
            HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
        headers.insert(CONTENT_SECURITY_POLICY, nothing);
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(request_id::HEADER), id);
    }
}

fn record(request: &HttpRequest, status: StatusCode, id: &str, trace: Option<Trace>, started: Instant) {
    let elapsed = started.elapsed();
    let route = surface::route(request).unwrap_or_else(|| "unmatched".to_owned());
    let method = known(request.method());
    if let Some(durations) = request.app_data::<Durations>() {
        durations.record(&route, method, status, elapsed);
    }

    let caller = request.extensions().get::<Caller>().cloned();
    if let (Some(caller), Some(router)) = (&caller, request.app_data::<web::Data<Router>>()) {
        router.answered(caller.tenant, status.is_server_error(), elapsed);
    }
    tracing::info!(
        target: "tenantry::access",
        method,
        route,
        status = status.as_u16(),
        ms = elapsed.as_micros() as f64 / 1000.0,
        requestId = id,
        tenant = caller.as_ref().map(|caller| caller.slug.as_str()),
        user = caller.as_ref().map(|caller| caller.user.to_string()),
        traceId = trace.map(|trace| trace.to_string()),
        client = ClientIp::of(request).0.map(|ip| ip.to_string()),
        "request"
    );
}

/// The method as a label; those that anybody can invent are one.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actix_web::dev::Service as _;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use actix_web::{App, HttpResponse};
    use serde_json::{Value, json};

    use super::*;
    use crate::rest::Reply;

    #[actix_web::test]
    async fn every_answer_is_dressed_and_in_shape() {
        let app = init_service(
            App::new()
                .app_data(web::Data::new(PublicUrl("https://t.example".into())))
                .route("/api/fine", web::get().to(async || Reply(1)))
                .route("/api/refused", web::get().to(async || Err::<HttpResponse, _>(ApiError::not_found("thing"))))
                .route("/api/framework", web::get().to(async || HttpResponse::PayloadTooLarge().body("too much")))
                .wrap(from_fn(observe)),
        )
        .await;
        for (path, status, code) in [
            ("/api/fine", 200, None),
            ("/api/refused", 404, Some("not_found")),
            ("/api/framework", 413, Some("payload_too_large")),
            ("/nowhere", 404, Some("not_found")),
            ("/%61pi/fine", 200, None),
        ] {
            let request = TestRequest::get().uri(path).insert_header(("x-request-id", "me-1")).to_request();
            let response = call_service(&app, request).await;
            assert_eq!(response.status(), status, "{path}");
            let headers = response.headers();
            assert_eq!(headers.get("x-request-id").unwrap(), "me-1");
            assert_eq!(headers.get("x-content-type-options").unwrap(), "nosniff");
            assert_eq!(headers.get("x-frame-options").unwrap(), "DENY");
            assert!(
                headers.contains_key("content-security-policy") && headers.contains_key("strict-transport-security")
            );
            assert_eq!(headers.contains_key("cache-control"), path.contains("pi/"));
            let body: Value = read_body_json(response).await;
            assert_eq!(body["meta"]["requestId"], "me-1");
            assert_eq!(body["error"]["code"].as_str(), code);
            assert_eq!(body["success"].as_bool(), Some(code.is_none()));
        }
    }

    #[actix_web::test]
    async fn a_handler_that_panics_is_answered_too() {
        async fn broken() -> Reply<u8> {
            panic!("a secret")
        }
        let durations = Durations::default();
        let app = init_service(
            App::new()
                .app_data(web::Data::new(PublicUrl("https://t.example".into())))
                .app_data(durations.clone())
                .route("/api/broken", web::get().to(broken))
                .route("/api/fine", web::get().to(async || Reply(1)))
                .wrap(from_fn(observe)),
        )
        .await;
        let request = TestRequest::get().uri("/api/broken").insert_header(("x-request-id", "me-2")).to_request();
        // The server asks the error for its answer.
        let answer = app.call(request).await.err().unwrap().error_response();
        assert_eq!(answer.status(), 500);
        for (name, value) in [("x-request-id", "me-2"), ("cache-control", "no-store"), ("x-frame-options", "DENY")] {
            assert_eq!(answer.headers().get(name).unwrap(), value);
        }
        let body = to_bytes(answer.into_body()).await.unwrap();
        let said: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&said["error"]["code"], &said["meta"]["requestId"]), (&json!("internal_error"), &json!("me-2")));
        assert_eq!(said["error"]["type"], "https://t.example/docs/errors#internal_error");
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
        assert_eq!(durations.routes(), ["panicked"]);
        // Whoever comes next is served.
        let next = call_service(&app, TestRequest::get().uri("/api/fine").to_request()).await;
        assert_eq!(next.status(), 200);
    }
}
