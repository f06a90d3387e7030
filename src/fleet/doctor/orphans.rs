//! Databases and roles without a tenant, tenants without a database or a role.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::sql_types::Timestamptz;
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::server::Context;
use super::{Finding, psql};
use crate::control;
use crate::control::clusters::Cluster;
use crate::error::{ApiError, ApiResult};
use crate::fleet::provision::read_stamp;
use crate::fleet::{admin, sql};
use crate::kernel::TenantId;
use crate::router::{AdminConn, MainConn, TenantStatus};

/// What provisioning calls databases and roles.
const DATABASES: &str = "SELECT datname::text AS word FROM pg_database WHERE datname ~ '^t_[0-9a-f]{32}(_[0-9a-f]+)?$' \
    ORDER BY oid DESC";
const ALL_DATABASES: &str = "SELECT datname::text AS word FROM pg_database WHERE NOT datistemplate";
const ROLES: &str = "SELECT rolname::text AS word FROM pg_roles WHERE rolname ~ '^t_[0-9a-f]{32}$' \
    AND NOT EXISTS (SELECT FROM pg_database d WHERE d.datdba = pg_roles.oid)";
const ALL_ROLES: &str = "SELECT rolname::text AS word FROM pg_roles WHERE rolcanlogin";
/// Databases without a tenant whose stamps are read, to tell ours from those of another installation on this server.
const MOST_STAMPS: usize = 500;
/// And those whose stamps are read at the same time.
const AT_ONCE: usize = 8;
/// How long one of them is waited for.
const ONE: Duration = Duration::from_secs(5);

/// Whose a database without a tenant is.
enum Whose {
    /// Stamped by this installation for a tenant that the registry does not know, and since when.
    Ours(TenantId, Option<DateTime<Utc>>),
    Nobodys,
    AnothersOrUnknown,
}

#[derive(diesel::QueryableByName)]
struct Since {
    #[diesel(sql_type = Timestamptz)]
    stamped_at: DateTime<Utc>,
}

/// What the server's catalog tells, and the databases that no tenant has, the newest first.
pub(super) async fn look(
    context: &Context<'_>,
    cluster: &Cluster,
    server: &mut AdminConn,
) -> ApiResult<(Vec<Finding>, Vec<String>)> {
    let here = || context.tenants.iter().filter(|tenant| tenant.cluster_id == Some(cluster.id));
    let mut findings = Vec::new();
    let there: HashSet<String> = admin::words(server, ALL_DATABASES).await?.into_iter().collect();
    let roles: HashSet<String> = admin::words(server, ALL_ROLES).await?.into_iter().collect();
    for tenant in here().filter(|tenant| tenant.status != TenantStatus::Provisioning) {
        let restore = format!("tenantry tenant backups {}", tenant.slug);
        if !there.contains(&tenant.database_name) {
            let said = format!("its database {} is not on cluster '{}'", tenant.database_name, cluster.name);
            findings.push(Finding::error("database_missing", &tenant.slug, said, restore));
        } else if !roles.contains(&tenant.role_name) {
            let said = format!("its role {} is not on cluster '{}', or may not log in", tenant.role_name, cluster.name);
            let remedy = format!("tenantry tenant rotate-credentials {}", tenant.slug);
            findings.push(Finding::error("role_missing", &tenant.slug, said, remedy));
        }
    }
    let (databases, alone) = (admin::words(server, DATABASES).await?, admin::words(server, ROLES).await?);
    let known = known(context).await?;
    for name in alone.into_iter().filter(|name| !known.contains(name)) {
        let remedy = psql(&format!("DROP ROLE {}", sql::ident(&name)));
        findings.push(Finding::warning("orphan_role", name, "is no tenant's role, and owns no database", remedy));
    }
    let unknown = databases.into_iter().filter(|name| !known.contains(name)).collect();
    Ok((findings, unknown))
}

/// The findings about databases that no tenant has, by what is written inside them.
pub(super) async fn look_into(context: &Context<'_>, cluster: &Cluster, unknown: Vec<String>) -> Vec<Finding> {
    let count = unknown.len();
    let looks = unknown.into_iter().take(MOST_STAMPS).map(|name| orphan(context, cluster, name));
    let found: Vec<Option<Finding>> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    let mut findings: Vec<Finding> = found.into_iter().flatten().collect();
    findings.extend(not_looked_into(&cluster.name, count, findings.len()));
    findings
}

/// The finding about a database that no tenant has, unless it is another installation's, or does not tell in time.
async fn orphan(context: &Context<'_>, cluster: &Cluster, name: String) -> Option<Finding> {
    let drop = psql(&format!("DROP DATABASE {}", sql::ident(&name)));
    let (said, remedy) = match timeout(ONE, whose(context, cluster, &name)).await {
        Ok(Ok(Whose::Ours(tenant, since))) => (of_unknown(tenant, since), format!("{} && {drop}", pg_dump(&name))),
        Ok(Ok(Whose::Nobodys)) => ("carries no stamp, and is no tenant's".to_owned(), drop),
        Ok(Ok(Whose::AnothersOrUnknown) | Err(_)) | Err(_) => return None,
    };
    Some(Finding::warning("orphan_database", name, said, remedy))
}

/// After the control plane was restored from a backup, every tenant that was made since is one of these.
fn of_unknown(tenant: TenantId, since: Option<DateTime<Utc>>) -> String {
    let since = since.map(|at| format!(" since {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)));
    format!(
        "is stamped by this installation for tenant {tenant}{}, which the control plane does not know; if that was restored \
         from a backup, this is a tenant's only copy",
        since.unwrap_or_default()
    )
}

/// A copy of a database into a file of its name, as a command. Whatever stands behind the database in the address, the
/// slashes of a certificate's file among it, stays: a dump of another database would be taken for the copy.
fn pg_dump(name: &str) -> String {
    let address = format!("printf %s \"$CLUSTER_ADMIN_URL\" | sed -E 's#^([a-z]+://[^/?]*)(/[^?]*)?#\\1/{name}#'");
    format!("pg_dump \"$({address})\" --format=custom --file={name}.dump")
}

/// The finding, if there are more databases without a tenant than are looked into, and orphans among those that were:
/// where there are none, they are all another installation's.
fn not_looked_into(cluster: &str, unknown: usize, orphans: usize) -> Option<Finding> {
    let more = unknown.checked_sub(MOST_STAMPS).filter(|more| *more > 0 && orphans > 0)?;
    let subject = format!("databases on {cluster}");
    let said = format!(
        "{more} more are no tenant's of this installation and were not looked into; see to the orphans that are told of, \
         and look again"
    );
    Some(Finding::warning("more_databases", subject, said, "tenantry fleet doctor"))
}

/// To be asked once the server was: a name is entered before anything is made that has it, so that what is made meanwhile
/// is known by now. What was known before may have gone meanwhile, from here and from there.
async fn known(context: &Context<'_>) -> ApiResult<HashSet<String>> {
    let db = &context.fleet.control.db;
    let mut known = db.read(async |conn: &mut MainConn| control::names_on_servers(conn).await).await?;
    known.extend(context.known_before.iter().cloned());
    Ok(known)
}

async fn whose(context: &Context<'_>, cluster: &Cluster, name: &str) -> ApiResult<Whose> {
    // Gone meanwhile, or closed while it is made or dropped: the next look will tell.
    let Ok(mut inside) = admin::open(&cluster.admin.with_database(name)).await else {
        return Ok(Whose::AnothersOrUnknown);
    };
    let stamped = "SELECT to_regclass('tenantry.stamp') IS NOT NULL AS yes";
    if !admin::ask(&mut inside, stamped).await? {
        return Ok(Whose::Nobodys);
    }
    // Whose database it is we do not know yet, nor what he calls a stamp.
    inside.batch_execute("BEGIN READ ONLY").await.map_err(ApiError::internal)?;
    if !admin::lock_plain(&mut inside, "tenantry.stamp").await? {
        return Ok(Whose::AnothersOrUnknown);
    }
    let installation = context.fleet.installation().await?.id;
    Ok(match read_stamp(&mut inside).await? {
        Some(stamp) if stamp.is_of(installation) => Whose::Ours(stamp.tenant(), stamped_at(&mut inside).await),
        Some(_) => Whose::AnothersOrUnknown,
        None => Whose::Nobodys,
    })
}

/// When a database was stamped, if it says so; it may have been stamped by other means than ours.
async fn stamped_at(inside: &mut AdminConn) -> Option<DateTime<Utc>> {
    let rows: Vec<Since> = diesel::sql_query("SELECT stamped_at FROM tenantry.stamp").load(inside).await.ok()?;
    rows.into_iter().next().map(|row| row.stamped_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_looked_into_is_counted() {
        assert_eq!(not_looked_into("east", MOST_STAMPS, 1), None);
        assert_eq!(not_looked_into("east", MOST_STAMPS + 3, 0), None, "another installation's");
        let told = not_looked_into("east", MOST_STAMPS + 3, 1).unwrap();
        assert_eq!((told.code, told.subject.as_str()), ("more_databases", "databases on east"));
        assert!(told.said.starts_with("3 more "), "{}", told.said);
    }
}
