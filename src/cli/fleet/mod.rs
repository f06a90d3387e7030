//! `tenantry fleet`: all tenants at once. One file per verb.

mod addresses;
mod doctor;
mod drift;
mod evidence;
mod migrate;
mod status;
mod verify;

use clap::Subcommand;

pub use addresses::IndexAddressesArgs;
pub(super) use doctor::{conclude, tell};
pub use migrate::MigrateArgs;

use super::Context;

/// What to do with the fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Brings every tenant to the head of the migrations, in waves; an interrupted run is gone on with.
    #[command(after_help = "Examples:\n  tenantry fleet migrate --dry-run\n  \
                            tenantry fleet migrate --canary 5 --wave 200 --concurrency 8\n  \
                            tenantry fleet migrate --only acme,globex --output json")]
    Migrate(MigrateArgs),
    /// Says how many tenants are at what version, and who failed; exits 3 if there is something to report.
    #[command(after_help = "Example:\n  tenantry fleet status --output json")]
    Status,
    /// Compares each tenant's catalog with what its migrations make. Exit code 3 if any differs.
    #[command(after_help = "Example:\n  tenantry fleet drift --only acme,globex --output json")]
    Drift(drift::DriftArgs),
    /// Looks for what is broken or left over, and names the command that mends it. Exit code 3 if there is anything.
    #[command(after_help = "Example:\n  tenantry fleet doctor --output json")]
    Doctor,
    /// Reads every tenant's verified addresses into the blind index anew, by which people find their workspaces.
    #[command(
        after_help = "Examples:\n  tenantry fleet index-addresses\n  tenantry fleet index-addresses --new-key --output json"
    )]
    IndexAddresses(IndexAddressesArgs),
    /// Proves the isolation of a running installation: stamps, grants, keys, and two canary tenants that attack each other.
    #[command(
        after_help = "Examples:\n  tenantry fleet verify --report proof.json\n  tenantry fleet verify --check proof.json"
    )]
    Verify(verify::VerifyArgs),
}

/// Runs one of them.
///
/// # Errors
/// [`super::Partial`] if something is left to be done, [`super::Refused`] for an unmet precondition; else what failed.
pub async fn run(context: &Context, command: &FleetCommand) -> anyhow::Result<()> {
    match command {
        FleetCommand::Migrate(args) => migrate::run(context, args).await,
        FleetCommand::Status => status::run(context).await,
        FleetCommand::IndexAddresses(args) => addresses::run(context, args).await,
        FleetCommand::Drift(args) => drift::run(context, args).await,
        FleetCommand::Verify(args) => verify::run(context, args).await,
        FleetCommand::Doctor => doctor::run(context).await,
    }
}
