//! What a run has to do, and has done: many tenants in each statement.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::{Behind, Head, TenantState};
use crate::error::ApiResult;
use crate::kernel::{ClusterId, OperationId, TenantId};
use crate::router::MainConn;

/// Rows of one statement.
const BATCH: usize = 1_000;

/// A tenant in the plan of a run.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The tenant.
    pub tenant: Behind,
    /// When it has its turn; the canary is 0.
    pub wave: i32,
    /// Left alone: its schema is newer than this program.
    pub newer: bool,
}

/// Takes tenants into a run. One that is in it already stays as it is.
///
/// # Errors
/// If the control plane does not answer.
pub async fn plan(conn: &mut MainConn, run: OperationId, planned: &[Planned]) -> ApiResult<()> {
    for batch in planned.chunks(BATCH) {
        let ids: Vec<_> = batch.iter().map(|one| one.tenant.id).collect();
        let slugs: Vec<_> = batch.iter().map(|one| one.tenant.slug.as_str()).collect();
        let waves: Vec<_> = batch.iter().map(|one| one.wave).collect();
        let states = batch.iter().map(|one| if one.newer { TenantState::Skipped } else { TenantState::Pending });
        let states: Vec<_> = states.map(TenantState::as_str).collect();
        let schemas: Vec<_> = batch.iter().map(|one| one.tenant.schema_version).collect();
        let operators: Vec<_> = batch.iter().map(|one| one.tenant.operator_version).collect();
        diesel::sql_query(
            "INSERT INTO migration_tenants (run_id, tenant_id, slug, wave, state, from_schema, from_operator) \
             SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::int[], $5::text[], $6::int[], $7::int[]) \
             ON CONFLICT DO NOTHING",
        )
        .bind::<SqlUuid, _>(run)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Text>, _>(slugs)
        .bind::<Array<Integer>, _>(waves)
        .bind::<Array<Text>, _>(states)
        .bind::<Array<Integer>, _>(schemas)
        .bind::<Array<Integer>, _>(operators)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Runs whose tenants are remembered.
const KEPT: i64 = 10;

/// Forgets the tenants of runs that are long over; the runs themselves stay in the journal of operations.
///
/// # Errors
/// If the control plane does not answer.
pub async fn forget(conn: &mut MainConn) -> ApiResult<()> {
    for table in ["migration_tenants", "migration_health"] {
        let text = format!(
            "DELETE FROM {table} WHERE run_id IN (SELECT id FROM operations WHERE kind = 'migrate' \
             AND state NOT IN ('queued', 'running') ORDER BY id DESC OFFSET $1)"
        );
        diesel::sql_query(text).bind::<BigInt, _>(KEPT).execute(conn).await?;
    }
    Ok(())
}

#[derive(diesel::QueryableByName)]
struct Known {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: TenantId,
}

/// The tenants that are in a run, finished or not.
///
/// # Errors
/// If the control plane does not answer.
pub async fn known(conn: &mut MainConn, run: OperationId) -> ApiResult<HashSet<TenantId>> {
    let query = diesel::sql_query("SELECT tenant_id FROM migration_tenants WHERE run_id = $1");
    let rows: Vec<Known> = query.bind::<SqlUuid, _>(run).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.tenant_id).collect())
}

/// A tenant that a run has not finished.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct RunTenant {
    /// Identity.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: TenantId,
    /// Public name.
    #[diesel(sql_type = Text)]
    pub slug: String,
    /// When it has its turn.
    #[diesel(sql_type = Integer)]
    pub wave: i32,
    /// How often it was tried.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// The cluster; none for a dedicated database.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub cluster_id: Option<ClusterId>,
}

/// What a run has not finished, wave by wave. A tenant that is gone is not in it any more.
///
/// # Errors
/// If the control plane does not answer.
pub async fn unfinished(conn: &mut MainConn, run: OperationId) -> ApiResult<Vec<RunTenant>> {
    let query = diesel::sql_query(
        "SELECT m.tenant_id, m.slug, m.wave, m.attempts, t.cluster_id FROM migration_tenants m \
         JOIN tenants t ON t.id = m.tenant_id \
         WHERE m.run_id = $1 AND m.state IN ('pending', 'running') ORDER BY m.wave, m.slug",
    );
    Ok(query.bind::<SqlUuid, _>(run).load(conn).await?)
}

/// What became of those that go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, diesel::QueryableByName)]
pub struct Canary {
    /// Those that are at the head.
    #[diesel(sql_type = BigInt)]
    pub done: i64,
    /// Those that could not be brought there.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    /// Whether nobody else was begun with.
    #[diesel(sql_type = Bool)]
    pub alone: bool,
}

/// Lets tenants that had no turn yet go first, with the canary.
///
/// # Errors
/// If the control plane does not answer.
pub async fn join_canary(conn: &mut MainConn, run: OperationId, tenants: &[TenantId]) -> ApiResult<()> {
    let query = diesel::sql_query("UPDATE migration_tenants SET wave = 0 WHERE run_id = $1 AND tenant_id = ANY($2)");
    query.bind::<SqlUuid, _>(run).bind::<Array<SqlUuid>, _>(tenants).execute(conn).await?;
    Ok(())
}

/// What became of a run's canary.
///
/// # Errors
/// If the control plane does not answer.
pub async fn canary(conn: &mut MainConn, run: OperationId) -> ApiResult<Canary> {
    let query = diesel::sql_query(
        "SELECT count(*) FILTER (WHERE wave = 0 AND state = 'done') AS done, \
         count(*) FILTER (WHERE wave = 0 AND state = 'failed') AS failed, \
         NOT coalesce(bool_or(wave > 0 AND state IN ('running', 'done', 'failed')), false) AS alone \
         FROM migration_tenants WHERE run_id = $1",
    );
    Ok(query.bind::<SqlUuid, _>(run).get_result(conn).await?)
}

/// What the registry knows of a tenant's migrations.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct KnownAt {
    /// The tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: TenantId,
    /// Version of its built-in schema.
    #[diesel(sql_type = Integer)]
    pub schema_version: i32,
    /// The newest of the operator's migrations that it has.
    #[diesel(sql_type = Integer)]
    pub operator_version: i32,
    /// A digest of the migrations that it is known to have.
    #[diesel(sql_type = Nullable<Text>)]
    pub migrations_hash: Option<String>,
}

/// Notes that these are begun, and says what they are at: a tenant that is gone is not among them. Whoever asks has their
/// locks: nobody else changes them.
///
/// # Errors
/// If the control plane does not answer.
pub async fn start(conn: &mut MainConn, run: OperationId, tenants: &[TenantId]) -> ApiResult<Vec<KnownAt>> {
    let kept = super::state::KEPT;
    let text = format!(
        "UPDATE migration_tenants m SET state = 'running', next_try_at = NULL FROM tenants t \
         WHERE m.run_id = $1 AND m.tenant_id = ANY($2) AND t.id = m.tenant_id AND t.{kept} \
         RETURNING t.id AS tenant_id, t.schema_version, t.operator_version, t.migrations_hash"
    );
    let query = diesel::sql_query(text);
    Ok(query.bind::<SqlUuid, _>(run).bind::<Array<SqlUuid>, _>(tenants).load(conn).await?)
}

/// Notes that a tenant was put aside, how often it was tried, why, and when it is tried again.
///
/// # Errors
/// If the control plane does not answer.
pub async fn postpone(
    conn: &mut MainConn,
    run: OperationId,
    tenant: TenantId,
    attempts: i32,
    error: &str,
    pause_ms: i64,
) -> ApiResult<()> {
    diesel::sql_query(
        "UPDATE migration_tenants SET state = 'running', attempts = $3, error = $4, \
         next_try_at = now() + $5 * interval '1 millisecond' WHERE run_id = $1 AND tenant_id = $2",
    )
    .bind::<SqlUuid, _>(run)
    .bind::<SqlUuid, _>(tenant)
    .bind::<Integer, _>(attempts)
    .bind::<Text, _>(error)
    .bind::<BigInt, _>(pause_ms)
    .execute(conn)
    .await?;
    Ok(())
}

/// What became of a tenant.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The tenant.
    pub tenant: TenantId,
    /// Whether it is at the head now.
    pub at_head: bool,
    /// Whether there is no such tenant any more.
    pub gone: bool,
    /// What it is at: the built-in schema, and the operator's; `None` if nobody could look.
    pub to: Option<(i32, i32)>,
    /// How many migrations were applied.
    pub applied: i32,
    /// Whether connections that were opened before have to be retired.
    pub retire: bool,
    /// How often it was tried.
    pub attempts: i32,
    /// The file that could not be applied.
    pub migration: Option<String>,
    /// Why, with its cause.
    pub error: Option<String>,
    /// How long the last try took, in milliseconds.
    pub ms: i64,
}

/// Notes what became of tenants, in the run and in the registry, whose connections are retired where that is due.
///
/// # Errors
/// If the control plane does not answer.
pub async fn finish(conn: &mut MainConn, run: OperationId, head: &Head, finished: &[Finished]) -> ApiResult<()> {
    let ids: Vec<_> = finished.iter().map(|one| one.tenant).collect();
    let states = finished.iter().map(|one| match (one.gone, one.at_head) {
        (true, _) => TenantState::Skipped,
        (false, true) => TenantState::Done,
        (false, false) => TenantState::Failed,
    });
    let states: Vec<_> = states.map(TenantState::as_str).collect();
    let schemas: Vec<_> = finished.iter().map(|one| one.to.map(|to| to.0)).collect();
    let operators: Vec<_> = finished.iter().map(|one| one.to.map(|to| to.1)).collect();
    // Whoever changes one of these rows waits for the registry's head next, which our own changes take: so first the
    // rows, then the head.
    diesel::sql_query("SELECT FROM tenants WHERE id = ANY($1) ORDER BY id FOR UPDATE")
        .bind::<Array<SqlUuid>, _>(&ids)
        .execute(conn)
        .await?;
    diesel::sql_query(
        "UPDATE migration_tenants m SET state = f.state, to_schema = f.to_schema, to_operator = f.to_operator, \
         applied = m.applied + f.applied, attempts = f.attempts, migration = f.migration, error = f.error, ms = f.ms, \
         next_try_at = NULL, finished_at = now() \
         FROM unnest($2::uuid[], $3::text[], $4::int[], $5::int[], $6::int[], $7::int[], $8::text[], $9::text[], \
         $10::bigint[]) AS f(id, state, to_schema, to_operator, applied, attempts, migration, error, ms) \
         WHERE m.run_id = $1 AND m.tenant_id = f.id",
    )
    .bind::<SqlUuid, _>(run)
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<Text>, _>(states)
    .bind::<Array<Nullable<Integer>>, _>(&schemas)
    .bind::<Array<Nullable<Integer>>, _>(&operators)
    .bind::<Array<Integer>, _>(finished.iter().map(|one| one.applied).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(finished.iter().map(|one| one.attempts).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(finished.iter().map(|one| one.migration.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(finished.iter().map(|one| one.error.as_deref()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(finished.iter().map(|one| one.ms).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    diesel::sql_query(
        "UPDATE tenants t SET schema_version = f.to_schema, operator_version = f.to_operator, \
         migrations_hash = CASE WHEN f.at_head THEN $2 END, epoch = t.epoch + CASE WHEN f.retire \
         OR t.schema_version <> f.to_schema OR t.operator_version <> f.to_operator THEN 1 ELSE 0 END \
         FROM unnest($1::uuid[], $3::int[], $4::int[], $5::bool[], $6::bool[]) \
         AS f(id, to_schema, to_operator, at_head, retire) \
         WHERE t.id = f.id AND f.to_schema IS NOT NULL",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Text, _>(&head.hash)
    .bind::<Array<Nullable<Integer>>, _>(&schemas)
    .bind::<Array<Nullable<Integer>>, _>(&operators)
    .bind::<Array<Bool>, _>(finished.iter().map(|one| one.at_head).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(finished.iter().map(|one| one.retire).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, diesel::QueryableByName)]
pub struct RunTotals {
    /// Tenants that it brought to the head.
    #[diesel(sql_type = BigInt)]
    pub migrated: i64,
    /// Tenants that turned out to be there, or are left alone.
    #[diesel(sql_type = BigInt)]
    pub skipped: i64,
    /// Tenants that could not be brought there.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    /// Tenants that had no turn yet, or are under way.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
}

/// How far a run has come. A tenant that is gone is not waited for: see [`unfinished`].
///
/// # Errors
/// If the control plane does not answer.
pub async fn totals(conn: &mut MainConn, run: OperationId) -> ApiResult<RunTotals> {
    let query = diesel::sql_query(
        "SELECT count(*) FILTER (WHERE state = 'done' AND applied > 0) AS migrated, \
         count(*) FILTER (WHERE state = 'skipped' OR (state = 'done' AND applied = 0)) AS skipped, \
         count(*) FILTER (WHERE state = 'failed') AS failed, \
         count(*) FILTER (WHERE state IN ('pending', 'running') \
         AND EXISTS (SELECT FROM tenants t WHERE t.id = m.tenant_id)) AS pending \
         FROM migration_tenants m WHERE run_id = $1",
    );
    Ok(query.bind::<SqlUuid, _>(run).get_result(conn).await?)
}

/// A tenant that a run could not bring to the head, or has put aside.
#[derive(Debug, Clone, diesel::QueryableByName, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedTenant {
    /// Public name.
    #[diesel(sql_type = Text)]
    pub slug: String,
    /// Why, with its cause.
    #[diesel(sql_type = Text)]
    pub error: String,
    /// The file that could not be applied.
    #[diesel(sql_type = Nullable<Text>)]
    pub migration: Option<String>,
    /// How often it was tried.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// When it is tried again by itself; null: by the next `fleet migrate`.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_retry_at: Option<DateTime<Utc>>,
}

/// The tenants that a run could not bring to the head, or has put aside, by slug. One that was mended since is not
/// among them.
///
/// # Errors
/// If the control plane does not answer.
pub async fn failed(conn: &mut MainConn, run: OperationId, head: &Head) -> ApiResult<Vec<FailedTenant>> {
    let query = diesel::sql_query(
        "SELECT m.slug, coalesce(m.error, '') AS error, m.migration, m.attempts, m.next_try_at AS next_retry_at \
         FROM migration_tenants m JOIN tenants t ON t.id = m.tenant_id \
         WHERE m.run_id = $1 AND (m.state = 'failed' OR (m.state = 'running' AND m.next_try_at IS NOT NULL)) \
         AND t.migrations_hash IS DISTINCT FROM $2 ORDER BY m.slug",
    );
    Ok(query.bind::<SqlUuid, _>(run).bind::<Text, _>(&head.hash).load(conn).await?)
}
