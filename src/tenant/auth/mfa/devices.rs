//! One's own devices that are asked for no second factor.

use actix_web::{delete, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::own::at_schema;
use super::store::{self, DeviceRow};
use crate::error::{ApiError, ApiResult};
use crate::rest::{InPerson, ListEnvelope, ListFew, Listed, NoContent, NoQuery, Path, Query};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::settings::Auth;
use crate::tenant::docs::Refusals;

/// A device that is asked for no second factor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedDevice {
    /// Identity.
    pub id: Uuid,
    /// From which address it was trusted.
    #[schema(example = "203.0.113.7")]
    pub ip: Option<String>,
    /// Which program it was.
    pub user_agent: Option<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When it last came.
    pub last_used_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

impl From<DeviceRow> for TrustedDevice {
    fn from(row: DeviceRow) -> Self {
        let DeviceRow { id, ip, user_agent, created_at, last_used_at, expires_at } = row;
        Self { id, ip, user_agent, created_at, last_used_at, expires_at }
    }
}

/// One's trusted devices, the latest first: twenty at most.
#[utoipa::path(
    tag = "auth",
    params(ListFew),
    responses((status = 200, description = "The devices", body = ListEnvelope<TrustedDevice>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/auth/mfa/devices")]
pub async fn list_devices(
    auth: web::Data<Auth>,
    InPerson(caller): InPerson,
    query: Query<ListFew>,
) -> ApiResult<Listed<TrustedDevice>> {
    let (me, now) = (caller.user(), auth.clock.now());
    let db = at_schema(&caller.db).await?;
    let rows =
        db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::devices(conn, me, now).await?) }).await?;
    let devices = rows.into_iter().map(TrustedDevice::from).collect();
    query.0.of(&db, ("trusted-devices", me.to_string()), devices, |device: &TrustedDevice| device.id.to_string())
}

/// Trusts one of one's devices no more.
#[utoipa::path(
    tag = "auth",
    params(("id" = Uuid, Path, description = "The device")),
    responses((status = 204, description = "Its next login asks for the second factor"), Refusals),
    security(("bearer" = [])),
)]
#[delete("/api/v1/auth/mfa/devices/{id}")]
pub async fn forget_device(_: NoQuery, InPerson(caller): InPerson, id: Path<Uuid>) -> ApiResult<NoContent> {
    let (me, id) = (caller.user(), id.0);
    let gone = at_schema(&caller.db)
        .await?
        .transaction(async |conn: &mut TenantTx| -> ApiResult<bool> { Ok(store::remove_device(conn, me, id).await?) })
        .await?;
    if gone { Ok(NoContent) } else { Err(ApiError::not_found("device")) }
}
