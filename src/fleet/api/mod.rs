//! Tenants, clusters and pools for operators, under `/api/v1/admin`: what the CLI does, over REST.

mod clusters;
mod jobs;
mod pools;
mod signup;
mod signups;
mod tenants;

pub use jobs::{JobView, accepted};
pub use signups::WaitingView;
use utoipa::IntoResponses;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::rest::ErrorEnvelope;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(tenants::list_tenants)
        .service(tenants::create_tenant)
        .service(tenants::get_tenant)
        .service(tenants::change_tenant)
        .service(tenants::delete_tenant)
        .service(tenants::suspend_tenant)
        .service(tenants::resume_tenant)
        .service(tenants::restore_tenant)
        .service(clusters::list_clusters)
        .service(clusters::add_cluster)
        .service(clusters::get_cluster)
        .service(clusters::change_cluster)
        .service(clusters::remove_cluster)
        .service(pools::list_pools)
        .service(jobs::list_jobs)
        .service(jobs::get_job)
        .service(jobs::cancel_job)
        .service(signup::sign_up)
        .service(signup::sign_up_job)
        .service(signups::list_sign_ups)
        .service(signups::approve_sign_up)
        .service(signups::refuse_sign_up);
}

/// The answers of any endpoint for operators.
#[derive(Debug, IntoResponses)]
pub enum Refusals {
    /// A parameter is unknown or has a bad value, or the body is not JSON.
    #[response(status = 400)]
    Malformed(ErrorEnvelope),
    /// No token of an operator, or a bad, expired or revoked one.
    #[response(status = 401)]
    Unauthenticated(ErrorEnvelope),
    /// There is nothing here.
    #[response(status = 404)]
    NotFound(ErrorEnvelope),
    /// The control plane or a database server does not answer; see `Retry-After`.
    #[response(status = 503)]
    Unavailable(ErrorEnvelope),
}

/// The answers of an endpoint that changes something.
#[derive(Debug, IntoResponses)]
pub enum ChangeRefusals {
    /// The state of the thing does not allow it, or its name is taken.
    #[response(status = 409)]
    Conflict(ErrorEnvelope),
    /// It has changed since it was read.
    #[response(status = 412)]
    Stale(ErrorEnvelope),
    /// The body has another type than this endpoint takes.
    #[response(status = 415)]
    UnsupportedMediaType(ErrorEnvelope),
    /// Some fields are not valid.
    #[response(status = 422)]
    Invalid(ErrorEnvelope),
}
