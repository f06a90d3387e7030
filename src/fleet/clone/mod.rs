//! `tenant clone`: a new tenant from a live one, for staging. Its dump passes through the storage sealed, as a backup
//! does, and is taken away again; nobody's session or password comes along, and where rules are given, no personal data.

mod dumps;
mod mask;
mod run;

use serde::{Deserialize, Serialize};

pub use mask::{Mask, MaskChoice};
pub use run::Step;

use super::backup::dump::patient;
use super::backup::{Taking, Vault};
use super::operation::Journal;
use super::provision::run::Run;
use super::restore::beside::Newcomer;
use super::{FirstAdmin, Fleet, OperationOptions, Progress, Provisioned, Silent, refused};
use crate::control::backups;
use crate::control::operations::{NewOperation, Operation, OperationKind};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::migrations::{self, Migrations};
use crate::kernel::chunks::StreamKey;
use crate::kernel::{BackupId, OperatorId, Slug, TenantId};
use crate::router::{MainConn, Target, TenantStatus};

/// A clone to be.
#[derive(Debug, Clone)]
pub struct CloneTenant {
    /// Public name of the new tenant.
    pub slug: Slug,
    /// Rules that take personal data out of it.
    pub mask: Option<Mask>,
    /// People keep their passwords and invitations.
    pub keep_credentials: bool,
    /// An administrator of its own.
    pub admin: Option<FirstAdmin>,
}

/// The journal's input.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    source: TenantId,
    slug: Slug,
    mask: Option<Mask>,
    keep_credentials: bool,
}

impl Fleet {
    /// Makes a new tenant with what a live one holds at this moment, or goes on with a clone that was interrupted.
    ///
    /// # Errors
    /// 404 if there is no such tenant; `already_exists` for a taken slug; 422 if a rule of the mask names what is not
    /// there; 409 while another process works on it; 503 if a server or the storage does not answer.
    pub async fn clone_tenant(
        &self,
        source: TenantId,
        wanted: &CloneTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        if let Some(admin) = &wanted.admin {
            admin.check(&self.passwords).await?;
        }
        let storage = self.storage()?.clone();
        let (tenant, direct, key) = self.original(source, wanted).await?;
        let slug = &wanted.slug;
        let input = input(source, wanted);
        let (_lock, newcomer, operation) =
            self.newcomer(slug, (OperationKind::Clone, input), options.left, progress).await?;
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let run = Run::new(self, newcomer, migrations, wanted.admin.as_ref()).await?;
        // One run of the journal, one dump: whoever resumes finds the same.
        let id = BackupId::from(operation.id.uuid());
        let vault = Vault::new(storage, key, source, id);
        let newcomer = Newcomer { run, vault, in_its_place: false };
        let mut cloning = run::Cloning { newcomer, source: tenant, direct, id, wanted };
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let id = cloning.newcomer.run.tenant.id;
        // Whoever sees that it is done sees what came of it.
        journal.set_result(&serde_json::json!({"tenantId": id, "slug": slug})).await?;
        let steps = journal.drive(&mut cloning, Step::ALL).await.inspect_err(|_| {
            progress.note(&format!("`tenantry tenant delete {slug} --now` takes back what was made"));
        })?;
        let run = cloning.newcomer.run;
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        tracing::info!(tenant = %id, %slug, source = %source, "cloned");
        Ok(Provisioned { tenant, steps, admin_password: run.generated, first_session: None })
    }

    /// The tenant to clone, its own role's way to it, and the key of its backups.
    async fn original(&self, source: TenantId, wanted: &CloneTenant) -> ApiResult<(TenantRecord, Target, StreamKey)> {
        let keys = self.control.keys.clone();
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            let tenant = tenants::get(conn, source).await?;
            let (_, direct) = tenants::target(conn, &keys, source).await?;
            Ok::<_, ApiError>((tenant, direct, backups::ensure_key(conn, &keys, source).await?))
        });
        let (tenant, direct, key) = found.await?;
        if !matches!(tenant.status, TenantStatus::Active | TenantStatus::Suspended) {
            return Err(refused("The tenant is neither active nor suspended. Give it back to its users first."));
        }
        if let Some(mask) = &wanted.mask {
            let is_behind = tenant.schema_version < migrations::built_in().head();
            mask.check(&mut patient(&direct).await?, is_behind).await?;
        }
        Ok((tenant, direct, key))
    }

    /// Leaves a clone to a worker. It cannot have an administrator of its own, whose password is kept nowhere.
    ///
    /// # Errors
    /// As [`Fleet::clone_tenant`].
    pub async fn clone_later(
        &self,
        source: &TenantRecord,
        wanted: &CloneTenant,
        by: Option<OperatorId>,
    ) -> ApiResult<Operation> {
        self.storage()?;
        self.original(source.id, wanted).await?;
        let id = TenantId::generate();
        let new = NewOperation::on(id, &wanted.slug, OperationKind::Clone, input(source.id, wanted));
        let new = NewOperation { background: true, requested_by: by, ..new };
        self.begin_newcomer(id, new).await.map(|(_, operation)| operation)
    }

    /// Drives a clone that was left to a worker.
    pub(super) async fn carry_out_clone(&self, operation: &Operation) -> ApiResult<()> {
        let input: Input = serde_json::from_value(operation.input.clone()).map_err(ApiError::internal)?;
        let (mask, keep_credentials) = (input.mask, input.keep_credentials);
        let wanted = CloneTenant { slug: input.slug, mask, keep_credentials, admin: None };
        self.clone_tenant(input.source, &wanted, &OperationOptions::of_worker(operation), &Silent).await.map(drop)
    }
}

fn input(source: TenantId, wanted: &CloneTenant) -> serde_json::Value {
    let (slug, mask, keep_credentials) = (wanted.slug.clone(), wanted.mask.clone(), wanted.keep_credentials);
    serde_json::json!(Input { source, slug, mask, keep_credentials })
}

/// What a clone's dump is taken of.
fn taking<'a>(
    fleet: &'a Fleet,
    source: &'a TenantRecord,
    direct: &'a Target,
    vault: &'a Vault,
    id: BackupId,
) -> Taking<'a> {
    Taking { fleet, tenant: source, direct, vault, id }
}
