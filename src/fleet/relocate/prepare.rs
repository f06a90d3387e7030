//! What must be so before anything is begun: nothing is changed here.

use super::run::{Plan, Run};
use super::{Method, replicate};
use crate::control::clusters::Cluster;
use crate::control::kept::{self, LeftBy};
use crate::error::ApiResult;
use crate::fleet::clusters::place;
use crate::fleet::operation::Journal;
use crate::fleet::{admin, refused, sql};
use crate::router::{AdminConn, MainConn};

const VERSION: &str = "SELECT current_setting('server_version_num') AS word";
const MAY_MAKE: &str =
    "SELECT rolsuper OR (rolcreaterole AND rolcreatedb) AS yes FROM pg_roles WHERE rolname = current_user";
const EXTENSIONS: &str = "SELECT extname::text AS word FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1";
const SIZE: &str = "SELECT pg_database_size(current_database())::text AS word";

/// Chooses the target and how to copy.
pub(super) async fn prepare(run: &mut Run<'_>, journal: &mut Journal<'_>) -> ApiResult<()> {
    let target = choose(run).await?;
    if target.id == run.source.id {
        return Err(refused(format!("The tenant is on '{}' already. Name another cluster.", target.name)));
    }
    if target.max_tenants.is_some_and(|max| target.tenants >= i64::from(max)) {
        return Err(refused(format!(
            "The cluster '{0}' has no room for another tenant. Raise it with `tenantry cluster set {0} --max-tenants N`.",
            target.name
        )));
    }
    let id = run.tenant.id;
    let db = &run.fleet.control.db;
    let kept = db.read(async move |conn: &mut MainConn| kept::of_tenant(conn, id).await).await?;
    if let Some(one) = kept.iter().find(|one| one.cluster_id == target.id) {
        let (what, how) = match one.left_by {
            LeftBy::Move => ("An old copy", format!("tenantry tenant move {} --confirm", run.tenant.slug)),
            LeftBy::Restore => ("A database", format!("tenantry tenant kept {} --drop --yes", run.tenant.slug)),
        };
        return Err(refused(format!(
            "{what} of this tenant is still on '{}'. Drop it first with `{how}`.",
            target.name
        )));
    }
    let (mut server, mut inside) = (admin::open(&target.admin).await?, admin::open(&run.at_source()).await?);
    may_make(&mut server, &target).await?;
    let (there, here) =
        (major(&admin::words(&mut server, VERSION).await?), major(&admin::words(&mut inside, VERSION).await?));
    if there < here {
        return Err(refused(format!(
            "The cluster '{}' has PostgreSQL {there}, older than the tenant's {here}. Choose one at least as new.",
            target.name
        )));
    }
    let taken = format!(
        "SELECT 'database' AS word FROM pg_database WHERE datname = {} UNION ALL SELECT 'role' FROM pg_roles WHERE rolname = {}",
        sql::literal(&run.tenant.database_name),
        sql::literal(&run.tenant.role_name)
    );
    if let Some(what) = admin::words(&mut server, &taken).await?.into_iter().next() {
        return Err(refused(format!(
            "The cluster '{}' has a {what} of this tenant's name that we know nothing of. Look at it, and drop it there.",
            target.name
        )));
    }
    let wanted = admin::words(&mut inside, EXTENSIONS).await?;
    let available = admin::words(&mut server, "SELECT name::text AS word FROM pg_available_extensions").await?;
    if let Some(missing) = wanted.iter().find(|name| !available.contains(name)) {
        return Err(refused(format!(
            "The cluster '{}' lacks the extension '{missing}'. Have it installed there first.",
            target.name
        )));
    }
    let size = admin::words(&mut inside, SIZE).await?;
    let bytes: u64 = size.first().and_then(|size| size.parse().ok()).unwrap_or_default();
    let method = method(run, journal, &target, bytes).await?;
    let plan = Plan { from: run.source.id, to: target.id, method };
    journal.progress().note(&format!("{} MB, by {method}, to '{}'", bytes / 1_000_000, target.name));
    (run.target, run.plan) = (Some(target), Some(plan));
    journal.keep(&plan)
}

/// Its administrator may make roles and databases.
pub(super) async fn may_make(server: &mut AdminConn, target: &Cluster) -> ApiResult<()> {
    if admin::ask(server, MAY_MAKE).await? {
        return Ok(());
    }
    Err(refused(format!(
        "The administrator of '{}' may not make roles and databases. Run there: ALTER ROLE <role> CREATEROLE CREATEDB.",
        target.name
    )))
}

async fn choose(run: &Run<'_>) -> ApiResult<Cluster> {
    if let Some(name) = &run.wanted.to {
        return run.fleet.cluster(name).await;
    }
    let (keys, strategy) = (run.fleet.control.keys.clone(), run.fleet.settings.placement);
    let db = &run.fleet.control.db;
    let placed = db.read(async move |conn: &mut MainConn| place(conn, &keys, strategy, None).await).await?;
    placed.filter(|cluster| cluster.id != run.source.id).ok_or_else(|| {
        refused(
            "No other cluster has room for this tenant. Add one with `tenantry cluster add`, or raise --max-tenants.",
        )
    })
}

/// A small database is dumped within the hold; a large one is replicated where both sides allow it.
async fn method(run: &Run<'_>, journal: &Journal<'_>, target: &Cluster, bytes: u64) -> ApiResult<Method> {
    match run.wanted.method {
        Some(Method::Dump) => return Ok(Method::Dump),
        None if bytes <= run.fleet.settings.dump_limit => return Ok(Method::Dump),
        _ => {}
    }
    match replicate::obstacle(run, target).await? {
        None => Ok(Method::Replicate),
        Some(obstacle) if run.wanted.method.is_some() => {
            Err(refused(format!("The tenant cannot be replicated: {obstacle}. Leave --method out to dump it.")))
        }
        Some(obstacle) => {
            let seconds = bytes / 20_000_000 + 1;
            journal.progress().note(&format!(
                "not by replication: {obstacle}. Its requests will wait for about {seconds} s while it is dumped"
            ));
            tracing::info!(tenant = %run.tenant.id, obstacle, "a move goes by dump");
            Ok(Method::Dump)
        }
    }
}

fn major(version: &[String]) -> u32 {
    version.first().and_then(|version| version.parse::<u32>().ok()).unwrap_or_default() / 10_000
}
