//! People who run the installation: signing in with e-mail, password and second factor, sessions that can be ended, what
//! each may do, the proof of who is asking on `/api/v1/admin`, and what each of them did.
//!
//! Their tokens have an issuer, an audience, a `typ` and a key of their own: no tenant's token passes here, and none of
//! theirs passes at a tenant.

mod api;
pub mod audit;
mod extract;
mod guesses;
mod manage;
mod mfa;
mod password;
mod rules;
mod service;
mod store;
mod token;

pub use extract::{Operator, Reach};
pub use manage::{ManagedOperator, NewOperatorBody, add, list, named, with_tenants};
pub use rules::{Fetch, Oneself, OperatorRole, Power, Rule, Survey, Tend, email_key};
pub use service::Operators;
pub use store::{NewOperator, OperatorChanges, OperatorRecord, change, find_by_email, insert, tenants_of};
pub use token::{OPERATOR_TYP, OperatorClaims};

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::login::login)
        .service(api::login::second_factor)
        .service(api::sessions::logout)
        .service(api::sessions::me)
        .service(api::sessions::list_sessions)
        .service(api::sessions::end_session)
        .service(manage::list_operators)
        .service(manage::get_operator)
        .service(manage::change_operator)
        .service(manage::list_audit);
}
