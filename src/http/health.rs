//! Whether the process lives, and whether it takes requests.

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, Responder, get, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::state::Health;
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{Envelope, ErrorEnvelope, Reply};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(livez).service(readyz).service(health_alias);
}

/// The process lives.
#[derive(Debug, Serialize, ToSchema)]
struct Liveness {
    /// `ok`
    status: &'static str,
}

/// The node takes requests.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    /// `ready`
    status: &'static str,
    /// `available`, `unavailable` or `unknown`. Known tenants are served either way.
    control_plane: &'static str,
}

/// Whether the process lives.
#[utoipa::path(tag = "health", responses((status = 200, description = "Alive", body = Envelope<Liveness>)))]
#[get("/livez")]
pub(super) async fn livez(request: HttpRequest) -> HttpResponse {
    fresh(Reply(Liveness { status: "ok" }).respond_to(&request))
}

/// Whether this node takes requests.
#[utoipa::path(
    tag = "health",
    responses((status = 200, description = "Ready", body = Envelope<Readiness>), (status = 503, description = "Shutting down.", body = ErrorEnvelope))
)]
#[get("/readyz")]
async fn readyz(request: HttpRequest, health: web::Data<Health>) -> ApiResult<HttpResponse> {
    readiness(&request, &health).await
}

/// The same as `/readyz`.
#[utoipa::path(
    tag = "health",
    responses((status = 200, description = "Ready", body = Envelope<Readiness>), (status = 503, description = "Shutting down.", body = ErrorEnvelope))
)]
#[get("/health")]
async fn health_alias(request: HttpRequest, health: web::Data<Health>) -> ApiResult<HttpResponse> {
    readiness(&request, &health).await
}

async fn readiness(request: &HttpRequest, health: &Health) -> ApiResult<HttpResponse> {
    if health.draining() {
        return Err(ApiError::new(Code::Overloaded).detail("This node is shutting down."));
    }
    let control_plane = match health.control_plane().await {
        Some(true) => "available",
        Some(false) => "unavailable",
        None => "unknown",
    };
    Ok(fresh(Reply(Readiness { status: "ready", control_plane }).respond_to(request)))
}

fn fresh(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::test::{TestRequest, call_service, init_service};
    use utoipa_actix_web::AppExt as _;

    use super::*;

    #[actix_web::test]
    async fn a_draining_node_lives_but_is_not_ready() {
        let health = Health::default();
        let app = App::new().app_data(web::Data::new(health.clone())).into_utoipa_app().configure(routes).into_app();
        let app = init_service(app).await;
        let status = async |path: &str| call_service(&app, TestRequest::get().uri(path).to_request()).await.status();
        assert_eq!(
            (status("/livez").await, status("/readyz").await),
            (200.try_into().unwrap(), 200.try_into().unwrap())
        );
        health.drain();
        assert_eq!(status("/livez").await, 200);
        assert_eq!(status("/readyz").await, 503);
        assert_eq!(status("/health").await, 503);
    }
}
