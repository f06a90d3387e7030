//! The apps that an organisation's administrators register.

mod api;
mod change;
pub(super) mod rules;
pub(super) mod store;

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_oauth_clients)
        .service(api::create_oauth_client)
        .service(api::get_oauth_client)
        .service(change::patch_oauth_client)
        .service(change::rotate_oauth_client)
        .service(change::delete_oauth_client);
}
