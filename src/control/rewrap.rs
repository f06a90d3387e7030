//! Sealing everything anew under the newest master key, while the installation runs.

use diesel::sql_types::{BigInt, Binary, Nullable, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use uuid::Uuid;

use super::ControlPlane;
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{CryptoError, MasterKeys, Place, Sealed};
use crate::router::MainConn;

/// Every sealed column of the schema.
const SEALED: &[(&str, &[&str])] = &[
    ("installation", &["mac_sealed"]),
    ("clusters", &["admin_password_sealed", "tls_client_key_sealed"]),
    ("tenants", &["password_sealed", "url_sealed", "direct_url_sealed", "tls_client_key_sealed"]),
    ("signing_keys", &["private_sealed"]),
    ("operators", &["totp_sealed"]),
    ("backup_keys", &["key_sealed"]),
    ("rotating_passwords", &["next_sealed", "former_sealed"]),
    ("ready_tenants", &["password_sealed"]),
    ("signups", &["admin_sealed"]),
];

/// Rows read at a time.
const BATCH: i64 = 200;

/// How many values of a column were sealed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewrapped {
    /// Table, as in the schema.
    pub table: &'static str,
    /// Column, as in the schema.
    pub column: &'static str,
    /// Values that were under an older key.
    pub count: u64,
}

#[derive(diesel::QueryableByName)]
struct Value {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Binary>)]
    sealed: Option<Vec<u8>>,
}

/// Seals every value that is under an older master key anew under the newest, row by row. Can be interrupted and run
/// again; a value that changes meanwhile is left to whoever changed it, who sealed it with the newest key.
///
/// # Errors
/// If the control plane does not answer, or a value opens with none of the keys.
pub async fn rewrap(control: &ControlPlane) -> ApiResult<Vec<Rewrapped>> {
    let mut report = Vec::new();
    for (table, columns) in SEALED {
        for column in *columns {
            report.push(Rewrapped { table, column, count: rewrap_column(control, table, column).await? });
        }
    }
    Ok(report)
}

async fn rewrap_column(control: &ControlPlane, table: &'static str, column: &'static str) -> ApiResult<u64> {
    let mut count = 0;
    let mut after = Uuid::nil();
    loop {
        let values = batch(control, table, column, after).await?;
        let Some(last) = values.last() else { return Ok(count) };
        after = last.id;
        for value in values {
            let Some(old) = value.sealed.map(Sealed::from).filter(|sealed| control.keys.is_stale(sealed)) else {
                continue;
            };
            let new = reseal(&control.keys, Place { table, column, row: value.id }, &old)?;
            let update = format!("UPDATE {table} SET {column} = $1 WHERE id = $2 AND {column} = $3");
            count += control.db.transaction(async move |conn| replace(conn, update, new, value.id, old).await).await?;
        }
    }
}

/// The next values of a column, by row.
async fn batch(control: &ControlPlane, table: &str, column: &str, after: Uuid) -> ApiResult<Vec<Value>> {
    // Names are ours, from the table above.
    let batch = format!("SELECT id, {column} AS sealed FROM {table} WHERE id > $1 ORDER BY id LIMIT $2");
    control
        .db
        .read(async move |conn: &mut MainConn| -> ApiResult<Vec<Value>> {
            Ok(diesel::sql_query(batch).bind::<SqlUuid, _>(after).bind::<BigInt, _>(BATCH).load::<Value>(conn).await?)
        })
        .await
}

/// A value that none of the master keys opens.
#[derive(Debug, Clone)]
pub struct Shut {
    /// Table, as in the schema.
    pub table: &'static str,
    /// Column, as in the schema.
    pub column: &'static str,
    /// The row's primary key.
    pub row: Uuid,
    /// Why.
    pub fault: CryptoError,
}

/// What the master keys make of the sealed values.
#[derive(Debug, Clone, Default)]
pub struct SealedLook {
    /// Those that do not open.
    pub shut: Vec<Shut>,
    /// How many are under another key than the newest.
    pub stale: u64,
}

/// Opens every sealed value, and tells of those that stay shut.
///
/// # Errors
/// If the control plane does not answer.
pub async fn sealed(control: &ControlPlane) -> ApiResult<SealedLook> {
    let mut look = SealedLook::default();
    for (table, columns) in SEALED {
        for column in *columns {
            let mut after = Uuid::nil();
            loop {
                let values = batch(control, table, column, after).await?;
                let Some(last) = values.last() else { break };
                after = last.id;
                for (row, sealed) in
                    values.into_iter().filter_map(|value| Some((value.id, Sealed::from(value.sealed?))))
                {
                    look.stale += u64::from(control.keys.is_stale(&sealed));
                    if let Err(fault) = control.keys.open(Place { table, column, row }, &sealed) {
                        look.shut.push(Shut { table, column, row, fault });
                    }
                }
            }
        }
    }
    Ok(look)
}

fn reseal(keys: &MasterKeys, place: Place, old: &Sealed) -> ApiResult<Sealed> {
    let plain = keys
        .open(place, old)
        .map_err(|e| ApiError::internal(format!("{}.{} of row {}: {e}", place.table, place.column, place.row)))?;
    Ok(keys.seal(place, &plain))
}

async fn replace(conn: &mut MainConn, update: String, new: Sealed, id: Uuid, old: Sealed) -> ApiResult<u64> {
    // The same secret: the registry's generation stays, and nobody reloads.
    diesel::sql_query("SET LOCAL tenantry.rewrap = 'on'").execute(conn).await?;
    let changed = diesel::sql_query(update)
        .bind::<Binary, _>(Vec::from(new))
        .bind::<SqlUuid, _>(id)
        .bind::<Binary, _>(Vec::from(old))
        .execute(conn)
        .await?;
    Ok(changed as u64)
}
