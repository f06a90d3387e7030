//! API keys: for programs, which work in the name of one person with some of that person's rights.
//!
//! A key is an opaque token, so its routing part finds the database without any look-up in common, and a forged one is
//! refused before a database is touched. What it may do is decided at every use: its scopes, and no more than its owner
//! may do at that moment.

pub(super) mod admission;
mod api;
mod change;
pub(super) mod rules;
mod store;

use utoipa_actix_web::service_config::ServiceConfig;

/// The built-in schema that has API keys (`V6__api_keys.sql`).
pub const SINCE: i32 = 6;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_keys)
        .service(api::create_key)
        .service(api::get_key)
        .service(change::patch_key)
        .service(change::rotate_key)
        .service(change::revoke_key);
}
