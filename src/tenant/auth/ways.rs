//! The ways in which somebody signs in, of which the last one stays.

use super::{elsewhere, federation, passkeys};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::users::store::UserRow;

/// Refuses to take somebody's last way to sign in: a link in a mail would be all that is left. To be asked in the transaction
/// that has taken it, with the person held, so that of two that go at the same time one stays.
///
/// # Errors
/// 409 `conflict` if none is left.
pub(super) async fn check_left(conn: &mut TenantConn, db: &TenantDb, person: &UserRow) -> ApiResult<()> {
    if person.has_password || others(conn, db, person.id).await? {
        return Ok(());
    }
    let said = "It is your only way to sign in. Add another one, or set a password, first.";
    Err(ApiError::new(Code::Conflict).detail(said))
}

async fn others(conn: &mut TenantConn, db: &TenantDb, user: UserId) -> ApiResult<bool> {
    Ok(passkeys::store::any(conn, user).await?
        || federation::has_account(conn, user).await?
        || elsewhere::lets_in(conn, db, user).await?)
}
