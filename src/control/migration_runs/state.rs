//! What the tenants' databases are at.

use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::error::ApiResult;
use crate::kernel::{ClusterId, TenantId};
use crate::router::MainConn;

/// What the migrations of this moment lead to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Version of the built-in schema.
    pub schema_version: i32,
    /// Version of the operator's own migrations; 0 without any.
    pub operator_version: i32,
    /// A digest of both.
    pub hash: String,
}

/// Tenants that a run is about: whatever can be served again, at once or when it is resumed or restored.
pub(super) const KEPT: &str = "status IN ('active', 'suspended', 'archived')";

/// A tenant that is not known to be at the head.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Behind {
    /// Identity.
    #[diesel(sql_type = SqlUuid)]
    pub id: TenantId,
    /// Public name.
    #[diesel(sql_type = Text)]
    pub slug: String,
    /// The cluster; none for a dedicated database.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub cluster_id: Option<ClusterId>,
    /// Version of its built-in schema.
    #[diesel(sql_type = Integer)]
    pub schema_version: i32,
    /// The newest of the operator's migrations that it has.
    #[diesel(sql_type = Integer)]
    pub operator_version: i32,
}

/// The tenants that are not known to be at the head, by slug; of those named, if any are.
///
/// # Errors
/// If the control plane does not answer.
pub async fn behind(conn: &mut MainConn, head: &Head, only: Option<&[String]>) -> ApiResult<Vec<Behind>> {
    let text = format!(
        "SELECT id, slug, cluster_id, schema_version, operator_version FROM tenants \
         WHERE {KEPT} AND migrations_hash IS DISTINCT FROM $1 AND ($2 IS NULL OR slug = ANY($2)) ORDER BY slug"
    );
    let query = diesel::sql_query(text).bind::<Text, _>(&head.hash).bind::<Nullable<Array<Text>>, _>(only);
    Ok(query.load(conn).await?)
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many tenants there are to be migrated at all; of those named, if any are.
///
/// # Errors
/// If the control plane does not answer.
pub async fn count(conn: &mut MainConn, only: Option<&[String]>) -> ApiResult<i64> {
    let text = format!("SELECT count(*) FROM tenants WHERE {KEPT} AND ($1 IS NULL OR slug = ANY($1))");
    let row: Count = diesel::sql_query(text).bind::<Nullable<Array<Text>>, _>(only).get_result(conn).await?;
    Ok(row.count)
}

/// Notes that a tenant's database has all migrations of this moment. Its connections are not retired: see
/// [`crate::control::tenants::schema_migrated`].
///
/// # Errors
/// If the control plane does not answer.
pub async fn at_head(conn: &mut MainConn, tenant: TenantId, head: &Head) -> ApiResult<()> {
    diesel::sql_query(
        "UPDATE tenants SET schema_version = $2, operator_version = $3, migrations_hash = $4 WHERE id = $1",
    )
    .bind::<SqlUuid, _>(tenant)
    .bind::<Integer, _>(head.schema_version)
    .bind::<Integer, _>(head.operator_version)
    .bind::<Text, _>(&head.hash)
    .execute(conn)
    .await?;
    Ok(())
}

/// Tenants that are at the same.
#[derive(Debug, Clone, diesel::QueryableByName, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchemaGroup {
    /// Version of the built-in schema.
    #[diesel(sql_type = Integer)]
    pub schema_version: i32,
    /// The newest of the operator's migrations.
    #[diesel(sql_type = Integer)]
    pub operator_version: i32,
    /// Whether they have all migrations of this moment.
    #[diesel(sql_type = Bool)]
    pub at_head: bool,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub tenants: i64,
}

/// How many tenants are at what, the newest first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn groups(conn: &mut MainConn, head: &Head) -> ApiResult<Vec<SchemaGroup>> {
    let text = format!(
        "SELECT schema_version, operator_version, coalesce(migrations_hash = $1, false) AS at_head, \
         count(*) AS tenants FROM tenants WHERE {KEPT} GROUP BY 1, 2, 3 ORDER BY 3 DESC, 1 DESC, 2 DESC"
    );
    Ok(diesel::sql_query(text).bind::<Text, _>(&head.hash).load(conn).await?)
}
