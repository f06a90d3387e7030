//! People who run the installation: signing in with e-mail and password, sessions that can be ended, and the proof of
//! who is asking on `/api/v1/admin`.
//!
//! Their tokens have an issuer, an audience, a `typ` and a key of their own: no tenant's token passes here, and none of
//! theirs passes at a tenant.

mod api;
mod extract;
mod rules;
mod service;
mod store;
mod token;

pub use extract::Operator;
pub use rules::{OperatorRole, email_key};
pub use service::Operators;
pub use store::{NewOperator, OperatorRecord, disable, insert, list};
pub use token::{OPERATOR_TYP, OperatorClaims};

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::login).service(api::logout).service(api::me);
}
