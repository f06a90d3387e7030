//! What the registry itself says of its tenants.

use std::collections::{BTreeMap, HashSet};

use super::{Finding, some};
use crate::control::operations;
use crate::control::tenants::{TenantRecord, expired_holds};
use crate::error::ApiResult;
use crate::fleet::migrations::Migrations;
use crate::fleet::proof::is_canary;
use crate::fleet::{Fleet, lock};
use crate::router::{MainConn, TenantStatus};

pub(super) async fn look(
    fleet: &Fleet,
    tenants: &[TenantRecord],
    migrations: &Migrations,
    held: &HashSet<i64>,
) -> ApiResult<Vec<Finding>> {
    let mut findings = Vec::new();
    let head = migrations.built_in.head();
    let mut behind: BTreeMap<i32, Vec<&TenantRecord>> = BTreeMap::new();
    for tenant in tenants {
        let worked_on = held.contains(&lock::tenant_key(tenant.id));
        if tenant.status == TenantStatus::Provisioning && !worked_on {
            // One whose journal is open is told of there.
            let id = tenant.id;
            let open = fleet.control.db.read(async move |conn: &mut MainConn| operations::find_open(conn, id).await);
            if open.await?.is_none() {
                let remedy = format!("tenantry tenant delete {} --now --yes", tenant.slug);
                let said = "is half-made, and no job makes it";
                findings.push(Finding::error("tenant_half_made", &tenant.slug, said, remedy));
            }
        } else if is_canary(&tenant.slug) && !worked_on {
            let remedy = format!("tenantry tenant delete {} --now --yes", tenant.slug);
            let said = "is a canary of `fleet verify`, left over unless one runs right now";
            findings.push(Finding::warning("canary_left", &tenant.slug, said, remedy));
        } else if tenant.status != TenantStatus::Provisioning && tenant.schema_version < head {
            behind.entry(tenant.schema_version).or_default().push(tenant);
        }
    }
    let expired = fleet.control.db.read(async |conn: &mut MainConn| expired_holds(conn).await).await?;
    for (id, job) in expired.into_iter().filter(|(id, _)| !held.contains(&lock::tenant_key(*id))) {
        let Some(tenant) = tenants.iter().find(|tenant| tenant.id == id) else { continue };
        let said = format!("a hold of its requests has run out, and job {job} is not there to lift it");
        findings.push(Finding::error("hold_left", &tenant.slug, said, "tenantry worker"));
    }
    for (version, those) in behind {
        let said =
            format!("{} tenants are at {version}, the head is {head}: {}", those.len(), some(those.iter().copied()));
        let subject = format!("schema version {version}");
        findings.push(Finding::warning("schema_behind", subject, said, "tenantry fleet migrate"));
    }
    Ok(findings)
}
