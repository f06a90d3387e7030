//! The control plane's schema, embedded, and what brings a database to it.

use crate::router::Target;
use crate::router::migrate::{Applied, MigrateError, MigrateOptions, MigrationSet, migrate};

mod embedded {
    refinery::embed_migrations!("main-migrations");
}

/// Where the applied ones are remembered.
const HISTORY: &str = "schema_history";

/// The embedded migrations.
#[must_use]
pub fn set() -> MigrationSet {
    MigrationSet::new(HISTORY, embedded::migrations::runner().get_migrations().clone())
}

/// Brings the control plane's database to the embedded schema: over a connection of its own, under an advisory lock,
/// so that nodes which start together migrate once.
///
/// # Errors
/// [`MigrateError`]; migrations before the failed one stay applied.
pub async fn run(target: &Target) -> Result<Applied, MigrateError> {
    migrate(target, &set(), &MigrateOptions::default()).await
}
