//! A copy of a tenant's data as a new tenant: its own id, role, stamp and keys, so that nothing that opens the original
//! opens the copy.

use serde_json::Value;

use super::{Input, Restored};
use crate::control::backups::Backup;
use crate::control::operations::{self, NewOperation, Operation, OperationKind};
use crate::control::tenants::{self, NewTenant, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::Vault;
use crate::fleet::clusters::place;
use crate::fleet::copy::Load;
use crate::fleet::lock::Lock;
use crate::fleet::migrations::Migrations;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::provision::{run::Run, steps, verify};
use crate::fleet::{Fleet, OperationOptions, Progress, refused, scram};
use crate::kernel::{OperationId, Slug, TenantId};
use crate::router::tenant::words;
use crate::router::{AdminConn, MainConn, Registration, TenantKind};
use crate::tenant::addresses::{claim_nobody, say_anew};

words! {
    /// A step of a restore as a new tenant, as it is journaled and shown.
    Step {
        /// The registry entry, not yet routable, and the journal.
        Reserve = "reserve",
        /// The key that signs the new tenant's tokens.
        SigningKey = "signing_key",
        /// Its own role.
        Role = "role",
        /// All of the backup read: every bit is as it was.
        Check = "check",
        /// Its own database, with what the backup holds.
        Load = "load",
        /// Counted, and the same.
        Compare = "compare",
        /// The built-in schema, to the head.
        Migrations = "migrations",
        /// The operator's own.
        OperatorMigrations = "operator_migrations",
        /// Nobody is signed in.
        Sessions = "sessions",
        /// As its own role: the right stamp, and no other database lets it in.
        Verify = "verify",
        /// Routable.
        Activate = "activate",
    }
}

/// A new tenant that takes over data.
pub(in crate::fleet) struct Newcomer<'a> {
    pub(in crate::fleet) run: Run<'a>,
    pub(in crate::fleet) vault: Vault,
    /// Of a tenant that is gone, whose place this one takes.
    pub(in crate::fleet) in_its_place: bool,
}

impl Newcomer<'_> {
    /// Its database with what the vault holds, or what was loaded compared with it.
    pub(in crate::fleet) async fn load(&self, only_compare: bool, journal: &mut Journal<'_>) -> ApiResult<()> {
        let manifest = self.vault.manifest().await?;
        let load = Load {
            admin: &self.run.cluster()?.admin,
            own: &self.run.direct,
            tenant: self.run.tenant.id,
            installation: self.run.installation.id,
            vault: &self.vault,
            manifest: &manifest,
        };
        if only_compare { journal.beside(load.compare()).await } else { journal.beside(load.run()).await }
    }

    /// Nobody of the original is signed in here.
    pub(in crate::fleet) async fn sign_everybody_out(&mut self) -> ApiResult<()> {
        sign_everybody_out(self.run.own().await?).await
    }

    /// Who is found by their address is found here too, where this takes the place of what is gone; else nobody is.
    pub(in crate::fleet) async fn claim(&mut self) -> ApiResult<()> {
        if !self.in_its_place {
            return claim_nobody(self.run.own().await?).await.map_err(ApiError::internal);
        }
        say_anew(self.run.own().await?).await.map_err(ApiError::internal)?;
        self.run.fleet.has_news(self.run.tenant.id).await
    }
}

/// Ends every session that a copy brought along.
pub(in crate::fleet) async fn sign_everybody_out(conn: &mut AdminConn) -> ApiResult<()> {
    use diesel_async::AsyncConnection as _;
    conn.transaction(async |conn: &mut AdminConn| crate::tenant::sign_everybody_out(conn).await)
        .await
        .map_err(ApiError::internal)
}

impl Steps for Newcomer<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            // The transaction that made the journal made the entry.
            Step::Reserve => Ok(()),
            Step::SigningKey => steps::signing_key(&mut self.run).await,
            Step::Role => steps::role(&mut self.run).await,
            Step::Check => self.vault.check().await.map(drop),
            Step::Load => self.load(false, journal).await,
            Step::Compare => self.load(true, journal).await,
            Step::Migrations => steps::migrations(&mut self.run).await,
            Step::OperatorMigrations => steps::operator_migrations(&mut self.run).await,
            Step::Sessions => {
                self.sign_everybody_out().await?;
                self.claim().await
            }
            Step::Verify => verify::verify(&mut self.run).await,
            Step::Activate => steps::activate(&mut self.run).await,
        }
    }

    /// Nothing is activated that was not looked at by the one who activates it.
    fn is_repeated(&self, step: Step) -> bool {
        step == Step::Verify
    }
}

impl Fleet {
    /// Whether a slug has no tenant, or one that an interrupted restore of this backup began.
    pub(super) async fn is_free_or_being_restored(
        &self,
        backup: &Backup,
        tenant: Option<&TenantRecord>,
    ) -> ApiResult<bool> {
        let Some(id) = tenant.map(|tenant| tenant.id) else { return Ok(true) };
        let input = serde_json::json!(Input { backup: backup.id, beside: Some(backup.slug.clone()) });
        let open = self.control.db.read(async move |conn: &mut MainConn| operations::find_open(conn, id).await).await?;
        Ok(open.is_some_and(|open| open.kind == OperationKind::Restore && open.input == input))
    }

    pub(super) async fn restore_beside(
        &self,
        backup: &Backup,
        slug: &Slug,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Restored> {
        let input = serde_json::json!(Input { backup: backup.id, beside: Some(slug.clone()) });
        let vault = Vault::find(self, backup.tenant_id, backup.id).await?;
        // Nothing is begun for a backup that cannot be restored.
        vault.manifest().await?;
        let (_lock, tenant, operation) =
            self.newcomer(slug, (OperationKind::Restore, input), options.left, progress).await?;
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let run = Run::new(self, tenant, migrations, None).await?;
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        let mut newcomer = Newcomer { run, vault, in_its_place: *slug == backup.slug };
        // Whoever sees that it is done sees what came of it.
        journal.set_result(&serde_json::json!({"tenantId": newcomer.run.tenant.id, "slug": slug})).await?;
        let steps = journal.drive(&mut newcomer, Step::ALL).await.inspect_err(|_| {
            progress.note(&format!("`tenantry tenant delete {slug} --now` takes back what was made"));
        })?;
        let tenant = self.get(slug.as_str()).await?;
        tracing::info!(tenant = %tenant.id, %slug, backup = %backup.id, "restored as a new tenant");
        Ok(Restored { tenant, backup: backup.id, steps })
    }

    /// A new tenant that will take over data, with its journal; or the one that an interrupted run began.
    pub(in crate::fleet) async fn newcomer(
        &self,
        slug: &Slug,
        (kind, input): (OperationKind, Value),
        left: Option<OperationId>,
        progress: &dyn Progress,
    ) -> ApiResult<(Lock, TenantRecord, Operation)> {
        let found = {
            let slug = slug.clone();
            self.control.db.read(async move |conn: &mut MainConn| tenants::find_by_slug(conn, &slug).await).await?
        };
        let id = found.as_ref().map_or_else(TenantId::generate, |tenant| tenant.id);
        let lock = Lock::tenant(&self.control, id).await?;
        if found.is_none() {
            if left.is_some() {
                // It was deleted: it is not made anew.
                return Err(operations::has_ended());
            }
            let (tenant, operation) = self.begin_newcomer(id, NewOperation::on(id, slug, kind, input)).await?;
            return Ok((lock, tenant, operation));
        }
        let slug = slug.clone();
        let begun = self.control.db.transaction(async move |conn: &mut MainConn| {
            let tenant = tenants::get(conn, id).await?;
            let open = operations::find_open(conn, id).await?.filter(|open| open.kind == kind && open.input == input);
            let taken = || ApiError::already_exists("slug", format!("The slug '{slug}' is taken. Choose another one."));
            let operation = operations::resume(conn, open.ok_or_else(taken)?.id, left).await?;
            Ok::<_, ApiError>((tenant, operation))
        });
        let (tenant, operation) = begun.await?;
        progress.note("going on with what an interrupted run began");
        Ok((lock, tenant, operation))
    }

    /// The registry entry of a new tenant that will take over data, and its journal, in one transaction.
    pub(in crate::fleet) async fn begin_newcomer(
        &self,
        id: TenantId,
        operation: NewOperation,
    ) -> ApiResult<(TenantRecord, Operation)> {
        let (_, slug) = operation.tenant.clone().ok_or_else(|| ApiError::internal("a newcomer without a name"))?;
        let (keys, strategy) = (self.control.keys.clone(), self.settings.placement);
        let begun = self.control.db.transaction(async move |conn: &mut MainConn| {
            let cluster = place(conn, &keys, strategy, None).await?.ok_or_else(|| {
                refused("No cluster has room for another tenant; add one with `tenantry cluster add`.")
            })?;
            let generated = format!("t_{}", id.uuid().simple());
            let new = NewTenant {
                id,
                slug: slug.clone(),
                name: slug.to_string(),
                kind: TenantKind::Shared,
                cluster_id: Some(cluster.id),
                database_name: generated.clone(),
                role_name: generated,
                password: Some(scram::generate_password()),
                url: None,
                direct_url: None,
                max_connections: None,
                registration: Registration::Closed,
                head: None,
            };
            let tenant = tenants::insert(conn, &keys, &new).await?;
            Ok::<_, ApiError>((tenant, operations::begin(conn, &operation).await?))
        });
        begun.await
    }
}
