//! An empty database of a tenant's own, and the dump into it.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::AS_OWNER;
use super::list::Lists;
use super::privileges::grant;
use super::script;
use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::dump::{Program, complaints, patient};
use crate::fleet::backup::vault::DUMP;
use crate::fleet::backup::{Manifest, Vault, contents};
use crate::fleet::{admin, sql};
use crate::kernel::{InstallationId, TenantId};
use crate::router::Target;

/// The longest table of contents, or script of privileges, that is read, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A copy to be made.
pub(in crate::fleet) struct Load<'a> {
    /// The administrator, in the cluster's administrative database.
    pub(in crate::fleet) admin: &'a Target,
    /// The tenant's own role, in the database to be.
    pub(in crate::fleet) own: &'a Target,
    /// Whose it will be.
    pub(in crate::fleet) tenant: TenantId,
    /// The installation.
    pub(in crate::fleet) installation: InstallationId,
    /// Where the dump is.
    pub(in crate::fleet) vault: &'a Vault,
    /// What it holds.
    pub(in crate::fleet) manifest: &'a Manifest,
}

impl Load<'_> {
    /// Makes the database anew and loads the dump into it; whatever an interrupted run left goes.
    pub(in crate::fleet) async fn run(&self) -> ApiResult<()> {
        self.make_empty().await?;
        let list = self.pass(None, &["--list"], None).await?;
        let mut lists = Lists::read(&list);
        self.extend(&mut lists).await?;
        self.hand_over().await?;
        self.load(self.own, &[AS_OWNER], &lists.objects).await?;
        let script = self.pass(None, &["--file=-", "--no-owner"], Some(&lists.privileges)).await?;
        grant(&script, &self.manifest.role, self.own).await
    }

    /// The database, with nothing in it but the stamp. It is nobody's yet: none but an administrator connects.
    async fn make_empty(&self) -> ApiResult<()> {
        let (name, role) = (&*self.own.database, &*self.own.user);
        let mut server = admin::open(self.admin).await?;
        admin::run_each(&mut server, sql::DATABASE_UNDO, &[("database", name)]).await?;
        admin::run_each(&mut server, sql::DATABASE_EMPTY, &[("database", name)]).await?;
        admin::run_each(&mut server, sql::ISOLATE, &[("database", name)]).await?;
        let mut inside = admin::open(&self.admin.with_database(name)).await?;
        let (tenant, installation) = (self.tenant.to_string(), self.installation.to_string());
        let stamp = [("role", role), ("tenant_id", &*tenant), ("installation_id", &*installation)];
        admin::run(&mut inside, sql::STAMP, &stamp).await?;
        admin::run(&mut inside, sql::GRANTS, &[]).await
    }

    /// Installs what an administrator had installed, with what it kept.
    async fn extend(&self, lists: &mut Lists) -> ApiResult<()> {
        let Some(extensions) = &self.manifest.extensions else { return Ok(()) };
        let target = self.admin.with_database(&self.own.database);
        let mut inside = admin::open(&target).await?;
        extensions.install(&mut inside).await?;
        let rows = extensions.take(lists);
        if !rows.is_empty() {
            self.load(&target, &["--data-only"], &rows).await?;
        }
        extensions.grant(&mut inside).await
    }

    /// Lets the tenant's role in.
    async fn hand_over(&self) -> ApiResult<()> {
        let (name, role) = (&*self.own.database, &*self.own.user);
        let mut server = admin::open(self.admin).await?;
        admin::run_each(&mut server, sql::DATABASE_OWNER, &[("database", name), ("role", role)]).await
    }

    /// Loads what a list takes of the dump.
    async fn load(&self, target: &Target, arguments: &[&str], list: &str) -> ApiResult<()> {
        let database = format!("--dbname={}", target.database);
        let arguments = [&["--no-password", "--no-owner", "--no-acl", "--exit-on-error"], arguments].concat();
        if !script::is_needed(&mut admin::open(self.admin).await?).await? {
            return self.pass(Some(target), &[&[&*database], &*arguments].concat(), Some(list)).await.map(drop);
        }
        let (psql, stdin) = script::begin(target)?;
        let arguments = [&["--file=-"], &*arguments].concat();
        let poured = async {
            let mut program = Program::start("pg_restore", target, &arguments, Some(list))?;
            let stdout = program.child.stdout.take();
            self.feed(program, script::pour(stdout, stdin)).await
        };
        script::end(psql, poured).await
    }

    /// Lets `pg_restore` read the dump, and gives what it prints.
    async fn pass(&self, target: Option<&Target>, arguments: &[&str], list: Option<&str>) -> ApiResult<String> {
        let mut program = Program::start("pg_restore", target.unwrap_or(self.own), arguments, list)?;
        let stdout = program.child.stdout.take();
        self.feed(program, all(stdout)).await
    }

    /// Feeds it with the dump while something is done with what it prints.
    async fn feed<T>(&self, mut program: Program, printed: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
        let (stdin, stderr) = (program.child.stdin.take(), program.child.stderr.take());
        let fed = async {
            let mut stdin = stdin.ok_or_else(|| ApiError::internal("pg_restore takes no input"))?;
            // A reader that has seen enough closes its end.
            self.vault.read(DUMP, &mut stdin).await
        };
        let said = async { Ok::<_, ApiError>(complaints(stderr).await) };
        // If one fails, the others would wait for a server that takes nothing: the program is killed when it is dropped.
        let (_, printed, said) = futures_util::try_join!(fed, printed, said)?;
        program.end(&said).await?;
        Ok(printed)
    }

    /// Counts and compares what was loaded with what was dumped. What is not the same, or is gone since it was loaded, is
    /// loaded once more: whoever runs it again must not stand before the same difference for ever.
    ///
    /// # Errors
    /// If anything differs even so.
    pub(in crate::fleet) async fn compare(&self) -> ApiResult<()> {
        if let Err(error) = self.same().await {
            tracing::warn!(tenant = %self.tenant, %error, cause = ?error.cause(), "a copy is loaded once more");
            self.run().await?;
            return self.same().await;
        }
        Ok(())
    }

    async fn same(&self) -> ApiResult<()> {
        let mut own = patient(self.own).await?;
        let found = contents::read(&mut own).await?;
        let differ = contents::differences(&self.manifest.tables, &found);
        if differ.is_empty() {
            return Ok(());
        }
        let said = format!("The copy differs from its original in {}; it is not used.", differ.join(", "));
        Err(ApiError::internal("contents differ").detail(said))
    }
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> ApiResult<String> {
    let mut text = String::new();
    if let Some(stream) = stream {
        stream.take(LARGEST).read_to_string(&mut text).await.map_err(ApiError::internal)?;
    }
    Ok(text)
}
