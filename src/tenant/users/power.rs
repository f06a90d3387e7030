//! What bounds whoever changes people.

use std::collections::BTreeSet;

use super::rules::{UserStatus, may_control};
use super::store::{self, UserRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::permissions::catalog::ADMIN;
use crate::tenant::teams;

/// As [`may_control`], for somebody who has rights by their own roles and by their teams'.
pub(crate) async fn check_control(conn: &mut TenantConn, own: &BTreeSet<String>, whom: UserId) -> ApiResult<()> {
    may_control(own, &teams::store::permissions_of_user(conn, whom).await?)
}

/// Refuses a change that leaves nobody who could undo it. To be called after it, in its transaction, which has called
/// [`store::hold_admins`].
pub(crate) async fn keep_an_admin(conn: &mut TenantConn, before: &UserRow, after: Option<&UserRow>) -> ApiResult<()> {
    let rules_over = |row: &UserRow| row.status == UserStatus::Active && row.roles.iter().any(|role| role == ADMIN);
    if !rules_over(before) || after.is_some_and(rules_over) || store::active_admins(conn).await? > 0 {
        return Ok(());
    }
    Err(ApiError::new(Code::Conflict).detail("This is the last active administrator. Make another one first."))
}
