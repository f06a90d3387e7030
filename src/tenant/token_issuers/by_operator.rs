//! The issuers of a tenant, as those who run the installation register them: by the tenant's own rules, and noted in its
//! audit.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::api::{self, By, CreateTokenIssuer, TokenIssuer};
use super::{SINCE, store};
use crate::error::{ApiResult, Code};
use crate::kernel::TokenIssuerId;
use crate::rest::IfMatch;
use crate::router::{Access, TenantConn, TenantDb, TenantTx};
use crate::tenant::auth::Auth;
use crate::tenant::schema::permissions;

/// The issuers, by name.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn list(db: &TenantDb) -> ApiResult<Vec<TokenIssuer>> {
    let db = db.router().at_schema(db.clone(), SINCE).await?;
    db.read(async |conn: &mut TenantConn| -> ApiResult<_> { api::all(conn).await }).await
}

/// Registers one, with this id. Its bearers may do what the words of their roles, or their own roles, allow: nothing bounds
/// them further. One that has the id already was registered by the same request, and is given as it is now.
///
/// # Errors
/// 422 for what the tenant's own route refuses; 409 for an issuer that is there, and where there are fifty.
pub async fn register(
    db: &TenantDb,
    auth: &Auth,
    actor: String,
    (id, wanted): (TokenIssuerId, &CreateTokenIssuer),
) -> ApiResult<TokenIssuer> {
    let db = &db.router().at_schema(db.clone(), SINCE).await?;
    api::check(auth, db, wanted)?;
    let by = &By::Operator(actor);
    let made = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<TokenIssuer> {
            match api::shown(conn, id).await {
                Err(error) if error.code() == Code::NotFound => {}
                before => return before,
            }
            let all: Vec<String> = permissions::table.select(permissions::name).load(conn).await?;
            let everything =
                Access { roles: Vec::new(), permissions: all.into_iter().collect(), password_change_required: false };
            api::register(conn, (auth, db), (by, &everything), (id, wanted)).await
        })
        .await?;
    auth.admission.forget_issuers(db.tenant().id).await;
    Ok(made)
}

/// Removes one: its tokens are taken no more.
///
/// # Errors
/// 404 if there is none; 412 if it has another version than was read.
pub async fn remove(
    db: &TenantDb,
    auth: &Auth,
    actor: String,
    (id, if_match): (TokenIssuerId, IfMatch),
) -> ApiResult<()> {
    let db = &db.router().at_schema(db.clone(), SINCE).await?;
    let by = &By::Operator(actor);
    db.transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
        let row = store::hold(conn, id).await?;
        if_match.check(row.version)?;
        api::note(conn, by, (id, &row.issuer), "token_issuer.removed", auth.clock.now()).await?;
        Ok(store::remove(conn, id).await?)
    })
    .await?;
    auth.admission.forget_issuers(db.tenant().id).await;
    Ok(())
}
