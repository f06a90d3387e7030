//! Operations that failed, or that nobody drives any more.

use std::collections::HashMap;

use chrono::TimeDelta;
use uuid::Uuid;

use super::Finding;
use crate::control::backups;
use crate::control::operations::{self, Operation, OperationFilter, OperationKind, OperationState};
use crate::error::{ApiResult, Code};
use crate::fleet::{Fleet, lock};
use crate::kernel::{BackupId, OperationId};
use crate::router::MainConn;

/// Operations that one query reads.
const PAGE: i64 = 500;
/// The most of each state that are told of one by one, the oldest first.
const MOST: usize = 500;
/// A worker takes what waits for it within seconds.
const WAITS_LONG: TimeDelta = TimeDelta::minutes(1);

pub(super) async fn look(fleet: &Fleet) -> ApiResult<Vec<Finding>> {
    let mut findings = Vec::new();
    for state in [OperationState::Failed, OperationState::Running, OperationState::Queued] {
        let mut found = stuck(fleet, state).await?;
        found.retain(|operation| match state {
            // A comparison or a proof that failed has left nothing behind but canaries, which are told of by themselves; and
            // one on the command line is no job that could follow it.
            OperationState::Failed => !matches!(operation.kind, OperationKind::Drift | OperationKind::Verify),
            _ => !operation.background || waits_long(fleet, operation),
        });
        for operation in found.iter().take(MOST) {
            findings.push(tell(fleet, operation, original(fleet, operation).await?.as_deref()));
        }
        if let Some(more) = found.len().checked_sub(MOST).filter(|more| *more > 0) {
            let said = format!("{more} more jobs are {state} and not listed; mend these first, and look again");
            findings.push(Finding::error("more_jobs", state, said, "tenantry fleet doctor"));
        }
    }
    Ok(findings)
}

/// Operations in a state that nobody drives, the oldest first. Told of is only what two looks saw alike: what somebody
/// drove or ended meanwhile has another driver or another state.
async fn stuck(fleet: &Fleet, state: OperationState) -> ApiResult<Vec<Operation>> {
    let mut found = undriven(fleet, state).await?;
    if !found.is_empty() {
        let again: HashMap<_, _> =
            undriven(fleet, state).await?.into_iter().map(|operation| (operation.id, operation.driver)).collect();
        found.retain(|operation| again.get(&operation.id) == Some(&operation.driver));
    }
    Ok(found)
}

async fn undriven(fleet: &Fleet, state: OperationState) -> ApiResult<Vec<Operation>> {
    // What was done to the tenant since has made a failure good, or goes on where it stopped.
    let last = state == OperationState::Failed;
    let mut all: Vec<Operation> = Vec::new();
    let mut seen = OperationId::from(Uuid::nil());
    loop {
        let filter = OperationFilter {
            state: Some(state),
            limit: Some(PAGE),
            before: Some(seen),
            last,
            // A sign-up waits for an operator's word, however long.
            decided: true,
            ..OperationFilter::default()
        };
        let page =
            fleet.control.db.read(async move |conn: &mut MainConn| operations::list(conn, &filter).await).await?;
        let Some(newest) = page.last() else { break };
        seen = newest.id;
        all.extend(page);
    }
    // Read after them: whoever begins one on a tenant has its lock before anybody else sees it; of others, the lock is taken
    // a moment later, for the second look to see.
    let held = lock::held(&fleet.control).await?;
    all.retain(|operation| !held.contains(&lock::key_of(operation)));
    Ok(all)
}

fn waits(fleet: &Fleet, operation: &Operation) -> TimeDelta {
    fleet.control.clock.now() - operation.started_at
}

fn waits_long(fleet: &Fleet, operation: &Operation) -> bool {
    waits(fleet, operation) > WAITS_LONG
}

/// The tenant that an operation copies into another one, if it does.
async fn original(fleet: &Fleet, operation: &Operation) -> ApiResult<Option<String>> {
    if let Some(source) = operation.input["source"].as_str().filter(|_| operation.kind == OperationKind::Clone) {
        return Ok(Some(source.to_owned()));
    }
    let backup = operation.input["backup"].as_str().and_then(|id| id.parse::<BackupId>().ok());
    let Some(backup) = backup.filter(|_| operation.input["as"].is_string()) else { return Ok(None) };
    let found = fleet.control.db.read(async move |conn: &mut MainConn| backups::get(conn, backup).await).await;
    match found {
        Ok(backup) => Ok(Some(backup.tenant_id.to_string())),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn tell(fleet: &Fleet, operation: &Operation, original: Option<&str>) -> Finding {
    let subject = match &operation.tenant {
        Some((_, slug)) => slug.to_string(),
        None => operation.id.to_string(),
    };
    let kind = operation.kind;
    if operation.state == OperationState::Failed {
        let why = operation.error.as_deref().unwrap_or("no cause is known");
        let said = format!("{kind} failed at {why}");
        return Finding::error("job_failed", subject, said, remedy(operation, original));
    }
    if operation.background {
        let said = format!("{kind} waits for a worker since {} s", waits(fleet, operation).num_seconds());
        return Finding::error("job_waits", subject, said, "tenantry worker");
    }
    let said = format!("{kind} was interrupted, and nobody goes on with it");
    Finding::error("job_interrupted", subject, said, remedy(operation, original))
}

/// The command that goes on where the operation stopped.
fn remedy(operation: &Operation, original: Option<&str>) -> String {
    let slug = operation.tenant.as_ref().map(|(_, slug)| slug.to_string()).unwrap_or_default();
    let asked = |name: &str, otherwise: &str| {
        let text = operation.input[name].as_str().filter(|text| !text.is_empty());
        text.unwrap_or(otherwise).to_owned()
    };
    let admin = if operation.input["firstAdmin"] == true { " --admin-email ADDRESS" } else { "" };
    match operation.kind {
        // Nobody wants it made any more: its proof is gone.
        OperationKind::Create if operation.is_of_canary() => format!("tenantry tenant delete {slug} --now --yes"),
        OperationKind::Create => format!("tenantry tenant create {slug}{admin}"),
        OperationKind::Attach => format!("tenantry tenant attach {slug} --database-url-file FILE{admin}"),
        OperationKind::Delete => {
            let data = if operation.input["dropDedicatedData"] == true { " --drop-dedicated-data" } else { "" };
            format!("tenantry tenant delete {slug} --now{data} --yes")
        }
        OperationKind::RotateCredentials if operation.tenant.is_none() => {
            "tenantry tenant rotate-credentials --all".to_owned()
        }
        OperationKind::RotateCredentials => format!("tenantry tenant rotate-credentials {slug}"),
        OperationKind::Move => format!("tenantry tenant move {slug} --to {}", asked("to", "CLUSTER")),
        OperationKind::Clone => {
            let mask = if operation.input["mask"].is_null() { "" } else { " --mask FILE" };
            let keep = if operation.input["keepCredentials"] == true { " --keep-credentials" } else { "" };
            format!("tenantry tenant clone {} {slug}{mask}{keep}", original.unwrap_or("SLUG"))
        }
        OperationKind::Backup => format!("tenantry tenant backup {slug}"),
        OperationKind::Restore if operation.input["as"].is_string() => {
            let name = original.unwrap_or("SLUG");
            format!("tenantry tenant restore {name} --backup {} --as {slug}", asked("backup", "ID"))
        }
        OperationKind::Restore => format!("tenantry tenant restore {slug} --backup {}", asked("backup", "ID")),
        OperationKind::Export => format!("tenantry tenant export {slug} --to {}", asked("to", "DIR")),
        OperationKind::Erase => format!("tenantry tenant erase {slug} --certificate FILE --yes"),
        OperationKind::Drain => format!("tenantry cluster drain {}", asked("cluster", "NAME")),
        OperationKind::Migrate => "tenantry fleet migrate".to_owned(),
        OperationKind::Drift => "tenantry fleet drift".to_owned(),
        OperationKind::Verify => "tenantry fleet verify".to_owned(),
    }
}
