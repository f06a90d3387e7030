//! The steps of a backup. Each may be repeated at any time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::BackupTenant;
use super::contents::TableContents;
use super::dump::{self, Snapshot};
use super::manifest::{FORMAT, Manifest};
use super::vault::{DUMP, Digest, MANIFEST, Vault, damaged, nowhere};
use crate::control::backups::{self, Backup, BackupState};
use crate::control::clusters;
use crate::control::operations::Operation;
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::copy::Extensions;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::{Fleet, admin};
use crate::kernel::BackupId;
use crate::router::tenant::words;
use crate::router::{MainConn, Target, TenantKind};
use crate::storage::Storage;

words! {
    /// A step of a backup, as it is journaled and shown.
    Step {
        /// The entry among the backups, and the tenant's key.
        Reserve = "reserve",
        /// The sealed dump, and what the tables held at its moment.
        Dump = "dump",
        /// The sealed manifest.
        Manifest = "manifest",
        /// All of it read back and opened.
        ReadBack = "read_back",
        /// It can be restored.
        Publish = "publish",
    }
}

/// What the dump was, for the manifest.
#[derive(Serialize, Deserialize)]
pub(in crate::fleet) struct Dumped {
    at: DateTime<Utc>,
    /// Of that moment: whoever goes on with an interrupted backup may find the tenant migrated meanwhile.
    #[serde(default)]
    schema_version: Option<i32>,
    dump: Digest,
    tables: Vec<TableContents>,
    /// Not in the journal of a run that an earlier release began.
    #[serde(default)]
    extensions: Option<Extensions>,
}

pub(super) struct Run<'a> {
    fleet: &'a Fleet,
    tenant: TenantRecord,
    wanted: BackupTenant,
    direct: Target,
    vault: Vault,
    id: BackupId,
    begun: DateTime<Utc>,
}

impl<'a> Run<'a> {
    pub(super) async fn new(
        fleet: &'a Fleet,
        storage: Storage,
        tenant: TenantRecord,
        wanted: BackupTenant,
        operation: &Operation,
    ) -> ApiResult<Self> {
        let (keys, id) = (fleet.control.keys.clone(), tenant.id);
        let found = fleet.control.db.read(async move |conn: &mut MainConn| {
            let (_, direct) = tenants::target(conn, &keys, id).await?;
            Ok::<_, ApiError>((direct, backups::ensure_key(conn, &keys, id).await?))
        });
        let (direct, key) = found.await?;
        // One run of the journal, one backup: whoever resumes finds the same.
        let id = BackupId::from(operation.id.uuid());
        let vault = Vault::new(storage, key, tenant.id, id);
        Ok(Self { fleet, tenant, wanted, direct, vault, id, begun: fleet.control.clock.now() })
    }

    pub(super) const fn id(&self) -> BackupId {
        self.id
    }

    async fn reserve(&self) -> ApiResult<()> {
        let new = Backup {
            id: self.id,
            tenant_id: self.tenant.id,
            slug: self.tenant.slug.clone(),
            state: BackupState::Running,
            scheduled: self.wanted.scheduled,
            bytes: None,
            rows: None,
            schema_version: self.tenant.schema_version,
            created_at: self.begun,
            finished_at: None,
        };
        self.fleet.control.db.read(async move |conn: &mut MainConn| backups::begin(conn, &new).await).await
    }

    fn taking(&self) -> Taking<'_> {
        Taking { fleet: self.fleet, tenant: &self.tenant, direct: &self.direct, vault: &self.vault, id: self.id }
    }

    async fn manifest(&self, journal: &Journal<'_>) -> ApiResult<()> {
        let dumped: Option<Dumped> = journal.kept(Step::Dump.as_str())?;
        self.taking().manifest(dumped.ok_or_else(|| ApiError::internal("the dump is not in the journal"))?).await
    }

    async fn publish(&self, journal: &Journal<'_>) -> ApiResult<()> {
        let manifest = self.vault.manifest().await?;
        // The tenant may have been migrated since the backup was reserved.
        let (id, facts) = (self.id, (manifest.dump.bytes, manifest.rows(), manifest.schema_version));
        let at = self.fleet.control.clock.now();
        let done =
            self.fleet.control.db.read(async move |conn: &mut MainConn| backups::finish(conn, id, facts, at).await);
        let backup = done.await?;
        journal
            .set_result(&serde_json::json!({"backupId": backup.id, "bytes": backup.bytes, "rows": backup.rows}))
            .await
    }
}

/// A dump of a tenant into a vault, with its manifest.
pub(in crate::fleet) struct Taking<'a> {
    pub(in crate::fleet) fleet: &'a Fleet,
    pub(in crate::fleet) tenant: &'a TenantRecord,
    /// The tenant's own role, in its database.
    pub(in crate::fleet) direct: &'a Target,
    pub(in crate::fleet) vault: &'a Vault,
    pub(in crate::fleet) id: BackupId,
}

impl Taking<'_> {
    /// The sealed dump, and what the tables held at its moment.
    pub(in crate::fleet) async fn dump(&self, journal: &mut Journal<'_>) -> ApiResult<Dumped> {
        let extensions = Some(self.extensions().await?);
        let mut snapshot = Snapshot::take(self.direct).await?;
        let at = self.fleet.control.clock.now();
        let mut program = snapshot.dump(self.direct)?;
        let (stdout, stderr) = (program.child.stdout.take(), program.child.stderr.take());
        let mut stdout = stdout.ok_or_else(|| ApiError::internal("pg_dump has no output"))?;
        let expected = snapshot.size;
        // Whichever of them fails stops the others; the upload comes to its own end, which takes back what was sent.
        let given_up = CancellationToken::new();
        let (counting, counted) = oneshot::channel::<()>();
        let sealed = async {
            let sealed = async {
                let dump = self.vault.put(DUMP, &mut stdout, (&mut *journal, expected), &given_up).await?;
                // Counting may take longer; nothing is said of it but that it has ended.
                journal.beside(async { Ok(counted.await.is_ok()) }).await?;
                Ok::<_, ApiError>(dump)
            };
            sealed.await.inspect_err(|_| given_up.cancel())
        };
        let tables = async {
            let tables = given_up.run_until_cancelled(snapshot.contents()).await.transpose();
            drop(counting);
            tables.inspect_err(|_| given_up.cancel())
        };
        let said = given_up.run_until_cancelled(dump::complaints(stderr));
        let (sealed, tables, said) = tokio::join!(sealed, tables, said);
        let (tables, dump) = (tables?, sealed?);
        let tables = tables.ok_or_else(|| ApiError::internal("the tables were not read"))?;
        program.end(&said.unwrap_or_default()).await?;
        Ok(Dumped { at, schema_version: Some(self.tenant.schema_version), dump, tables, extensions })
    }

    /// What an administrator has installed, as an administrator sees it: whoever restores it installs the same. Nothing where
    /// the server is a customer's own, whose administrators are not ours.
    async fn extensions(&self) -> ApiResult<Extensions> {
        let Some(id) = self.tenant.cluster_id.filter(|_| self.tenant.kind == TenantKind::Shared) else {
            return Ok(Extensions::default());
        };
        let keys = self.fleet.control.keys.clone();
        let cluster =
            self.fleet.control.db.read(async move |conn: &mut MainConn| clusters::get(conn, &keys, id).await).await?;
        let database = cluster.admin.with_database(&self.tenant.database_name);
        Extensions::read(&mut admin::open(&database).await?, &self.tenant.role_name).await
    }

    /// The sealed manifest.
    pub(in crate::fleet) async fn manifest(&self, dumped: Dumped) -> ApiResult<()> {
        let Dumped { at, schema_version, dump, tables, extensions } = dumped;
        let manifest = Manifest {
            format: FORMAT,
            backup: self.id,
            tenant: self.tenant.id,
            slug: self.tenant.slug.clone(),
            created_at: at,
            // Not in the journal of a run that an earlier release began.
            schema_version: schema_version.unwrap_or(self.tenant.schema_version),
            role: self.direct.user.clone(),
            extensions,
            dump,
            tables,
        };
        self.vault.put_short(MANIFEST, &serde_json::to_vec(&manifest).map_err(ApiError::internal)?).await
    }
}

impl Vault {
    /// The manifest, authentic.
    pub(in crate::fleet) async fn manifest(&self) -> ApiResult<Manifest> {
        let plain = self.get_short(MANIFEST).await?;
        serde_json::from_slice(&plain).map_err(damaged)
    }

    /// Reads all of the backup: every bit of it is as it was.
    pub(in crate::fleet) async fn check(&self) -> ApiResult<Manifest> {
        let manifest = self.manifest().await?;
        if manifest.format != FORMAT {
            return Err(crate::fleet::refused(
                "The backup was made by a newer release, so nothing was restored. Restore it with that one.",
            ));
        }
        let found = self.read(DUMP, &mut nowhere()).await?;
        if found.as_ref() == Some(&manifest.dump) {
            Ok(manifest)
        } else {
            Err(damaged("the dump is not the manifest's"))
        }
    }
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Reserve => self.reserve().await,
            Step::Dump => {
                let dumped = self.taking().dump(journal).await?;
                journal.keep(&dumped)
            }
            Step::Manifest => self.manifest(journal).await,
            Step::ReadBack => self.vault.check().await.map(drop),
            Step::Publish => self.publish(journal).await,
        }
    }
}
