//! Programs that prove who they are by a secret: wrong ones count like people's passwords, and lock their own lane.

use super::attempts::{self, Kind, Line, locked};
use super::settings::Auth;
use crate::error::ApiResult;
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb, TenantTx};

/// One try of a program to prove who it is.
pub(in crate::tenant) struct Program<'a> {
    auth: &'a Auth,
    db: &'a TenantDb,
    line: Line<'a>,
}

impl<'a> Program<'a> {
    /// A try of now, in this program's name.
    pub(in crate::tenant) fn new(auth: &'a Auth, db: &'a TenantDb, name: &'a str, client: &'a Client) -> Self {
        Self { auth, db, line: Line::new(auth, db, name, client, Kind::AppSecret) }
    }

    /// Whether a good secret need not be noted: one was seen from here lately, and nothing has failed since.
    ///
    /// # Errors
    /// 429 `too_many_attempts` while no try may be made, right or wrong.
    pub(in crate::tenant) async fn look(&self, conn: &mut TenantConn) -> ApiResult<bool> {
        let standing = attempts::look(conn, &self.line).await?;
        match standing.locked(&self.line) {
            Some(left) => Err(locked(left, &self.auth.settings.limits)),
            None => Ok(standing.is_settled()),
        }
    }

    /// Notes that the secret was wrong, one try at a time.
    ///
    /// # Errors
    /// 429 `too_many_attempts` if too many were wrong meanwhile.
    pub(in crate::tenant) async fn fail(&self) -> ApiResult<()> {
        let line = &self.line.again(self.auth);
        let failed = async |conn: &mut TenantTx| -> ApiResult<ApiResult<()>> {
            if let Some(left) = attempts::hold(conn, line).await? {
                return Ok(Err(locked(left, &self.auth.settings.limits)));
            }
            attempts::fail(conn, line, None).await?;
            Ok(Ok(()))
        };
        self.db.transaction(failed).await?
    }

    /// Notes that the secret was right, which forgives what failed before it.
    ///
    /// # Errors
    /// What the database answers.
    pub(in crate::tenant) async fn succeed(&self) -> ApiResult<()> {
        let line = &self.line.again(self.auth);
        let done = async |conn: &mut TenantTx| -> ApiResult<()> { attempts::note(conn, line, None, true).await };
        self.db.transaction(done).await
    }
}
