//! `tenantry migrate`: the control plane's own schema.

use clap::Args;
use serde_json::json;

use super::{Context, Refused, keys};
use crate::http::Node;

/// Options of `migrate`: none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  TENANTRY_DATABASE_URL_FILE=/run/secrets/url tenantry migrate")]
pub struct MigrateArgs {}

impl MigrateArgs {
    /// Brings the control plane to the embedded schema, and makes the installation's identity and keys at the first
    /// time. Running it again does nothing.
    ///
    /// # Errors
    /// If the database cannot be reached, the master keys are another installation's, or a migration fails.
    pub async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let node = Node::open(&context.config)?;
        // Before the first migration there is nothing to be opened.
        if let Ok(false) = node.control.takes_our_keys().await {
            return Err(keys::foreign());
        }
        let applied = node.migrate().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
            Refused::new(format!("the control plane cannot be migrated: {error}{cause}"), "check TENANTRY_DATABASE_URL")
        })?;
        node.control.ensure_installation().await?;
        let value = json!({"from": applied.from, "to": applied.to, "applied": applied.count});
        let fields = [("from", applied.from.to_string()), ("to", applied.to.to_string())];
        context.print_one(&value, &fields)
    }
}
