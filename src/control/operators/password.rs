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

/// What passwords are counted as when they are guessed.
const PASSWORD: &str = "operator-password";

fn wrong() -> ApiError {
    ApiError::invalid_field("currentPassword", "incorrect", "It is not your current password.")
}

impl Operators {
    /// Whether this is the password of an operator. A wrong one is not counted: that is for whoever goes on to
    /// [`Self::change_password`].
    ///
    /// # Errors
    /// `too_many_attempts`.
    pub async fn has_password(&self, id: OperatorId, email: &str, password: SecretString) -> ApiResult<bool> {
        let hash = self.hash_of(id, email).await?;
        self.passwords().of_nobody().verify(password, hash).await
    }

    /// The hash of an operator's password, while tries at it are looked at; none of one who is disabled.
    async fn hash_of(&self, id: OperatorId, email: &str) -> ApiResult<Option<String>> {
        let (control, now) = (self.control(), self.control().clock.now());
        let subject = self.guessed(PASSWORD, id).await?;
        let address = email.to_owned();
        let found = async move |conn: &mut MainConn| -> ApiResult<_> {
            guesses::look(conn, &subject, now).await?;
            store::credentials(conn, &address).await
        };
        let found = control.db.read(found).await.map_err(fault)?.filter(|(operator, _)| operator.id == id);
        Ok(found.map(|(_, hash)| hash))
    }

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
        let before = self.hash_of(id, email).await?;
        let hasher = self.passwords().of_nobody();
        let matches = hasher.verify(current, before.clone()).await?;
        let before = before.filter(|_| matches);
        self.judge(self.guessed(PASSWORD, id).await?, before.is_some()).await?;
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
