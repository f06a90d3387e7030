//! Administrators' connections: what provisioning says to a server, always with a deadline, never in a transaction of
//! the control plane.

use std::time::Duration;

use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel_async::{AsyncConnectionCore, RunQueryDsl, SimpleAsyncConnection};

use super::sql;
use crate::error::{ApiError, ApiResult, Code};
use crate::router::connect::{ConnectFailure, Target};
use crate::router::{AdminConn, ConnectError, ConnectOptions};

/// Bound on any one statement; cloning a template and dropping a large database are the longest.
pub(super) const STATEMENT: Duration = Duration::from_secs(300);
/// Bound on waiting for any lock.
const LOCK: Duration = Duration::from_secs(30);

#[derive(diesel::QueryableByName)]
struct Yes {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

#[derive(diesel::QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    word: String,
}

/// What such a connection is told.
pub(super) fn options() -> ConnectOptions {
    ConnectOptions {
        application_name: "tenantry-provision".into(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Some(STATEMENT),
        lock_timeout: Some(LOCK),
        ..ConnectOptions::default()
    }
}

/// Opens one.
pub(super) async fn open(target: &Target) -> ApiResult<AdminConn> {
    AdminConn::open(target, &options()).await.map_err(unavailable)
}

/// Opens one whose commits become durable with a later commit of another connection.
pub(super) async fn open_relaxed(target: &Target) -> ApiResult<AdminConn> {
    AdminConn::open(target, &ConnectOptions { relaxed: true, ..options() }).await.map_err(unavailable)
}

/// 503: the server with the tenant's database refuses or does not answer.
pub(super) fn unavailable(error: ConnectError) -> ApiError {
    let said = match error.kind {
        ConnectFailure::Unreachable => "The database server does not answer.",
        ConnectFailure::Tls => "TLS with the database server failed.",
        ConnectFailure::Authentication => "The database server refuses our role.",
        ConnectFailure::ServerFull => "The database server is out of connections.",
        ConnectFailure::ConnectionLimit => "The role or the database has reached its limit of connections.",
        ConnectFailure::UnknownDatabase => "The database does not exist.",
        ConnectFailure::StampMismatch => "The database belongs to somebody else.",
        ConnectFailure::Other => "The database server refuses the connection.",
    };
    ApiError::new(Code::TenantDatabaseUnavailable).detail(said).caused_by(error)
}

/// Sends a file of `provisioning/` in one go.
pub(super) async fn run(conn: &mut AdminConn, file: &str, variables: &[(&str, &str)]) -> ApiResult<()> {
    conn.batch_execute(&sql::fill(file, variables)).await.map_err(ApiError::internal)
}

/// Sends a file's statements one by one: for those that run outside a transaction.
pub(super) async fn run_each(conn: &mut AdminConn, file: &str, variables: &[(&str, &str)]) -> ApiResult<()> {
    for statement in sql::statements(&sql::fill(file, variables)) {
        conn.batch_execute(statement).await.map_err(ApiError::internal)?;
    }
    Ok(())
}

/// The answer to `SELECT … AS yes`.
pub(super) async fn ask(conn: &mut AdminConn, query: &str) -> ApiResult<bool> {
    let answer: Vec<Yes> = diesel::sql_query(query).load(conn).await.map_err(ApiError::internal)?;
    Ok(answer.into_iter().next().is_some_and(|row| row.yes))
}

/// The rows of `SELECT … AS word`.
pub(super) async fn words<C>(conn: &mut C, query: &str) -> ApiResult<Vec<String>>
where
    C: AsyncConnectionCore<Backend = Pg>,
{
    let rows: Vec<Word> = diesel::sql_query(query).load(conn).await.map_err(ApiError::internal)?;
    Ok(rows.into_iter().map(|row| row.word).collect())
}
