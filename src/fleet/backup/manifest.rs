//! What a backup says of itself. It is sealed as the dump is.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::contents::TableContents;
use super::vault::Digest;
use crate::fleet::copy::Extensions;
use crate::kernel::{BackupId, Slug, TenantId};

/// The form of manifests that this release writes.
pub(in crate::fleet) const FORMAT: u32 = 1;

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::fleet) struct Manifest {
    /// Grows when its meaning changes.
    pub(in crate::fleet) format: u32,
    /// The backup.
    pub(in crate::fleet) backup: BackupId,
    /// Whose data it is.
    pub(in crate::fleet) tenant: TenantId,
    /// The tenant's public name at that time.
    pub(in crate::fleet) slug: Slug,
    /// The moment whose data it holds, as near as can be said.
    pub(in crate::fleet) created_at: DateTime<Utc>,
    /// Version of the built-in schema.
    pub(in crate::fleet) schema_version: i32,
    /// The role that owns the data, and that its grants name.
    pub(in crate::fleet) role: String,
    /// What an administrator had installed. Backups of earlier releases do not say.
    #[serde(default)]
    pub(in crate::fleet) extensions: Option<Extensions>,
    /// The sealed dump.
    pub(in crate::fleet) dump: Digest,
    /// What it holds.
    pub(in crate::fleet) tables: Vec<TableContents>,
}

impl Manifest {
    /// Rows of all tables.
    pub(in crate::fleet) fn rows(&self) -> i64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}
