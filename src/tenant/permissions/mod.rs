//! What one can be allowed to do. A right is a type, named in the signature of the handlers that need it.
//!
//! The list is the product's, not the tenant's: `catalog` is what provisioning seeds.

mod api;
pub mod catalog;

pub use catalog::{
    ApiKeysRead, ApiKeysWrite, IdentityProvidersRead, IdentityProvidersWrite, MailRead, MailWrite, OauthRead,
    OauthWrite, PermissionsRead, RolesRead, RolesWrite, ScimTokensRead, ScimTokensWrite, SecurityRead, SecurityWrite,
    TeamsRead, TeamsWrite, TokenIssuersRead, TokenIssuersWrite, UsersRead, UsersWrite,
};
use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_permissions);
}
