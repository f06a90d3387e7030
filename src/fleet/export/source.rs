//! Every table of a tenant, of one moment.

use diesel_async::SimpleAsyncConnection as _;

use super::names::Stems;
use super::write::{self, Place};
use super::{ExportManifest, columns};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::dump::patient;
use crate::fleet::backup::policies;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, refused};
use crate::kernel::TenantId;
use crate::router::{MainConn, Target, TenantStatus};

/// The form of what exports hold.
const FORMAT: u32 = 1;

/// Whom an export is of.
pub(super) struct Source<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) tenant: TenantRecord,
    direct: Target,
}

impl<'a> Source<'a> {
    /// The tenant as it is now; the caller has its lock.
    ///
    /// # Errors
    /// 404 if there is none; 409 if it is not made yet.
    pub(super) async fn find(fleet: &'a Fleet, id: TenantId) -> ApiResult<Self> {
        let keys = fleet.control.keys.clone();
        let found = fleet.control.db.read(async move |conn: &mut MainConn| {
            Ok::<_, ApiError>((tenants::get(conn, id).await?, tenants::target(conn, &keys, id).await?.1))
        });
        let (tenant, direct) = found.await?;
        is_made(&tenant)?;
        Ok(Self { fleet, tenant, direct })
    }

    /// Writes all of it, and says what that is.
    pub(super) async fn write(&self, place: Place<'_>, journal: &mut Journal<'_>) -> ApiResult<ExportManifest> {
        let mut conn = patient(&self.direct).await?;
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
            SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 3; \
            SET LOCAL row_security = off";
        conn.batch_execute(begin).await.map_err(ApiError::internal)?;
        policies::hide_nothing(&mut conn).await?;
        let (plan, left_out) = columns::plan(&mut conn).await?;
        let exported_at = self.fleet.control.clock.now();
        let total = i64::try_from(plan.len()).map_err(ApiError::internal)?;
        let (mut tables, mut stems) = (Vec::with_capacity(plan.len()), Stems::default());
        for (table, done) in plan.into_iter().zip(0_i64..) {
            let stem = stems.of(&table.table);
            tables.push(write::table(&mut conn, (place, stem.as_str()), table, journal, (done, total)).await?);
        }
        conn.batch_execute("COMMIT").await.map_err(ApiError::internal)?;
        Ok(ExportManifest {
            format: FORMAT,
            tenant: self.tenant.id,
            slug: self.tenant.slug.clone(),
            exported_at,
            schema_version: self.tenant.schema_version,
            tables,
            left_out,
        })
    }
}

/// # Errors
/// 409 if the tenant is not made yet.
pub(super) fn is_made(tenant: &TenantRecord) -> ApiResult<()> {
    match tenant.status {
        TenantStatus::Provisioning => Err(refused("The tenant is not made yet, so there is nothing to export.")),
        _ => Ok(()),
    }
}
