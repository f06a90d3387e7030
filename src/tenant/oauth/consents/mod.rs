//! What a person let apps have.

mod api;
pub(super) mod store;

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::my_oauth_consents).service(api::withdraw_oauth_consent);
}
