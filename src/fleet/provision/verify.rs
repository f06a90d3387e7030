//! Before a tenant becomes routable: seen with its own role, the way a request will see it.

use diesel::sql_types;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::probe::refuse;
use super::run::Run;
use crate::error::{ApiError, ApiResult};
use crate::fleet::{admin, refused, sql};
use crate::kernel::{InstallationId, TenantId};
use crate::router::connect::ConnectFailure;
use crate::router::{AdminConn, TenantConn};

#[derive(diesel::QueryableByName)]
pub(in crate::fleet) struct StampRow {
    #[diesel(sql_type = sql_types::Uuid)]
    tenant_id: Uuid,
    #[diesel(sql_type = sql_types::Uuid)]
    installation_id: Uuid,
}

/// The stamp of a database; the table must be there.
pub(in crate::fleet) async fn read_stamp(conn: &mut AdminConn) -> ApiResult<Option<StampRow>> {
    let rows: Vec<StampRow> = diesel::sql_query("SELECT tenant_id, installation_id FROM tenantry.stamp")
        .load(conn)
        .await
        .map_err(ApiError::internal)?;
    Ok(rows.into_iter().next())
}

/// The stamp of a database; none where nobody has stamped it.
pub(in crate::fleet) async fn find_stamp(conn: &mut AdminConn) -> ApiResult<Option<StampRow>> {
    if admin::ask(conn, "SELECT to_regclass('tenantry.stamp') IS NOT NULL AS yes").await? {
        read_stamp(conn).await
    } else {
        Ok(None)
    }
}

impl StampRow {
    /// The tenant that it names.
    pub(in crate::fleet) fn tenant(&self) -> TenantId {
        self.tenant_id.into()
    }

    /// Whether this installation wrote it.
    pub(in crate::fleet) fn is_of(&self, installation: InstallationId) -> bool {
        self.installation_id == installation.uuid()
    }

    /// Whether it names this tenant of this installation.
    pub(in crate::fleet) fn names(&self, tenant: TenantId, installation: InstallationId) -> bool {
        self.tenant_id == tenant.uuid() && self.installation_id == installation.uuid()
    }
}

/// The database is this tenant's.
pub(in crate::fleet) async fn stamp(ours: (TenantId, InstallationId), conn: &mut AdminConn) -> ApiResult<()> {
    let stamp = read_stamp(conn).await?;
    if stamp.is_some_and(|stamp| stamp.names(ours.0, ours.1)) {
        Ok(())
    } else {
        Err(super::probe::stamped_for_another())
    }
}

/// Looks at the tenant as a request will: the right stamp, and its role in no other database.
pub(in crate::fleet) async fn verify(run: &mut Run<'_>) -> ApiResult<()> {
    let ours = (run.tenant.id, run.installation.id);
    if run.cluster.is_none() {
        let mut asking = admin::open_own(&run.pooled).await?;
        stamp(ours, &mut asking).await?;
        return may_what_the_owner_may(&mut asking, &run.pooled.user).await;
    }
    look(ours, run).await?;
    match run.knocked().await? {
        Err(error) if error.kind == ConnectFailure::Authentication => Ok(()),
        Err(error) => Err(admin::unavailable(error)),
        Ok(_) => Err(refused("The tenant's role was let into the cluster's administrative database.")),
    }
}

/// Requests may have a role of their own beside the one that migrates. What migrations made, it may use as a member of their
/// owner alone: nothing is granted to it by name.
async fn may_what_the_owner_may(asking: &mut AdminConn, role: &str) -> ApiResult<()> {
    let lacks = "SELECT pg_get_userbyid(relowner)::text AS word FROM pg_class \
                 WHERE oid = to_regclass('public.users') AND NOT pg_has_role(relowner, 'USAGE')";
    let Some(owner) = admin::words(asking, lacks).await?.into_iter().next() else { return Ok(()) };
    let remedy = sql::fill("GRANT :\"owner\" TO :\"role\";", &[("owner", &owner), ("role", role)]);
    Err(refuse(
        "privileges_missing",
        format!(
            "This role may not use what that of the direct URL owns. Ask for: {} If it is a member already, it has to \
             inherit: ALTER ROLE … INHERIT.",
            remedy.trim()
        ),
    ))
}

/// Inside a shared tenant's database, as its own role: pooled and direct address are the same.
async fn look(ours: (TenantId, InstallationId), run: &mut Run<'_>) -> ApiResult<()> {
    // `postgres`, `template1` and every other tenant's; of a stranger's databases on this server we know nothing.
    let others = "SELECT datname::text AS word FROM pg_database \
                  WHERE datallowconn AND datname <> current_database() AND EXISTS ( \
                      SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) a \
                      WHERE a.privilege_type = 'CONNECT' AND (a.grantee = 0 \
                          OR a.grantee <> 'pg_database_owner'::regrole AND pg_has_role(a.grantee, 'USAGE'))) \
                  AND (datname IN ('postgres', 'template1') OR datname ~ '^t_[0-9a-f]{32}(_[0-9a-f]+)?$')";
    let others = match run.expected().await? {
        // The router has let in nobody but this tenant.
        Some(db) => db.read(async |conn: &mut TenantConn| admin::words(conn, others).await).await?,
        None => {
            let own = run.own().await?;
            stamp(ours, own).await?;
            admin::words(own, others).await?
        }
    };
    if let Some(other) = others.into_iter().next() {
        let revoke = sql::fill("REVOKE CONNECT ON DATABASE :\"d\" FROM PUBLIC;", &[("d", &other)]);
        return Err(refused(
            "The tenant's role could connect to another database of the cluster; revoke CONNECT there from PUBLIC.",
        )
        .caused_by(revoke.trim().to_owned()));
    }
    Ok(())
}
