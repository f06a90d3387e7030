//! The tenant's role and database at the target, as provisioning makes them; but for the role, which cannot log in yet.

use diesel_async::SimpleAsyncConnection as _;
use secrecy::ExposeSecret as _;

use super::prepare;
use super::run::Run;
use crate::error::{ApiError, ApiResult};
use crate::fleet::provision::role_connections;
use crate::fleet::{admin, sql};

/// The role, and an empty database that has its stamp already.
pub(super) async fn make(run: &Run<'_>) -> ApiResult<()> {
    let mut server = admin::open(&run.target()?.admin).await?;
    // Perhaps it has been a while since this was looked at.
    prepare::may_make(&mut server, run.target()?).await?;
    let (role, verifier) = (&*run.tenant.role_name, run.verifier());
    let limit = role_connections(run.tenant.max_connections).to_string();
    let variables = [("role", role), ("verifier", verifier.expose_secret()), ("connection_limit", &*limit)];
    // One message is one transaction: the role is never seen to be able to log in.
    let shut = format!("{}\nALTER ROLE {} NOLOGIN;", sql::fill(sql::ROLE, &variables), sql::ident(role));
    server.batch_execute(&shut).await.map_err(ApiError::internal)?;
    empty(run).await
}

/// An empty database in place of whatever an interrupted run has left.
pub(super) async fn empty(run: &Run<'_>) -> ApiResult<()> {
    let (name, role) = (&*run.tenant.database_name, &*run.tenant.role_name);
    let mut server = admin::open(&run.target()?.admin).await?;
    let variables = [("database", name), ("template", "template0"), ("role", role)];
    admin::run_each(&mut server, sql::DATABASE_UNDO, &variables).await?;
    let create = "CREATE DATABASE :\"database\" TEMPLATE :\"template\" ENCODING 'UTF8' OWNER :\"role\" \
                  ALLOW_CONNECTIONS false;\n";
    admin::run_each(&mut server, create, &variables).await?;
    admin::run_each(&mut server, sql::ISOLATE, &variables).await?;
    let (tenant, installation) = (run.tenant.id.to_string(), run.installation.id.to_string());
    let variables = [("role", role), ("tenant_id", &*tenant), ("installation_id", &*installation)];
    let mut inside = admin::open(&run.at_target()?).await?;
    for file in [sql::STAMP, sql::GRANTS] {
        admin::run(&mut inside, file, &variables).await?;
    }
    Ok(())
}

/// Whether nothing was restored into the database yet, nor installed.
pub(super) async fn is_empty(run: &Run<'_>) -> ApiResult<bool> {
    let query = "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace IN ('public'::regnamespace, \
                 'tenantry'::regnamespace) AND relname NOT LIKE 'stamp%') \
                 AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'tenantry'::regnamespace)) \
                 AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname NOT IN ('public', 'tenantry', 'information_schema') \
                 AND nspname !~ '^pg_') AND NOT EXISTS (SELECT FROM pg_extension WHERE extname <> 'plpgsql') AS yes";
    admin::ask(&mut admin::open(&run.at_target()?).await?, query).await
}
