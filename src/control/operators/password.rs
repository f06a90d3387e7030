//! An operator's own password, changed by whoever knows the present one.

use actix_web::{post, web};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Oneself, Operator, Operators, guesses, store};
use crate::control::docs::{ChangeRefusals, Refusals};
use crate::control::fault;
use crate::control::schema::operators as o;
use crate::error::{ApiError, ApiResult};
use crate::kernel::{OperatorId, SessionId};
use crate::rest::passwords::Rules;
use crate::rest::{ErrorEnvelope, Json, NoContent, NoQuery};
use crate::router::MainConn;

/// Another password.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeOperatorPassword {
    /// The present one.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    pub current_password: SecretString,
    /// What it is to be.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, example = "another sentence of uncommon words")]
    pub new_password: SecretString,
}

/// Changes one's own password, and ends one's other sessions. Wrong guesses are counted: after five within 15 minutes, it is
/// `too_many_attempts`, right or wrong.
#[utoipa::path(
    tag = "admin",
    operation_id = "operatorChangePassword",
    request_body = ChangeOperatorPassword,
    responses(
        (status = 204, description = "Changed"),
        (status = 429, description = "`too_many_attempts`: wait for `Retry-After`", body = ErrorEnvelope),
        Refusals,
        ChangeRefusals,
    ),
    security(("operator" = [])),
)]
#[post("/api/v1/admin/auth/change-password")]
pub async fn change_password(
    _: NoQuery,
    operators: web::Data<Operators>,
    operator: Operator<Oneself>,
    body: Json<ChangeOperatorPassword>,
) -> ApiResult<NoContent> {
    let ChangeOperatorPassword { current_password, new_password } = body.0;
    let who = (operator.id, operator.email.as_str(), operator.session);
    operators.change_password(who, current_password, new_password).await?;
    Ok(NoContent)
}

fn wrong() -> ApiError {
    ApiError::invalid_field("currentPassword", "incorrect", "It is not your current password.")
}

impl Operators {
    async fn change_password(
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
