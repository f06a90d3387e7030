//! `tenant token`.

use clap::Args;
use nix::unistd::{User, gethostname, getuid};
use secrecy::ExposeSecret as _;

use super::{explain, fleet};
use crate::cli::Context;
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
        actor: actor(),
        reason: args.reason.clone(),
    };
    let given = fleet(context)?.impersonate(&wanted, context.config.public_url()).await.map_err(explain)?;
    let fields = [
        ("accessToken", given.access_token.expose_secret().to_owned()),
        ("expiresIn", given.expires_in.to_string()),
        ("sessionId", given.session_id.to_string()),
        ("userId", given.user_id.to_string()),
        ("actor", given.actor.clone()),
    ];
    context.print_one(&given, &fields)
}

/// Whoever runs this, as this machine knows them.
fn actor() -> String {
    let account = User::from_uid(getuid()).ok().flatten().map_or_else(|| getuid().to_string(), |user| user.name);
    let machine = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let actor = format!("cli:{account}@{machine}");
    actor.chars().take(200).collect()
}
