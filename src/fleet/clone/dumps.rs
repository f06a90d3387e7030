//! Dumps of clones that were given up: sealed, but nobody's any more.

use super::{Input, Step};
use crate::control::operations::{self, Litter, Operation, OperationKind, OperationState};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::fleet::Fleet;
use crate::fleet::backup::vault::{away, folder_of};
use crate::fleet::lock::{self, Lock};
use crate::fleet::operation::retention::{ABANDONED, tell};
use crate::kernel::BackupId;
use crate::router::{MainConn, TenantStatus};

/// How many a look takes in: the rest is for the next one.
const LOOK: i64 = 32;
const DUMPS: Litter = Litter { kind: OperationKind::Clone, leaves: Step::Dump.as_str(), clears: Step::Clean.as_str() };

impl Fleet {
    pub(in crate::fleet) async fn sweep_dumps(&self) -> ApiResult<()> {
        let before = self.control.clock.now() - ABANDONED;
        let db = &self.control.db;
        let found =
            db.read(async move |conn: &mut MainConn| operations::left_behind(conn, DUMPS, before, LOOK).await).await?;
        if found.is_empty() {
            return Ok(());
        }
        let driven = lock::held(&self.control).await?;
        for clone in found.iter().filter(|clone| !driven.contains(&lock::key_of(clone))) {
            tell("the dump of a clone that was given up", self.drop_dump(clone).await);
        }
        Ok(())
    }

    async fn drop_dump(&self, clone: &Operation) -> ApiResult<()> {
        let _lock = Lock::operation(&self.control, clone).await?;
        let Input { source, .. } = serde_json::from_value(clone.input.clone()).map_err(ApiError::internal)?;
        let (id, db) = (clone.id, &self.control.db);
        let tenant = clone.tenant.as_ref().map(|(tenant, _)| *tenant);
        // Gone on with, to its end, since the list was read.
        let is_needless = db.read(async move |conn: &mut MainConn| {
            let made = match tenant {
                Some(tenant) => tenants::find(conn, tenant).await?,
                None => None,
            };
            let cleans = |step: &operations::Step| step.is_done() && step.name == Step::Clean.as_str();
            Ok::<_, ApiError>(
                operations::get(conn, id).await?.state == OperationState::Done
                    || made.is_some_and(|made| made.status != TenantStatus::Provisioning)
                    || operations::steps(conn, id).await?.iter().any(cleans),
            )
        });
        if is_needless.await? {
            return Ok(());
        }
        // Whoever goes on with it after all takes a new one.
        db.transaction(async move |conn: &mut MainConn| {
            operations::forget_steps(conn, id, Step::Load.as_str()).await?;
            operations::step_undone(conn, id, Step::Dump.as_str()).await
        })
        .await?;
        self.storage()?.remove_all(&folder_of(source, BackupId::from(id.uuid()))).await.map_err(away)?;
        db.read(async move |conn: &mut MainConn| operations::forget_steps(conn, id, Step::Dump.as_str()).await).await
    }
}
