//! `tenantry key`: the master keys that seal every secret of the control plane.

use clap::Subcommand;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{Context, Output};
use crate::control;
use crate::kernel::crypto::MasterKeys;

/// What to do with master keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Print a new master key.
    #[command(after_help = "Example:\n  tenantry key generate > master.key && chmod 600 master.key")]
    Generate,
    /// Seal every secret anew under the newest master key, while the installation runs.
    ///
    /// First put the new key in front of the old one in TENANTRY_MASTER_KEY on every node; afterwards take the old one
    /// away. Can be interrupted and run again.
    #[command(after_help = "Example:\n  TENANTRY_MASTER_KEY=\"$NEW,$OLD\" tenantry key rotate")]
    Rotate,
}

impl KeyCommand {
    /// Runs it.
    ///
    /// # Errors
    /// If the control plane does not answer, or a value opens with none of the keys.
    pub async fn run(&self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Generate => {
                let made = MasterKeys::generate();
                let key = made.expose_secret();
                match context.output {
                    Output::Json => context.print_one(&json!({"key": key}), &[]),
                    // Nothing around it: it goes into a file, or a variable.
                    Output::Table => context.say(key),
                }
            }
            Self::Rotate => {
                let report = control::rewrap(&context.control()?).await?;
                let total: u64 = report.iter().map(|column| column.count).sum();
                let rows = report.iter().map(|c| vec![c.table.to_owned(), c.column.to_owned(), c.count.to_string()]);
                context.print(&json!({"rewrapped": total, "columns": report}), &["table", "column", "rewrapped"], rows)
            }
        }
    }
}
