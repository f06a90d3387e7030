//! The database itself says whose it is: asked first of every new physical connection.

use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryStream};

use super::connect::{ConnectError, ConnectFailure};
use crate::kernel::{InstallationId, TenantId};

/// Of the simple protocol, so that there is nothing to prepare. A backend that has just started has to look up every
/// operator, function and type that a statement names, and here is none: comparing costs nothing on our side.
const QUESTION: &str = "SELECT tenant_id, installation_id FROM tenantry.stamp";
/// The classes of SQLSTATE that say there is no such table, or no right to read it.
const NOT_OURS: [&str; 2] = ["42", "3F"];

/// Whose a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The installation.
    pub installation_id: InstallationId,
}

/// Sends the question. Whatever is sent behind it is answered after it.
pub(super) async fn ask(client: &Client) -> Result<SimpleQueryStream, ConnectError> {
    client.simple_query_raw(QUESTION).await.map_err(unreachable)
}

/// Makes sure by the answer that a connection leads to its tenant's database.
pub(super) async fn check(answer: SimpleQueryStream, expected: Stamp) -> Result<(), ConnectError> {
    let said: Vec<_> = answer.try_collect().await.map_err(|error| match error.as_db_error() {
        Some(said) if NOT_OURS.iter().any(|class| said.code().code().starts_with(class)) => mismatch(said.message()),
        // A server that goes away says so in an error of its own, which says nothing about the stamp.
        _ => unreachable(error),
    })?;
    let mut stamps = said.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some([row.get(0), row.get(1)]),
        _ => None,
    });
    let Stamp { tenant_id, installation_id } = expected;
    let expected = [tenant_id.to_string(), installation_id.to_string()];
    if stamps.next() == Some([Some(&*expected[0]), Some(&*expected[1])]) && stamps.next().is_none() {
        return Ok(());
    }
    Err(mismatch("the database is stamped for another tenant, or not at all"))
}

fn unreachable(error: tokio_postgres::Error) -> ConnectError {
    ConnectError::new(ConnectFailure::Unreachable, error)
}

fn mismatch(why: &str) -> ConnectError {
    ConnectError::new(ConnectFailure::StampMismatch, why.to_owned())
}
