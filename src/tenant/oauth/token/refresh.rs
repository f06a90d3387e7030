//! The next tokens (RFC 6749, section 6): by the rules that sessions are refreshed by.

use super::issue::{Given, OauthTokens, issue};
use super::{person_of, stolen, store};
use crate::error::ApiResult;
use crate::kernel::opaque::TokenKind;
use crate::router::TenantTx;
use crate::tenant::auth::delta;
use crate::tenant::auth::rules::{Rotation, rotation};
use crate::tenant::oauth::clients::store::ClientRow;
use crate::tenant::oauth::endpoint::Asked;
use crate::tenant::oauth::refusal::{Outcome, Refusal};
use crate::tenant::oauth::scopes;
use crate::tenant::security::session_rules;

pub(super) async fn rotate(asked: &Asked, client: &ClientRow) -> Outcome<OauthTokens> {
    asked.form.need("refresh_token")?;
    let (auth, db) = (&*asked.auth, &asked.db);
    let token = asked.form.token("refresh_token", TokenKind::OauthRefresh, db).ok_or_else(Refusal::grant)?;
    // A refusal is an outcome, not an error: what was ended has to stay.
    let done = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<Outcome<OauthTokens>> {
            let held = store::hold_refresh(conn, &token.hash()).await?;
            let Some((mut grant, held)) = held.filter(|(grant, _)| grant.client_id == client.id) else {
                return Ok(Err(Refusal::grant()));
            };
            let now = auth.clock.now();
            let person = person_of(conn, asked, &grant, now).await?;
            let rules = session_rules(conn, db, auth.settings.session_lifetimes()).await?;
            let mut presented = rules.lifetimes.clip(grant.of(&held), grant.created_at, held.created_at);
            presented.ended |= person.is_none();
            grant.expires_at = presented.session_expires_at;
            let verdict = rotation(&presented, delta(auth.settings.refresh_grace), now);
            match verdict {
                Rotation::Expired | Rotation::Ended => return Ok(Err(Refusal::grant())),
                Rotation::Reuse => {
                    stolen(conn, asked, (client, &grant), "oauth.refresh_token_reused", now).await?;
                    return Ok(Err(Refusal::grant()));
                }
                Rotation::Rotate | Rotation::Repeat => {}
            }
            let Some(granted) = scopes::within(asked.form.get("scope"), &client.left_of(&grant.scopes)) else {
                return Ok(Err(Refusal::new("invalid_scope", "This was not granted.")));
            };
            let successor = token.successor(&db.router().installation().mac, TokenKind::OauthRefresh);
            if verdict == Rotation::Rotate {
                grant.expires_at = rules.lifetimes.end(grant.created_at, now);
                store::rotate(conn, grant.id, (&token.hash(), &successor.hash()), now).await?;
                store::insert_refresh(conn, grant.id, &successor.hash(), now, grant.expires_at).await?;
            }
            // Only the first ID token answers the nonce of a sign-in.
            grant.nonce = None;
            let given = Given { grant: &grant, scopes: &granted, person: person.as_ref(), claims: &rules.claims };
            Ok(Ok(issue(auth, db, &given, Some(successor.text().clone()), now)?))
        })
        .await?;
    if done.is_err() {
        auth.admission.forget_app(db.tenant().id, client.id).await;
    }
    done
}
