//! What the registry itself says of its tenants.

use std::collections::{BTreeMap, HashSet};

use super::{Finding, some};
use crate::control::operations;
use crate::control::tenants::{self, TenantRecord, expired_holds};
use crate::error::ApiResult;
use crate::fleet::migrations::Migrations;
use crate::fleet::{Fleet, lock};
use crate::kernel::{OperationId, TenantId};
use crate::router::{MainConn, TenantStatus};

pub(super) async fn look(fleet: &Fleet, tenants: &[TenantRecord], migrations: &Migrations) -> ApiResult<Vec<Finding>> {
    let expired = fleet.control.db.read(async |conn: &mut MainConn| expired_holds(conn).await).await?;
    // Read after the lists: a tenant's lock is taken before its row can be seen, and given back after it has changed.
    let held = lock::held(&fleet.control).await?;
    let mut findings = Vec::new();
    let head = migrations.built_in.head();
    let canaries = fleet.control.db.read(async |conn: &mut MainConn| operations::canaries(conn).await).await?;
    let mut behind: BTreeMap<i32, Vec<&TenantRecord>> = BTreeMap::new();
    for tenant in tenants {
        let worked_on = held.contains(&lock::tenant_key(tenant.id));
        let is_canary_left = || canaries.contains(&tenant.id) && !held.contains(&lock::canary_key(&tenant.slug));
        if tenant.status == TenantStatus::Provisioning && !worked_on {
            if is_half_made(fleet, tenant.id).await? {
                // It goes at once as long as it is unfinished; without `--now`, one that serves after all does not.
                let remedy = format!("tenantry tenant delete {} --yes", tenant.slug);
                let said = "is half-made, and no job makes it";
                findings.push(Finding::error("tenant_half_made", &tenant.slug, said, remedy));
            }
        } else if !worked_on && is_canary_left() {
            let remedy = format!("tenantry tenant delete {} --now --yes", tenant.slug);
            let said = "is a canary of a `fleet verify` that has ended without removing it";
            findings.push(Finding::warning("canary_left", &tenant.slug, said, remedy));
        } else if tenant.status != TenantStatus::Provisioning && tenant.schema_version < head {
            behind.entry(tenant.schema_version).or_default().push(tenant);
        }
    }
    findings.extend(left_holds(fleet, tenants, expired, &held).await?);
    for (version, those) in behind {
        let said =
            format!("{} tenants are at {version}, the head is {head}: {}", those.len(), some(those.iter().copied()));
        let subject = format!("schema version {version}");
        findings.push(Finding::warning("schema_behind", subject, said, "tenantry fleet migrate"));
    }
    Ok(findings)
}

/// Whether a tenant that seemed unfinished is so, and nothing makes it. Its journal is read first and is open until after
/// the tenant is made: without an open one, an unfinished tenant stays so.
async fn is_half_made(fleet: &Fleet, id: TenantId) -> ApiResult<bool> {
    let look = async move |conn: &mut MainConn| -> ApiResult<bool> {
        // One whose journal is open is told of there.
        if operations::find_open(conn, id).await?.is_some() {
            return Ok(false);
        }
        Ok(tenants::find(conn, id).await?.is_some_and(|tenant| tenant.status == TenantStatus::Provisioning))
    };
    fleet.control.db.read(look).await
}

/// Of holds that had run out, those that still stand although nobody works on their tenants.
async fn left_holds(
    fleet: &Fleet,
    tenants: &[TenantRecord],
    mut expired: Vec<(TenantId, OperationId)>,
    held: &HashSet<i64>,
) -> ApiResult<Vec<Finding>> {
    expired.retain(|(id, _)| !held.contains(&lock::tenant_key(*id)));
    if !expired.is_empty() {
        let still = fleet.control.db.read(async |conn: &mut MainConn| expired_holds(conn).await).await?;
        expired.retain(|hold| still.contains(hold));
    }
    let told = expired.into_iter().filter_map(|(id, job)| {
        let tenant = tenants.iter().find(|tenant| tenant.id == id)?;
        let said = format!("a hold of its requests has run out, and job {job} is not there to lift it");
        Some(Finding::error("hold_left", &tenant.slug, said, "tenantry worker"))
    });
    Ok(told.collect())
}
