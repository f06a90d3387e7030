//! A dump of a tenant's database, and what it holds, of one snapshot.

use std::process::Stdio;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::contents::{self, TableContents};
use super::policies;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::programs::{PrivateFiles, client};
use crate::fleet::{admin, refused};
use crate::router::{AdminConn, ConnectOptions, Target};

/// The longest that one statement over a whole table may take.
const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);
/// The longest that a program may neither give nor take anything while there is something to pass on.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// How much of a program's complaints is kept.
const SAID: u64 = 16 * 1024;

/// A connection for work on whole tables.
pub(in crate::fleet) async fn patient(target: &Target) -> ApiResult<AdminConn> {
    let options = ConnectOptions {
        application_name: "tenantry-copy".into(),
        statement_timeout: Some(LONGEST),
        idle_in_transaction_timeout: None,
        lock_timeout: Some(Duration::from_secs(30)),
        ..ConnectOptions::default()
    };
    AdminConn::open(target, &options).await.map_err(admin::unavailable)
}

/// One moment of a database, held for others to see too.
pub(in crate::fleet) struct Snapshot {
    pub(in crate::fleet) conn: AdminConn,
    id: String,
    /// Bytes of the database.
    pub(in crate::fleet) size: i64,
}

impl Snapshot {
    /// Takes one.
    pub(in crate::fleet) async fn take(target: &Target) -> ApiResult<Self> {
        let mut conn = patient(target).await?;
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        conn.batch_execute(begin).await.map_err(ApiError::internal)?;
        policies::hide_nothing(&mut conn).await?;
        let mut words = admin::words(&mut conn, "SELECT pg_export_snapshot() AS word").await?;
        let size = admin::words(&mut conn, "SELECT pg_database_size(current_database())::text AS word").await?;
        let size = size.first().and_then(|size| size.parse().ok()).unwrap_or_default();
        let id = words.pop().ok_or_else(|| ApiError::internal("no snapshot"))?;
        Ok(Self { conn, id, size })
    }

    /// A `pg_dump` of it, in the custom format.
    pub(in crate::fleet) fn dump(&self, target: &Target) -> ApiResult<Program> {
        let arguments = [
            "--format=custom",
            "--compress=3",
            "--no-password",
            "--lock-wait-timeout=30000",
            "--exclude-table=tenantry.stamp",
            &format!("--snapshot={}", self.id),
        ];
        Program::start("pg_dump", target, &arguments, None)
    }

    /// What the tables held at that moment.
    pub(in crate::fleet) async fn contents(&mut self) -> ApiResult<Vec<TableContents>> {
        contents::read(&mut self.conn).await
    }
}

/// A client program at work; killed when dropped.
pub(in crate::fleet) struct Program {
    name: &'static str,
    pub(in crate::fleet) child: Child,
    files: PrivateFiles,
}

impl Program {
    /// Starts a program of PostgreSQL's, which talks to us over its standard streams. `list` says what of a dump
    /// `pg_restore` takes.
    pub(in crate::fleet) fn start(
        name: &'static str,
        target: &Target,
        arguments: &[&str],
        list: Option<&str>,
    ) -> ApiResult<Self> {
        let (mut command, files): (Command, _) = client(name, target).map_err(|error| {
            refused(format!(
                "{name} is not installed on this node. Install the client programs of PostgreSQL, of the server's version or a newer one."
            ))
            .caused_by(error)
        })?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(list) = list {
            let path = files.write("list", list).map_err(ApiError::internal)?;
            command.arg("--use-list").arg(path);
        }
        let child = command.spawn().map_err(ApiError::internal)?;
        Ok(Self { name, child, files })
    }

    /// Waits for its end, once nobody talks to it any more.
    pub(in crate::fleet) async fn end(mut self, said: &str) -> ApiResult<()> {
        let status = self.child.wait().await.map_err(ApiError::internal)?;
        drop(self.files);
        if status.success() {
            return Ok(());
        }
        let detail = match self.name {
            "pg_dump" => "The tenant's database could not be dumped.",
            _ => "The backup could not be loaded.",
        };
        let cause = format!("{} ended with {status}: {}", self.name, said.trim());
        Err(ApiError::new(Code::Internal).detail(detail).caused_by(cause))
    }
}

/// Waits for one piece that is passed on to a program or from it, and for a server that stands still no longer than any
/// that works would be waited for.
///
/// # Errors
/// Those of the passing; 503 if nothing moves.
pub(in crate::fleet) async fn moves<T>(piece: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
    timeout(SILENCE, piece).await.unwrap_or_else(|_| {
        let said = format!(
            "The database server has neither sent nor taken anything for {} minutes. Ask for the same again once it answers.",
            SILENCE.as_secs() / 60
        );
        Err(ApiError::new(Code::TenantDatabaseUnavailable).detail(said))
    })
}

/// What a program complains of, up to a bound.
pub(in crate::fleet) async fn complaints(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut said = Vec::new();
    if let Some(mut stream) = stream {
        // What cannot be read is not said.
        let _ = (&mut stream).take(SAID).read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}
