//! Backups of tenants, the keys that seal them, and the switch to what was restored from one.

mod keys;
mod store;
mod swap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

pub use keys::{destroy_key, ensure_key, find_key, key_made_at};
pub use store::{abandoned, begin, count, due, finish, get, last_of_slug, list, outdated, page, remove, removing};
pub use swap::move_database;

use crate::kernel::{BackupId, Slug, TenantId};
use crate::router::tenant::words;

words! {
    /// How far a backup has come.
    BackupState {
        /// Being made, or left unfinished.
        Running = "running",
        /// Whole, and read back once.
        Done = "done",
        /// On its way out.
        Removing = "removing",
    }
}

/// A backup, as operators see it too.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Identity.
    pub id: BackupId,
    /// Whose data it holds; the tenant may be gone.
    pub tenant_id: TenantId,
    /// The tenant's public name at that time.
    pub slug: Slug,
    /// Whether it can be restored: only one that is `done` can.
    pub state: BackupState,
    /// Made by itself, and taken away by itself.
    pub scheduled: bool,
    /// Bytes in the storage.
    pub bytes: Option<i64>,
    /// Rows of all its tables.
    pub rows: Option<i64>,
    /// Version of the built-in schema in it.
    pub schema_version: i32,
    /// The moment whose data it holds, as near as can be said.
    pub created_at: DateTime<Utc>,
    /// When it was whole.
    pub finished_at: Option<DateTime<Utc>>,
}
