//! How an operation on a tenant is begun, or found again, by whoever holds the tenant's lock.

use crate::control::operations::{self, NewOperation, Operation, OperationKind, OperationState};
use crate::error::{ApiError, ApiResult};
use crate::fleet::rotate::in_the_way;
use crate::fleet::{Fleet, refused};
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

impl Fleet {
    /// An unfinished operation of this kind that was asked for the same is gone on with; else a new one begins, unless a
    /// worker was `left` one.
    ///
    /// # Errors
    /// 409 if another one is unfinished, if the tenant's deletion has begun, or if the worker's has ended.
    pub(in crate::fleet) async fn begin_or_resume(
        &self,
        new: NewOperation,
        left: Option<OperationId>,
    ) -> ApiResult<Operation> {
        let (tenant, _) = new.tenant.clone().ok_or_else(|| ApiError::internal("an operation without its tenant"))?;
        // A move that failed holds the fence of the tenant's database until it is taken back.
        if let Some(open) = self.pending_move(tenant).await? {
            return Err(in_the_way(&open));
        }
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                // It may have taken the database already: nothing is put in its place, so that it is not forgotten.
                if let Some(deletion) = operations::unended(conn, tenant, OperationKind::Delete).await?.first() {
                    return Err(is_ending(tenant, deletion));
                }
                let found = operations::find_open(conn, tenant).await?;
                let erases = match &found {
                    Some(open) if open.kind == OperationKind::Erase => operations::has_begun(conn, open).await?,
                    _ => false,
                };
                match found {
                    Some(open) if open.kind == new.kind && open.input == new.input => {
                        operations::resume(conn, open.id, left).await
                    }
                    _ if left.is_some() => Err(operations::has_ended()),
                    // We hold the lock: nobody drives it, but for a worker that is about to.
                    Some(open)
                        if open.state == OperationState::Queued
                            || open.kind != new.kind && !open.state.is_final()
                            || erases =>
                    {
                        Err(refused(format!(
                            "Another job ({}, {}) of this tenant is unfinished; run it again, or cancel it.",
                            open.kind, open.id
                        )))
                    }
                    Some(open) => {
                        operations::finish(conn, open.id, OperationState::Undone, open.error.as_deref()).await?;
                        operations::begin(conn, &new).await
                    }
                    None => operations::begin(conn, &new).await,
                }
            })
            .await
    }
}

/// Whoever began to delete the tenant comes first.
fn is_ending(tenant: TenantId, deletion: &Operation) -> ApiError {
    let data = if deletion.input["dropDedicatedData"] == true { " --drop-dedicated-data" } else { "" };
    refused(format!(
        "The deletion of this tenant has begun (job {}). Finish it: `tenantry tenant delete {tenant} --now{data}` goes on.",
        deletion.id
    ))
}
