//! One driver of an operation: a session's advisory lock on the control plane's database. It is gone with the process
//! that held it, so that whoever resumes after a crash need not wait for a lease to run out.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use diesel::sql_types::{BigInt, Bool};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tokio::time::{Instant, sleep};

use crate::control::ControlPlane;
use crate::control::operations::Operation;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::TenantId;
use crate::kernel::crypto::sha256;
use crate::router::{AdminConn, ConnectOptions, MainConn};

/// How long the server may need to notice that the last holder is gone.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// A holder whose machine vanished is noticed within half a minute.
const KEEPALIVE: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
/// The keys that somebody holds, as one number each (`pg_locks` has its halves).
const HELD: &str = "SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks \
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// What is said while another process has the right.
const BUSY: [&str; 2] = [
    "Another process is working on this tenant; wait for it to end.",
    "Another process is driving this job; wait for it to end.",
];

/// Whether an error says that another process has the right.
pub(super) fn is_busy(error: &ApiError) -> bool {
    BUSY.contains(&error.client_detail())
}

/// The right to work on one tenant, or on what else operations work on, until dropped.
pub(super) struct Lock {
    _conn: AdminConn,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

#[derive(diesel::QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

#[derive(diesel::QueryableByName)]
struct Held {
    #[diesel(sql_type = BigInt)]
    key: i64,
}

impl Lock {
    /// The right to work on a tenant.
    ///
    /// # Errors
    /// 409 while another process works on it; 503 if the control plane does not answer.
    pub(super) async fn tenant(control: &ControlPlane, tenant: TenantId) -> ApiResult<Self> {
        Self::take(control, tenant_key(tenant), BUSY[0]).await
    }

    /// The right to drive an operation that is not on one tenant.
    ///
    /// # Errors
    /// As [`Self::tenant`].
    pub(super) async fn operation(control: &ControlPlane, operation: &Operation) -> ApiResult<Self> {
        Self::take(control, key_of(operation), BUSY[1]).await
    }

    async fn take(control: &ControlPlane, key: i64, busy: &'static str) -> ApiResult<Self> {
        let unavailable = |cause: Box<dyn std::error::Error + Send + Sync>| {
            ApiError::new(Code::ControlPlaneUnavailable).caused_by(cause)
        };
        let options = ConnectOptions {
            application_name: "tenantry-provision".into(),
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Some(Duration::from_secs(5)),
            ..ConnectOptions::default()
        };
        let mut conn =
            AdminConn::open(control.db.target(), &options).await.map_err(|error| unavailable(error.into()))?;
        conn.batch_execute(KEEPALIVE).await.map_err(|error| unavailable(error.into()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row: Locked = diesel::sql_query("SELECT pg_try_advisory_lock($1) AS locked")
                .bind::<BigInt, _>(key)
                .get_result(&mut conn)
                .await
                .map_err(|error| unavailable(error.into()))?;
            if row.locked {
                return Ok(Self { _conn: conn });
            }
            if Instant::now() >= deadline {
                return Err(super::refused(busy));
            }
            sleep(PAUSE).await;
        }
    }
}

/// The keys that somebody holds now.
///
/// # Errors
/// If the control plane does not answer.
pub(super) async fn held(control: &ControlPlane) -> ApiResult<HashSet<i64>> {
    let rows: Vec<Held> = control
        .db
        .read(async |conn: &mut MainConn| Ok::<_, ApiError>(diesel::sql_query(HELD).load(conn).await?))
        .await?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}

/// The key of what an operation works on: its tenant, else the operation itself.
pub(super) fn key_of(operation: &Operation) -> i64 {
    match &operation.tenant {
        Some((tenant, _)) => tenant_key(*tenant),
        None => key(&format!("operation {}", operation.id)),
    }
}

fn tenant_key(tenant: TenantId) -> i64 {
    key(&format!("tenant operation {tenant}"))
}

fn key(name: &str) -> i64 {
    let digest = sha256(name.as_bytes());
    i64::from_be_bytes(digest[..8].try_into().expect("a digest is longer than eight bytes"))
}
