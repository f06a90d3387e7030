//! Exchanging a code for tokens (RFC 6749, section 4.1.3; RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq as _;

use super::issue::{Given, OauthTokens, issue};
use super::store::{self, GrantRow};
use super::{person_of, stolen};
use crate::error::ApiResult;
use crate::kernel::crypto::sha256;
use crate::kernel::opaque::{OpaqueToken, TokenKind};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::auth::delta;
use crate::tenant::oauth::clients::rules::{OauthGrantType, is_registered};
use crate::tenant::oauth::clients::store::ClientRow;
use crate::tenant::oauth::endpoint::Asked;
use crate::tenant::oauth::refusal::{Outcome, Refusal};
use crate::tenant::security::session_rules;

pub(super) async fn exchange(asked: &Asked, client: &ClientRow) -> Outcome<OauthTokens> {
    let form = &asked.form;
    let (redirect, verifier) = (form.need("redirect_uri")?, form.need("code_verifier")?);
    form.need("code")?;
    let code = form.token("code", TokenKind::OauthCode, &asked.db).ok_or_else(Refusal::grant)?;
    let now = asked.auth.clock.now();
    // A refusal is an outcome, not an error: what was spent or ended has to stay.
    let done = asked
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<Outcome<OauthTokens>> {
            let Some((grant, held)) = store::hold_code(conn, &code.hash()).await? else {
                return Ok(Err(Refusal::grant()));
            };
            // Another's code is none of this client's business, and it cannot spend it.
            if grant.client_id != client.id {
                return Ok(Err(Refusal::grant()));
            }
            if held.used_at.is_some() {
                stolen(conn, asked, (client, &grant), "oauth.code_replayed", now).await?;
                return Ok(Err(Refusal::grant()));
            }
            store::spend(conn, &code.hash(), now).await?;
            // An address may have been taken from the app since, because it is somebody else's by now.
            let bound = held.redirect_uri == redirect
                && is_registered(&client.redirect_uris, redirect)
                && is_proof(verifier, &held.code_challenge);
            if !bound || grant.revoked_at.is_some() || now >= held.expires_at {
                store::end(conn, grant.id, "oauth.code_refused", now).await?;
                return Ok(Err(Refusal::grant()));
            }
            give(conn, asked, client, grant, now).await
        })
        .await?;
    if done.is_err() {
        // What was exchanged for it may have ended.
        asked.auth.admission.forget_app(asked.db.tenant().id, client.id).await;
    }
    done
}

async fn give(
    conn: &mut TenantConn,
    asked: &Asked,
    client: &ClientRow,
    mut grant: GrantRow,
    now: DateTime<Utc>,
) -> ApiResult<Outcome<OauthTokens>> {
    let (auth, db) = (&*asked.auth, &asked.db);
    let Some(person) = person_of(conn, asked, &grant, now).await? else { return Ok(Err(Refusal::grant())) };
    let rules = session_rules(conn, db, auth.settings.session_lifetimes()).await?;
    let mut refresh = None;
    if client.may(OauthGrantType::RefreshToken) {
        grant.expires_at = rules.lifetimes.end(grant.created_at, now);
        let token = OpaqueToken::generate(&db.router().installation().mac, TokenKind::OauthRefresh, db.tenant().id);
        store::insert_refresh(conn, grant.id, &token.hash(), now, grant.expires_at).await?;
        refresh = Some(token.text().clone());
    } else {
        grant.expires_at = now + delta(auth.settings.access_token_ttl);
        store::prolong(conn, grant.id, grant.expires_at).await?;
    }
    let scopes = &client.left_of(&grant.scopes);
    let given = Given { grant: &grant, scopes, person: Some(&person), claims: &rules.claims };
    Ok(Ok(issue(auth, db, &given, refresh, now)?))
}

/// Whether a challenge was made of this verifier, by `S256`.
fn is_proof(verifier: &str, challenge: &str) -> bool {
    let good = (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
    let made = BASE64URL.encode(sha256(verifier.as_bytes()));
    good && bool::from(made.as_bytes().ct_eq(challenge.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_proves_its_own_challenge() {
        // RFC 7636, appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_proof(verifier, challenge));
        assert!(!is_proof(&verifier[1..], challenge) && !is_proof(challenge, challenge));
        // What was no challenge by S256 is never one.
        assert!(!is_proof(verifier, verifier));
    }
}
