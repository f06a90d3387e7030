//! `tenantry fleet`: all tenants at once.

mod doctor;
mod drift;
mod verify;

use clap::Subcommand;

pub(super) use doctor::{conclude, tell};

use super::Context;

/// What to do with the fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Compares each tenant's catalog with what its migrations make. Exit code 3 if any differs.
    #[command(after_help = "Example:\n  tenantry fleet drift --only acme,globex --output json")]
    Drift(drift::DriftArgs),
    /// Looks for what is broken or left over, and names the command that mends it. Exit code 3 if there is anything.
    #[command(after_help = "Example:\n  tenantry fleet doctor --output json")]
    Doctor,
    /// Proves the isolation of a running installation: stamps, grants, keys, and two canary tenants that attack each other.
    #[command(
        after_help = "Examples:\n  tenantry fleet verify --report proof.json\n  tenantry fleet verify --check proof.json"
    )]
    Verify(verify::VerifyArgs),
}

/// Runs one of them.
///
/// # Errors
/// What failed; `Partial` where something is to be reported.
pub async fn run(context: &Context, command: &FleetCommand) -> anyhow::Result<()> {
    match command {
        FleetCommand::Drift(args) => drift::run(context, args).await,
        FleetCommand::Verify(args) => verify::run(context, args).await,
        FleetCommand::Doctor => doctor::run(context).await,
    }
}
