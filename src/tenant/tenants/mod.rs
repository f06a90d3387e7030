//! The tenant of the caller, as its own people may see it. The registry itself is the control plane's.

mod api;

pub use api::CurrentTenant;

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::current_tenant);
}
