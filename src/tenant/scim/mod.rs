//! SCIM 2.0 (RFC 7643, RFC 7644): a directory makes, changes and removes the tenant's people, and says who is in which group.
//!
//! It comes with a token of its own, made by an administrator: bound to the tenant, kept as a hash, and never good for more
//! than its owner may do at that moment. Groups are roles. Bodies and errors are the standard's, outside our envelope.

mod answer;
mod asked;
mod caller;
mod documents;
mod filter;
mod group;
mod groups;
mod patch;
mod store;
mod tokens;
mod user;
mod users;

use actix_web::{HttpRequest, HttpResponse};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::error::{ApiError, Code};

/// The built-in schema that has it (`V10__token_issuers_and_directories.sql`).
pub const SINCE: i32 = crate::tenant::teams::SINCE;

/// What all addresses of directories begin with.
pub const BASE: &str = "/scim/v2/";

/// The answer of an address below [`BASE`] at which there is nothing.
pub fn nothing_here(request: &HttpRequest) -> HttpResponse {
    answer::respond(request, Err(ApiError::new(Code::NotFound).into()))
}

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(tokens::list_scim_tokens)
        .service(tokens::create_scim_token)
        .service(tokens::revoke_scim_token)
        .service(documents::scim_service_provider_config)
        .service(documents::scim_resource_types)
        .service(documents::scim_schemas)
        .service(users::scim_list_users)
        .service(users::scim_create_user)
        .service(users::scim_get_user)
        .service(users::scim_replace_user)
        .service(users::scim_patch_user)
        .service(users::scim_delete_user)
        .service(groups::scim_list_groups)
        .service(groups::scim_create_group)
        .service(groups::scim_get_group)
        .service(groups::scim_replace_group)
        .service(groups::scim_patch_group)
        .service(groups::scim_delete_group);
}
