//! The roles of a tenant: named sets of permissions. `admin` and `user` come with the database and stay as they are; the
//! organisation makes its own.

mod api;
mod change;
pub(in crate::tenant) mod store;

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_roles)
        .service(api::get_role)
        .service(change::create_role)
        .service(change::replace_role)
        .service(change::patch_role)
        .service(change::delete_role);
}
