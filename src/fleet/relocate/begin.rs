//! The journal of a move: begun, found again, or refused.

use serde_json::json;
use uuid::Uuid;

use super::MoveTenant;
use crate::control::operations::{self, NewOperation, Operation, OperationKind, OperationState};
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult};
use crate::fleet::rotate::in_the_way;
use crate::fleet::{Fleet, refused};
use crate::kernel::{OperationId, TenantId};
use crate::router::{MainConn, TenantKind, TenantStatus};

impl Fleet {
    /// The move of a tenant that has neither been finished nor taken back; not one that was cancelled before it began.
    pub(in crate::fleet) async fn pending_move(&self, id: TenantId) -> ApiResult<Option<Operation>> {
        let find = async move |conn: &mut MainConn| {
            let last = last_move(conn, id).await?;
            let ended = |one: &Operation| matches!(one.state, OperationState::Done | OperationState::Undone);
            match last.filter(|last| !ended(last)) {
                Some(last) if operations::has_begun(conn, &last).await? => Ok(Some(last)),
                _ => Ok::<_, ApiError>(None),
            }
        };
        self.control.db.read(find).await
    }

    /// Whether the latest move of a tenant was taken back since a request came; that has the time in its id.
    pub(in crate::fleet) async fn is_moved_back(&self, id: TenantId, request: Uuid) -> ApiResult<bool> {
        let last = self.control.db.read(async move |conn: &mut MainConn| last_move(conn, id).await).await?;
        let Some(last) = last.filter(|last| last.state == OperationState::Undone) else { return Ok(false) };
        let came = request.get_timestamp().map(|came| came.to_unix().0);
        let ended = last.finished_at.and_then(|at| u64::try_from(at.timestamp()).ok());
        Ok(came.zip(ended).is_some_and(|(came, ended)| ended >= came))
    }

    /// As [`Self::pending_move`]; refused while other work on the tenant is unfinished.
    pub(super) async fn open_move(&self, id: TenantId) -> ApiResult<Option<Operation>> {
        let pending = self.pending_move(id).await?;
        if pending.is_some() {
            return Ok(pending);
        }
        let open = self.control.db.read(async move |conn: &mut MainConn| operations::find_open(conn, id).await).await?;
        match open.filter(|open| !open.state.is_final()) {
            Some(open) => Err(in_the_way(&open)),
            None => Ok(None),
        }
    }

    pub(super) async fn begin_move(
        &self,
        tenant: &TenantRecord,
        open: Option<Operation>,
        wanted: &MoveTenant,
        part_of: Option<OperationId>,
    ) -> ApiResult<Operation> {
        may_move(tenant)?;
        let Some(open) = open else {
            let new = new_move(tenant, wanted, part_of);
            return self
                .control
                .db
                .transaction(async move |conn: &mut MainConn| operations::begin(conn, &new).await)
                .await;
        };
        same_target(&open, wanted)?;
        self.control.db.read(async move |conn: &mut MainConn| operations::reopen(conn, open.id).await).await
    }
}

async fn last_move(conn: &mut MainConn, id: TenantId) -> ApiResult<Option<Operation>> {
    let filter = operations::OperationFilter {
        kind: Some(OperationKind::Move),
        tenant: Some(id),
        limit: Some(1),
        ..operations::OperationFilter::default()
    };
    Ok(operations::list(conn, &filter).await?.into_iter().next())
}

pub(super) fn new_move(tenant: &TenantRecord, wanted: &MoveTenant, part_of: Option<OperationId>) -> NewOperation {
    let mut input = json!({"holdDeadlineMs": u64::try_from(wanted.hold_deadline.as_millis()).unwrap_or(u64::MAX)});
    if let Some(to) = &wanted.to {
        input["to"] = json!(to);
    }
    if let Some(method) = wanted.method {
        input["method"] = json!(method.as_str());
    }
    if let Some(whole) = part_of {
        input["partOf"] = json!(whole.to_string());
    }
    NewOperation::on(tenant.id, &tenant.slug, OperationKind::Move, input)
}

/// A move that was begun is finished where it was to go.
pub(super) fn same_target(open: &Operation, wanted: &MoveTenant) -> ApiResult<()> {
    match (open.input["to"].as_str(), wanted.to.as_deref()) {
        (Some(begun), Some(to)) if begun != to => Err(refused(format!(
            "A move of this tenant to '{begun}' is under way. Finish it with `--to {begun}`, or take it back with \
             `--abort`."
        ))),
        _ => Ok(()),
    }
}

pub(super) fn may_move(tenant: &TenantRecord) -> ApiResult<()> {
    if tenant.kind == TenantKind::Dedicated {
        return Err(refused(
            "A dedicated database is where its owner has it; only a tenant on a cluster can be moved.",
        ));
    }
    if tenant.status == TenantStatus::Provisioning {
        return Err(refused("The tenant is still being made. Finish that first: the command that began it goes on."));
    }
    Ok(())
}
