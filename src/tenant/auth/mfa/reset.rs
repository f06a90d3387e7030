//! Taking somebody's second factor away who lost it.

use actix_web::{delete, web};

use super::store;
use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::rest::{Authorized, NoContent, NoQuery, Path, Permission};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::end_sessions;
use crate::tenant::auth::passkeys;
use crate::tenant::auth::settings::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::permissions::UsersWrite;
use crate::tenant::teams;
use crate::tenant::users::{check_control, store as users};

/// May take people's second factors away.
#[derive(Debug)]
pub struct ResetFactors;
impl Permission for ResetFactors {
    const NAME: &'static str = UsersWrite::NAME;
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// Takes a person's second factor away, with recovery codes, passkeys and trusted devices, and ends their sessions: for
/// whoever lost the authenticator. Noted in the audit. Nobody may do it to somebody who may do more than they themselves, nor
/// without a proof that is not older than ten minutes (`step_up_required`).
#[utoipa::path(
    tag = "users",
    params(("id" = UserId, Path, description = "The person")),
    responses((status = 204, description = "Their next login asks for none, or has them enrol a new one"), Refusals),
    security(("bearer" = [])),
)]
#[delete("/api/v1/users/{id}/mfa")]
pub async fn reset_second_factor(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<ResetFactors>,
    id: Path<UserId>,
) -> ApiResult<NoContent> {
    let (id, now) = (id.0, auth.clock.now());
    let actor = format!("user:{}", caller.recently()?);
    let db = &caller.db;
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            users::hold(conn, id).await?;
            check_control(conn, &caller.access.permissions, id).await?;
            let with_passkeys = db.tenant().schema_version >= passkeys::SINCE;
            let passkeys = with_passkeys && passkeys::store::remove_all(conn, id).await?;
            if !store::remove(conn, id).await? && !passkeys {
                return Err(ApiError::not_found("second factor"));
            }
            let entry = Entry { actor: &actor, action: "mfa.reset", user: id, session: None, reason: None };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            mail::notify_security(conn, db, id, SecurityNotice::SecondFactorReset, None).await?;
            Ok(end_sessions(conn, id, None, "second_factor_reset", now).await?)
        })
        .await?;
    auth.admission.forget_user(caller.db.tenant().id, id).await;
    Ok(NoContent)
}
