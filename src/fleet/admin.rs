//! Administrators' connections: what provisioning says to a server, always with a deadline, never in a transaction of
//! the control plane.

use std::time::Duration;

use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Bool, Text};
use diesel_async::{AsyncConnectionCore, RunQueryDsl, SimpleAsyncConnection};

use super::sql;
use crate::error::{ApiError, ApiResult, Code};
use crate::router::connect::{ConnectFailure, Target};
use crate::router::{AdminConn, ConnectError, ConnectOptions, Passing, Rights};

/// Bound on any one statement; cloning a template and dropping a large database are the longest.
pub(super) const STATEMENT: Duration = Duration::from_secs(300);
/// Bound on waiting for any lock.
const LOCK: Duration = Duration::from_secs(30);

/// What has a smaller number came with the server.
pub(super) const FIRST_MADE: u32 = 16384;
/// From here on a view that was put in the place of a table is refused, where the server knows how to (since 2024).
pub(super) const TABLES_ONLY: &str = "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings \
    WHERE name = 'restrict_nonsystem_relation_kind'";

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

/// What such a connection is told: nothing that a tenant has made in its database, or set for it, bears on it.
pub(super) fn options() -> ConnectOptions {
    ConnectOptions { rights: Rights::Administrator, ..own_options() }
}

/// What a connection is told that is the tenant's own role's, or in the control plane.
pub(super) fn own_options() -> ConnectOptions {
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

/// Opens one as a tenant's own role, which finds its tables by their names alone.
pub(super) async fn open_own(target: &Target) -> ApiResult<AdminConn> {
    AdminConn::open(target, &own_options()).await.map_err(unavailable)
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

/// What the failure of a statement is: 503 where the connection ended under it, as it does when the server stands still.
pub(super) fn failed(error: QueryError) -> ApiError {
    let unsent = matches!(error, QueryError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, _));
    if unsent && Passing::of(&error).is_some() {
        let said = "The database server does not answer any more, or has ended the connection.";
        return ApiError::new(Code::TenantDatabaseUnavailable).detail(said).caused_by(error);
    }
    ApiError::internal(error)
}

/// Sends a file of `provisioning/` in one go.
pub(super) async fn run(conn: &mut AdminConn, file: &str, variables: &[(&str, &str)]) -> ApiResult<()> {
    conn.batch_execute(&sql::fill(file, variables)).await.map_err(failed)
}

/// Sends a file's statements one by one: for those that run outside a transaction.
pub(super) async fn run_each(conn: &mut AdminConn, file: &str, variables: &[(&str, &str)]) -> ApiResult<()> {
    for statement in sql::statements(&sql::fill(file, variables)) {
        conn.batch_execute(statement).await.map_err(failed)?;
    }
    Ok(())
}

/// The answer to `SELECT … AS yes`.
pub(super) async fn ask(conn: &mut AdminConn, query: &str) -> ApiResult<bool> {
    let answer: Vec<Yes> = diesel::sql_query(query).load(conn).await.map_err(failed)?;
    Ok(answer.into_iter().next().is_some_and(|row| row.yes))
}

/// Locks a table that a tenant may have made for the rest of the transaction, and answers whether its rows can be read without
/// running anything of the tenant's: it is no view, and of PostgreSQL's own types.
pub(super) async fn lock_plain(conn: &mut AdminConn, table: &str) -> ApiResult<bool> {
    conn.batch_execute(TABLES_ONLY).await.map_err(failed)?;
    let lock = format!("LOCK TABLE ONLY {table} IN ACCESS SHARE MODE");
    conn.batch_execute(&lock).await.map_err(failed)?;
    let plain = format!(
        "SELECT c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
         AND NOT a.attisdropped AND a.atttypid::bigint >= {FIRST_MADE}) AS yes FROM pg_class c WHERE c.oid = {}::regclass",
        sql::literal(table)
    );
    ask(conn, &plain).await
}

/// The rows of `SELECT … AS word`.
pub(super) async fn words<C>(conn: &mut C, query: &str) -> ApiResult<Vec<String>>
where
    C: AsyncConnectionCore<Backend = Pg>,
{
    let rows: Vec<Word> = diesel::sql_query(query).load(conn).await.map_err(failed)?;
    Ok(rows.into_iter().map(|row| row.word).collect())
}
