//! One driver per tenant: a session's advisory lock on the control plane's database. It is gone with the process that
//! held it, so that whoever resumes after a crash need not wait for a lease to run out.

use std::fmt;
use std::time::Duration;

use diesel::sql_types::{BigInt, Bool};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tokio::time::{Instant, sleep};

use crate::control::ControlPlane;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::TenantId;
use crate::kernel::crypto::sha256;
use crate::router::{AdminConn, ConnectOptions};

/// How long the server may need to notice that the last holder is gone.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// A holder whose machine vanished is noticed within half a minute.
const KEEPALIVE: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// The right to work on one tenant, until dropped.
pub(super) struct TenantLock {
    _conn: AdminConn,
}

impl fmt::Debug for TenantLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantLock")
    }
}

#[derive(diesel::QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

impl TenantLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// 409 while another process works on this tenant; 503 if the control plane does not answer.
    pub(super) async fn take(control: &ControlPlane, tenant: TenantId) -> ApiResult<Self> {
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
                .bind::<BigInt, _>(key(tenant))
                .get_result(&mut conn)
                .await
                .map_err(|error| unavailable(error.into()))?;
            if row.locked {
                return Ok(Self { _conn: conn });
            }
            if Instant::now() >= deadline {
                return Err(super::refused("Another process is working on this tenant; wait for it to end."));
            }
            sleep(PAUSE).await;
        }
    }
}

fn key(tenant: TenantId) -> i64 {
    let digest = sha256(format!("tenant operation {tenant}").as_bytes());
    i64::from_be_bytes(digest[..8].try_into().expect("a digest is longer than eight bytes"))
}
