//! By PostgreSQL's own programs: dump and restore. The stamp and its schema belong to the administrator, and are there
//! already; everything else keeps its owner and its grants.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use tokio::process::Command;

use super::run::Run;
use super::target;
use crate::error::{ApiError, ApiResult};
use crate::fleet::{programs, refused};
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

/// The rows of these tables alone.
pub(super) async fn rows(run: &Run<'_>, tables: &[String]) -> ApiResult<()> {
    let at_target = run.at_target()?;
    let (mut dump, files) = client("pg_dump", &run.at_source())?;
    let archive = files.path("archive");
    dump.args(["--format=custom", "--compress=0", "--data-only"]).arg("--file").arg(&archive);
    dump.args(tables.iter().flat_map(|table| ["--table", table]));
    finish("pg_dump", dump).await?;
    let (mut restore, _private) = client("pg_restore", &at_target)?;
    restore.args(["--exit-on-error", "--data-only", "--disable-triggers", "--dbname", &at_target.database]);
    restore.arg(&archive);
    finish("pg_restore", restore).await.map(drop)
}

async fn restore(run: &Run<'_>, schema_only: bool) -> ApiResult<()> {
    if !target::is_empty(run).await? {
        // An interrupted run came so far.
        target::empty(run).await?;
    }
    let (source, at_target) = (run.at_source(), run.at_target()?);
    let (mut dump, files) = client("pg_dump", &source)?;
    let (archive, contents) = (files.path("archive"), files.path("contents"));
    dump.args(["--format=custom", "--compress=0", "--no-publications", "--no-subscriptions"]);
    dump.args(["--exclude-table=tenantry.stamp", "--lock-wait-timeout=10s"]).arg("--file").arg(&archive);
    if schema_only {
        dump.arg("--schema-only");
    }
    finish("pg_dump", dump).await?;
    let (mut list, _private) = client("pg_restore", &at_target)?;
    list.arg("--list").arg(&archive);
    let listed = finish("pg_restore", list).await?;
    let kept: String = listed.lines().filter(|line| !is_tenantry(line)).flat_map(|line| [line, "\n"]).collect();
    fs::File::create(&contents).and_then(|mut file| file.write_all(kept.as_bytes())).map_err(ApiError::internal)?;
    let (mut restore, _private) = client("pg_restore", &at_target)?;
    restore.args(["--exit-on-error", "--no-tablespaces", "--jobs=2", "--dbname", &at_target.database]);
    restore.arg("--use-list").arg(&contents).arg(&archive);
    finish("pg_restore", restore).await.map(drop)
}

/// The schema of the bookkeeping, and who may use it: `3; 2615 16385 SCHEMA - tenantry postgres`.
fn is_tenantry(line: &str) -> bool {
    line.contains(" SCHEMA - tenantry ") || line.contains(" ACL - SCHEMA tenantry ")
}

fn client(program: &'static str, target: &Target) -> ApiResult<(Command, programs::PrivateFiles)> {
    programs::client(program, target).map_err(|error| {
        refused(format!("{program} cannot be started. Install PostgreSQL's client programs on this machine."))
            .caused_by(error)
    })
}

/// Runs a program to its end; it dies with whoever waits for it. Gives what it printed.
async fn finish(program: &'static str, mut command: Command) -> ApiResult<String> {
    command.env("PGCONNECT_TIMEOUT", "10").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(ApiError::internal)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(SAID).collect();
    let is_full = FULL.iter().any(|words| said.contains(words));
    let failed = format!("{program}: {said}");
    if is_full {
        let full = "A disk is full: the target server's, or that of this machine's temporary directory, by which the \
                    dump goes. Make room there. Nothing has changed.";
        return Err(refused(full).caused_by(failed));
    }
    Err(ApiError::internal(failed).detail("The tenant's database could not be copied; the log says why."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_the_administrator_made() {
        assert!(is_tenantry("6; 2615 16391 SCHEMA - tenantry postgres"));
        assert!(is_tenantry("3460; 0 0 ACL - SCHEMA tenantry postgres"));
        assert!(!is_tenantry("217; 1259 16400 TABLE tenantry schema_history t_0"));
        assert!(!is_tenantry("5; 2615 2200 SCHEMA - public pg_database_owner"));
    }
}
