//! How a tenant's database is reached: what is sealed, opened.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret, SecretString};

use crate::control::schema::tenants as t;
use crate::control::{clusters, open_text, tls_policy};
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{MasterKeys, Place};
use crate::kernel::{ClusterId, TenantId};
use crate::router::{MainConn, Target};

pub(super) const fn place(column: &'static str, id: TenantId) -> Place {
    Place::new("tenants", column, id.uuid())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = t)]
struct Secrets {
    cluster_id: Option<ClusterId>,
    database_name: String,
    role_name: String,
    password_sealed: Option<Vec<u8>>,
    url_sealed: Option<Vec<u8>>,
    direct_url_sealed: Option<Vec<u8>>,
    tls_mode: Option<String>,
    tls_ca: Option<String>,
    tls_client_cert: Option<String>,
    tls_client_key_sealed: Option<Vec<u8>>,
}

/// Pooled and direct address of a tenant's database, as its own role.
///
/// # Errors
/// 404 if there is none; if a secret does not open.
pub async fn target(conn: &mut MainConn, keys: &MasterKeys, id: TenantId) -> ApiResult<(Target, Target)> {
    let row = t::table.find(id).select(Secrets::as_select()).first(conn).await.optional()?;
    let row = row.ok_or_else(|| ApiError::not_found("tenant"))?;
    if let Some(cluster_id) = row.cluster_id {
        let cluster = clusters::get(conn, keys, cluster_id).await?;
        let target = Target {
            database: row.database_name,
            user: row.role_name,
            password: open_text(keys, place("password_sealed", id), row.password_sealed)?,
            ..cluster.admin
        };
        return Ok((target.clone(), target));
    }
    let mode = row.tls_mode.ok_or_else(|| ApiError::internal("a dedicated tenant without a TLS mode"))?;
    let key_place = place("tls_client_key_sealed", id);
    let tls = tls_policy(keys, key_place, &mode, row.tls_ca, row.tls_client_cert, row.tls_client_key_sealed)?;
    let url = open_text(keys, place("url_sealed", id), row.url_sealed)?;
    let direct = open_text(keys, place("direct_url_sealed", id), row.direct_url_sealed)?;
    Ok((
        Target::parse(&url, tls.clone()).map_err(ApiError::internal)?,
        Target::parse(&direct, tls).map_err(ApiError::internal)?,
    ))
}

/// Gives a shared tenant's role another password in the registry; connections of the old one are retired.
///
/// # Errors
/// 404 if there is no such shared tenant.
pub async fn set_password(
    conn: &mut MainConn,
    keys: &MasterKeys,
    id: TenantId,
    password: &SecretString,
) -> ApiResult<()> {
    let sealed = keys.seal(place("password_sealed", id), password.expose_secret().as_bytes());
    let changed = diesel::update(t::table.find(id).filter(t::cluster_id.is_not_null()))
        .set((t::password_sealed.eq(Vec::from(sealed)), t::epoch.eq(t::epoch + 1)))
        .execute(conn)
        .await?;
    if changed == 0 { Err(ApiError::not_found("tenant")) } else { Ok(()) }
}
