//! Issuers whose access tokens a tenant takes besides its own: their keys, their audience, and who their subjects are here.
//!
//! Such a token names no tenant that could be believed, so the request has to name it (`X-Tenant-ID` or the subdomain), and
//! the issuer is looked up in that tenant's database alone. What its bearers may do is bounded by what whoever registered it
//! could do.

pub(super) mod admission;
mod api;
pub mod by_operator;
mod change;
pub mod rules;
mod store;

pub use api::{CreateTokenIssuer, TokenIssuer};

use utoipa_actix_web::service_config::ServiceConfig;

/// The built-in schema that has them (`V10__token_issuers_and_directories.sql`), and teams, whose roles bearers have.
pub const SINCE: i32 = super::teams::SINCE;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_issuers)
        .service(api::create_issuer)
        .service(api::get_issuer)
        .service(change::patch_issuer)
        .service(change::delete_issuer);
}
