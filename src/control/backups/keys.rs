//! The key of each tenant's backups.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::control::schema::backup_keys as k;
use crate::error::{ApiError, ApiResult};
use crate::kernel::TenantId;
use crate::kernel::chunks::StreamKey;
use crate::kernel::crypto::{MasterKeys, Place, Sealed};
use crate::router::MainConn;

const fn place(tenant: TenantId) -> Place {
    Place::new("backup_keys", "key_sealed", tenant.uuid())
}

/// The tenant's key, if it has one.
///
/// # Errors
/// If the control plane does not answer, or the key does not open.
pub async fn find_key(conn: &mut MainConn, keys: &MasterKeys, tenant: TenantId) -> ApiResult<Option<StreamKey>> {
    let sealed = k::table.find(tenant).select(k::key_sealed).first::<Vec<u8>>(conn).await.optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let opened = keys.open(place(tenant), &Sealed::from(sealed)).map_err(ApiError::internal)?;
    StreamKey::from_bytes(&opened).map(Some).ok_or_else(|| ApiError::internal("a backup key has not 32 bytes"))
}

/// The tenant's key; made if it has none. Running it twice is running it once.
///
/// # Errors
/// As [`find_key`].
pub async fn ensure_key(conn: &mut MainConn, keys: &MasterKeys, tenant: TenantId) -> ApiResult<StreamKey> {
    let sealed = keys.seal(place(tenant), StreamKey::generate().as_bytes());
    diesel::insert_into(k::table)
        .values((k::id.eq(tenant), k::key_sealed.eq(Vec::from(sealed))))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    find_key(conn, keys, tenant).await?.ok_or_else(|| ApiError::internal("the backup key just made is gone"))
}

/// When the tenant's key was made, if it has one.
///
/// # Errors
/// If the control plane does not answer.
pub async fn key_made_at(conn: &mut MainConn, tenant: TenantId) -> ApiResult<Option<DateTime<Utc>>> {
    Ok(k::table.find(tenant).select(k::created_at).first(conn).await.optional()?)
}

/// Destroys the tenant's key: nothing that it sealed opens any more.
///
/// # Errors
/// If the control plane does not answer.
pub async fn destroy_key(conn: &mut MainConn, tenant: TenantId) -> ApiResult<()> {
    diesel::delete(k::table.find(tenant)).execute(conn).await?;
    Ok(())
}
