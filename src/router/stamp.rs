//! The database itself says whose it is: read and compared on every new physical connection.

use diesel::sql_types::Uuid as SqlUuid;
use diesel::{OptionalExtension, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::connect::{ConnectError, ConnectFailure};
use crate::kernel::{InstallationId, TenantId};

/// Whose a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Stamp {
    /// The tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: TenantId,
    /// The installation.
    #[diesel(sql_type = SqlUuid)]
    pub installation_id: InstallationId,
}

/// Reads the stamp; `None` in a database that has none.
pub(super) async fn read(conn: &mut AsyncPgConnection) -> diesel::QueryResult<Option<Stamp>> {
    sql_query("SELECT tenant_id, installation_id FROM tenantry.stamp").get_result(conn).await.optional()
}

/// Makes sure that a connection leads to its tenant's database.
pub(super) async fn check(conn: &mut AsyncPgConnection, expected: Stamp) -> Result<(), ConnectError> {
    match read(conn).await {
        Ok(Some(stamp)) if stamp == expected => Ok(()),
        Ok(_) => Err(mismatch("the database is stamped for another tenant, or not at all")),
        // No such table, or no right to read it: not a database of ours.
        Err(diesel::result::Error::DatabaseError(_, info)) => Err(mismatch(info.message())),
        Err(error) => Err(ConnectError::new(ConnectFailure::Unreachable, error)),
    }
}

fn mismatch(why: &str) -> ConnectError {
    ConnectError::new(ConnectFailure::StampMismatch, why.to_owned())
}
