//! `tenant token`.

use clap::Args;
use secrecy::ExposeSecret as _;

use super::{explain, fleet};
use crate::cli::{Context, audit};
use crate::fleet::impersonate::TokenWanted;

/// Options of `tenant token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Address of the person to act as.
    #[arg(long, value_name = "EMAIL")]
    user: String,
    /// Why: it stands in the tenant's audit.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) async fn run(context: &Context, args: &TokenArgs) -> anyhow::Result<()> {
    let wanted = TokenWanted {
        tenant: args.tenant.clone(),
        user: args.user.clone(),
        actor: audit::actor(),
        reason: args.reason.clone(),
    };
    let given = fleet(context)?.impersonate(&wanted, context.config.public_url()).await.map_err(explain)?;
    let fields = [
        ("accessToken", given.access_token.expose_secret().to_owned()),
        ("expiresIn", given.expires_in.to_string()),
        ("expiresAt", given.expires_at.to_rfc3339()),
        ("sessionId", given.session_id.to_string()),
        ("userId", given.user_id.to_string()),
        ("actor", given.actor.clone()),
    ];
    context.print_one(&given, &fields)
}
