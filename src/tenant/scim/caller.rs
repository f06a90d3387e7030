//! Who comes with a SCIM token.

use std::collections::BTreeSet;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use secrecy::SecretString;
use serde_json::Value;

use super::answer::{Fault, Result, TYPE};
use super::{SINCE, store};
use crate::error::{ApiError, Code};
use crate::kernel::UserId;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::rest::{Permission as _, raw_body};
use crate::router::{self, Router, TenantConn, TenantDb, TenantTx, extractor};
use crate::tenant::auth::Auth;
use crate::tenant::permissions::UsersWrite;
use crate::tenant::users::rules::UserStatus;

/// A directory.
pub(super) struct Caller {
    pub db: TenantDb,
    pub auth: web::Data<Auth>,
    /// Whoever made the token.
    pub owner: UserId,
    /// What they may do at this moment: the directory may do no more.
    pub permissions: BTreeSet<String>,
}

impl Caller {
    /// Admits whoever brings a token that is good.
    pub(super) async fn of(request: &HttpRequest) -> Result<Self> {
        let missing = || ApiError::internal("the application was built without a router");
        let router = request.app_data::<web::Data<Router>>().ok_or_else(missing)?;
        let auth = request.app_data::<web::Data<Auth>>().ok_or_else(missing)?.clone();
        let text = SecretString::from(extractor::bearer(request)?);
        let token = OpaqueToken::parse(&router.installation().mac, TokenKind::Scim, &text);
        let token = token.ok_or_else(|| ApiError::new(Code::TokenInvalid))?;
        let db = router.routed(&token, &extractor::hints(request, router)).await?;
        let db = router.at_schema(db, SINCE).await?;
        let (hash, now) = (token.hash(), auth.clock.now());
        let read = async |conn: &mut TenantConn| -> std::result::Result<_, router::Error> {
            Ok(store::presented(conn, &hash).await?)
        };
        let found = db.read(read).await?.ok_or_else(|| ApiError::new(Code::TokenInvalid))?;
        if found.status != UserStatus::Active.as_str() {
            return Err(ApiError::new(Code::TokenRevoked).into());
        }
        if found.expires_at.is_some_and(|at| now >= at) {
            return Err(ApiError::new(Code::TokenExpired).into());
        }
        if found.last_used_at.is_none_or(|at| now - at > chrono::TimeDelta::minutes(1)) {
            let id = found.id;
            db.transaction(async move |conn: &mut TenantTx| -> std::result::Result<(), router::Error> {
                Ok(store::used(conn, id, now).await?)
            })
            .await?;
        }
        let permissions: BTreeSet<String> = found.permissions.into_iter().collect();
        if !permissions.contains(UsersWrite::NAME) {
            return Err(ApiError::permission_denied(UsersWrite::NAME).into());
        }
        Ok(Self { db, auth, owner: found.owner_id, permissions })
    }

    /// What the audit calls it.
    pub(super) fn name(&self) -> String {
        format!("scim:{}", self.owner)
    }
}

/// Reads a body.
pub(super) async fn body(request: &HttpRequest, payload: web::Payload) -> Result<Value> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if ![TYPE, "application/json"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        let said = "Send the body as application/scim+json.";
        return Err(ApiError::new(Code::UnsupportedMediaType).detail(said).into());
    }
    let bytes = raw_body(request, payload.into_inner()).await?;
    let read = serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object);
    read.ok_or_else(|| Fault::Said(400, "invalidSyntax", "The body is no JSON object.".to_owned()))
}
