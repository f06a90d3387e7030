//! What of a copied database must not be taken over.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

/// Ends every session, and forgets answers given to anybody before: a session that was ended after the copy was taken
/// must not come to life again, nor mail be sent that was sent since.
///
/// # Errors
/// What the database answers.
pub async fn sign_everybody_out<C>(conn: &mut C) -> QueryResult<()>
where
    C: AsyncConnection<Backend = diesel::pg::Pg>,
{
    for table in [
        "mail_outbox",
        "sessions",
        "idempotency_records",
        "mfa_challenges",
        "trusted_devices",
        "federation_states",
        "passkey_ceremonies",
        "oauth_requests",
        "oauth_grants",
    ] {
        diesel::sql_query(format!("DELETE FROM public.{table}")).execute(conn).await?;
    }
    Ok(())
}

/// Takes away what people prove with who they are: they are there, and nobody can sign in as one of them.
///
/// # Errors
/// What the database answers.
pub async fn forget_credentials<C>(conn: &mut C) -> QueryResult<()>
where
    C: AsyncConnection<Backend = diesel::pg::Pg>,
{
    for statement in [
        "UPDATE public.users SET password_hash = NULL",
        "DELETE FROM public.invitations",
        "DELETE FROM public.registrations",
        "DELETE FROM public.account_tokens",
        "DELETE FROM public.email_changes",
        "DELETE FROM public.second_factors",
        "DELETE FROM public.recovery_codes",
        "DELETE FROM public.password_history",
        "DELETE FROM public.trusted_devices",
        "DELETE FROM public.mfa_challenges",
        "DELETE FROM public.passkeys",
        "DELETE FROM public.api_keys",
        "UPDATE public.security_policy SET captcha_provider = NULL, captcha_site_key = NULL, captcha_secret_sealed = NULL",
        "DELETE FROM public.identity_providers",
        "DELETE FROM public.token_issuers",
        "DELETE FROM public.scim_tokens",
        "DELETE FROM public.oauth_clients",
        "UPDATE public.oauth_settings SET hydra_admin_url = NULL, hydra_token_sealed = NULL",
    ] {
        diesel::sql_query(statement).execute(conn).await?;
    }
    Ok(())
}
