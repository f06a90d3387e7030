//! Secrets that the master keys do not open.

use super::Finding;
use crate::control;
use crate::error::ApiResult;
use crate::fleet::Fleet;

/// What does not open, and whether the clusters can be read at all.
pub(super) async fn look(fleet: &Fleet) -> ApiResult<(Vec<Finding>, bool)> {
    let sealed = control::sealed(&fleet.control).await?;
    let mut findings: Vec<Finding> = sealed
        .shut
        .iter()
        .map(|shut| {
            let said = format!("{}.{} does not open: {}", shut.table, shut.column, shut.fault);
            let remedy = "put the master key that sealed it back into TENANTRY_MASTER_KEY, or restore the row from a \
                          backup of the control plane; then: tenantry key rotate";
            Finding::error("secret_does_not_open", shut.row, said, remedy)
        })
        .collect();
    let sound = sealed.shut.iter().all(|shut| shut.table != "clusters");
    if sealed.stale > 0 {
        let said = format!("{} secrets are sealed with another master key than the newest", sealed.stale);
        findings.push(Finding::warning("secrets_under_old_key", "master keys", said, "tenantry key rotate"));
    }
    Ok((findings, sound))
}
