//! Each tenant's database, opened with its own role: is its stamp its own?

use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use futures_util::{Stream, StreamExt as _, stream};

use super::report::{Fault, RIGHT, TenantProof};
use super::{AT_ONCE, Ground};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::provision::read_stamp;
use crate::fleet::{Fleet, admin};
use crate::router::{AdminConn, MainConn, Target};

#[derive(diesel::QueryableByName)]
struct Size {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// A tenant, and what its own credentials open.
pub(super) struct Seen<'a> {
    pub(super) tenant: &'a TenantRecord,
    /// The direct address as its own role; none where a secret does not open.
    pub(super) target: Option<Target>,
    /// Whether the role opened its own database: else its being refused elsewhere proves nothing.
    pub(super) reached: bool,
    pub(super) proof: TenantProof,
    pub(super) faults: Vec<Fault>,
}

/// Looks at every tenant.
pub(super) async fn look<'a>(fleet: &'a Fleet, ground: &'a Ground) -> Vec<Seen<'a>> {
    let mut seen: Vec<_> = each(fleet, ground).collect().await;
    seen.sort_by(|a, b| a.tenant.slug.as_str().cmp(b.tenant.slug.as_str()));
    seen
}

/// What is seen of each, as it comes.
fn each<'a>(fleet: &'a Fleet, ground: &'a Ground) -> impl Stream<Item = Seen<'a>> + Send {
    stream::iter(ground.tenants.iter().map(move |tenant| one(fleet, ground, tenant))).buffer_unordered(AT_ONCE)
}

async fn one<'a>(fleet: &Fleet, ground: &Ground, tenant: &'a TenantRecord) -> Seen<'a> {
    let (id, slug, cluster) = (tenant.id, tenant.slug.clone(), tenant.cluster.clone());
    let proof = TenantProof { id, slug, cluster, stamp: "unread", bytes: None };
    let mut seen = Seen { tenant, target: None, reached: false, proof, faults: Vec::new() };
    let keys = fleet.control.keys.clone();
    let read = async move |conn: &mut MainConn| tenants::target(conn, &keys, id).await;
    let opened = async {
        let target = fleet.control.db.read(read).await?.1;
        let conn = admin::open_own(&target).await;
        Ok::<_, ApiError>((target, conn?))
    };
    match opened.await {
        Ok((target, mut conn)) => {
            seen.target = Some(target);
            seen.reached = true;
            seen.proof.bytes = size(&mut conn).await.ok();
            judge(&mut seen, ground, &mut conn).await;
        }
        Err(error) => {
            tracing::warn!(tenant = %tenant.slug, %error, cause = ?error.cause(), "a tenant's database was not opened");
            let said = format!("its database was not opened with its own role: {}", error.client_detail());
            seen.faults.push(Fault::new("not_proven", &tenant.slug, said));
        }
    }
    seen
}

async fn judge(seen: &mut Seen<'_>, ground: &Ground, conn: &mut AdminConn) {
    let (stamp, code, said) = match read_stamp(conn).await {
        Ok(Some(stamp)) if stamp.names(seen.tenant.id, ground.installation.id) => {
            seen.proof.stamp = RIGHT;
            return;
        }
        Ok(Some(_)) => ("wrong", "stamp_wrong", "its database is stamped for another tenant or installation"),
        Ok(None) => ("missing", "stamp_missing", "its database carries no stamp"),
        Err(error) => {
            tracing::warn!(%error, cause = ?error.cause(), "a stamp was not read");
            ("missing", "stamp_missing", "its role finds no stamp in its database, or may not read it")
        }
    };
    seen.proof.stamp = stamp;
    seen.faults.push(Fault::new(code, &seen.tenant.slug, said));
}

async fn size(conn: &mut AdminConn) -> ApiResult<i64> {
    let query = "SELECT pg_database_size(current_database()) AS bytes";
    let row: Size = diesel::sql_query(query).get_result(conn).await.map_err(ApiError::internal)?;
    Ok(row.bytes)
}
