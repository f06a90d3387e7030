//! How a tenant's database is reached: what is sealed, opened.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
    id: TenantId,
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
    let admin = match row.cluster_id {
        Some(cluster_id) => Some(clusters::get(conn, keys, cluster_id).await?.admin),
        None => None,
    };
    row.open(keys, admin)
}

/// Direct addresses of many tenants' databases. A tenant that is gone, or whose secrets do not open, is not among them.
///
/// # Errors
/// If the control plane does not answer.
pub async fn direct_targets(
    conn: &mut MainConn,
    keys: &MasterKeys,
    ids: &[TenantId],
) -> ApiResult<HashMap<TenantId, Target>> {
    let rows: Vec<Secrets> = t::table.filter(t::id.eq_any(ids)).select(Secrets::as_select()).load(conn).await?;
    let mut admins = HashMap::new();
    for id in rows.iter().filter_map(|row| row.cluster_id) {
        if let Entry::Vacant(admin) = admins.entry(id) {
            admin.insert(clusters::get(conn, keys, id).await?.admin);
        }
    }
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let (id, admin) = (row.id, row.cluster_id.and_then(|id| admins.get(&id).cloned()));
        match row.open(keys, admin) {
            Ok((_, direct)) => drop(found.insert(id, direct)),
            Err(error) => tracing::warn!(tenant = %id, %error, "a tenant's address does not open"),
        }
    }
    Ok(found)
}

impl Secrets {
    /// Pooled and direct address; a shared tenant's are on its cluster, whose administrator's address is given.
    fn open(self, keys: &MasterKeys, admin: Option<Target>) -> ApiResult<(Target, Target)> {
        let id = self.id;
        if let Some(admin) = admin {
            let target = Target {
                database: self.database_name,
                user: self.role_name,
                password: open_text(keys, place("password_sealed", id), self.password_sealed)?,
                ..admin
            };
            return Ok((target.clone(), target));
        }
        let mode = self.tls_mode.ok_or_else(|| ApiError::internal("a dedicated tenant without a TLS mode"))?;
        let key_place = place("tls_client_key_sealed", id);
        let tls = tls_policy(keys, key_place, &mode, self.tls_ca, self.tls_client_cert, self.tls_client_key_sealed)?;
        let url = open_text(keys, place("url_sealed", id), self.url_sealed)?;
        let direct = open_text(keys, place("direct_url_sealed", id), self.direct_url_sealed)?;
        Ok((
            Target::parse(&url, tls.clone()).map_err(ApiError::internal)?,
            Target::parse(&direct, tls).map_err(ApiError::internal)?,
        ))
    }
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
