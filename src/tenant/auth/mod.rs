//! Signing in and out: registration by the tenant's policy, login with a lockout, rotating refresh tokens, sessions.
//!
//! A session is the truth about who is signed in. An access token is a short-lived view of it, checked against the
//! session by [`SessionAdmission`] on every request.
//! Strangers learn nothing about tenants and people: what does not exist answers like what is closed to them.

pub(in crate::tenant) mod account;
pub mod admission;
mod api;
mod attempts;
mod begun;
pub mod captcha;
pub mod elsewhere;
pub(in crate::tenant) mod federation;
mod history;
pub mod mfa;
mod newcomer;
mod passkeys;
mod password;
mod programs;
mod register;
mod rights;
pub(in crate::tenant) mod rules;
pub mod session;
mod sessions;
mod settings;
mod step_up;
mod store;
mod strangers;
mod ways;

pub use account::{SignUpMode, SignUpPolicy};
pub use admission::SessionAdmission;
pub(in crate::tenant) use mfa::gate::{FEDERATED, forget_challenges, is_demanded, is_satisfied};
pub use newcomer::{sign_in_again, sign_in_newcomer, welcome_newcomer};
pub use passkeys::PasskeySite;
pub(in crate::tenant) use programs::Program;
pub use rules::Limits;
pub(crate) use settings::delta;
pub use settings::{Auth, AuthSettings};
pub(crate) use store::{end_sessions, insert_invitation};

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(register::register)
        .service(api::login)
        .service(api::refresh)
        .service(api::logout)
        .service(api::logout_all)
        .service(password::change_password)
        .service(step_up::step_up)
        .service(sessions::my_sessions)
        .service(sessions::end_my_session)
        .service(sessions::sessions_of)
        .service(sessions::end_sessions_of)
        .service(history::login_history)
        .service(captcha::captcha);
    account::routes(cfg);
    mfa::routes(cfg);
    passkeys::routes(cfg);
    federation::routes(cfg);
}
