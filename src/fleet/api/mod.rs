//! Tenants, clusters and pools for operators, under `/api/v1/admin`: what the CLI does, over REST.

mod access;
mod address;
mod backups;
mod clusters;
mod credentials;
mod doctor;
mod drift;
mod exports;
mod impersonation;
mod issuers;
mod jobs;
mod kept;
mod keys;
mod migrations;
mod moves;
mod operators;
mod people;
mod pools;
mod signup;
mod signups;
mod spans;
mod tenants;
mod verify;
mod workspaces;

pub use jobs::{JobView, accepted};
pub use signups::WaitingView;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::control::docs::{ChangeRefusals, Refusals};
use crate::control::operators::{Operator, Power};
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(tenants::list_tenants)
        .service(tenants::create::create_tenant)
        .service(tenants::attach::attach_tenant)
        .service(tenants::get_tenant)
        .service(tenants::change::change_tenant)
        .service(tenants::change::delete_tenant)
        .service(tenants::change::suspend_tenant)
        .service(tenants::change::resume_tenant)
        .service(tenants::archive::archive_tenant)
        .service(backups::restore_tenant)
        .service(backups::back_up_tenant)
        .service(backups::list_backups)
        .service(exports::export_tenant)
        .service(exports::list_exports)
        .service(exports::get_export)
        .service(exports::fetch_export_file)
        .service(backups::clone_tenant)
        .service(backups::erase_tenant)
        .service(credentials::rotate_credentials)
        .service(credentials::rotate_all_credentials)
        .service(keys::rotate_keys)
        .service(impersonation::impersonate)
        .service(issuers::list_issuers)
        .service(issuers::register_issuer)
        .service(issuers::remove_issuer)
        .service(moves::move_tenant)
        .service(kept::list_kept_databases)
        .service(kept::drop_kept_databases)
        .service(clusters::list_clusters)
        .service(clusters::add_cluster)
        .service(clusters::get_cluster)
        .service(clusters::change_cluster)
        .service(clusters::remove_cluster)
        .service(moves::drain_cluster)
        .service(operators::add_operator)
        .service(access::change_password)
        .service(access::enrol_totp)
        .service(access::confirm_totp)
        .service(access::remove_totp)
        .service(pools::list_pools)
        .service(doctor::diagnose_fleet)
        .service(drift::compare_fleet)
        .service(verify::verify_fleet)
        .service(jobs::list_jobs)
        .service(jobs::get_job)
        .service(jobs::cancel_job)
        .service(migrations::migrate_fleet)
        .service(migrations::get_fleet_status)
        .service(people::my_tenants)
        .service(people::accept_invitation)
        .service(people::switch_tenant)
        .service(workspaces::find_workspaces)
        .service(signup::sign_up)
        .service(signup::sign_up_job)
        .service(signups::list_sign_ups)
        .service(signups::approve_sign_up)
        .service(signups::refuse_sign_up);
}

/// The tenant of an id or slug, within what the operator knows of. Every endpoint on a tenant begins here.
///
/// # Errors
/// 404 if there is none, and alike if it is none of theirs.
async fn tenant_of<P: Power>(operator: &Operator<P>, fleet: &Fleet, name: &str) -> ApiResult<TenantRecord> {
    let tenant = fleet.get(name).await?;
    if operator.reach().has(tenant.id) { Ok(tenant) } else { Err(ApiError::not_found("tenant")) }
}
