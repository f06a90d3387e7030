//! `tenantry config`: what is in effect, and whether it can be.

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use crate::http::Node;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Checks that `serve` could start with it.
    #[command(after_help = "Example:\n  tenantry config check --config /etc/tenantry.toml")]
    Check,
    /// Prints every setting, its value and where it came from; secrets are masked.
    #[command(after_help = "Example:\n  TENANTRY_LOG__LEVEL=debug tenantry config show --output json")]
    Show,
}

#[derive(Serialize)]
struct Checked {
    valid: bool,
}

/// Runs one of them.
///
/// # Errors
/// What is wrong with the configuration.
pub fn run(context: &Context, command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check => check(context),
        ConfigCommand::Show => {
            let settings = context.config.describe();
            let rows = settings.iter().map(|s| vec![s.key.clone(), s.value.clone(), s.source.clone()]);
            context.print(&settings, &["setting", "value", "source"], rows)
        }
    }
}

fn check(context: &Context) -> anyhow::Result<()> {
    Node::check(&context.config)?;
    context.print_one(&Checked { valid: true }, &[("configuration", "valid".to_owned())])
}
