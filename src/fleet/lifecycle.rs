//! A tenant between its making and its end: found, changed, suspended, resumed, restored.

use diesel_async::SimpleAsyncConnection;

use super::{Fleet, admin, sql};
use crate::control::clusters;
use crate::control::operations::{self, OperationKind};
use crate::control::tenants::{self, TenantChanges, TenantFilter, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{Slug, TenantId};
use crate::router::{MainConn, TenantStatus};

impl Fleet {
    /// A tenant by id or slug, in whatever state.
    ///
    /// # Errors
    /// 404 if there is none.
    pub async fn get(&self, name: &str) -> ApiResult<TenantRecord> {
        if let Ok(id) = name.parse::<TenantId>() {
            return self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await;
        }
        let slug: Slug = name.parse().map_err(|_| ApiError::not_found("tenant"))?;
        let found =
            self.control.db.read(async move |conn: &mut MainConn| tenants::find_by_slug(conn, &slug).await).await?;
        found.ok_or_else(|| ApiError::not_found("tenant"))
    }

    /// Tenants, in the order that a filter asks for.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn list(&self, filter: TenantFilter) -> ApiResult<Vec<TenantRecord>> {
        self.control.db.read(async move |conn: &mut MainConn| tenants::list(conn, &filter).await).await
    }

    /// How many tenants a filter lets through, on whatever page they are.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn count(&self, filter: TenantFilter) -> ApiResult<i64> {
        self.control.db.read(async move |conn: &mut MainConn| tenants::count(conn, &filter).await).await
    }

    /// Changes name, registration, ceiling or weight.
    ///
    /// # Errors
    /// 404 if there is none; 412 if it is no longer of `expected_version`; 422 for a bad value.
    pub async fn set(
        &self,
        id: TenantId,
        expected_version: Option<i64>,
        changes: TenantChanges,
    ) -> ApiResult<TenantRecord> {
        super::check_name(changes.name.as_deref())?;
        if changes.max_connections.flatten().is_some_and(|max| max < 1) {
            return Err(ApiError::invalid_field("maxConnections", "invalid", "At least 1."));
        }
        if changes.weight.is_some_and(|weight| !(1..=100).contains(&weight)) {
            return Err(ApiError::invalid_field("weight", "invalid", "From 1 to 100."));
        }
        if let Some(Some(max)) = changes.max_connections {
            self.raise_role_limit(id, max).await?;
        }
        self.control
            .db
            .read(async move |conn: &mut MainConn| tenants::update(conn, id, expected_version, &changes).await)
            .await
    }

    /// The role's own limit is a guard far above the usual ceiling; a ceiling above it lifts it.
    async fn raise_role_limit(&self, id: TenantId, max: i32) -> ApiResult<()> {
        let wanted = super::provision::role_connections(Some(max));
        if wanted == super::provision::role_connections(None) {
            return Ok(());
        }
        let keys = self.control.keys.clone();
        let found = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let tenant = tenants::get(conn, id).await?;
                let cluster = match tenant.cluster_id {
                    Some(cluster) => Some(clusters::get(conn, &keys, cluster).await?),
                    None => None,
                };
                Ok::<_, ApiError>((tenant.role_name, cluster))
            })
            .await?;
        let (role, Some(cluster)) = found else { return Ok(()) };
        let alter = format!("ALTER ROLE {} CONNECTION LIMIT {wanted}", sql::ident(&role));
        admin::open(&cluster.admin).await?.batch_execute(&alter).await.map_err(ApiError::internal)
    }

    /// Refuses the tenant's users from now on, on every node within two seconds.
    ///
    /// # Errors
    /// 404 if there is none; 409 unless it is active (or suspended already).
    pub async fn suspend(&self, id: TenantId) -> ApiResult<TenantRecord> {
        self.switch(id, TenantStatus::Suspended).await
    }

    /// Serves a suspended tenant again.
    ///
    /// # Errors
    /// 404 if there is none; 409 unless it is suspended (or active already).
    pub async fn resume(&self, id: TenantId) -> ApiResult<TenantRecord> {
        self.switch(id, TenantStatus::Active).await
    }

    async fn switch(&self, id: TenantId, to: TenantStatus) -> ApiResult<TenantRecord> {
        let from = [TenantStatus::Active, TenantStatus::Suspended];
        self.control.db.read(async move |conn: &mut MainConn| tenants::set_status(conn, id, &from, to).await).await
    }

    /// Gives an archived tenant back to its users.
    ///
    /// # Errors
    /// 404 if there is none; 409 if it is not archived, or its end has begun.
    pub async fn restore(&self, id: TenantId) -> ApiResult<TenantRecord> {
        let _lock = super::lock::Lock::tenant(&self.control, id).await?;
        let ending = async move |conn: &mut MainConn| {
            let deletions = operations::unended(conn, id, OperationKind::Delete).await?;
            let erasures = operations::unended(conn, id, OperationKind::Erase).await?;
            Ok::<_, ApiError>(!deletions.is_empty() || !erasures.is_empty())
        };
        if self.control.db.read(ending).await? {
            return Err(super::refused("The tenant's deletion has begun; it cannot be restored."));
        }
        self.control.db.read(async move |conn: &mut MainConn| tenants::restore(conn, id).await).await
    }
}
