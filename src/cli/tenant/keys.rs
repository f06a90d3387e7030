//! `tenant rotate-keys`.

use clap::Args;

use super::{explain, fleet};
use crate::cli::Context;
use crate::fleet::signing_keys::RotateKeys;
use crate::router::KeyAlgorithm;
use crate::tenant::auth::delta;

/// Options of `tenant rotate-keys`.
#[derive(Debug, Args)]
pub struct RotateKeysArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// What the next key signs with: EdDSA or ES256; as the one before, if left out.
    #[arg(long, value_name = "ALG")]
    algorithm: Option<KeyAlgorithm>,
    /// It signs within seconds, instead of after the two minutes in which whoever verifies tokens gets to know it.
    #[arg(long)]
    now: bool,
    /// The former keys are in wrong hands: as --now, and their tokens are refused from then on.
    #[arg(long)]
    compromised: bool,
}

pub(super) async fn run(context: &Context, args: &RotateKeysArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(&args.tenant).await.map_err(explain)?;
    let wanted = RotateKeys {
        algorithm: args.algorithm,
        now: args.now,
        compromised: args.compromised,
        token_ttl: delta(context.config.auth().access_token_ttl.0),
    };
    let rotated = fleet.rotate_keys(tenant.id, wanted).await.map_err(explain)?;
    let fields = [
        ("tenant", tenant.slug.to_string()),
        ("keyId", rotated.key_id.to_string()),
        ("algorithm", rotated.algorithm.to_string()),
        ("signsFrom", rotated.signs_from.to_rfc3339()),
        ("formerUntil", rotated.former_until.to_rfc3339()),
    ];
    context.print_one(&rotated, &fields)
}
