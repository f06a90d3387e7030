//! The roles of a tenant: named sets of permissions. Read-only; `admin` and `user` come with the database.

mod api;
mod store;

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_roles).service(api::get_role);
}
