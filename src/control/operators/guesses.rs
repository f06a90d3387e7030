//! The limit of guessing: tries that fail are counted, and after five of them within 15 minutes none is looked at.
//!
//! A try is judged after the work of comparing it, and those on one thing one after the other: a hundred at once get no
//! more guesses than one by one, and right ones are no failures to each other.

use chrono::{DateTime, Utc};

use super::Operators;
use super::rules::{locked, locked_for, login_rate};
use super::store;
use crate::control::fault;
use crate::error::ApiResult;
use crate::router::{MainConn, Rate};

/// What is guessed at, as a keyed digest.
pub(super) type Subject = [u8; 32];

/// Refuses a try on what is locked. Before costly work; [`hold`] has the last word.
///
/// # Errors
/// `too_many_attempts`.
pub(super) async fn look(conn: &mut MainConn, subject: &Subject, now: DateTime<Utc>) -> ApiResult<()> {
    let locked_out = store::failures(conn, subject).await?.and_then(|(count, since)| locked_for(count, since, now));
    locked_out.map_or(Ok(()), |left| Err(locked(left)))
}

/// As [`look`]; until the transaction ends, nobody else's try on the same is judged.
///
/// # Errors
/// `too_many_attempts`.
pub(super) async fn hold(conn: &mut MainConn, subject: &Subject, now: DateTime<Utc>) -> ApiResult<()> {
    store::hold_attempts(conn, subject).await?;
    look(conn, subject, now).await
}

/// Notes what came of a try that is held: a wrong one counts, a right one forgives those before it.
pub(super) async fn note(conn: &mut MainConn, subject: &Subject, right: bool, now: DateTime<Utc>) -> ApiResult<()> {
    if right { store::forget_attempts(conn, subject).await } else { store::count_failure(conn, subject, now).await }
}

impl Operators {
    /// Judges a try that was compared already, and tells how one stands after it.
    ///
    /// # Errors
    /// `too_many_attempts`, be it right or wrong.
    pub(super) async fn judge(&self, subject: Subject, right: bool) -> ApiResult<Rate> {
        let (control, now) = (self.control(), self.control().clock.now());
        let judged = async move |conn: &mut MainConn| -> ApiResult<Rate> {
            hold(conn, &subject, now).await?;
            note(conn, &subject, right, now).await?;
            Ok(login_rate(store::failures(conn, &subject).await?, now))
        };
        control.db.transaction(judged).await.map_err(fault)
    }
}
