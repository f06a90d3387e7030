//! The login, consent and logout app of the organisation's own Ory Hydra.
//!
//! Hydra sends a browser to the organisation's page with a challenge. The page gives it to us as the person who is signed
//! in; we ask Hydra's admin API what it is about, answer it, and say where the browser goes. Hydra issues the tokens.

mod admin;
mod consent;
mod login;
mod logout;

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(login::answer_hydra_login)
        .service(consent::get_hydra_consent)
        .service(consent::answer_hydra_consent)
        .service(logout::answer_hydra_logout);
}
