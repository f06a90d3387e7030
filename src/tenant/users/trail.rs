//! What a change of a person leaves behind: notices to them, lines in the audit, an invitation that is void.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::rules::{UserStatus, is_other_address, shortened};
use super::store::UserRow;
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::audit;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::schema::invitations;

/// Tells a person that others give their account another address or status. To be called before that happens.
pub(crate) async fn tell(
    conn: &mut TenantConn,
    db: &TenantDb,
    before: &UserRow,
    (email, status): (Option<&str>, UserStatus),
) -> ApiResult<()> {
    if let Some(to) = email.filter(|email| is_other_address(&before.email, email)) {
        let notice = SecurityNotice::EmailChanged { to: shortened(to) };
        mail::notify_security(conn, db, before.id, notice, None).await?;
    }
    if status != before.status {
        let notice = match status {
            UserStatus::Active if before.status == UserStatus::Invited => SecurityNotice::AccountActivated,
            UserStatus::Active => SecurityNotice::AccountReactivated,
            UserStatus::Invited | UserStatus::Deactivated => SecurityNotice::AccountDeactivated,
        };
        mail::notify_security(conn, db, before.id, notice, None).await?;
    }
    Ok(())
}

/// Writes into the audit what was changed of how a person comes in, and of what they may do.
pub(super) async fn note_change(
    conn: &mut TenantConn,
    actor: &str,
    (before, after): (&UserRow, &UserRow),
    password: bool,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let whom = (actor, before.id);
    if is_other_address(&before.email, &after.email) {
        audit::note_person(conn, whom, "user.email_changed", None, now).await?;
    }
    if password {
        audit::note_person(conn, whom, "user.password_set", None, now).await?;
    }
    if before.status != after.status {
        let active = after.status == UserStatus::Active;
        let action = if active { "user.activated" } else { "user.deactivated" };
        audit::note_person(conn, whom, action, None, now).await?;
    }
    for given in after.roles.iter().filter(|role| !before.roles.contains(role)) {
        audit::note_person(conn, whom, "role.given", Some(given), now).await?;
    }
    for taken in before.roles.iter().filter(|role| !after.roles.contains(role)) {
        audit::note_person(conn, whom, "role.taken", Some(taken), now).await?;
    }
    Ok(())
}

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
    let moved = is_other_address(&before.email, &after.email);
    if before.status == UserStatus::Invited && (gained || moved || after.status != UserStatus::Invited) {
        void_invitation(conn, actor, before.id, now).await?;
    }
    Ok(())
}
