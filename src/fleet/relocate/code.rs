//! What runs when rows are replicated. Since PostgreSQL 16 the target's server applies them as the tables' owner; before, as
//! the superuser who subscribed, so that nothing may run there by which the tenant could have code of its own run.

use super::run::Run;
use crate::control::clusters::Cluster;
use crate::error::ApiResult;
use crate::fleet::{admin, refused};
use crate::router::AdminConn;

const APPLIES_AS_OWNER: &str = "SELECT current_setting('server_version_num')::int >= 160000 AS yes";

/// Whoever reads for the target is no owner: policies would be the tenant's code too.
const ALWAYS: &[(&str, &str)] = &[(
    "SELECT EXISTS (SELECT FROM pg_class WHERE relkind = 'r' AND relrowsecurity) AS yes",
    "a table has row-level security, which hides rows from the replication",
)];
const AS_SUPERUSER: &[(&str, &str)] = &[
    (
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('A', 'R')) AS yes",
        "a trigger is enabled for replication, which PostgreSQL before 16 runs as the superuser",
    ),
    // Told by no expression: it runs where an index is kept over such a column.
    (
        "SELECT EXISTS (SELECT FROM pg_range WHERE rngsubdiff::oid::bigint >= 16384 OR rngcanonical::oid::bigint >= 16384) \
         AS yes",
        "a range type has a function of its own, which PostgreSQL before 16 runs as the superuser",
    ),
    (CODE, "a check, a computed column or an index runs functions, which PostgreSQL before 16 runs as the superuser"),
];

/// Whether any expression that is computed of a row names a function that is more than a computation of PostgreSQL's own:
/// those that are volatile or stable may run statements in words (`query_to_xml`), but for a few that do not. A function of the
/// tenant's is one more expression if PostgreSQL has its body as one, bound to what it names, without a table. Operators
/// are told by their functions.
const CODE: &str = r"
WITH harmless AS (
    SELECT oid FROM pg_proc WHERE oid::bigint < 16384 AND (provolatile = 'i' OR proname IN (
        'now', 'transaction_timestamp', 'statement_timestamp', 'clock_timestamp', 'gen_random_uuid', 'random', 'nextval',
        'array_to_string'))
), bodies AS (
    SELECT p.oid, p.prosqlbody::text AS code FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.oid::bigint >= 16384 AND l.lanname = 'sql' AND p.prosqlbody IS NOT NULL AND NOT p.prosecdef
      AND p.proconfig IS NULL AND p.prosqlbody::text !~ ':rtable \('
), expressions (whose, code) AS (
    SELECT 0::oid, conbin::text FROM pg_constraint WHERE contype = 'c' AND oid::bigint >= 16384
    UNION ALL SELECT 0, adbin::text FROM pg_attrdef
    UNION ALL SELECT 0, concat(indexprs::text, indpred::text) FROM pg_index WHERE indrelid::bigint >= 16384
    UNION ALL SELECT 0, partexprs::text FROM pg_partitioned_table
    UNION ALL SELECT oid, code FROM bodies
), named AS (
    SELECT e.whose, m.found[1] AS what, m.found[2]::oid AS number FROM expressions e,
        regexp_matches(e.code, ':(opno|funcid|opfuncid|hashfuncid|negfuncid|aggfnoid|winfnoid) (\d+)', 'g') AS m (found)
), runs AS (
    SELECT n.whose, CASE n.what WHEN 'opno' THEN o.oprcode::oid ELSE n.number END AS function
    FROM named n LEFT JOIN pg_operator o ON n.what = 'opno' AND o.oid = n.number
    WHERE n.number <> 0
), more AS (
    SELECT whose, function FROM runs WHERE function IS NULL OR function NOT IN (SELECT oid FROM harmless)
)
SELECT EXISTS (
    SELECT FROM more WHERE whose = 0 AND (function IS NULL OR function NOT IN (
        SELECT oid FROM bodies WHERE oid NOT IN (SELECT whose FROM more)))
) AS yes";

/// Why the tenant's rows cannot be applied at this target, if they cannot.
pub(super) async fn obstacle(run: &Run<'_>, target: &Cluster) -> ApiResult<Option<&'static str>> {
    let as_owner = admin::ask(&mut admin::open(&target.admin).await?, APPLIES_AS_OWNER).await?;
    found(&mut admin::open(&run.at_source()).await?, as_owner).await
}

/// Looks again, at the tables as they were made at the target: there nobody comes in any more who could change them.
///
/// # Errors
/// 409 if something is there now by which the tenant's code would run.
pub(super) async fn may_replicate(target: &mut AdminConn) -> ApiResult<()> {
    let as_owner = admin::ask(target, APPLIES_AS_OWNER).await?;
    match found(target, as_owner).await? {
        None => Ok(()),
        Some(obstacle) => Err(refused(format!(
            "The tenant cannot be replicated: {obstacle}. Nothing has changed. Move it with `--method dump`."
        ))),
    }
}

async fn found(inside: &mut AdminConn, as_owner: bool) -> ApiResult<Option<&'static str>> {
    let more: &'static [(&'static str, &'static str)] = if as_owner { &[] } else { AS_SUPERUSER };
    for (question, obstacle) in ALWAYS.iter().chain(more) {
        if admin::ask(inside, question).await? {
            return Ok(Some(obstacle));
        }
    }
    Ok(None)
}
