//! The steps, in the order in which they are done. Each may be repeated at any time.

use std::time::Duration;

use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use secrecy::ExposeSecret;

use super::admin::AdminToBe;
use super::run::Run;
use super::verify;
use crate::control::migration_runs::Head;
use crate::control::{signing_keys, tenants};
use crate::error::{ApiError, ApiResult};
use crate::fleet::migrations::Migrations;
use crate::fleet::{admin, migrate_error, scram, sql, template};
use crate::router::migrate::{MigrationSet, migrate_all};
use crate::router::{AdminConn, MainConn, TenantTx};

/// How often a clone is tried: the template may be in use for a moment, or just have been replaced.
const CLONE_ATTEMPTS: u32 = 6;

/// The key that signs the tenant's tokens.
pub(in crate::fleet) async fn signing_key(run: &mut Run<'_>) -> ApiResult<()> {
    let (keys, id) = (run.fleet.control.keys.clone(), run.tenant.id);
    run.fleet.control.db.read(async move |conn: &mut MainConn| signing_keys::ensure(conn, &keys, id).await).await
}

/// The tenant's own role; its password travels as a verifier.
pub(in crate::fleet) async fn role(run: &mut Run<'_>) -> ApiResult<()> {
    let name = run.tenant.role_name.clone();
    let verifier = scram::verifier(&run.direct.password);
    let limit = super::role_connections(run.tenant.max_connections).to_string();
    let variables = [("role", &*name), ("verifier", verifier.expose_secret()), ("connection_limit", &*limit)];
    admin::run(run.server().await?, sql::ROLE, &variables).await?;
    run.knock_ahead()
}

/// The tenant's own database, cloned from the cluster's template; closed until the next step.
pub(in crate::fleet) async fn database(run: &mut Run<'_>) -> ApiResult<()> {
    let (name, role) = (run.tenant.database_name.clone(), run.tenant.role_name.clone());
    let (fleet, migrations, cluster) = (run.fleet, run.migrations.clone(), run.cluster()?.clone());
    let server = run.server().await?;
    for attempt in 1.. {
        drop_invalid(server, &name).await?;
        if exists(server, &name).await? {
            return Ok(());
        }
        let template = template::ensure(server, &cluster, &migrations).await?;
        let variables = [("database", &*name), ("template", &*template), ("role", &*role)];
        let place = fleet.clones.acquire().await.map_err(ApiError::internal)?;
        let made = admin::run_each(server, sql::DATABASE, &variables).await;
        drop(place);
        match made {
            Ok(()) => {
                run.cloned = true;
                return Ok(());
            }
            Err(error) if attempt == CLONE_ATTEMPTS => return Err(error),
            Err(error) => tracing::info!(%error, cause = ?error.cause(), attempt, "a clone failed and is tried again"),
        }
        tokio::time::sleep(Duration::from_millis(100) * attempt).await;
    }
    Ok(())
}

async fn exists(server: &mut AdminConn, name: &str) -> ApiResult<bool> {
    let query = format!("SELECT true AS yes FROM pg_database WHERE datname = {}", sql::literal(name));
    admin::ask(server, &query).await
}

/// An interrupted `DROP DATABASE` leaves a database that nobody can use (PostgreSQL marks it by this limit).
async fn drop_invalid(server: &mut AdminConn, name: &str) -> ApiResult<()> {
    let query =
        format!("SELECT true AS yes FROM pg_database WHERE datname = {} AND datconnlimit = -2", sql::literal(name));
    if admin::ask(server, &query).await? {
        let drop = sql::fill("DROP DATABASE IF EXISTS :\"database\"", &[("database", name)]);
        server.batch_execute(&drop).await.map_err(ApiError::internal)?;
    }
    Ok(())
}

/// Everyone but the owner shut out. What the template held is the owner's already, unless an earlier release cloned it.
pub(in crate::fleet) async fn grants(run: &mut Run<'_>) -> ApiResult<()> {
    let database = run.tenant.database_name.clone();
    admin::run(run.server().await?, sql::ISOLATE, &[("database", &database)]).await?;
    run.open_own_ahead();
    if run.cloned { Ok(()) } else { admin::run(run.inside().await?, sql::GRANTS, &[]).await }
}

/// The database says whose it is. A stamp that is there already must be this one.
pub(in crate::fleet) async fn stamp(run: &mut Run<'_>) -> ApiResult<()> {
    let (tenant, installation) = (run.tenant.id.to_string(), run.installation.id.to_string());
    let role = run.tenant.role_name.clone();
    let variables = [("role", &*role), ("tenant_id", &*tenant), ("installation_id", &*installation)];
    let ours = (run.tenant.id, run.installation.id);
    let inside = run.inside().await?;
    admin::run(inside, sql::STAMP, &variables).await?;
    verify::stamp(ours, inside).await?;
    run.expect_ahead();
    Ok(())
}

/// The built-in schema; nothing to do where the template was at the head.
pub(in crate::fleet) async fn migrations(run: &mut Run<'_>) -> ApiResult<()> {
    apply(run, &[&run.migrations.built_in]).await
}

/// The operator's own.
pub(in crate::fleet) async fn operator_migrations(run: &mut Run<'_>) -> ApiResult<()> {
    apply(run, &[&run.migrations.operator]).await
}

async fn apply(run: &Run<'_>, sets: &[&MigrationSet]) -> ApiResult<()> {
    if run.cloned {
        return Ok(());
    }
    migrate_all(&run.direct, sets, &run.fleet.settings.migrate).await.1.map_err(migrate_error)
}

/// Permissions and system roles; over the connection of whoever is welcomed, where somebody is.
pub(in crate::fleet) async fn seed(run: &mut Run<'_>) -> ApiResult<()> {
    /// The first administrator's commit makes it durable.
    const NOT_LAST: &str = "SET LOCAL synchronous_commit = off";
    let is_last = !run.in_one_go || run.first_admin.is_none();
    if let Some(db) = run.expected().await?.filter(|_| !is_last) {
        let seeded = db.transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            conn.batch_execute(NOT_LAST).await?;
            Ok(crate::tenant::seed(&mut **conn).await?)
        });
        return seeded.await;
    }
    let own = run.own().await?;
    own.transaction(async |conn: &mut AdminConn| {
        if !is_last {
            conn.batch_execute(NOT_LAST).await?;
        }
        crate::tenant::seed(conn).await
    })
    .await
    .map_err(ApiError::internal)
}

/// The first administrator. Repeated, the password is the new one.
pub(in crate::fleet) async fn first_admin(run: &mut Run<'_>) -> ApiResult<()> {
    let Some(wanted) = run.first_admin else { return Ok(()) };
    let admin = match run.admin.take() {
        Some(begun) => begun,
        None => AdminToBe::begin(&run.fleet.passwords, wanted).await?,
    };
    if let Some((welcome, db)) = run.welcome.zip(run.expected().await?) {
        run.first_session = Some(welcome.sign_in(&db, admin).await?);
        return Ok(());
    }
    run.generated = admin.make(run.own().await?).await?;
    Ok(())
}

/// Routable, from the moment this commits, with the migrations of this moment: a run over the fleet that ended while it
/// was made did not know of it.
pub(in crate::fleet) async fn activate(run: &mut Run<'_>) -> ApiResult<()> {
    let (id, head) = (run.tenant.id, catch_up(run).await?);
    run.fleet
        .control
        .db
        .transaction(async move |conn: &mut MainConn| tenants::activate(conn, id, &head).await.map(drop))
        .await
}

/// Applies what was added to the migrations while the tenant was made, and says what it is at. A journal that calls the
/// migrations done may be that of an older program: only what this run has cloned is known to have today's.
pub(super) async fn catch_up(run: &mut Run<'_>) -> ApiResult<Head> {
    let now = Migrations::load(run.fleet.settings.operator_migrations.as_deref()).await?;
    if !run.cloned || now.hash() != run.migrations.hash() {
        run.cloned = false;
        apply(run, &[&now.built_in, &now.operator]).await?;
    }
    Ok(now.head())
}
