//! By PostgreSQL's own programs: dump and restore. What is dumped is read as the administrator, who runs nothing of the
//! tenant's for it. It is loaded as the tenant's own role at the target: a check, a computed column, an index or a trigger is
//! code of the tenant's, which must not run as anybody else. The stamp and its schema belong to the administrator, and are there
//! already; so are extensions that he had installed, with what they keep.

use std::path::Path;
use std::process::{Output, Stdio};

use diesel_async::SimpleAsyncConnection as _;
use tokio::process::Command;

use super::run::Run;
use super::{target, triggers};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::copy::{AS_OWNER, Extensions, Lists, grant, script};
use crate::fleet::{admin, programs, refused};
use crate::router::Target;

/// What of a program's complaint is kept.
const SAID: usize = 2000;
/// How programs and servers say that there is no room left.
const FULL: [&str; 3] = ["No space left on device", "Check free disk space", "could not extend file"];

/// Everything, under the hold.
pub(super) async fn everything(run: &Run<'_>) -> ApiResult<()> {
    restore(run, false).await
}

/// Everything but the rows, which replication brings.
pub(super) async fn schema(run: &Run<'_>) -> ApiResult<()> {
    restore(run, true).await
}

/// The rows of these tables alone. No trigger of the tenant's takes notice: each is as it was afterwards, as it is at the
/// source, which is fenced.
pub(super) async fn rows(run: &Run<'_>, tables: &[String]) -> ApiResult<()> {
    let loader = run.loader()?;
    let (mut dump, files) = client("pg_dump", &run.at_source())?;
    let archive = files.path("archive");
    dump.args(["--format=custom", "--compress=0", "--data-only"]).arg("--file").arg(&archive);
    dump.args(tables.iter().flat_map(|table| ["--table", table]));
    finish("pg_dump", dump).await?;
    let (before, after) = triggers::around(&mut admin::open(&run.at_source()).await?, tables).await?;
    run.loading(async {
        let mut own = admin::open_own(&loader).await?;
        for statement in before {
            own.batch_execute(&statement).await.map_err(ApiError::internal)?;
        }
        let (mut restore, _private) = client("pg_restore", &loader)?;
        restore.args(["--exit-on-error", "--data-only", "--no-owner"]);
        load_into(run, &loader, restore, &archive).await?;
        for statement in after {
            own.batch_execute(&statement).await.map_err(ApiError::internal)?;
        }
        Ok(())
    })
    .await
}

async fn restore(run: &Run<'_>, schema_only: bool) -> ApiResult<()> {
    if !target::is_empty(run).await? {
        // An interrupted run came so far.
        target::empty(run).await?;
    }
    let (mut dump, files) = client("pg_dump", &run.at_source())?;
    let archive = files.path("archive");
    dump.args(["--format=custom", "--compress=0", "--no-publications", "--no-subscriptions"]);
    dump.args(["--exclude-table=tenantry.stamp", "--lock-wait-timeout=10s"]).arg("--file").arg(&archive);
    if schema_only {
        dump.arg("--schema-only");
    }
    finish("pg_dump", dump).await?;
    let (mut list, _private) = client("pg_restore", &run.loader()?)?;
    list.arg("--list").arg(&archive);
    let mut lists = Lists::read(&finish("pg_restore", list).await?);
    extend(run, &files, &mut lists).await?;
    run.loading(load(run, &files, &lists)).await
}

/// Installs what an administrator has installed at the source, with what it keeps.
async fn extend(run: &Run<'_>, files: &programs::PrivateFiles, lists: &mut Lists) -> ApiResult<()> {
    let (target, role) = (run.at_target()?, &run.tenant.role_name);
    let extensions = Extensions::read(&mut admin::open(&run.at_source()).await?, role).await?;
    let mut inside = admin::open(&target).await?;
    extensions.install(&mut inside).await?;
    let rows = extensions.take(lists);
    if !rows.is_empty() {
        let rows = files.write("settings", &rows).map_err(ApiError::internal)?;
        let (mut restore, _private) = client("pg_restore", &target)?;
        restore.args(["--exit-on-error", "--data-only", "--no-owner", "--no-acl"]).arg("--use-list").arg(rows);
        load_into(run, &target, restore, &files.path("archive")).await?;
    }
    extensions.grant(&mut inside).await
}

/// Loads the dump as the tenant's own role.
async fn load(run: &Run<'_>, files: &programs::PrivateFiles, lists: &Lists) -> ApiResult<()> {
    let (loader, archive) = (run.loader()?, files.path("archive"));
    let objects = files.write("objects", &lists.objects).map_err(ApiError::internal)?;
    let (mut restore, _private) = client("pg_restore", &loader)?;
    restore.args(["--exit-on-error", "--no-owner", "--no-acl", "--no-tablespaces", "--jobs=2", AS_OWNER]);
    restore.arg("--use-list").arg(objects);
    load_into(run, &loader, restore, &archive).await?;
    let privileges = files.write("privileges", &lists.privileges).map_err(ApiError::internal)?;
    let (mut script, _private) = client("pg_restore", &loader)?;
    script.args(["--file=-", "--no-owner"]).arg("--use-list").arg(privileges).arg(&archive);
    grant(&finish("pg_restore", script).await?, &run.tenant.role_name, &loader).await
}

/// One of PostgreSQL's programs, told where to connect.
fn client(program: &'static str, target: &Target) -> ApiResult<(Command, programs::PrivateFiles)> {
    programs::client(program, target).map_err(|error| {
        refused(format!("{program} cannot be started. Install PostgreSQL's client programs on this machine."))
            .caused_by(error)
    })
}

/// Lets `pg_restore` load from an archive, in whichever way it can.
async fn load_into(run: &Run<'_>, target: &Target, mut restore: Command, archive: &Path) -> ApiResult<()> {
    if !script::is_needed(&mut admin::open(&run.target()?.admin).await?).await? {
        restore.args(["--dbname", &target.database]).arg(archive);
        return finish("pg_restore", restore).await.map(drop);
    }
    restore.arg("--file=-").arg(archive).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (psql, stdin) = script::begin(target)?;
    let poured = async {
        let mut restore = restore.kill_on_drop(true).spawn().map_err(ApiError::internal)?;
        let poured = script::pour(restore.stdout.take(), stdin);
        let (poured, ended) = futures_util::join!(poured, restore.wait_with_output());
        poured?;
        printed("pg_restore", &ended.map_err(ApiError::internal)?).map(drop)
    };
    script::end(psql, poured).await.map_err(|error| {
        let cause = error.cause().filter(|_| error.code() == Code::Internal).map(|cause| cause.to_string());
        cause.map_or(error, |cause| failed(&cause))
    })
}

/// Runs a program to its end; it dies with whoever waits for it. Gives what it printed.
async fn finish(program: &'static str, mut command: Command) -> ApiResult<String> {
    command.env("PGCONNECT_TIMEOUT", "10").stdin(Stdio::null()).kill_on_drop(true);
    printed(program, &command.output().await.map_err(ApiError::internal)?)
}

/// What a program has printed, if all went well.
fn printed(program: &'static str, output: &Output) -> ApiResult<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(SAID).collect();
    Err(failed(&format!("{program}: {said}")))
}

/// Why a program failed, by what it said.
fn failed(said: &str) -> ApiError {
    if FULL.iter().any(|words| said.contains(words)) {
        let full = "A disk is full: the target server's, or that of this machine's temporary directory, by which the \
                    dump goes. Make room there. Nothing has changed.";
        return refused(full).caused_by(said.to_owned());
    }
    ApiError::internal(said.to_owned()).detail("The tenant's database could not be copied; the log says why.")
}
