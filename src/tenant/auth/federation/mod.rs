//! Signing in through an identity provider of the tenant's: OpenID Connect with code and PKCE, and GitHub's OAuth.
//!
//! A sign-in begins with a state, which is an opaque token: its routing part names the tenant, its hash is kept, and it is
//! good once. Nonce and PKCE verifier are made from it by the installation's key, so that no secret is kept. The answer has
//! to be the provider's that it began with. Who somebody is there is the pair of issuer and subject; an address says it only
//! where both sides have verified it, or where nobody could come in yet.

mod accounts;
mod api;
mod enter;
mod flow;
mod github;
mod oidc;
mod store;

pub(in crate::tenant::auth) use store::{has_account, is_noted_challenge, note_challenge};

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::start)
        .service(api::callback)
        .service(accounts::my_social_accounts)
        .service(accounts::begin_link)
        .service(accounts::complete_link)
        .service(accounts::unlink);
}
