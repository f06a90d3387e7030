//! Who is behind, and when each has its turn.

use std::collections::BTreeMap;

use super::MigrateFleet;
use super::run::Run;
use crate::control::migration_runs::{self, Behind, Planned, RunTenant};
use crate::error::ApiResult;
use crate::router::MainConn;

impl Run<'_> {
    /// Those that are behind and not yet in the run get their turn. Gives how many.
    pub(super) async fn plan(&self, later_than: Option<i32>) -> ApiResult<usize> {
        let (head, only, id) = (self.head.clone(), self.wanted.named(), self.id);
        let wanted = self.wanted.clone();
        self.fleet
            .control
            .db
            .transaction(async move |conn: &mut MainConn| {
                let behind = migration_runs::behind(conn, &head, only.as_deref()).await?;
                let known = migration_runs::known(conn, id).await?;
                let behind: Vec<_> = behind.into_iter().filter(|tenant| !known.contains(&tenant.id)).collect();
                let planned = in_waves(behind, &wanted, later_than, head.schema_version);
                migration_runs::forget(conn).await?;
                migration_runs::plan(conn, id, &planned).await?;
                Ok(planned.iter().filter(|planned| !planned.newer).count())
            })
            .await
    }

    pub(super) async fn unfinished(&self) -> ApiResult<BTreeMap<i32, Vec<RunTenant>>> {
        let id = self.id;
        let db = &self.fleet.control.db;
        let tenants = db.read(async move |conn: &mut MainConn| migration_runs::unfinished(conn, id).await).await?;
        let mut waves: BTreeMap<i32, Vec<RunTenant>> = BTreeMap::new();
        for tenant in tenants {
            waves.entry(tenant.wave).or_default().push(tenant);
        }
        Ok(waves)
    }
}

/// The canary from all over the list, so that no cluster's or customer's tenants are all of it; then wave after wave.
fn in_waves(behind: Vec<Behind>, wanted: &MigrateFleet, later_than: Option<i32>, newest: i32) -> Vec<Planned> {
    let (newer, behind): (Vec<_>, Vec<_>) = behind.into_iter().partition(|tenant| tenant.schema_version > newest);
    let canaries = if later_than.is_some() { 0 } else { wanted.canaries(behind.len()) };
    let (of, first) = (behind.len(), later_than.unwrap_or(1));
    let is_canary = |at: usize| (at * canaries) / of.max(1) != ((at + 1) * canaries) / of.max(1);
    let mut others = 0;
    let planned = behind.into_iter().enumerate().map(|(at, tenant)| {
        let wave = if is_canary(at) {
            0
        } else {
            others += 1;
            first + i32::try_from((others - 1) / wanted.wave.max(1)).unwrap_or(i32::MAX - first)
        };
        Planned { tenant, wave, newer: false }
    });
    let mut planned: Vec<_> = planned.collect();
    planned.extend(newer.into_iter().map(|tenant| Planned { tenant, wave: first, newer: true }));
    planned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::TenantId;

    fn behind(count: usize) -> Vec<Behind> {
        let one = |at: usize| Behind {
            id: TenantId::generate(),
            slug: format!("t{at:03}"),
            cluster_id: None,
            schema_version: if at == 0 { 9 } else { 1 },
            operator_version: 0,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn the_canary_is_spread_and_waves_are_full() {
        let wanted = MigrateFleet { canary: Some(3), wave: 10, ..MigrateFleet::default() };
        let planned = in_waves(behind(31), &wanted, None, 3);
        let of = |wave| planned.iter().filter(|one| one.wave == wave && !one.newer).count();
        assert_eq!([of(0), of(1), of(2), of(3)], [3, 10, 10, 7]);
        let canary: Vec<_> = planned.iter().filter(|one| one.wave == 0).map(|one| one.tenant.slug.as_str()).collect();
        assert_eq!(canary, ["t010", "t020", "t030"]);
        assert_eq!(planned.iter().filter(|one| one.newer).count(), 1);
        let later = in_waves(behind(5), &wanted, Some(4), 3);
        assert!(later.iter().all(|one| one.wave == 4), "no second canary");
    }
}
