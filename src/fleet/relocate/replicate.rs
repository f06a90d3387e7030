//! By logical replication: the target subscribes to the source while the tenant goes on serving, and only what is left to
//! do is done under the hold. The subscription comes with a role of its own, which can read and nothing else, and is gone
//! with it.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep};

use super::compare::{SEQUENCES, tables};
use super::run::{Run, open_patiently};
use super::{code, copy, triggers};
use crate::control::clusters::Cluster;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::operation::Journal;
use crate::fleet::{admin, refused, scram, sql};
use crate::kernel::TenantId;
use crate::router::{AdminConn, Target, TlsMode};

/// The longest that the first copy may take.
const FIRST_COPY: Duration = Duration::from_secs(12 * 60 * 60);
/// After so many failures of its workers, each of which tries again by itself, the first copy is given up.
const FAILURES: i64 = 3;
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at what is left under the hold.
const LOOK_HELD: Duration = Duration::from_millis(10);
/// How long the source's server may take to end whoever reads a slot.
const LET_GO: Duration = Duration::from_secs(10);
/// The statement holds a password: it shows neither in a view nor in a log of the server.
const UNSEEN: &str = "SET track_activities = off; SET log_statement = 'none'; SET log_duration = off; \
    SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'";

/// Answers with why not, as words; nothing if replication is possible. The first query is asked at the source.
const SOURCE: &[(&str, &str)] = &[
    ("SELECT current_setting('wal_level') <> 'logical' AS yes", "the source's wal_level is not 'logical'"),
    (
        "SELECT NOT rolsuper AS yes FROM pg_roles WHERE rolname = current_user",
        "the source's administrator is no superuser",
    ),
    (
        "SELECT count(*) + 1 + 4 > current_setting('max_replication_slots')::int AS yes FROM pg_replication_slots",
        "the source has no replication slots left",
    ),
    (
        "SELECT EXISTS (SELECT FROM pg_class WHERE relpersistence = 'u') AS yes",
        "there are unlogged tables, which are not replicated",
    ),
    ("SELECT EXISTS (SELECT FROM pg_largeobject_metadata) AS yes", "there are large objects, which are not replicated"),
    (
        "SELECT EXISTS (SELECT FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid \
         WHERE f.contype = 'f' AND c.relkind = 'p') AS yes",
        "a partitioned table has foreign keys, with which its partitions cannot be emptied",
    ),
    (
        "SELECT EXISTS (SELECT FROM pg_extension WHERE cardinality(extconfig) > 0) AS yes",
        "an extension keeps rows of its own, which are not replicated",
    ),
    ("SELECT EXISTS (SELECT FROM pg_matviews) AS yes", "there are materialized views, which are not replicated"),
];
const TARGET: &[(&str, &str)] = &[
    (
        "SELECT NOT rolsuper AS yes FROM pg_roles WHERE rolname = current_user",
        "the target's administrator is no superuser",
    ),
    (
        "SELECT current_setting('max_logical_replication_workers')::int < 2 \
         OR current_setting('max_replication_slots')::int < 5 AS yes",
        "the target has no workers for it",
    ),
];

/// A table whose changes cannot be told by row: published, it could not be changed any more. It is copied under the hold.
pub(super) const NO_IDENTITY: &str = "(c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS \
    (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))";

/// Publication, subscription, slot and role have one name.
pub(in crate::fleet) fn name(tenant: TenantId) -> String {
    format!("tenantry_move_{}", tenant.uuid().simple())
}

/// Why a tenant cannot be replicated, if it cannot.
pub(super) async fn obstacle(run: &Run<'_>, target: &Cluster) -> ApiResult<Option<&'static str>> {
    for (server, questions) in [(run.at_source(), SOURCE), (target.admin.clone(), TARGET)] {
        let mut conn = admin::open(&server).await?;
        let held_back = format!(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) > {} AS yes FROM pg_class c \
             WHERE c.relkind = 'r' AND c.relnamespace <> 'pg_catalog'::regnamespace AND {NO_IDENTITY}",
            run.fleet.settings.dump_limit
        );
        if admin::ask(&mut conn, &held_back).await? {
            return Ok(Some("a large table has no primary key"));
        }
        let referenced = NO_IDENTITY.replace("c.", "r.");
        let referenced = format!(
            "SELECT EXISTS (SELECT FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid \
             JOIN pg_class r ON r.oid = f.confrelid WHERE f.contype = 'f' \
             AND ({referenced} AND NOT {NO_IDENTITY} OR {NO_IDENTITY} AND NOT f.convalidated)) AS yes"
        );
        // Since PostgreSQL 16 the rows are written as the owner, who must be allowed to.
        let withheld = format!("NOT {NO_IDENTITY} AND NOT has_table_privilege(c.relowner, c.oid, 'INSERT')");
        if !admin::words(&mut conn, &tables(&withheld)).await?.is_empty() {
            return Ok(Some("the owner of a table may not write to it"));
        }
        if admin::ask(&mut conn, &referenced).await? {
            return Ok(Some("a table without a primary key has foreign keys that it cannot be copied apart with"));
        }
        for (question, obstacle) in questions {
            if admin::ask(&mut conn, question).await? {
                return Ok(Some(obstacle));
            }
        }
    }
    code::obstacle(run, target).await
}

/// The target has every row, and follows. The tenant goes on serving.
pub(super) async fn begin(run: &Run<'_>, journal: &mut Journal<'_>) -> ApiResult<()> {
    let name = name(run.tenant.id);
    // What an interrupted run has left: whoever subscribed, and the rows so far.
    forget_target(run).await?;
    forget_source(run).await?;
    let (mut source, mut target) = (admin::open(&run.at_source()).await?, open_patiently(&run.at_target()?).await?);
    let published = admin::words(&mut source, &tables(&format!("NOT {NO_IDENTITY}"))).await?;
    if published.is_empty() {
        return Ok(());
    }
    let list = published.join(", ");
    // All at once: PostgreSQL empties no table alone that another's foreign key leads to.
    let held_back = admin::words(&mut source, &tables(NO_IDENTITY)).await?;
    triggers::truncate(run, &[&published[..], &held_back[..]].concat()).await?;
    // From here on nobody changes them.
    code::may_replicate(&mut target).await?;
    let password = scram::generate_password();
    let variables = [("name", &*name), ("database", &*run.tenant.database_name)];
    let verifier = scram::verifier(&password);
    let role = sql::fill(
        "CREATE ROLE :\"name\" LOGIN REPLICATION NOSUPERUSER CONNECTION LIMIT 20 PASSWORD :'verifier';\n\
         GRANT pg_read_all_data TO :\"name\";\n\
         GRANT CONNECT ON DATABASE :\"database\" TO :\"name\";",
        &[variables[0], variables[1], ("verifier", verifier.expose_secret())],
    );
    execute(&mut source, &role).await?;
    execute(&mut source, &format!("CREATE PUBLICATION {} FOR TABLE {list}", sql::ident(&name))).await?;
    let connection = connection(&run.at_source(), &name, &password);
    execute(&mut target, UNSEEN).await?;
    let subscribe = format!(
        "CREATE SUBSCRIPTION {0} CONNECTION {1} PUBLICATION {0} WITH (slot_name = {2}, copy_data = true)",
        sql::ident(&name),
        sql::literal(connection.expose_secret()),
        sql::literal(&name),
    );
    target.batch_execute(&subscribe).await.map_err(|error| {
        ApiError::internal(error).detail("The target could not subscribe to the source; the log says why.")
    })?;
    first_copy(run, &mut target, journal).await
}

async fn first_copy(run: &Run<'_>, target: &mut AdminConn, journal: &mut Journal<'_>) -> ApiResult<()> {
    // PostgreSQL 15 and later count them.
    let counted = "SELECT to_regclass('pg_catalog.pg_stat_subscription_stats') IS NOT NULL AS yes";
    let counted = admin::ask(target, counted).await?;
    let failed = format!(
        "SELECT apply_error_count + sync_error_count >= {FAILURES} AS yes FROM pg_stat_subscription_stats \
         WHERE subname = {}",
        sql::literal(&name(run.tenant.id))
    );
    let deadline = Instant::now() + FIRST_COPY;
    let look = "SELECT count(*) FILTER (WHERE srsubstate = 'r') || ' ' || count(*) AS word FROM pg_subscription_rel \
                WHERE srsubid = (SELECT oid FROM pg_subscription WHERE subdbid = \
                (SELECT oid FROM pg_database WHERE datname = current_database()))";
    loop {
        let counts = admin::words(target, look).await?.into_iter().next().unwrap_or_default();
        let (ready, all) = counts.split_once(' ').unwrap_or_default();
        let (ready, all): (i64, i64) = (ready.parse().unwrap_or_default(), all.parse().unwrap_or_default());
        journal.advance(ready, all).await?;
        if ready == all {
            return Ok(());
        }
        if counted && admin::ask(target, &failed).await? {
            return Err(refused(format!(
                "The server of '{}' could not take the rows: its disk may be full, or the source out of its reach. Its log \
                 says why. Nothing has changed.",
                run.target()?.name
            )));
        }
        if Instant::now() >= deadline {
            return Err(ApiError::internal("the first copy of a replication took too long"));
        }
        sleep(LOOK).await;
    }
}

/// How the target reaches the source. Files on our disk are not on the target's, so it checks no certificate.
fn connection(source: &Target, role: &str, password: &SecretString) -> SecretString {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let tls = if source.tls.mode == TlsMode::Disable { "disable" } else { "require" };
    format!(
        "host={} port={} dbname={} user={role} password={} sslmode={tls} connect_timeout=10 application_name={role}",
        quote(&source.host),
        source.port,
        quote(&source.database),
        quote(password.expose_secret()),
    )
    .into()
}

/// Under the hold, with the source fenced: the last changes, the sequences, and the end of the replication.
pub(super) async fn finish(run: &Run<'_>) -> ApiResult<()> {
    let name = name(run.tenant.id);
    let (mut source, mut target) = (admin::open(&run.at_source()).await?, open_patiently(&run.at_target()?).await?);
    let subscribed = format!("SELECT true AS yes FROM pg_subscription WHERE subname = {}", sql::literal(&name));
    if admin::ask(&mut target, &subscribed).await? {
        let end = admin::words(&mut source, "SELECT pg_current_wal_lsn()::text AS word").await?;
        let end = end.into_iter().next().unwrap_or_default();
        let there = format!(
            "SELECT confirmed_flush_lsn >= {}::pg_lsn AS yes FROM pg_replication_slots WHERE slot_name = {}",
            sql::literal(&end),
            sql::literal(&name)
        );
        // The caller has the deadline.
        while !admin::ask(&mut source, &there).await? {
            sleep(LOOK_HELD).await;
        }
    }
    let held_back = admin::words(&mut source, &tables(NO_IDENTITY)).await?;
    if !held_back.is_empty() {
        triggers::truncate(run, &held_back).await?;
        copy::rows(run, &held_back).await?;
    }
    for sequence in admin::words(&mut source, SEQUENCES).await? {
        let state = format!(
            "SELECT format('SELECT setval(%L, %s, %L)', {}, last_value, is_called) AS word FROM {sequence}",
            sql::literal(&sequence)
        );
        for set in admin::words(&mut source, &state).await? {
            execute(&mut target, &set).await?;
        }
    }
    drop((source, target));
    forget_target(run).await?;
    forget_source(run).await
}

/// Ends the subscription, and with it the slot at the source.
pub(super) async fn forget_target(run: &Run<'_>) -> ApiResult<()> {
    forget_at(&run.target()?.admin, &run.tenant.database_name, run.tenant.id).await
}

/// The same wherever a copy was left: a database with a subscription cannot be dropped.
pub(in crate::fleet) async fn forget_at(server: &Target, database: &str, tenant: TenantId) -> ApiResult<()> {
    let name = name(tenant);
    let exists = format!("SELECT datallowconn AS yes FROM pg_database WHERE datname = {}", sql::literal(database));
    if !admin::ask(&mut admin::open(server).await?, &exists).await? {
        return Ok(());
    }
    let mut target = admin::open(&server.with_database(database)).await?;
    let subscribed = format!("SELECT true AS yes FROM pg_subscription WHERE subname = {}", sql::literal(&name));
    if !admin::ask(&mut target, &subscribed).await? {
        return Ok(());
    }
    // The slot is dropped at the source, which may be the one that is away.
    let subscription = sql::ident(&name);
    for statement in [
        format!("ALTER SUBSCRIPTION {subscription} DISABLE"),
        format!("ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)"),
        format!("DROP SUBSCRIPTION {subscription}"),
    ] {
        execute(&mut target, &statement).await?;
    }
    Ok(())
}

/// What replication has made at the source: slots, publication, role. The role goes last, so that whoever comes again finds
/// what is left.
///
/// # Errors
/// 503 as long as a slot is there: it would keep the source's log until the disk is full.
pub(super) async fn forget_source(run: &Run<'_>) -> ApiResult<()> {
    let name = name(run.tenant.id);
    let literal = sql::literal(&name);
    let mut source = admin::open(&run.at_source()).await?;
    let role = format!("SELECT true AS yes FROM pg_roles WHERE rolname = {literal}");
    let role = admin::ask(&mut source, &role).await?;
    let slot = format!("SELECT true AS yes FROM pg_replication_slots WHERE slot_name = {literal}");
    if !role && !admin::ask(&mut source, &slot).await? {
        return Ok(());
    }
    if role {
        execute(&mut source, &format!("ALTER ROLE {} NOLOGIN", sql::ident(&name))).await?;
    }
    drop_slots(&mut source, &literal).await?;
    execute(&mut source, &format!("DROP PUBLICATION IF EXISTS {}", sql::ident(&name))).await?;
    if !role {
        return Ok(());
    }
    let away = sql::fill(
        "REVOKE ALL ON DATABASE :\"database\" FROM :\"name\";\nDROP ROLE :\"name\";",
        &[("name", &name), ("database", &run.tenant.database_name)],
    );
    execute(&mut source, &away).await
}

/// Ends whoever reads the slots, and drops them.
async fn drop_slots(source: &mut AdminConn, name: &str) -> ApiResult<()> {
    // Those of the first copy are named by the server itself.
    let ours = format!(
        "FROM pg_replication_slots WHERE (slot_name = {name} OR database = current_database() AND plugin = 'pgoutput' \
         AND slot_name ~ '^pg_[0-9]+_sync_')"
    );
    let end = format!(
        "SELECT pg_terminate_backend(pid, 2000)::text AS word FROM pg_stat_activity \
         WHERE usename = {name} OR pid IN (SELECT active_pid {ours})"
    );
    let free = format!("SELECT pg_drop_replication_slot(slot_name)::text AS word {ours} AND NOT active");
    let left = format!("SELECT slot_name::text AS word {ours}");
    let deadline = Instant::now() + LET_GO;
    loop {
        admin::words(source, &end).await?;
        admin::words(source, &free).await?;
        let left = admin::words(source, &left).await?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let said = format!(
                "The source's server does not let go of the replication slot {}. The move is taken back, or finished, once \
                 it does.",
                left.join(", ")
            );
            return Err(ApiError::new(Code::TenantDatabaseUnavailable).detail(said));
        }
        sleep(LOOK).await;
    }
}

async fn execute(conn: &mut AdminConn, statement: &str) -> ApiResult<()> {
    conn.batch_execute(statement).await.map_err(admin::failed)
}
