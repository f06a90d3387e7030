//! `tenant export`: one tenant's data in open formats, for the customer: each table as NDJSON and as CSV, of one moment,
//! with a manifest. Secrets stay out.

pub mod columns;
mod directory;
mod names;
mod write;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use diesel_async::SimpleAsyncConnection as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use directory::Mark;
use names::Stems;
pub use write::{ExportedFile, ExportedTable};

use super::backup::dump::patient;
use super::backup::policies;
use super::lock::Lock;
use super::operation::{Journal, Steps};
use super::{Fleet, OperationOptions, Progress, StepTime, refused};
use crate::control::operations::{NewOperation, OperationKind};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::kernel::{Slug, TenantId};
use crate::router::tenant::words;
use crate::router::{MainConn, Target, TenantStatus};

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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    fleet: &'a Fleet,
    tenant: TenantRecord,
    direct: Target,
    to: PathBuf,
}

impl Run<'_> {
    async fn directory(&self, journal: &Journal<'_>) -> ApiResult<()> {
        let written: Option<ExportManifest> = journal.kept(Step::Tables.as_str())?;
        let written = written.as_ref().map(text).transpose()?;
        let mark = Mark { tenant: self.tenant.id, operation: journal.operation.id };
        directory::take(&self.to, mark, written.as_deref()).await
    }

    async fn tables(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let mut conn = patient(&self.direct).await?;
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
            SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 3; \
            SET LOCAL row_security = off";
        conn.batch_execute(begin).await.map_err(ApiError::internal)?;
        policies::hide_nothing(&mut conn).await?;
        let (plan, left_out) = columns::plan(&mut conn).await?;
        let exported_at = self.fleet.control.clock.now();
        let total = i64::try_from(plan.len()).map_err(ApiError::internal)?;
        let (mut tables, mut stems) = (Vec::with_capacity(plan.len()), Stems::default());
        for (table, done) in plan.into_iter().zip(0_i64..) {
            let stem = stems.of(&table.table);
            tables.push(
                write::table(&mut conn, (self.to.as_path(), stem.as_str()), table, journal, (done, total)).await?,
            );
        }
        conn.batch_execute("COMMIT").await.map_err(ApiError::internal)?;
        journal.keep(&ExportManifest {
            format: 1,
            tenant: self.tenant.id,
            slug: self.tenant.slug.clone(),
            exported_at,
            schema_version: self.tenant.schema_version,
            tables,
            left_out,
        })
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
        let keys = self.control.keys.clone();
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            Ok::<_, ApiError>((tenants::get(conn, id).await?, tenants::target(conn, &keys, id).await?.1))
        });
        let (tenant, direct) = found.await?;
        if tenant.status == TenantStatus::Provisioning {
            return Err(refused("The tenant is not made yet, so there is nothing to export."));
        }
        let new = NewOperation::on(id, &tenant.slug, OperationKind::Export, json!({"to": to}));
        let operation = self.begin_or_resume(new, options.left).await?;
        let mut run = Run { fleet: self, tenant, direct, to };
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let steps = journal.drive(&mut run, Step::ALL).await?;
        let manifest = kept(&journal)?;
        tracing::info!(tenant = %id, tables = manifest.tables.len(), "exported");
        Ok(Exported { manifest, steps })
    }
}
