//! What an organisation demands of its people.

mod api;
mod store;

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::get_policy).service(api::patch_policy);
}
