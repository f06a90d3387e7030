//! One tenant's data in open formats, for the customer: each table as NDJSON and as CSV, of one moment, with a manifest.
//! Secrets stay out. `tenant export` writes it to a directory of the machine; over REST a worker writes it to the storage,
//! sealed, for a while.

pub mod columns;
mod directory;
mod names;
mod source;
mod stored;
mod write;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use directory::Mark;
use source::Source;
pub use stored::{ExportDetail, StoredExport};
use write::Place;
pub use write::{ExportedFile, ExportedTable};

use super::lock::Lock;
use super::operation::{Journal, Steps};
use super::{Fleet, OperationOptions, Progress, StepTime};
use crate::control::operations::{NewOperation, OperationKind};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{Slug, TenantId};
use crate::router::tenant::words;

words! {
    /// A step of an export, as it is journaled and shown.
    Step {
        /// The directory, which was empty.
        Directory = "directory",
        /// Every table, of one moment.
        Tables = "tables",
        /// What the export holds.
        Manifest = "manifest",
    }
}

/// What an export holds.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportManifest {
    /// Grows when its meaning changes.
    pub format: u32,
    /// Whose data it is.
    pub tenant: TenantId,
    /// The tenant's public name.
    pub slug: Slug,
    /// The moment whose data it holds.
    pub exported_at: DateTime<Utc>,
    /// Version of the built-in schema.
    pub schema_version: i32,
    /// What it holds.
    pub tables: Vec<ExportedTable>,
    /// Columns and tables that are left out: secrets, and the product's own memory.
    pub left_out: Vec<String>,
}

/// What was exported.
#[derive(Debug)]
pub struct Exported {
    /// What the directory holds.
    pub manifest: ExportManifest,
    /// What was done.
    pub steps: Vec<StepTime>,
}

struct Run<'a> {
    source: Source<'a>,
    to: PathBuf,
}

impl Run<'_> {
    async fn directory(&self, journal: &Journal<'_>) -> ApiResult<()> {
        let written: Option<ExportManifest> = journal.kept(Step::Tables.as_str())?;
        let written = written.as_ref().map(text).transpose()?;
        let mark = Mark { tenant: self.source.tenant.id, operation: journal.operation.id };
        directory::take(&self.to, mark, written.as_deref()).await
    }

    async fn tables(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let manifest = self.source.write(Place::Directory(&self.to), journal).await?;
        journal.keep(&manifest)
    }

    async fn manifest(&self, journal: &Journal<'_>) -> ApiResult<()> {
        directory::finish(&self.to, &text(&kept(journal)?)?).await
    }
}

/// A manifest as it stands in its file.
fn text(manifest: &ExportManifest) -> ApiResult<String> {
    let text = serde_json::to_string_pretty(manifest).map_err(ApiError::internal)?;
    Ok(format!("{text}\n"))
}

fn kept(journal: &Journal<'_>) -> ApiResult<ExportManifest> {
    let manifest = journal.kept(Step::Tables.as_str())?;
    manifest.ok_or_else(|| ApiError::internal("the export is not in the journal"))
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Directory => self.directory(journal).await,
            Step::Tables => self.tables(journal).await,
            Step::Manifest => self.manifest(journal).await,
        }
    }

    /// The journal does not know what became of a directory of this machine since: whoever goes on writes all of it.
    fn is_repeated(&self, _: Step) -> bool {
        true
    }
}

impl Fleet {
    /// Exports a tenant into an empty directory of this machine, or goes on with an export that was interrupted.
    ///
    /// # Errors
    /// 404 if there is none; 409 if the directory is not empty or cannot be written to, if row-level security hides rows
    /// from the tenant's role, and while another job works on the tenant; 503 if its database does not answer.
    pub async fn export(
        &self,
        id: TenantId,
        to: &Path,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Exported> {
        let to = std::path::absolute(to).map_err(write::unwritten)?;
        let _lock = Lock::tenant(&self.control, id).await?;
        let source = Source::find(self, id).await?;
        let slug = &source.tenant.slug;
        let new = NewOperation::on(id, slug, OperationKind::Export, json!({"to": to}));
        let operation = self.begin_or_resume(new, options.left).await?;
        let mut run = Run { source, to };
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let steps = journal.drive(&mut run, Step::ALL).await?;
        let manifest = kept(&journal)?;
        tracing::info!(tenant = %id, tables = manifest.tables.len(), "exported");
        Ok(Exported { manifest, steps })
    }
}
