//! What a move leaves behind: dropped when somebody confirms it, or when the grace period ends.

use super::replicate;
use crate::control::clusters;
use crate::control::tenants::{self, TenantCopy};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::{Fleet, admin, sql};
use crate::kernel::TenantId;
use crate::router::MainConn;

impl Fleet {
    /// Drops the old copies of a tenant that was moved, and gives how many.
    ///
    /// # Errors
    /// 409 while another process works on the tenant; 503 if the server of a copy does not answer.
    pub async fn confirm_move(&self, id: TenantId) -> ApiResult<usize> {
        let _lock = Lock::tenant(&self.control, id).await?;
        self.drop_copies(id).await
    }

    /// The same, for whoever has the tenant's lock.
    pub(in crate::fleet) async fn drop_copies(&self, id: TenantId) -> ApiResult<usize> {
        let copies = self.control.db.read(async move |conn: &mut MainConn| tenants::copies(conn, id).await).await?;
        let count = copies.len();
        for copy in copies {
            self.drop_copy(copy).await?;
        }
        Ok(count)
    }

    /// Drops copies whose grace period has ended, and gives how many. One that cannot be dropped now is left for later.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn purge_copies(&self) -> ApiResult<usize> {
        let now = self.control.clock.now();
        let due = self.control.db.read(async move |conn: &mut MainConn| tenants::copies_due(conn, now).await).await?;
        let mut gone = 0;
        for copy in due {
            let (tenant, cluster) = (copy.tenant_id, copy.cluster_id);
            match self.purge_copy(copy).await {
                Ok(()) => gone += 1,
                Err(error) => {
                    tracing::warn!(%tenant, %cluster, %error, cause = ?error.cause(), "an old copy stays for now")
                }
            }
        }
        Ok(gone)
    }

    async fn purge_copy(&self, copy: TenantCopy) -> ApiResult<()> {
        let _lock = Lock::tenant(&self.control, copy.tenant_id).await?;
        self.drop_copy(copy).await
    }

    /// Never the database that serves: a tenant that has come back has no copy there.
    async fn drop_copy(&self, copy: TenantCopy) -> ApiResult<()> {
        let (id, cluster, keys) = (copy.tenant_id, copy.cluster_id, self.control.keys.clone());
        let (cluster, tenant) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                Ok::<_, ApiError>((clusters::get(conn, &keys, cluster).await?, tenants::find(conn, id).await?))
            })
            .await?;
        if tenant.is_some_and(|tenant| tenant.cluster_id == Some(cluster.id)) {
            return Err(ApiError::internal("a copy where its tenant lives"));
        }
        replicate::forget_at(&cluster.admin, &copy.database_name, id).await?;
        let mut server = admin::open(&cluster.admin).await?;
        admin::run_each(&mut server, sql::DATABASE_UNDO, &[("database", &copy.database_name)]).await?;
        // The role owns them too.
        self.drop_former_on(id, cluster.id).await?;
        admin::run_each(&mut server, sql::ROLE_UNDO, &[("role", &copy.role_name)]).await?;
        self.control.db.read(async move |conn: &mut MainConn| tenants::forget_copy(conn, copy.id).await).await
    }
}
