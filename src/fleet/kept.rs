//! Databases that moves and restores have left behind: shown, and dropped when somebody says so, when their grace period
//! has ended, or with their tenant.

use super::lock::Lock;
use super::{Fleet, admin, relocate, sql, sweep};
use crate::control::kept::{self, KeptDatabase, LeftBy, ListedKept};
use crate::control::{clusters, tenants};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::TenantId;
use crate::router::MainConn;

impl Fleet {
    /// All of them, or one tenant's by id or slug, in the order in which they go; at most a thousand.
    ///
    /// # Errors
    /// 404 if there is neither such a tenant nor anything that is kept of one.
    pub async fn kept(&self, tenant: Option<&str>) -> ApiResult<Vec<ListedKept>> {
        let id = match tenant {
            Some(name) => Some(self.tenant_or_kept(name).await?),
            None => None,
        };
        self.control.db.read(async move |conn: &mut MainConn| kept::list(conn, id).await).await
    }

    /// Drops what is kept of a tenant, by id or slug, before its time; and gives how many.
    ///
    /// # Errors
    /// 404 if there is no trace of the tenant; 409 while another process works on it; 503 if a server does not answer.
    pub async fn drop_kept_now(&self, tenant: &str) -> ApiResult<usize> {
        let id = self.tenant_or_kept(tenant).await?;
        let _lock = Lock::tenant(&self.control, id).await?;
        self.drop_kept(id, None).await
    }

    /// Drops the old copies of a tenant that was moved, and gives how many.
    ///
    /// # Errors
    /// 409 while another process works on the tenant; 503 if the server of a copy does not answer.
    pub async fn confirm_move(&self, id: TenantId) -> ApiResult<usize> {
        let _lock = Lock::tenant(&self.control, id).await?;
        self.drop_kept(id, Some(LeftBy::Move)).await
    }

    /// Drops what is kept of a tenant, all of it or what one kind of work has left, for whoever has the tenant's lock.
    pub(super) async fn drop_kept(&self, id: TenantId, left_by: Option<LeftBy>) -> ApiResult<usize> {
        let wanted =
            self.kept_of(id).await?.into_iter().filter(|one| left_by.is_none_or(|left_by| left_by == one.left_by));
        let wanted: Vec<_> = wanted.map(|one| one.id).collect();
        let mut count = 0;
        for wanted in wanted {
            // Read anew: one that is dropped leaves its role to another.
            let of_tenant = self.kept_of(id).await?;
            if let Some(database) = of_tenant.iter().find(|one| one.id == wanted) {
                self.drop_kept_one(database, &of_tenant).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Drops those whose grace period has ended, and gives how many. One that cannot be dropped now, or in time, is left
    /// for the next sweep.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn purge_kept(&self) -> ApiResult<usize> {
        if !self.tells_time().await? {
            return Ok(0);
        }
        let now = self.control.clock.now();
        let due = self.control.db.read(async move |conn: &mut MainConn| kept::due(conn, now).await).await?;
        let due = due.into_iter().map(|database| (database.cluster_id.uuid(), database)).collect();
        Ok(sweep::by_server(due, self.sweep_deadline(sweep::DROP), |database| self.purge_kept_one(database)).await)
    }

    /// Whether it is gone.
    async fn purge_kept_one(&self, database: KeptDatabase) -> bool {
        let dropped = async {
            let _lock = Lock::tenant(&self.control, database.tenant_id).await?;
            let of_tenant = self.kept_of(database.tenant_id).await?;
            // Lived in again, or dropped with another, since the list was read.
            match of_tenant.iter().find(|one| one.id == database.id) {
                Some(still) => self.drop_kept_one(still, &of_tenant).await,
                None => Ok(()),
            }
        };
        let dropped: ApiResult<()> = dropped.await;
        if let Err(error) = &dropped {
            let (tenant, cluster) = (database.tenant_id, database.cluster_id);
            tracing::warn!(%tenant, %cluster, %error, cause = ?error.cause(), "a kept database stays for now");
        }
        dropped.is_ok()
    }

    async fn kept_of(&self, id: TenantId) -> ApiResult<Vec<KeptDatabase>> {
        self.control.db.read(async move |conn: &mut MainConn| kept::of_tenant(conn, id).await).await
    }

    /// Never the database that serves, nor its role. A role owns the tenant's other databases on its server too: it goes
    /// with the last of them, and is left to another until then.
    async fn drop_kept_one(&self, database: &KeptDatabase, of_tenant: &[KeptDatabase]) -> ApiResult<()> {
        let (tenant, cluster, keys) = (database.tenant_id, database.cluster_id, self.control.keys.clone());
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            Ok::<_, ApiError>((clusters::get(conn, &keys, cluster).await?, tenants::find(conn, tenant).await?))
        });
        let (cluster, tenant) = found.await?;
        let lives_here = tenant.filter(|tenant| tenant.cluster_id == Some(cluster.id));
        if lives_here.as_ref().is_none_or(|tenant| tenant.database_name != database.database_name) {
            relocate::forget_subscription(&cluster.admin, &database.database_name, database.tenant_id).await?;
            let mut server = admin::open(&cluster.admin).await?;
            admin::run_each(&mut server, sql::DATABASE_UNDO, &[("database", &database.database_name)]).await?;
        }
        let role = database.role_name.clone().filter(|_| lives_here.is_none());
        let heir = of_tenant.iter().find(|one| one.cluster_id == cluster.id && one.id != database.id);
        if let (Some(role), None) = (&role, heir) {
            let mut server = admin::open(&cluster.admin).await?;
            admin::run_each(&mut server, sql::ROLE_UNDO, &[("role", role)]).await?;
        }
        let (id, left) = (database.id, heir.map(|heir| heir.id).zip(role));
        let forgotten = self.control.db.transaction(async move |conn: &mut MainConn| {
            if let Some((heir, role)) = &left {
                kept::leave_role(conn, *heir, role).await?;
            }
            kept::forget(conn, id).await
        });
        forgotten.await
    }

    async fn tenant_or_kept(&self, name: &str) -> ApiResult<TenantId> {
        match (self.get(name).await, name.parse::<TenantId>()) {
            (Ok(tenant), _) => Ok(tenant.id),
            (Err(error), Ok(id)) if error.code() == Code::NotFound => {
                if self.kept_of(id).await?.is_empty() {
                    Err(error)
                } else {
                    Ok(id)
                }
            }
            (Err(error), _) => Err(error),
        }
    }
}
