//! One driver of an operation: a session's advisory lock on the control plane's database. It is gone with the process
//! that held it, so that whoever resumes after a crash need not wait for a lease to run out.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::sql_types::{Array, BigInt, Bool};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep, timeout};

use crate::control::ControlPlane;
use crate::control::operations::{self, Operation};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::sha256;
use crate::kernel::{ClusterId, Slug, TenantId};
use crate::router::{AdminConn, ConnectOptions, MainConn};

/// How long the server may need to notice that the last holder is gone.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// A session that has lain idle for longer is asked whether it is still there, and how long it may think.
const TRUSTED: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(1);
/// A holder whose machine vanished is noticed within half a minute; one that lies idle while it works keeps its lock.
const KEEPALIVE: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
    SET idle_session_timeout = 0";
/// The keys that somebody holds, as one number each (`pg_locks` has its halves).
const HELD: &str = "SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks \
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// What is said while another process has the right.
const BUSY: [&str; 2] = [
    "Another process is working on this tenant; wait for it to end.",
    "Another process is driving this job; wait for it to end.",
];

/// Whether an error says that another process has the right, or has it by now.
pub(super) fn is_busy(error: &ApiError) -> bool {
    BUSY.contains(&error.client_detail()) || operations::is_taken_over(error)
}

/// Sessions kept for the next short operation, at most.
const IDLE: usize = 4;

/// Sessions that held a lock and wait for the next: opening one takes longer than a short operation.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<(Instant, AdminConn)>>);

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Idle")
    }
}

impl Idle {
    fn take(&self) -> Option<(Instant, AdminConn)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, conn: AdminConn) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < IDLE {
            kept.push((Instant::now(), conn));
        }
    }
}

/// The right to work on one tenant, or on what else operations work on, until dropped.
pub(super) struct Lock {
    conn: Option<AdminConn>,
    key: i64,
    /// Where its session goes afterwards; it ends if absent.
    idle: Option<Arc<Idle>>,
}

/// A session that can hold a lock; it may have held others before.
pub(super) struct Session {
    conn: AdminConn,
    /// It lay idle, and may have broken there.
    kept: bool,
    idle: Arc<Idle>,
    control: ControlPlane,
}

impl Session {
    /// One that lies idle, or a new one.
    ///
    /// # Errors
    /// 503 if the control plane does not answer.
    pub(super) async fn of(idle: &Arc<Idle>, control: &ControlPlane) -> ApiResult<Self> {
        let kept = match idle.take() {
            Some((since, mut conn)) if since.elapsed() > TRUSTED => {
                // Better here than where others wait for it.
                let asked = timeout(PING, conn.batch_execute("SELECT 1")).await;
                matches!(asked, Ok(Ok(()))).then_some(conn)
            }
            other => other.map(|(_, conn)| conn),
        };
        let (conn, kept) = match kept {
            Some(conn) => (conn, true),
            None => (open(control).await?, false),
        };
        Ok(Self { conn, kept, idle: idle.clone(), control: control.clone() })
    }

    /// Takes the lock if it is free. A session that broke while it lay idle is replaced.
    async fn try_lock(&mut self, key: i64) -> ApiResult<bool> {
        let tried = try_lock(&mut self.conn, key).await;
        if tried.is_ok() || !std::mem::take(&mut self.kept) {
            return tried;
        }
        self.conn = open(&self.control).await?;
        try_lock(&mut self.conn, key).await
    }

    /// The right to work on a tenant that nobody knows of yet.
    ///
    /// # Errors
    /// As [`Lock::tenant`].
    pub(super) async fn tenant(mut self, tenant: TenantId) -> ApiResult<Lock> {
        let (key, deadline) = (tenant_key(tenant), Instant::now() + PATIENCE);
        // Whoever has just made a ready one gives its lock back a moment later.
        while !self.try_lock(key).await? {
            if Instant::now() >= deadline {
                self.idle.keep(self.conn);
                return Err(super::refused(BUSY[0]));
            }
            sleep(PAUSE / 10).await;
        }
        Ok(Lock { conn: Some(self.conn), key, idle: Some(self.idle) })
    }

    async fn lock(mut self, key: i64) -> ApiResult<Option<Lock>> {
        if self.try_lock(key).await? {
            return Ok(Some(Lock { conn: Some(self.conn), key, idle: Some(self.idle) }));
        }
        self.idle.keep(self.conn);
        Ok(None)
    }
}

impl Lock {
    /// Gives it back now: whoever asks next gets it. Dropped, it is given back a moment later.
    pub(super) async fn release(mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        // One that cannot say so ends its session, and the lock with it.
        if matches!(try_unlock(&mut conn, self.key).await, Ok(true))
            && let Some(idle) = self.idle.take()
        {
            idle.keep(conn);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let (Some(mut conn), Some(idle)) = (self.conn.take(), self.idle.take()) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let key = self.key;
        runtime.spawn(async move {
            if matches!(try_unlock(&mut conn, key).await, Ok(true)) {
                idle.keep(conn);
            }
        });
    }
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

    /// The right to remove a cluster, whose stock nobody fills meanwhile.
    ///
    /// # Errors
    /// As [`Self::tenant`].
    pub(super) async fn removal(control: &ControlPlane, cluster: ClusterId) -> ApiResult<Self> {
        let busy = "Another process is removing this cluster, or placing a tenant there; try again in a moment.";
        Self::take(control, removal_key(cluster), busy).await
    }

    /// The right to drive an operation, on a tenant or not, if nobody drives it or does other work on its tenant.
    ///
    /// # Errors
    /// 503 if the control plane does not answer.
    pub(super) async fn of_undriven(
        idle: &Arc<Idle>,
        control: &ControlPlane,
        operation: &Operation,
    ) -> ApiResult<Option<Self>> {
        Session::of(idle, control).await?.lock(key_of(operation)).await
    }

    /// The right to do what a name stands for, if nobody has it.
    ///
    /// # Errors
    /// 503 if the control plane does not answer.
    pub(super) async fn named(idle: &Arc<Idle>, control: &ControlPlane, name: &str) -> ApiResult<Option<Self>> {
        Session::of(idle, control).await?.lock(key(name)).await
    }

    async fn take(control: &ControlPlane, key: i64, busy: &'static str) -> ApiResult<Self> {
        let mut conn = open(control).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if try_lock(&mut conn, key).await? {
                return Ok(Self { conn: Some(conn), key, idle: None });
            }
            if Instant::now() >= deadline {
                return Err(super::refused(busy));
            }
            sleep(PAUSE).await;
        }
    }
}

fn unavailable(cause: Box<dyn std::error::Error + Send + Sync>) -> ApiError {
    ApiError::new(Code::ControlPlaneUnavailable).caused_by(cause)
}

async fn open(control: &ControlPlane) -> ApiResult<AdminConn> {
    let options = ConnectOptions {
        application_name: "tenantry-provision".into(),
        connect_timeout: Duration::from_secs(3),
        statement_timeout: Some(Duration::from_secs(5)),
        ..ConnectOptions::default()
    };
    let mut conn = AdminConn::open(control.db.target(), &options).await.map_err(|error| unavailable(error.into()))?;
    conn.batch_execute(KEEPALIVE).await.map_err(|error| unavailable(error.into()))?;
    Ok(conn)
}

async fn try_lock(conn: &mut AdminConn, key: i64) -> ApiResult<bool> {
    said_yes(conn, "SELECT pg_try_advisory_lock($1) AS locked", key).await
}

async fn try_unlock(conn: &mut AdminConn, key: i64) -> ApiResult<bool> {
    said_yes(conn, "SELECT pg_advisory_unlock($1) AS locked", key).await
}

async fn said_yes(conn: &mut AdminConn, query: &str, key: i64) -> ApiResult<bool> {
    let asked = diesel::sql_query(query).bind::<BigInt, _>(key).get_result(conn).await;
    asked.map(|row: Locked| row.locked).map_err(|error| unavailable(error.into()))
}

/// The right to work on many tenants, one session for all: what a run over the fleet holds while it is at each.
pub(super) struct ManyLocks {
    conn: AsyncMutex<AdminConn>,
}

impl ManyLocks {
    /// None yet.
    ///
    /// # Errors
    /// 503 if the control plane does not answer.
    pub(super) async fn open(control: &ControlPlane) -> ApiResult<Self> {
        Ok(Self { conn: AsyncMutex::new(open(control).await?) })
    }

    /// Takes those that are free, and gives them.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn try_take(&self, tenants: &[TenantId]) -> ApiResult<HashSet<TenantId>> {
        let got = self.ask("pg_try_advisory_lock", tenants).await?;
        Ok(tenants.iter().copied().filter(|tenant| got.contains(&tenant_key(*tenant))).collect())
    }

    /// Gives these back.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn release(&self, tenants: &[TenantId]) -> ApiResult<()> {
        self.ask("pg_advisory_unlock", tenants).await.map(drop)
    }

    async fn ask(&self, function: &str, tenants: &[TenantId]) -> ApiResult<HashSet<i64>> {
        let keys: Vec<i64> = tenants.iter().map(|tenant| tenant_key(*tenant)).collect();
        let rows: Vec<Held> = diesel::sql_query(format!(
            "SELECT key FROM (SELECT key, {function}(key) AS done FROM unnest($1) AS key OFFSET 0) AS asked WHERE done"
        ))
        .bind::<Array<BigInt>, _>(keys)
        .load(&mut *self.conn.lock().await)
        .await
        .map_err(|error| unavailable(error.into()))?;
        Ok(rows.into_iter().map(|row| row.key).collect())
    }
}

impl fmt::Debug for ManyLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManyLocks")
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

/// Which of these names nobody has the right to; it is this transaction's until it ends.
///
/// # Errors
/// If the control plane does not answer.
pub(super) async fn free_until_commit(conn: &mut MainConn, names: &[String]) -> ApiResult<Vec<bool>> {
    let keys: Vec<i64> = names.iter().map(|name| key(name)).collect();
    let rows: Vec<Held> = diesel::sql_query(
        "SELECT key FROM (SELECT key, pg_try_advisory_xact_lock(key) AS done FROM unnest($1) AS key OFFSET 0) AS asked \
         WHERE done",
    )
    .bind::<Array<BigInt>, _>(keys.clone())
    .load(conn)
    .await?;
    let got: HashSet<i64> = rows.into_iter().map(|row| row.key).collect();
    Ok(keys.iter().map(|key| got.contains(key)).collect())
}

/// Whether nobody removes a cluster, nor begins to before this transaction ends.
///
/// # Errors
/// If the control plane does not answer.
pub(super) async fn stays_until_commit(conn: &mut MainConn, cluster: ClusterId) -> ApiResult<bool> {
    let asked = diesel::sql_query("SELECT pg_try_advisory_xact_lock_shared($1) AS locked");
    let stays: Locked = asked.bind::<BigInt, _>(removal_key(cluster)).get_result(conn).await?;
    Ok(stays.locked)
}

/// The key of what an operation works on: its tenant, else the operation itself.
pub(super) fn key_of(operation: &Operation) -> i64 {
    match &operation.tenant {
        Some((tenant, _)) => tenant_key(*tenant),
        None => key(&format!("operation {}", operation.id)),
    }
}

/// What a proof has the right to while it needs a canary.
pub(super) fn canary_name(slug: &Slug) -> String {
    format!("canary {slug}")
}

/// The key of that.
pub(super) fn canary_key(slug: &Slug) -> i64 {
    key(&canary_name(slug))
}

/// The key of work on a tenant.
pub(super) fn tenant_key(tenant: TenantId) -> i64 {
    key(&format!("tenant operation {tenant}"))
}

fn removal_key(cluster: ClusterId) -> i64 {
    key(&format!("cluster removal {cluster}"))
}

fn key(name: &str) -> i64 {
    let digest = sha256(name.as_bytes());
    i64::from_be_bytes(digest[..8].try_into().expect("a digest is longer than eight bytes"))
}
