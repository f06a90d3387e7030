//! The application: one readable list of routes, which is also the OpenAPI document.

use actix_cors::Cors;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, Error, web};
use utoipa_actix_web::service_config::ServiceConfig;

use super::feature::feature;
use super::metrics::Durations;
use super::state::AppState;
use super::surface::{self, Surface};
use super::{docs, health, observe, openapi, well_known};
use crate::rest::{BodyLimit, PublicUrl, TrustedOrigins, TrustedProxies, browser};
use crate::{control, fleet, tenant};

/// Every route of the REST API and its neighbours.
pub(super) fn routes(config: &mut ServiceConfig) {
    let others = [control::routes, fleet::api::routes, well_known::routes, health::routes];
    for routes in tenant::FEATURES.into_iter().chain(others) {
        config.service(feature(routes));
    }
}

/// Builds the application. Called once per worker, and by tests.
pub fn create_app(
    state: &AppState,
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>
    + use<>,
> {
    let public_url = state.router.config().public_url.clone();
    let settings = &state.settings;
    let surface = Surface::of(openapi::paths()).and(docs::addresses(settings.docs));
    App::new()
        .configure(|config| routes(&mut ServiceConfig::new(config)))
        .app_data(web::Data::new(state.router.clone()))
        .app_data(web::Data::new(PublicUrl(public_url)))
        .app_data(web::Data::new(state.health.clone()))
        .app_data(web::Data::new(surface))
        .app_data(Durations::default())
        .app_data(BodyLimit(settings.body_limit))
        .app_data(TrustedProxies(settings.trusted_proxies.clone()))
        .app_data(TrustedOrigins(settings.cors_origins.clone()))
        .configure(|config| state.provide(config))
        .configure(|config| docs::routes(config, state.document()))
        .default_service(web::to(surface::nothing_here))
        .wrap(from_fn(browser::cookies))
        .wrap(from_fn(surface::refuse_what_is_not_offered))
        .wrap(from_fn(surface::head_is_get))
        .wrap(Condition::new(!settings.cors_origins.is_empty(), cors(&settings.cors_origins)))
        .wrap(from_fn(observe::observe))
}

fn cors(origins: &[String]) -> Cors {
    const ASKED: [&str; 10] = [
        "authorization",
        "content-type",
        "idempotency-key",
        "if-match",
        "if-none-match",
        "traceparent",
        "x-api-key",
        "x-request-id",
        browser::HEADER,
        "x-tenant-id",
    ];
    const SHOWN: [&str; 9] = [
        "allow",
        "etag",
        "idempotency-replayed",
        "location",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "www-authenticate",
        "x-request-id",
    ];
    let cors = Cors::default()
        .allowed_methods(["GET", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers(ASKED)
        .expose_headers(SHOWN)
        // For those origins alone, which are named one by one: their pages may have sessions in cookies.
        .supports_credentials()
        .max_age(600);
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
