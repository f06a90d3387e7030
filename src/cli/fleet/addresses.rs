//! `fleet index-addresses`.

use clap::Args;

use crate::cli::progress::Bar;
use crate::cli::tenant::{explain, fleet};
use crate::cli::{Context, Partial};

/// Options of `fleet index-addresses`.
#[derive(Debug, Args)]
pub struct IndexAddressesArgs {
    /// Under a new key, which takes the former one's place once every tenant's addresses are there.
    #[arg(long)]
    new_key: bool,
}

pub(super) async fn run(context: &Context, args: &IndexAddressesArgs) -> anyhow::Result<()> {
    let bar = Bar::new();
    let done = fleet(context)?.index_addresses(args.new_key, &bar).await.map_err(explain)?;
    drop(bar);
    let behind = done.behind.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let failed = done.failed.iter().map(|part| format!("{}: {}", part.slug, part.error)).collect::<Vec<_>>();
    let fields = [
        ("indexed", done.indexed.to_string()),
        ("behind", behind),
        ("failed", failed.join("\n         ")),
        ("keyId", done.key_id.to_string()),
    ];
    context.print_one(&done, &fields)?;
    if done.failed.is_empty() {
        return Ok(());
    }
    let left = done.failed.len();
    Err(Partial(format!("{left} tenants could not be read; run it again once the causes are mended")).into())
}
