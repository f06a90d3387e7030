//! What a change of a person leaves behind: an invitation that is void.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::rules::{UserStatus, email_key};
use super::store::UserRow;
use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::audit;
use crate::tenant::schema::invitations;

/// The open invitation of a person is void: somebody may know its link who is not to have what comes with it now. It can be
/// sent again. To be called in the transaction of the change, which holds the person.
pub(crate) async fn void_invitation(
    conn: &mut TenantConn,
    actor: &str,
    id: UserId,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    void_invitations(conn, actor, &[id], now).await
}

/// As [`void_invitation`], for many.
pub(crate) async fn void_invitations(
    conn: &mut TenantConn,
    actor: &str,
    ids: &[UserId],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let open = invitations::table.filter(invitations::user_id.eq_any(ids)).filter(invitations::accepted_at.is_null());
    let voided: Vec<UserId> = diesel::delete(open).returning(invitations::user_id).get_results(conn).await?;
    audit::note_each(conn, actor, "invitation.voided", &voided, now).await
}

/// Voids the invitation of somebody who was invited, if they have another address now, more roles, or come in without it.
pub(super) async fn void_if_other(
    conn: &mut TenantConn,
    actor: &str,
    (before, after): (&UserRow, &UserRow),
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let gained = after.roles.iter().any(|role| !before.roles.contains(role));
    let moved = email_key(&before.email) != email_key(&after.email);
    if before.status == UserStatus::Invited && (gained || moved || after.status != UserStatus::Invited) {
        void_invitation(conn, actor, before.id, now).await?;
    }
    Ok(())
}
