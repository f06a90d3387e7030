//! The database itself says whose it is: read and compared on every new physical connection.

use diesel::result::DatabaseErrorKind;
use diesel::result::Error::DatabaseError;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};

use super::connect::{ConnectError, ConnectFailure};
use crate::kernel::{InstallationId, TenantId};

/// Whose a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The installation.
    pub installation_id: InstallationId,
}

/// Makes sure that a connection leads to its tenant's database.
///
/// The server compares, and fails by a division by zero: so it is one statement of the simple protocol, one round trip
/// with nothing to prepare, and whatever is sent behind it is answered after it.
pub(super) async fn check(mut conn: &AsyncPgConnection, expected: Stamp) -> Result<(), ConnectError> {
    let Stamp { tenant_id, installation_id } = expected;
    let compare = format!(
        "SELECT 1 / (SELECT count(*) FROM tenantry.stamp \
         WHERE tenant_id = '{tenant_id}' AND installation_id = '{installation_id}')"
    );
    let mut tries = 0;
    loop {
        tries += 1;
        match conn.batch_execute(&compare).await {
            Ok(()) => return Ok(()),
            Err(DatabaseError(kind, info)) if kind != DatabaseErrorKind::UnableToSendCommand => {
                if info.message().contains("zero") {
                    return Err(mismatch("the database is stamped for another tenant, or not at all"));
                }
                // A server that goes away says so in an error of its own; and a reader who gave up may have had this
                // statement cancelled in place of his own. Neither says anything about the stamp.
                conn.batch_execute("").await.map_err(unreachable)?;
                if tries == 2 {
                    // No such table, or no right to read it: not a database of ours.
                    return Err(mismatch(info.message()));
                }
            }
            Err(error) => return Err(unreachable(error)),
        }
    }
}

fn unreachable(error: diesel::result::Error) -> ConnectError {
    ConnectError::new(ConnectFailure::Unreachable, error)
}

fn mismatch(why: &str) -> ConnectError {
    ConnectError::new(ConnectFailure::StampMismatch, why.to_owned())
}
