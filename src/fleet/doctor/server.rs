//! One cluster's server, looked at over one connection.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl;
use tokio::time::timeout;

use super::{Finding, orphans, psql, slots};
use crate::control::clusters::Cluster;
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::provision::probe::explain;
use crate::fleet::{Fleet, admin, drift, migrate, sql, template};
use crate::kernel::Clock;
use crate::router::{AdminConn, Room};

/// The longest that one server is looked at: one that takes connections and then falls silent holds nobody up.
const DEADLINE: Duration = Duration::from_secs(30);
/// Clocks that are further apart let tokens and sessions end at another time than they should.
const APART: TimeDelta = TimeDelta::seconds(2);
/// Templates of other migrations that provisioning keeps: during a rolling upgrade two releases clone.
const TEMPLATES_KEPT: usize = 1;
const TEMPLATES: &str = "SELECT datname::text AS word FROM pg_database \
    WHERE datname ~ '^tenantry_template_[0-9a-f]{12}$' AND datistemplate AND NOT datallowconn ORDER BY oid DESC";
/// A template that is being made is open for a moment, and whoever makes it holds an advisory lock of this database.
const UNSEALED: &str = "SELECT datname::text AS word FROM pg_database \
    WHERE datname ~ '^tenantry_template_[0-9a-f]{12}$' AND NOT (datistemplate AND NOT datallowconn) \
    AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)";

/// What all of them are compared with.
pub(super) struct Context<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) tenants: &'a [TenantRecord],
    /// Names of databases and roles that the control plane kept before any server was asked.
    pub(super) known_before: HashSet<String>,
    /// Of the migrations as they are now.
    pub(super) hash: String,
}

#[derive(diesel::QueryableByName)]
struct Now {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// How far ahead of us a server's clock is, as far as the way there lets us tell.
pub(in crate::fleet) async fn ahead(conn: &mut AdminConn, clock: &Clock) -> ApiResult<TimeDelta> {
    let before = clock.now();
    let row: Now =
        diesel::sql_query("SELECT clock_timestamp() AS now").get_result(conn).await.map_err(ApiError::internal)?;
    let after = clock.now();
    // Anything within the round trip is no difference.
    Ok(if row.now < before {
        row.now - before
    } else if row.now > after {
        row.now - after
    } else {
        TimeDelta::zero()
    })
}

/// The finding, if the clocks are too far apart.
pub(in crate::fleet) fn clocks(subject: &str, ahead: TimeDelta) -> Option<Finding> {
    (ahead.abs() > APART).then(|| {
        let way = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
        let said = format!("its clock is {} ms {way} this machine's", ahead.num_milliseconds().abs());
        Finding::error("clock_differs", subject, said, "timedatectl set-ntp true")
    })
}

pub(super) async fn look(context: &Context<'_>, cluster: &Cluster) -> Vec<Finding> {
    let deadline = context.fleet.look_deadline.unwrap_or(DEADLINE);
    let looked = timeout(deadline, inside(context, cluster)).await.unwrap_or_else(|_| {
        let said = format!("The database server did not answer within {} s.", deadline.as_secs());
        Err(ApiError::new(Code::TenantDatabaseUnavailable).detail(said))
    });
    match looked {
        Ok((mut findings, unknown)) => {
            findings.extend(orphans::look_into(context, cluster, unknown).await);
            findings
        }
        Err(error) => {
            tracing::info!(cluster = %cluster.name, %error, cause = ?error.cause(), "a cluster was not looked at");
            let remedy = format!("tenantry cluster show {}", cluster.name);
            vec![Finding::error("cluster_unreachable", &cluster.name, error.client_detail(), remedy)]
        }
    }
}

async fn inside(context: &Context<'_>, cluster: &Cluster) -> ApiResult<(Vec<Finding>, Vec<String>)> {
    let opened = AdminConn::open(&cluster.admin, &admin::options()).await;
    let mut server = opened.map_err(|error| {
        let (_, said) = explain(&error);
        ApiError::new(Code::TenantDatabaseUnavailable).detail(said).caused_by(error)
    })?;
    let mut findings = Vec::new();
    findings.extend(clocks(&cluster.name, ahead(&mut server, &context.fleet.control.clock).await?));
    findings.extend(budget(context.fleet, cluster, Room::read(&mut server).await?));
    findings.extend(templates(context, &mut server).await?);
    findings.extend(scratch(&mut server).await?);
    findings.extend(slots::look(context, &mut server).await?);
    let (found, unknown) = orphans::look(context, cluster, &mut server).await?;
    findings.extend(found);
    Ok((findings, unknown))
}

/// The finding, if the server has not the connections of the cluster's budget.
pub(super) fn budget(fleet: &Fleet, cluster: &Cluster, room: Room) -> Option<Finding> {
    let budget = fleet.budget_of(cluster.connection_budget);
    (budget > room.left()).then(|| {
        let said = format!("its connection budget is {budget}, but {}", room.arithmetic());
        let remedy = format!("tenantry cluster set {} --connection-budget {}", cluster.name, room.budget());
        Finding::error("budget_too_large", &cluster.name, said, remedy)
    })
}

async fn templates(context: &Context<'_>, server: &mut AdminConn) -> ApiResult<Vec<Finding>> {
    let current = template::name(&context.hash);
    let sealed = admin::words(server, TEMPLATES).await?;
    let mut left: Vec<_> = sealed.into_iter().filter(|name| *name != current).skip(TEMPLATES_KEPT).collect();
    left.extend(admin::words(server, UNSEALED).await?);
    let findings = left.iter().map(|name| {
        let said = "is a template that nothing is cloned from any more";
        let quoted = sql::ident(name);
        let remedy =
            format!("{} -c 'DROP DATABASE {quoted}'", psql(&format!("ALTER DATABASE {quoted} IS_TEMPLATE false")));
        Finding::warning("template_left", name, said, remedy)
    });
    Ok(findings.collect())
}

/// Databases and roles that something is tried in: a database with a role of the same name or without.
async fn scratch(server: &mut AdminConn) -> ApiResult<Vec<Finding>> {
    let kinds =
        [(drift::SCRATCH_PREFIX, "fleet drift", true), (migrate::TRIAL_PREFIX, "fleet migrate --dry-run", false)];
    let mut findings = Vec::new();
    for (prefix, command, has_role) in kinds {
        let left = format!(
            "SELECT datname::text AS word FROM pg_database d WHERE starts_with(datname, {}) \
             AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)",
            sql::literal(prefix)
        );
        for name in admin::words(server, &left).await? {
            let said = format!("is a scratch database of `{command}`, left over unless one runs right now");
            let quoted = sql::ident(&name);
            let role = if has_role { format!(" -c 'DROP ROLE IF EXISTS {quoted}'") } else { String::new() };
            let remedy = format!("{}{role}", psql(&format!("DROP DATABASE {quoted}")));
            findings.push(Finding::warning("scratch_left", name, said, remedy));
        }
    }
    // A role is made before its database, over a connection whose latest statement names it.
    let alone = format!(
        "SELECT rolname::text AS word FROM pg_roles r WHERE starts_with(rolname, {}) \
         AND NOT EXISTS (SELECT FROM pg_database d WHERE d.datname = r.rolname) \
         AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE strpos(a.query, r.rolname) > 0)",
        sql::literal(drift::SCRATCH_PREFIX)
    );
    for name in admin::words(server, &alone).await? {
        let said = "is a scratch role of `fleet drift` without its database, left over unless one runs right now";
        let remedy = psql(&format!("DROP ROLE {}", sql::ident(&name)));
        findings.push(Finding::warning("scratch_left", name, said, remedy));
    }
    Ok(findings)
}
