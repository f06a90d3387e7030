//! Tokens of an app in its own name (RFC 6749, section 4.4): it acts in its owner's.

use super::active;
use super::issue::{Given, OauthTokens, issue};
use super::store::{self, GrantRow};
use crate::error::ApiResult;
use crate::kernel::OauthGrantId;
use crate::router::TenantTx;
use crate::tenant::auth::delta;
use crate::tenant::oauth::clients::store::ClientRow;
use crate::tenant::oauth::endpoint::Asked;
use crate::tenant::oauth::refusal::{Outcome, Refusal};
use crate::tenant::oauth::scopes;
use crate::tenant::security::session_rules;

pub(super) async fn give(asked: &Asked, client: &ClientRow) -> Outcome<OauthTokens> {
    if !client.is_confidential() {
        return Err(Refusal::new("unauthorized_client", "The client keeps no secret."));
    }
    // There is nobody of whom to tell who they are.
    let most = scopes::permissions(&client.scopes);
    let scopes = scopes::within(asked.form.get("scope"), &most);
    let scopes = scopes.ok_or_else(|| Refusal::new("invalid_scope", "The client may not ask for this."))?;
    let (auth, db, now) = (&*asked.auth, &asked.db, asked.auth.clock.now());
    let grant = &GrantRow {
        id: OauthGrantId::generate(),
        client_id: client.id,
        user_id: None,
        scopes,
        amr: Vec::new(),
        auth_time: now,
        nonce: None,
        created_at: now,
        expires_at: now + delta(auth.settings.access_token_ttl),
        revoked_at: None,
    };
    let rules = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<_> {
            // Others verify the token by our keys alone: it is not to be had when nobody stands behind it any more.
            if active(conn, client.owner_id).await?.is_none() {
                return Ok(None);
            }
            store::insert_grant(conn, grant).await?;
            Ok(Some(session_rules(conn, db, auth.settings.session_lifetimes()).await?))
        })
        .await?;
    let refused = || Refusal::new("unauthorized_client", "Whoever registered the client is not here any more.");
    let rules = rules.ok_or_else(refused)?;
    let given = Given { grant, scopes: &grant.scopes, person: None, claims: &rules.claims };
    Ok(issue(auth, db, &given, None, now)?)
}
