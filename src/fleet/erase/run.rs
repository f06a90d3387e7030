//! The steps of an erasure. Each may be repeated at any time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use super::Facts;
use super::certificate::{Certificate, ErasedBackup, SignedCertificate};
use crate::control::operations::{self, Operation};
use crate::control::{backups, installation, kept, signing_keys, tenants};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::Fleet;
use crate::fleet::backup::vault;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::provision::remove::Undo;
use crate::kernel::{Slug, TenantId};
use crate::router::MainConn;
use crate::router::tenant::words;

/// How long the storage is asked what it holds, before anything is destroyed.
const COUNTED: Duration = Duration::from_secs(10);

words! {
    /// A step of an erasure, as it is journaled and shown.
    Step {
        /// What there is, written down while it is there.
        Inventory = "inventory",
        /// The key of its backups: none of them opens any more.
        BackupKey = "backup_key",
        /// Its database, those before it, and its role.
        Databases = "databases",
        /// Everything that the storage holds of it.
        Backups = "backups",
        /// The registry entry, and with it the keys of its tokens.
        Registry = "registry",
        /// What was erased and when, signed.
        Certificate = "certificate",
    }
}

#[derive(Serialize, Deserialize)]
struct Inventory {
    backups: Vec<ErasedBackup>,
    backup_key_made_at: Option<DateTime<Utc>>,
    signing_keys: Vec<Uuid>,
    former: Vec<String>,
    /// Objects in the storage; 0 if it did not answer.
    #[serde(default)]
    objects: usize,
}

pub(super) struct Run<'a> {
    fleet: &'a Fleet,
    id: TenantId,
    slug: Slug,
    facts: Facts,
    /// None where the tenant is gone already.
    undo: Option<Undo<'a>>,
    pub(super) certificate: Option<SignedCertificate>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        fleet: &'a Fleet,
        id: TenantId,
        undo: Option<Undo<'a>>,
        operation: &Operation,
    ) -> ApiResult<Self> {
        let facts = serde_json::from_value(operation.input.clone()).map_err(ApiError::internal)?;
        let (_, slug) = operation.tenant.clone().ok_or_else(|| ApiError::internal("an erasure without its tenant"))?;
        Ok(Self { fleet, id, slug, facts, undo, certificate: None })
    }

    async fn inventory(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let (id, objects) = (self.id, self.objects().await);
        let found = self.fleet.control.db.read(async move |conn: &mut MainConn| {
            let backups = backups::list(conn, id).await?.into_iter();
            let backups = backups.map(|one| ErasedBackup { id: one.id, created_at: one.created_at, bytes: one.bytes });
            let kept = kept::of_tenant(conn, id).await?.into_iter().map(|one| one.database_name);
            Ok::<_, ApiError>(Inventory {
                backups: backups.collect(),
                backup_key_made_at: backups::key_made_at(conn, id).await?,
                signing_keys: signing_keys::ids_of(conn, id).await?,
                former: kept.collect(),
                objects,
            })
        });
        journal.keep(&found.await?)
    }

    /// What the storage holds of it, as far as it answers: the key of the backups is not kept for that.
    async fn objects(&self) -> usize {
        let Ok(storage) = self.fleet.storage() else { return 0 };
        match timeout(COUNTED, storage.count(&vault::folder(self.id))).await {
            Ok(Ok(count)) => count,
            Ok(Err(error)) => {
                tracing::warn!(tenant = %self.id, %error, "the storage does not say what it holds of a tenant");
                0
            }
            Err(_) => {
                tracing::warn!(tenant = %self.id, "the storage does not say in time what it holds of a tenant");
                0
            }
        }
    }

    async fn backups(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let id = self.id;
        let found = self.fleet.control.db.read(async move |conn: &mut MainConn| {
            Ok::<_, ApiError>((backups::list(conn, id).await?, operations::has_exports(conn, id).await?))
        });
        let (found, has_exports) = found.await?;
        // Without a storage there never was a backup or an export, unless the entries say otherwise.
        let objects = match self.fleet.storage() {
            Ok(storage) => storage.remove_all(&vault::folder(id)).await.map_err(vault::away)?,
            Err(_) if found.is_empty() && !has_exports => 0,
            Err(error) => return Err(error),
        };
        for backup in found {
            let id = backup.id;
            self.fleet.control.db.read(async move |conn: &mut MainConn| backups::remove(conn, id).await).await?;
        }
        journal.keep(&objects)
    }

    async fn registry(&self) -> ApiResult<()> {
        let id = self.id;
        let gone = self.fleet.control.db.read(async move |conn: &mut MainConn| tenants::remove(conn, id).await).await;
        match gone {
            Err(error) if error.code() == Code::NotFound => Ok(()),
            gone => gone,
        }
    }

    async fn certify(&mut self, journal: &Journal<'_>) -> ApiResult<()> {
        let inventory: Option<Inventory> = journal.kept(Step::Inventory.as_str())?;
        let inventory = inventory.ok_or_else(|| ApiError::internal("the inventory is not in the journal"))?;
        let keys = self.fleet.control.keys.clone();
        let found =
            self.fleet.control.db.read(async move |conn: &mut MainConn| installation::find(conn, &keys).await).await?;
        let installation = found.ok_or_else(|| ApiError::internal("the installation is not set up"))?.id;
        let shared = self.facts.cluster.is_some();
        // Whoever was interrupted may have removed some, of which the journal did not hear.
        let removed: Option<usize> = journal.kept(Step::Backups.as_str())?;
        let certificate = Certificate {
            kind: Certificate::kind(),
            installation,
            tenant: self.id,
            slug: self.slug.clone(),
            created_at: self.facts.created_at,
            cluster: self.facts.cluster.clone(),
            databases: self.facts.database.clone().into_iter().chain(inventory.former).collect(),
            role: self.facts.role.clone().filter(|_| shared),
            backups: inventory.backups,
            objects: removed.unwrap_or_default().max(inventory.objects),
            backup_key_made_at: inventory.backup_key_made_at,
            signing_keys: inventory.signing_keys,
            erased_at: self.fleet.control.clock.now(),
        };
        let signed = self.fleet.sign(certificate).await?;
        journal.set_result(&signed).await?;
        self.certificate = Some(signed);
        Ok(())
    }
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Inventory => self.inventory(journal).await,
            Step::BackupKey => {
                let id = self.id;
                let db = &self.fleet.control.db;
                db.read(async move |conn: &mut MainConn| backups::destroy_key(conn, id).await).await
            }
            Step::Databases => {
                self.fleet.drop_kept(self.id, None).await?;
                match &mut self.undo {
                    Some(undo) => undo.take_back_databases().await,
                    None => Ok(()),
                }
            }
            Step::Backups => self.backups(journal).await,
            Step::Registry => self.registry().await,
            Step::Certificate => self.certify(journal).await,
        }
    }

    /// The caller of an interrupted run has not seen it.
    fn is_repeated(&self, step: Step) -> bool {
        step == Step::Certificate
    }
}
