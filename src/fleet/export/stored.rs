//! An export in the storage, where whoever asked for it over REST fetches it: each file sealed with the key of the tenant's
//! backups, in the tenant's own folder, so that its erasure reaches this too. It stays until its time is over.
//!
//! A worker that was paused may wake up when another one has made the export, and go on writing for a moment. So each run
//! writes to a folder of its own, and which of them is the export's is in the journal, where only who drives it writes.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::source::{Source, is_made};
use super::write::{Place, part};
use super::{ExportManifest, ExportedFile};
use crate::control::backups;
use crate::control::operations::{self, NewOperation, Operation, OperationFilter, OperationKind, OperationState};
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::backup::Vault;
use crate::fleet::backup::vault::{away, folder_of};
use crate::fleet::lock::Lock;
use crate::fleet::operation::retention::ABANDONED;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::{Fleet, OperationOptions, Silent};
use crate::kernel::{BackupId, OperationId, OperatorId, TenantId};
use crate::router::MainConn;
use crate::router::tenant::words;

/// How many a look takes in: the rest is for the next one.
const LOOK: i64 = 32;

words! {
    /// A step of an export to the storage, as it is journaled and shown.
    Step {
        /// Every table, of one moment.
        Tables = "tables",
        /// It can be fetched.
        Publish = "publish",
    }
}

/// An export that can be fetched: what comes of its job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredExport {
    /// Identity: that of its job.
    pub export_id: OperationId,
    /// The moment whose data it holds.
    pub exported_at: DateTime<Utc>,
    /// When it goes.
    pub expires_at: DateTime<Utc>,
    /// How many tables.
    pub tables: u64,
    /// Rows of all of them.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Each table in two forms, `.ndjson` and `.csv`.
    pub files: Vec<ExportedFile>,
}

/// An export that can be fetched, with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportDetail {
    /// Identity: that of its job.
    pub export_id: OperationId,
    /// When it goes.
    pub expires_at: DateTime<Utc>,
    /// What it holds.
    #[serde(flatten)]
    pub manifest: ExportManifest,
}

impl StoredExport {
    fn new(id: OperationId, manifest: ExportManifest, kept: TimeDelta) -> Self {
        let files: Vec<ExportedFile> = manifest.tables.iter().flat_map(|table| table.files.clone()).collect();
        Self {
            export_id: id,
            exported_at: manifest.exported_at,
            expires_at: manifest.exported_at + kept,
            tables: manifest.tables.len() as u64,
            rows: manifest.tables.iter().map(|table| table.rows).sum(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
        }
    }
}

/// What was written, and by which run.
#[derive(Serialize, Deserialize)]
struct Written {
    run: Uuid,
    manifest: ExportManifest,
}

struct Run<'a> {
    source: Source<'a>,
    vault: Vault,
    id: OperationId,
}

impl Run<'_> {
    async fn tables(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        // Nobody reads what an interrupted run has left, else this step were done. That of the run before this one alone:
        // if another one drives the job by now, its files are not touched.
        if let Some(before) = journal.operation.driver {
            let left = format!("{}/{before}", folder_of(self.source.tenant.id, place_of(self.id)));
            self.source.fleet.storage()?.remove_all(&left).await.map_err(away)?;
        }
        let run = journal.driver().token();
        let manifest = self.source.write(Place::Vault(&self.vault, run), journal).await?;
        journal.keep(&Written { run, manifest })
    }

    async fn publish(&self, journal: &Journal<'_>) -> ApiResult<()> {
        let written: Option<Written> = journal.kept(Step::Tables.as_str())?;
        let manifest = written.ok_or_else(not_journaled)?.manifest;
        let kept = TimeDelta::from_std(self.source.fleet.settings.export_retention).map_err(ApiError::internal)?;
        journal.set_result(&StoredExport::new(self.id, manifest, kept)).await
    }
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Tables => self.tables(journal).await,
            Step::Publish => self.publish(journal).await,
        }
    }
}

impl Fleet {
    /// Leaves an export to a worker, which writes it to the storage.
    ///
    /// # Errors
    /// 409 while the tenant is being made, while another job works on it, or without a storage.
    pub async fn export_later(&self, tenant: &TenantRecord, by: Option<OperatorId>) -> ApiResult<Operation> {
        self.storage()?;
        is_made(tenant)?;
        self.enqueue(NewOperation { requested_by: by, ..new_export(tenant) }).await
    }

    /// Drives an export that was left to a worker.
    pub(in crate::fleet) async fn carry_out_export(&self, operation: &Operation) -> ApiResult<()> {
        let (id, _) = operation.tenant.as_ref().ok_or_else(|| ApiError::internal("an export without its tenant"))?;
        let (id, storage) = (*id, self.storage()?.clone());
        let _lock = Lock::tenant(&self.control, id).await?;
        let source = Source::find(self, id).await?;
        let options = OperationOptions::of_worker(operation);
        let operation = self.begin_or_resume(new_export(&source.tenant), options.left).await?;
        let keys = self.control.keys.clone();
        let key = self.control.db.read(async move |conn: &mut MainConn| backups::ensure_key(conn, &keys, id).await);
        let export = operation.id;
        let vault = Vault::new(storage, key.await?, id, place_of(export));
        let mut run = Run { source, vault, id: export };
        let mut journal = Journal::open(&self.control, operation, &Silent, options.halt).await?;
        journal.drive(&mut run, Step::ALL).await?;
        tracing::info!(tenant = %id, %export, "exported to the storage");
        Ok(())
    }

    /// A page of a tenant's exports that can be fetched, the latest first: older than `after` or newer than `before`.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn exports_page(
        &self,
        tenant: TenantId,
        limit: i64,
        after: Option<OperationId>,
        before: Option<OperationId>,
    ) -> ApiResult<Vec<StoredExport>> {
        let filter = OperationFilter { limit: Some(limit), after, before, ..self.fetchable(tenant) };
        let listed = async move |conn: &mut MainConn| operations::list(conn, &filter).await;
        let rows = self.control.db.read(listed).await?;
        rows.into_iter().map(|one| stored(one.result)).collect()
    }

    /// How many of them there are.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn exports_count(&self, tenant: TenantId) -> ApiResult<i64> {
        let filter = self.fetchable(tenant);
        self.control.db.read(async move |conn: &mut MainConn| operations::count(conn, &filter).await).await
    }

    fn fetchable(&self, tenant: TenantId) -> OperationFilter {
        let now = self.control.clock.now();
        OperationFilter { tenant: Some(tenant), fetchable: Some(now), ..OperationFilter::default() }
    }

    /// One of a tenant's exports that can be fetched.
    ///
    /// # Errors
    /// 404 if it is not there: also if it is another tenant's, not whole yet, or its time is over.
    pub async fn export_detail(&self, tenant: TenantId, id: OperationId) -> ApiResult<ExportDetail> {
        let StoredExport { export_id, expires_at, .. } = self.stored_export(tenant, id).await?;
        let manifest = self.written(id).await?.manifest;
        Ok(ExportDetail { export_id, expires_at, manifest })
    }

    async fn written(&self, id: OperationId) -> ApiResult<Written> {
        let steps = self.control.db.read(async move |conn: &mut MainConn| operations::steps(conn, id).await).await?;
        let tables = steps.into_iter().find(|step| step.is_done() && step.name == Step::Tables.as_str());
        let written = tables.and_then(|step| step.output).ok_or_else(not_journaled)?;
        serde_json::from_value(written).map_err(ApiError::internal)
    }

    /// A file of such an export, with its bytes as they come: all of them authentic, or an error is the last.
    ///
    /// # Errors
    /// As [`Self::export_detail`]; 404 too if it has no file of this name; 503 if the storage does not answer.
    pub async fn export_file(
        &self,
        tenant: TenantId,
        id: OperationId,
        name: &str,
    ) -> ApiResult<(ExportedFile, BoxStream<'static, ApiResult<Vec<u8>>>)> {
        let files = self.stored_export(tenant, id).await?.files;
        let found = files.into_iter().zip(0_i64..).find(|(file, _)| file.name == name);
        let (file, number) = found.ok_or_else(|| ApiError::not_found("file"))?;
        let part = part(self.written(id).await?.run, number);
        let pieces = Vault::find(self, tenant, place_of(id)).await?.open(&part).await?;
        let told = move |error: &ApiError| {
            tracing::error!(export = %id, number, %error, cause = ?error.cause(), "a file of an export broke off");
        };
        Ok((file, pieces.inspect_err(told).boxed()))
    }

    async fn stored_export(&self, tenant: TenantId, id: OperationId) -> ApiResult<StoredExport> {
        let missing = || ApiError::not_found("export");
        let found = self.control.db.read(async move |conn: &mut MainConn| operations::get(conn, id).await).await;
        let operation = match found {
            Err(error) if error.code() == Code::NotFound => return Err(missing()),
            found => found?,
        };
        let is_theirs = operation.tenant.as_ref().is_some_and(|(of, _)| *of == tenant);
        let is_whole = operation.kind == OperationKind::Export && operation.state == OperationState::Done;
        // What the command line exported has no result: it is not in the storage.
        if !is_theirs || !is_whole || operation.result.is_none() {
            return Err(missing());
        }
        let export = stored(operation.result)?;
        if export.expires_at > self.control.clock.now() { Ok(export) } else { Err(missing()) }
    }

    /// Takes exports away whose time is over, and what is left of those that did not come to their end; gives how many. One
    /// that cannot be removed now is left for the next look.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn prune_exports(&self) -> ApiResult<usize> {
        if self.settings.storage.is_none() || !self.tells_time().await? {
            return Ok(0);
        }
        let now = self.control.clock.now();
        let over = async move |conn: &mut MainConn| operations::exports_over(conn, now, now - ABANDONED, LOOK).await;
        let mut gone = 0;
        for export in self.control.db.read(over).await? {
            match self.remove_export(&export).await {
                Ok(()) => gone += 1,
                Err(error) => {
                    tracing::warn!(export = %export.id, %error, cause = ?error.cause(), "an export could not be removed");
                }
            }
        }
        Ok(gone)
    }

    async fn remove_export(&self, export: &Operation) -> ApiResult<()> {
        let (tenant, _) = export.tenant.as_ref().ok_or_else(|| ApiError::internal("an export without its tenant"))?;
        let id = export.id;
        // What any run of it has left.
        self.storage()?.remove_all(&folder_of(*tenant, place_of(id))).await.map_err(away)?;
        self.control.db.read(async move |conn: &mut MainConn| operations::export_removed(conn, id).await).await
    }
}

fn not_journaled() -> ApiError {
    ApiError::internal("the export is not in the journal")
}

/// Where it is in the storage: as a backup with the id of its job would be.
fn place_of(export: OperationId) -> BackupId {
    BackupId::from(export.uuid())
}

/// For the storage, which goes without saying; one for a directory names that.
fn new_export(tenant: &TenantRecord) -> NewOperation {
    NewOperation::on(tenant.id, &tenant.slug, OperationKind::Export, json!({}))
}

fn stored(result: Option<serde_json::Value>) -> ApiResult<StoredExport> {
    let result = result.ok_or_else(|| ApiError::internal("an export without its result"))?;
    serde_json::from_value(result).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::export::ExportedTable;

    /// A file's place in the list is its number in the storage: both forms of a table, and then the next table.
    #[test]
    fn its_files_are_those_of_its_tables_in_their_order() {
        let file = |name: &str, bytes| ExportedFile { name: name.into(), bytes, sha256: String::new() };
        let table = |name: &str, rows, bytes: u64| ExportedTable {
            table: format!("public.{name}"),
            rows,
            columns: Vec::new(),
            files: vec![file(&format!("{name}.ndjson"), bytes), file(&format!("{name}.csv"), bytes + 1)],
        };
        let exported_at = DateTime::<Utc>::UNIX_EPOCH;
        let manifest = ExportManifest {
            format: 1,
            tenant: TenantId::generate(),
            slug: "acme".parse().unwrap(),
            exported_at,
            schema_version: 1,
            tables: vec![table("contacts", 3, 10), table("albums", 4, 100)],
            left_out: Vec::new(),
        };
        let export = StoredExport::new(OperationId::generate(), manifest, TimeDelta::days(7));
        let names: Vec<_> = export.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["contacts.ndjson", "contacts.csv", "albums.ndjson", "albums.csv"]);
        assert_eq!((export.tables, export.rows, export.bytes), (2, 7, 10 + 11 + 100 + 101));
        assert_eq!(export.expires_at, exported_at + TimeDelta::days(7));
    }
}
