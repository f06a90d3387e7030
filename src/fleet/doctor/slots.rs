//! Replication slots of moves that are over. The server keeps its log for each, until its disk is full.

use super::server::Context;
use super::{Finding, psql};
use crate::error::ApiResult;
use crate::fleet::{admin, relocate, sql};
use crate::router::AdminConn;

const SLOTS: &str = "SELECT slot_name::text AS word FROM pg_replication_slots \
    WHERE slot_name ~ '^tenantry_move_[0-9a-f]{32}$' ORDER BY 1";

pub(super) async fn look(context: &Context<'_>, server: &mut AdminConn) -> ApiResult<Vec<Finding>> {
    let mut left = Vec::new();
    for slot in admin::words(server, SLOTS).await? {
        // Another installation's tenant may be on the move; with a tenant that is gone went its database, and the slot.
        let Some(tenant) = context.tenants.iter().find(|tenant| relocate::slot_name(tenant.id) == slot) else {
            continue;
        };
        // As long as the move has not ended, its job is told of.
        if context.fleet.pending_move(tenant.id).await?.is_none() {
            left.push((slot, &tenant.slug));
        }
    }
    if left.is_empty() {
        return Ok(Vec::new());
    }
    // That of a move which ended meanwhile is gone.
    let still = admin::words(server, SLOTS).await?;
    let findings = left.into_iter().filter(|(slot, _)| still.contains(slot)).map(|(slot, slug)| {
        let said = format!("is a replication slot of a move of '{slug}' that is over: the server keeps its log for it");
        let name = sql::literal(&slot);
        let end = format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = {name} AND active"
        );
        let free = psql(&format!("SELECT pg_drop_replication_slot({name})"));
        Finding::warning("slot_left", slot, said, format!("{} && {free}", psql(&end)))
    });
    Ok(findings.collect())
}
