//! The rows in the control plane. Each function is one short transaction; the clock is the control plane's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::rules::{self, Row};
use super::{NodeId, Pulse, SliceClaim, SliceGrant};
use crate::kernel::ClusterId;
use crate::router::conn::MainConn;
use crate::router::error::{Error, Result};

/// The channel that says that somebody lacks connections, or gave some back.
pub(in crate::router) const CHANNEL: &str = "tenantry_budget";
/// First half of the advisory lock's key; the second is the cluster's.
const LOCK: i32 = 0x0062_7564;

const ROWS: &str = "\
SELECT s.node_id, s.slice, s.wanted, s.seq, n.expires_at > now() AS live \
FROM budget_slices s JOIN budget_nodes n ON n.id = s.node_id WHERE s.cluster_id = $1";

const PUT: &str = "\
INSERT INTO budget_slices (cluster_id, node_id, slice, wanted, in_use, budget, seq) VALUES ($1, $2, $3, $4, $5, $6, $7) \
ON CONFLICT (cluster_id, node_id) DO UPDATE SET slice = excluded.slice, wanted = excluded.wanted, \
    in_use = excluded.in_use, budget = excluded.budget, seq = excluded.seq, unseen_since = NULL";

// Something is free, somebody has next to nothing or wants more, or the budget is another one now.
const SEEN_TO: &str = "\
SELECT mine.cluster_id, coalesce(bool_or(n.expires_at <= now()), false) AS orphaned, \
       coalesce(c.connection_budget, mine.budget) <> mine.budget \
       OR mine.slice + coalesce(sum(o.slice), 0) < mine.budget \
       OR coalesce(bool_or(o.wanted > o.slice OR o.slice < mine.slice / 2), false) AS due \
FROM budget_slices mine \
LEFT JOIN clusters c ON c.id = mine.cluster_id \
LEFT JOIN (budget_slices o JOIN budget_nodes n ON n.id = o.node_id) \
       ON o.cluster_id = mine.cluster_id AND o.node_id <> mine.node_id \
WHERE mine.node_id = $1 GROUP BY mine.cluster_id, mine.node_id, c.connection_budget";

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = SqlUuid)]
    node_id: Uuid,
    #[diesel(sql_type = Integer)]
    slice: i32,
    #[diesel(sql_type = Integer)]
    wanted: i32,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Bool)]
    live: bool,
}

#[derive(diesel::QueryableByName)]
struct Budget {
    #[diesel(sql_type = Nullable<Integer>)]
    connection_budget: Option<i32>,
}

#[derive(diesel::QueryableByName)]
struct Lapsed {
    #[diesel(sql_type = Bool)]
    lapsed: bool,
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(diesel::QueryableByName)]
struct SeenTo {
    #[diesel(sql_type = SqlUuid)]
    cluster_id: ClusterId,
    #[diesel(sql_type = Bool)]
    orphaned: bool,
    #[diesel(sql_type = Bool)]
    due: bool,
}

#[derive(diesel::QueryableByName)]
struct Orphan {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(diesel::QueryableByName)]
struct Node {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// A number as the columns have it; nothing here comes near the bound.
fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn uint(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// One claim of a cluster at a time.
async fn lock(conn: &mut MainConn, cluster: ClusterId) -> Result<()> {
    // Two clusters with one key only wait for each other.
    let [a, b, c, d, ..] = *cluster.uuid().as_bytes().last_chunk::<8>().expect("a UUID has 16 bytes");
    let lock = diesel::sql_query("SELECT pg_advisory_xact_lock($1, $2)").bind::<Integer, _>(LOCK);
    lock.bind::<Integer, _>(i32::from_be_bytes([a, b, c, d])).execute(conn).await?;
    Ok(())
}

/// The node lives, for another `ttl`; the one `before` it is known to have ended.
pub(in crate::router) async fn renew(
    conn: &mut MainConn,
    node: NodeId,
    ttl: Duration,
    before: Option<NodeId>,
) -> Result<Pulse> {
    if let Some(before) = before {
        ended(conn, before, ttl / 5).await?;
    }
    let lapsed =
        diesel::sql_query("SELECT expires_at <= now() AS lapsed FROM budget_nodes WHERE id = $1 FOR NO KEY UPDATE");
    let lapsed: Vec<Lapsed> = lapsed.bind::<SqlUuid, _>(node.uuid()).load(conn).await?;
    let put = "INSERT INTO budget_nodes (id, expires_at) VALUES ($1, now() + $2 * interval '1 millisecond') \
               ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";
    diesel::sql_query(put).bind::<SqlUuid, _>(node.uuid()).bind::<BigInt, _>(millis(ttl)).execute(conn).await?;
    let lapsed = lapsed.as_slice().first().is_none_or(|row| row.lapsed);
    if lapsed {
        // A look that saw nothing of it counts only while nothing is heard of it either.
        let heard = diesel::sql_query("UPDATE budget_slices SET unseen_since = NULL WHERE node_id = $1");
        heard.bind::<SqlUuid, _>(node.uuid()).execute(conn).await?;
    }
    let others = diesel::sql_query("SELECT count(*) FROM budget_nodes WHERE id <> $1 AND expires_at > now()");
    let others: Count = others.bind::<SqlUuid, _>(node.uuid()).get_result(conn).await?;
    let seen_to: Vec<SeenTo> = diesel::sql_query(SEEN_TO).bind::<SqlUuid, _>(node.uuid()).load(conn).await?;
    Ok(Pulse {
        lapsed,
        others: u32::try_from(others.count).unwrap_or(u32::MAX),
        due: seen_to.iter().filter(|row| row.due).map(|row| row.cluster_id).collect(),
        orphaned: seen_to.iter().filter(|row| row.orphaned).map(|row| row.cluster_id).collect(),
    })
}

/// Brings the node's row down to what the node may have out, then takes its next step.
pub(in crate::router) async fn claim(conn: &mut MainConn, claim: &SliceClaim) -> Result<SliceGrant> {
    lock(conn, claim.cluster).await?;
    let join = "INSERT INTO budget_nodes (id, expires_at) VALUES ($1, now() + $2 * interval '1 millisecond') \
                ON CONFLICT (id) DO NOTHING";
    let ttl = millis(claim.ttl);
    diesel::sql_query(join).bind::<SqlUuid, _>(claim.node.uuid()).bind::<BigInt, _>(ttl).execute(conn).await?;
    let budget = diesel::sql_query("SELECT connection_budget FROM clusters WHERE id = $1");
    let budget: Vec<Budget> = budget.bind::<SqlUuid, _>(claim.cluster).load(conn).await?;
    let budget =
        budget.as_slice().first().and_then(|row| row.connection_budget).map_or(claim.default_budget, uint).max(1);
    let mut found: Vec<Found> = diesel::sql_query(ROWS).bind::<SqlUuid, _>(claim.cluster).load(conn).await?;

    let known = found.iter().find(|row| row.node_id == claim.node.uuid()).map(|row| (row.slice, row.wanted, row.seq));
    if known.is_some_and(|(_, _, seq)| seq >= claim.seq) {
        return Err(Error::control_plane("a later claim of this node was here first"));
    }
    // A row that was taken back, or never was, starts from what is open: the ledger tells the truth first.
    let before = known.map_or(claim.in_use, |(slice, ..)| uint(slice));
    let mine = Found {
        node_id: claim.node.uuid(),
        slice: int(before.min(claim.held)),
        wanted: int(claim.wanted),
        seq: claim.seq,
        live: true,
    };
    found.retain(|row| row.node_id != mine.node_id);
    found.push(mine);
    found.sort_by_key(|row| row.node_id);
    let me = found.iter().position(|row| row.node_id == claim.node.uuid()).unwrap_or_default();
    let rows: Vec<Row> =
        found.iter().map(|row| Row { slice: uint(row.slice), wanted: uint(row.wanted), live: row.live }).collect();
    let step = rules::step(budget, &rows, me);
    diesel::sql_query(PUT)
        .bind::<SqlUuid, _>(claim.cluster)
        .bind::<SqlUuid, _>(claim.node.uuid())
        .bind::<Integer, _>(int(step.slice))
        .bind::<Integer, _>(int(claim.wanted))
        .bind::<Integer, _>(int(claim.in_use))
        .bind::<Integer, _>(int(budget))
        .bind::<BigInt, _>(claim.seq)
        .execute(conn)
        .await?;

    let others = rows.len() - 1;
    let target = rules::targets(budget, &rows)[me];
    let lacks_more = rules::lacks(&Row { slice: step.slice, ..rows[me] }, target)
        && known.is_none_or(|(_, wanted, _)| claim.wanted > uint(wanted));
    if others > 0 && (step.slice < before || lacks_more) {
        announce(conn, claim.cluster).await?;
    }
    Ok(SliceGrant {
        slice: step.slice,
        yield_to: step.yield_to,
        budget,
        others: u32::try_from(others).unwrap_or(u32::MAX),
    })
}

async fn announce(conn: &mut MainConn, cluster: ClusterId) -> Result<()> {
    let notify = diesel::sql_query("SELECT pg_notify($1, $2)").bind::<Text, _>(CHANNEL);
    notify.bind::<Text, _>(cluster.to_string()).execute(conn).await?;
    Ok(())
}

/// The nodes that hold a slice of the cluster and whose lease has run out, and what time it is.
pub(in crate::router) async fn orphans(
    conn: &mut MainConn,
    cluster: ClusterId,
) -> Result<(Vec<NodeId>, DateTime<Utc>)> {
    let orphans = diesel::sql_query(
        "SELECT n.id, now() AS now FROM budget_nodes n JOIN budget_slices s ON s.node_id = n.id \
         WHERE s.cluster_id = $1 AND n.expires_at <= now()",
    );
    let orphans: Vec<Orphan> = orphans.bind::<SqlUuid, _>(cluster).load(conn).await?;
    let now = orphans.as_slice().first().map(|row| row.now).unwrap_or_default();
    Ok((orphans.into_iter().map(|row| row.id.into()).collect(), now))
}

/// Takes in what a look at the cluster showed, which began at `looked`: the slice of a node whose lease has run out is
/// taken back when an earlier look, `gap` before, saw no connection of it either. Gives how many were.
pub(in crate::router) async fn reclaim(
    conn: &mut MainConn,
    cluster: ClusterId,
    (seen, unseen): (&[NodeId], &[NodeId]),
    looked: DateTime<Utc>,
    gap: Duration,
) -> Result<usize> {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.uuid()).collect::<Vec<_>>();
    lock(conn, cluster).await?;
    // None of these renews its lease meanwhile.
    let still = diesel::sql_query(
        "SELECT id FROM budget_nodes WHERE id = ANY ($1) AND expires_at <= now() ORDER BY id FOR UPDATE",
    );
    let still: Vec<Node> = still.bind::<Array<SqlUuid>, _>(ids(unseen)).load(conn).await?;
    let still: Vec<Uuid> = still.into_iter().map(|row| row.id).collect();
    let visible = "UPDATE budget_slices SET unseen_since = NULL WHERE cluster_id = $1 AND node_id = ANY ($2)";
    let visible = diesel::sql_query(visible).bind::<SqlUuid, _>(cluster).bind::<Array<SqlUuid>, _>(ids(seen));
    visible.execute(conn).await?;
    let gone = "DELETE FROM budget_slices WHERE cluster_id = $1 AND node_id = ANY ($2) \
                AND unseen_since <= $3 - $4 * interval '1 millisecond'";
    let gone = diesel::sql_query(gone).bind::<SqlUuid, _>(cluster).bind::<Array<SqlUuid>, _>(&still);
    let gone = gone.bind::<Timestamptz, _>(looked).bind::<BigInt, _>(millis(gap)).execute(conn).await?;
    let first = "UPDATE budget_slices SET unseen_since = now() \
                 WHERE cluster_id = $1 AND node_id = ANY ($2) AND unseen_since IS NULL";
    let first = diesel::sql_query(first).bind::<SqlUuid, _>(cluster).bind::<Array<SqlUuid>, _>(&still);
    first.execute(conn).await?;
    if gone > 0 {
        let empty = "DELETE FROM budget_nodes n WHERE n.id = ANY ($1) \
                     AND NOT EXISTS (SELECT FROM budget_slices s WHERE s.node_id = n.id)";
        diesel::sql_query(empty).bind::<Array<SqlUuid>, _>(&still).execute(conn).await?;
        announce(conn, cluster).await?;
    }
    Ok(gone)
}

/// Of a node that has ended, one look that begins from now on and sees nothing of it is enough to take a slice back: as if
/// one had been, `gap` ago.
async fn ended(conn: &mut MainConn, node: NodeId, gap: Duration) -> Result<()> {
    let lease = "UPDATE budget_nodes SET expires_at = now() WHERE id = $1 AND expires_at > now()";
    diesel::sql_query(lease).bind::<SqlUuid, _>(node.uuid()).execute(conn).await?;
    let looked = "UPDATE budget_slices SET unseen_since = now() - $2 * interval '1 millisecond' WHERE node_id = $1";
    let looked = diesel::sql_query(looked).bind::<SqlUuid, _>(node.uuid());
    looked.bind::<BigInt, _>(millis(gap)).execute(conn).await?;
    Ok(())
}

/// The node is gone, and so are its connections.
pub(in crate::router) async fn release(conn: &mut MainConn, node: NodeId) -> Result<()> {
    let left = diesel::sql_query(
        "WITH gone AS (DELETE FROM budget_nodes WHERE id = $1 RETURNING id) \
         SELECT pg_notify($2, id::text) FROM gone",
    );
    left.bind::<SqlUuid, _>(node.uuid()).bind::<Text, _>(CHANNEL).execute(conn).await?;
    Ok(())
}
