//! An operator's own password, changed by whoever knows the present one.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use secrecy::SecretString;

use super::{Operators, guesses, store};
use crate::control::fault;
use crate::control::schema::operators as o;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{OperatorId, SessionId};
use crate::rest::passwords::Rules;
use crate::router::MainConn;

fn wrong() -> ApiError {
    ApiError::invalid_field("currentPassword", "incorrect", "It is not your current password.")
}

impl Operators {
    /// Changes the password of an operator, and ends their sessions but this one.
    ///
    /// # Errors
    /// 422 on `currentPassword` if it is wrong, on `newPassword` if that is weak; `too_many_attempts`.
    pub async fn change_password(
        &self,
        (id, email, session): (OperatorId, &str, SessionId),
        current: SecretString,
        new: SecretString,
    ) -> ApiResult<()> {
        let (control, now) = (self.control(), self.control().clock.now());
        let subject = self.guessed("operator-password", id).await?;
        let address = email.to_owned();
        let found = async move |conn: &mut MainConn| -> ApiResult<_> {
            guesses::look(conn, &subject, now).await?;
            store::credentials(conn, &address).await
        };
        let found = control.db.read(found).await.map_err(fault)?.filter(|(operator, _)| operator.id == id);
        let before = found.map(|(_, hash)| hash);
        let hasher = self.passwords().of_nobody();
        let matches = hasher.verify(current, before.clone()).await?;
        let before = before.filter(|_| matches);
        self.judge(subject, before.is_some()).await?;
        let before = before.ok_or_else(wrong)?;
        if let Some(weak) = hasher.judge("newPassword", &new, Rules::of_operators(email)).await? {
            return Err(ApiError::invalid(vec![weak]));
        }
        let hash = hasher.hash(new).await?;
        let change = async move |conn: &mut MainConn| -> ApiResult<()> {
            // Of two changes at the same time, the second does not know the password any more.
            let same = o::table.find(id).filter(o::password_hash.eq(&before));
            if diesel::update(same).set(o::password_hash.eq(&hash)).execute(conn).await? == 0 {
                return Err(wrong());
            }
            store::end_other_sessions(conn, id, session, now).await
        };
        control.db.transaction(change).await.map_err(fault)
    }
}
