//! Databases that should have been dropped by now.

use super::Finding;
use crate::control::kept;
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::router::MainConn;

/// A worker looks for them every few minutes, and tries again.
const OVERDUE: chrono::TimeDelta = chrono::TimeDelta::hours(1);

pub(super) async fn look(fleet: &Fleet) -> ApiResult<Vec<Finding>> {
    let by = fleet.control.clock.now() - OVERDUE;
    let listed = fleet.control.db.read(async |conn: &mut MainConn| kept::list(conn, None).await).await?;
    let overdue = listed.into_iter().filter(|one| one.kept.purge_after < by);
    Ok(overdue
        .map(|one| {
            let said = format!(
                "left on cluster '{}' by a {}, should have been dropped at {}",
                one.cluster,
                one.kept.left_by,
                one.kept.purge_after.to_rfc3339()
            );
            let tenant = one.slug.unwrap_or_else(|| one.kept.tenant_id.to_string());
            let remedy = format!("tenantry tenant kept {tenant} --drop --yes");
            Finding::warning("kept_too_long", one.kept.database_name, said, remedy)
        })
        .collect())
}
