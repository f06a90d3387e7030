//! A restore as a swap: loaded into a database beside, which takes the tenant over when everything is there and the
//! same. Until then the tenant's people are served by what they have; it is closed afterwards, and kept for the grace
//! period.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use diesel_async::SimpleAsyncConnection;
use secrecy::ExposeSecret as _;
use serde::Deserialize as _;

use super::beside::sign_everybody_out;
use super::{Input, Restored};
use crate::control::backups::{self, Backup};
use crate::control::clusters::{self, Cluster};
use crate::control::installation;
use crate::control::kept::{self, KeptDatabase, LeftBy};
use crate::control::operations::{
    self, Driver, NewOperation, Operation, OperationFilter, OperationKind, OperationState,
};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::Vault;
use crate::fleet::copy::{Extensions, Load};
use crate::fleet::lock::Lock;
use crate::fleet::migrations::Migrations;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::provision::role_connections;
use crate::fleet::{Fleet, OperationOptions, Progress, admin, migrate_error, refused, scram, sql};
use crate::kernel::{InstallationId, OperationId, TenantId};
use crate::router::migrate::migrate;
use crate::router::tenant::words;
use crate::router::{AdminConn, MainConn, Target, TenantKind, TenantStatus};
use crate::tenant::addresses::say_anew;

/// How long connections to the old database have to go by themselves: every node hears of the switch within two seconds,
/// and lets what is under way end.
const DRAIN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

words! {
    /// A step of a restore in place, as it is journaled and shown.
    Step {
        /// All of the backup read: every bit is as it was.
        Check = "check",
        /// A new database with what the backup holds.
        Load = "load",
        /// Counted, and the same.
        Compare = "compare",
        /// Both sets of migrations, to the head.
        Migrations = "migrations",
        /// Nobody is signed in.
        Sessions = "sessions",
        /// The tenant lives there from here on.
        Switch = "switch",
        /// Nobody gets into the old one any more.
        Fence = "fence",
    }
}

struct Swap<'a> {
    fleet: &'a Fleet,
    tenant: TenantRecord,
    cluster: Cluster,
    installation: InstallationId,
    migrations: Migrations,
    vault: Vault,
    /// The tenant's own role, in the new database.
    own: Target,
}

impl Swap<'_> {
    /// Where the tenant lives now, whoever sent it there.
    async fn lives_in(&self) -> ApiResult<String> {
        let id = self.tenant.id;
        let found = self.fleet.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await);
        Ok(found.await?.database_name)
    }

    async fn load(&self, only_compare: bool, journal: &mut Journal<'_>) -> ApiResult<()> {
        // It would be made empty, and kept on record to be dropped.
        if self.lives_in().await? == self.own.database {
            return Err(refused("The tenant lives in the restored database already; nothing more is loaded into it."));
        }
        let mut manifest = self.vault.manifest().await?;
        if manifest.extensions.is_none() {
            manifest.extensions = Some(self.extensions().await?);
        }
        let load = Load {
            admin: &self.cluster.admin,
            own: &self.own,
            tenant: self.tenant.id,
            installation: self.installation,
            vault: &self.vault,
            manifest: &manifest,
        };
        // Whatever becomes of this run, the database is taken away again if the tenant never lives in it.
        let (tenant, cluster, name) = (self.tenant.id, self.cluster.id, self.own.database.clone());
        let until = self.fleet.grace_end()?;
        let noted = self.fleet.control.db.read(async move |conn: &mut MainConn| {
            kept::keep(conn, (tenant, cluster), (&name, None), LeftBy::Restore, until).await
        });
        noted.await?;
        self.role().await?;
        if only_compare { journal.beside(load.compare()).await } else { journal.beside(load.run()).await }
    }

    /// What an administrator has installed where the tenant lives, for a backup that does not say what it was.
    async fn extensions(&self) -> ApiResult<Extensions> {
        let lives_in = self.lives_in().await?;
        let there = format!("SELECT true AS yes FROM pg_database WHERE datname = {}", sql::literal(&lives_in));
        if !admin::ask(&mut admin::open(&self.cluster.admin).await?, &there).await? {
            return Ok(Extensions::default());
        }
        let database = self.cluster.admin.with_database(lives_in);
        let read = async { Extensions::read(&mut admin::open(&database).await?, &self.own.user).await };
        // One that nobody can look into is what a restore is for.
        Ok(read.await.unwrap_or_else(|error| {
            tracing::warn!(tenant = %self.tenant.id, %error, cause = ?error.cause(), "nobody can tell which extensions it had");
            Extensions::default()
        }))
    }

    /// What is set for the database where the tenant lives, and in no dump.
    async fn settings(&self) -> ApiResult<Vec<String>> {
        let settings = format!(
            "SELECT DISTINCT split_part(setting, '=', 1) AS word FROM pg_db_role_setting s \
             JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS setting WHERE d.datname = {} ORDER BY 1",
            sql::literal(&self.lives_in().await?)
        );
        admin::words(&mut admin::open(&self.cluster.admin).await?, &settings).await
    }

    /// A server that took the place of a lost one knows nothing of the role that is to own the database. One that is there
    /// stays as it is: a pooler may have its verifier.
    async fn role(&self) -> ApiResult<()> {
        let mut server = admin::open(&self.cluster.admin).await?;
        let name = &*self.own.user;
        let there = format!("SELECT true AS yes FROM pg_roles WHERE rolname = {} AND rolcanlogin", sql::literal(name));
        if admin::ask(&mut server, &there).await? {
            return Ok(());
        }
        self.fleet.prepare(&self.cluster.admin).await?;
        let verifier = scram::verifier(&self.own.password);
        let limit = role_connections(self.tenant.max_connections).to_string();
        let variables = [("role", name), ("verifier", verifier.expose_secret()), ("connection_limit", &*limit)];
        admin::run(&mut server, sql::ROLE, &variables).await
    }

    async fn switch(&self, by: Driver) -> ApiResult<()> {
        let (id, name, head) = (self.tenant.id, self.own.database.clone(), self.migrations.head());
        let until = self.fleet.grace_end()?;
        let done = self.fleet.control.db.transaction(async move |conn: &mut MainConn| {
            operations::is_driven(conn, by).await?;
            backups::move_database(conn, id, &name, &head, until).await
        });
        done.await?;
        self.fleet.has_news(id).await
    }

    /// Closes every former database of the tenant, as soon as nobody is in it, and in any case after a while.
    async fn fence(&self) -> ApiResult<()> {
        let id = self.tenant.id;
        let former = self.fleet.control.db.read(async move |conn: &mut MainConn| kept::of_tenant(conn, id).await);
        let (former, lives_in) = (former.await?, self.lives_in().await?);
        let closes = |one: &KeptDatabase| one.cluster_id == self.cluster.id && one.database_name != lives_in;
        let former: Vec<_> = former.into_iter().filter(closes).collect();
        let mut server = admin::open(&self.cluster.admin).await?;
        for database in former {
            let name = sql::literal(&database.database_name);
            let empty = format!(
                "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = {name} AND backend_type = 'client backend') AS yes"
            );
            let begun = Instant::now();
            while begun.elapsed() < DRAIN && !admin::ask(&mut server, &empty).await? {
                tokio::time::sleep(PAUSE).await;
            }
            let there = format!("SELECT true AS yes FROM pg_database WHERE datname = {name}");
            if admin::ask(&mut server, &there).await? {
                close(&mut server, &database.database_name).await?;
            }
        }
        Ok(())
    }
}

/// Lets nobody into a database any more, and sends those away who are in it.
async fn close(server: &mut AdminConn, database: &str) -> ApiResult<()> {
    let alter = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", sql::ident(database));
    let send_away =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}", sql::literal(database));
    for statement in [alter, send_away] {
        server.batch_execute(&statement).await.map_err(ApiError::internal)?;
    }
    Ok(())
}

impl Steps for Swap<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Check => self.vault.check().await.map(drop),
            Step::Load => self.load(false, journal).await,
            Step::Compare => self.load(true, journal).await,
            Step::Migrations => {
                for set in [&self.migrations.built_in, &self.migrations.operator] {
                    migrate(&self.own, set, &self.fleet.settings.migrate).await.map_err(migrate_error)?;
                }
                Ok(())
            }
            Step::Sessions => {
                let mut own = admin::open_own(&self.own).await?;
                say_anew(&mut own).await.map_err(ApiError::internal)?;
                sign_everybody_out(&mut own).await
            }
            Step::Switch => self.switch(journal.driver()).await,
            Step::Fence => self.fence().await,
        }
    }

    /// What an interrupted run has loaded may have been dropped since, or lack migrations that were added since: before
    /// the tenant lives in it, whoever switches looks at it.
    fn is_repeated(&self, step: Step) -> bool {
        let lives_there = self.tenant.database_name == self.own.database;
        !lives_there && matches!(step, Step::Compare | Step::Migrations | Step::Sessions)
    }

    /// The tenant lives there: what is left is soon done, and cannot be left undone.
    fn can_stop(&self, step: Step) -> bool {
        step != Step::Fence
    }
}

impl Fleet {
    pub(super) async fn restore_in_place(
        &self,
        id: TenantId,
        backup: &Backup,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Restored> {
        let vault = Vault::find(self, id, backup.id).await?;
        // Nothing is begun for a backup that cannot be restored.
        vault.manifest().await?;
        let _lock = Lock::tenant(&self.control, id).await?;
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        let new = new_restore(&tenant, backup)?;
        let mut settings = self.close_switched(&tenant, backup, options.left).await?;
        settings.extend(self.untold(id).await?);
        let operation = self.begin_or_resume(new, options.left).await?;
        let mut swap = self.swap(tenant, vault, &operation).await?;
        let mut journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        // One who drove it until now may have switched since it was read; from here on nobody else does.
        swap.tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        settings.extend(left_behind(&journal.operation));
        if swap.tenant.database_name != swap.own.database {
            // A server that does not answer fails the restore in its own words.
            settings.extend(swap.settings().await.unwrap_or_default());
        }
        // Whoever sees that it is done sees what came of it; whoever goes on after the switch cannot read the settings any more.
        let result = serde_json::json!({"tenantId": id, "databaseName": swap.own.database, "leftBehind": settings});
        journal.set_result(&result).await?;
        let steps = journal.drive(&mut swap, Step::ALL).await?;
        if !settings.is_empty() {
            let names = settings.into_iter().collect::<Vec<_>>().join(", ");
            progress.note(&format!("set for the database before, and to be set anew (ALTER DATABASE … SET): {names}"));
        }
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        tracing::info!(tenant = %id, backup = %backup.id, "restored in place");
        Ok(Restored { tenant, backup: backup.id, steps })
    }

    /// An earlier restore that has sent the tenant to its database, failed or interrupted, is brought to its end: gone on
    /// with, it would restore nothing of what was changed there since, however short a while ago that was. Only a worker
    /// goes on with the one that it was left. Gives what that one has left behind, and may have told nobody.
    async fn close_switched(
        &self,
        tenant: &TenantRecord,
        backup: &Backup,
        left: Option<OperationId>,
    ) -> ApiResult<BTreeSet<String>> {
        let id = tenant.id;
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            let open = operations::find_open(conn, id).await?;
            let is_over = |one: &Operation| one.state.is_final() || left.is_none();
            let Some(earlier) = open.filter(|one| one.kind == OperationKind::Restore && is_over(one)) else {
                return Ok::<_, ApiError>(None);
            };
            let switched = |step: &operations::Step| step.is_done() && step.name == Step::Switch.as_str();
            let switched = operations::steps(conn, earlier.id).await?.iter().any(switched);
            Ok(Some((earlier, switched)))
        });
        let Some((earlier, switched)) = found.await? else { return Ok(BTreeSet::new()) };
        let vault = Vault::find(self, id, backup.id).await?;
        let swap = self.swap(tenant.clone(), vault, &earlier).await?;
        // Whoever died in the switch may have made it.
        if !switched && swap.own.database != tenant.database_name {
            return Ok(BTreeSet::new());
        }
        swap.fence().await?;
        let by = earlier.id;
        let done = async move |conn: &mut MainConn| operations::finish(conn, by, OperationState::Done, None).await;
        self.control.db.read(done).await?;
        Ok(left_behind(&earlier))
    }

    /// What the tenant's last restore has left behind, where another had to end it: whoever did, and died before he had said
    /// so in a journal of his own, has told nobody either.
    async fn untold(&self, id: TenantId) -> ApiResult<BTreeSet<String>> {
        let (kind, state) = (Some(OperationKind::Restore), Some(OperationState::Done));
        let filter = OperationFilter { kind, state, tenant: Some(id), limit: Some(1), ..OperationFilter::default() };
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            let Some(last) = operations::list(conn, &filter).await?.pop() else {
                return Ok::<_, ApiError>(BTreeSet::new());
            };
            let fenced = |step: &operations::Step| step.is_done() && step.name == Step::Fence.as_str();
            let by_itself = operations::steps(conn, last.id).await?.iter().any(fenced);
            Ok(if by_itself { BTreeSet::new() } else { left_behind(&last) })
        });
        found.await
    }

    async fn swap(&self, tenant: TenantRecord, vault: Vault, operation: &Operation) -> ApiResult<Swap<'_>> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let (id, cluster_id, keys) = (tenant.id, tenant.cluster_id, self.control.keys.clone());
        let found = self.control.db.read(async move |conn: &mut MainConn| {
            let cluster = cluster_id.ok_or_else(|| ApiError::internal("a shared tenant without a cluster"))?;
            let cluster = clusters::get(conn, &keys, cluster).await?;
            let (_, direct) = tenants::target(conn, &keys, id).await?;
            let installation = installation::find(conn, &keys).await?;
            Ok::<_, ApiError>((cluster, direct, installation))
        });
        let (cluster, direct, installation) = found.await?;
        let installation = installation.ok_or_else(|| ApiError::internal("the installation is not set up"))?.id;
        // The same for whoever resumes; the end of a run's id is random.
        let run = operation.id.uuid().simple().to_string();
        let own = direct.with_database(format!("t_{}_{}", id.uuid().simple(), &run[20..]));
        Ok(Swap { fleet: self, tenant, cluster, installation, migrations, vault, own })
    }

    /// When what is put aside now may be dropped.
    pub(in crate::fleet) fn grace_end(&self) -> ApiResult<chrono::DateTime<chrono::Utc>> {
        let grace = TimeDelta::from_std(self.settings.purge_grace).map_err(ApiError::internal)?;
        Ok(self.control.clock.now() + grace)
    }
}

/// The settings of the tenant's former database that its restore found, by the journal.
fn left_behind(restore: &Operation) -> BTreeSet<String> {
    let found = restore.result.as_ref().and_then(|result| result.get("leftBehind"));
    found.and_then(|names| BTreeSet::deserialize(names).ok()).unwrap_or_default()
}

/// A restore of a tenant in place.
///
/// # Errors
/// 409 if it cannot be done to this one.
pub(super) fn new_restore(tenant: &TenantRecord, backup: &Backup) -> ApiResult<NewOperation> {
    if tenant.kind == TenantKind::Dedicated {
        return Err(refused(
            "The tenant's database is the customer's own, which is not swapped. Restore beside it, with --as.",
        ));
    }
    if !matches!(tenant.status, TenantStatus::Active | TenantStatus::Suspended) {
        return Err(refused(
            "The tenant is archived. Give it back to its users first, with `tenantry tenant restore`.",
        ));
    }
    let input = serde_json::json!(Input { backup: backup.id, beside: None });
    Ok(NewOperation::on(tenant.id, &tenant.slug, OperationKind::Restore, input))
}
