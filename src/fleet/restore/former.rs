//! Databases that tenants lived in before: dropped when their grace period has ended, or with their tenant.

use crate::control::backups::{self, FormerDatabase};
use crate::control::clusters;
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::{Fleet, admin, sql};
use crate::kernel::{ClusterId, TenantId};
use crate::router::MainConn;

impl Fleet {
    /// Drops the former databases whose grace period has ended, and gives how many. One that cannot be dropped now is
    /// left for the next sweep.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn purge_former(&self) -> ApiResult<usize> {
        let now = self.control.clock.now();
        let due = self.control.db.read(async move |conn: &mut MainConn| backups::due_former(conn, now).await).await?;
        let mut gone = 0;
        for database in due {
            let dropped = async {
                let _lock = Lock::tenant(&self.control, database.tenant_id).await?;
                self.drop_former(&database).await
            };
            match dropped.await {
                Ok(()) => gone += 1,
                Err(error) => {
                    tracing::warn!(tenant = %database.tenant_id, %error, cause = ?error.cause(), "a former database stays for now");
                }
            }
        }
        Ok(gone)
    }

    /// Drops every former database of a tenant, whose lock the caller holds.
    pub(in crate::fleet) async fn drop_all_former(&self, tenant: TenantId) -> ApiResult<()> {
        for database in &self.former(tenant).await? {
            self.drop_former(database).await?;
        }
        Ok(())
    }

    /// Those on one cluster.
    pub(in crate::fleet) async fn drop_former_on(&self, tenant: TenantId, cluster: ClusterId) -> ApiResult<()> {
        for database in self.former(tenant).await?.iter().filter(|database| database.cluster_id == cluster) {
            self.drop_former(database).await?;
        }
        Ok(())
    }

    async fn former(&self, tenant: TenantId) -> ApiResult<Vec<FormerDatabase>> {
        self.control.db.read(async move |conn: &mut MainConn| backups::former_of(conn, tenant).await).await
    }

    async fn drop_former(&self, database: &FormerDatabase) -> ApiResult<()> {
        let (id, tenant, cluster, keys) =
            (database.id, database.tenant_id, database.cluster_id, self.control.keys.clone());
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            Ok::<_, ApiError>((clusters::get(conn, &keys, cluster).await?, tenants::find(conn, tenant).await?))
        });
        let (cluster, tenant) = found.await?;
        // Whoever lives in it keeps it, whatever the list says.
        let lived_in = tenant.is_some_and(|tenant| {
            tenant.cluster_id == Some(cluster.id) && tenant.database_name == database.database_name
        });
        if !lived_in {
            let mut server = admin::open(&cluster.admin).await?;
            let name = [("database", &*database.database_name)];
            admin::run_each(&mut server, sql::DATABASE_UNDO, &name).await?;
        }
        self.control.db.read(async move |conn: &mut MainConn| backups::forget_former(conn, id).await).await
    }
}
