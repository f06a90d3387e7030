//! Through whom the people of a tenant sign in besides their passwords: OpenID providers, Google, GitHub.
//!
//! Each is the tenant's own: its client, its secret (sealed), where it may send people back to, and whether people whom
//! nobody invited get an account through it. How a sign-in goes stands in `auth/federation`.

mod api;
mod change;
pub mod rules;
pub(in crate::tenant) mod store;

use utoipa_actix_web::service_config::ServiceConfig;

/// The built-in schema that has identity providers (`V9__federation.sql`).
pub const SINCE: i32 = crate::tenant::teams::SINCE;
/// The one that says of a link whether its person has made it (`V22__links.sql`).
pub(in crate::tenant) const LINKS_SINCE: i32 = 22;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_providers)
        .service(api::create_provider)
        .service(api::get_provider)
        .service(change::patch_provider)
        .service(change::delete_provider);
}
