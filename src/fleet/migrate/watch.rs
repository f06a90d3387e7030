//! What the nodes see while a run is on, and whether it is reason to stop: tenants that have the run's migrations against
//! the rest, at the same time and under the same load.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::control::ControlPlane;
use crate::control::migration_runs::{self, Head, Seen};
use crate::error::{ApiError, ApiResult};
use crate::kernel::OperationId;
use crate::router::MainConn;
use crate::router::rollout::upper_bound;

/// The nodes forget a run whose runner has not been heard of for so many seconds.
const LEASE_SECONDS: i32 = 20;
const RENEW: Duration = Duration::from_secs(5);
/// How long a node has to say what it sees. One of an earlier release never does.
const NODES_PATIENCE: Duration = Duration::from_secs(4);
/// Where nodes have answered nobody for so long, there is no traffic: a moment without an answer may be a slow one.
const QUIET: Duration = Duration::from_secs(1);
/// So many requests of the canary are enough to go on.
const ENOUGH: i64 = 200;
/// Looks in a row that have to find the migrated slow: the first requests after a migration open connections.
const IN_A_ROW: u32 = 2;
/// Looks that make up the recent past: what is wrong with the latest wave must not drown in all before it.
const RECENT: usize = 20;

/// One side of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Side {
    requests: i64,
    errors: i64,
    buckets: Vec<i64>,
}

impl Side {
    fn add(&mut self, seen: &Seen) {
        self.requests += seen.requests;
        self.errors += seen.errors;
        self.buckets.resize(self.buckets.len().max(seen.buckets.len()), 0);
        self.buckets.iter_mut().zip(&seen.buckets).for_each(|(sum, bucket)| *sum += bucket);
    }

    fn since(&self, before: &Self) -> Self {
        let old = before.buckets.iter().copied().chain(std::iter::repeat(0));
        Self {
            requests: self.requests - before.requests,
            errors: self.errors - before.errors,
            buckets: self.buckets.iter().zip(old).map(|(now, old)| now - old).collect(),
        }
    }

    fn error_rate(&self) -> f64 {
        self.errors as f64 / self.requests.max(1) as f64
    }

    /// In milliseconds, the upper bound of the bucket that it is in.
    fn p95(&self) -> f64 {
        let wanted = self.buckets.iter().sum::<i64>() as f64 * 0.95;
        let mut so_far = 0;
        let at = self.buckets.iter().position(|bucket| {
            so_far += bucket;
            so_far as f64 >= wanted
        });
        upper_bound(at.unwrap_or_default()).as_secs_f64() * 1000.0
    }
}

/// Both sides: migrated, and the rest.
type Sides = (Side, Side);

/// See the module.
pub(super) struct Watch {
    control: ControlPlane,
    run: OperationId,
    head: Head,
    renewed: Instant,
    looks: Looks,
    canary_out: Instant,
}

/// What the looks so far came to.
#[derive(Debug, Default)]
struct Looks {
    recent: VecDeque<Sides>,
    /// What the nodes had said of the migrated at the last look that counted: of each, how much and when.
    said: Vec<(i64, i64)>,
    /// How many looks in a row have found the migrated slow.
    slow: u32,
    /// How many looks have had enough of the migrated to judge by.
    judged: u32,
}

impl Looks {
    /// Why the run has to stop, if it has. A look that finds what the one before has found counts for none: the nodes say
    /// what they see more seldom than they are asked.
    fn judge(&mut self, sides: &Sides, said: Vec<(i64, i64)>) -> Option<String> {
        let recently = self.recent.front().map(|before| (sides.0.since(&before.0), sides.1.since(&before.1)));
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(sides.clone());
        let views = [Some(sides), recently.as_ref()];
        if let Some(why) = views.into_iter().flatten().find_map(|(migrated, rest)| more_errors(migrated, rest)) {
            return Some(why);
        }
        if said == self.said {
            return None;
        }
        self.said = said;
        let why = views.into_iter().flatten().find_map(|(migrated, rest)| slower(migrated, rest));
        self.slow = if why.is_some() { self.slow + 1 } else { 0 };
        self.judged += u32::from(sides.0.requests >= ENOUGH);
        why.filter(|_| self.slow >= IN_A_ROW)
    }
}

/// How much each node has said of the migrated, and when.
fn said(rows: &[Seen]) -> Vec<(i64, i64)> {
    let mut said: Vec<_> = rows.iter().filter(|row| row.migrated).map(|row| (row.requests, row.at_us)).collect();
    said.sort_unstable();
    said
}

impl Watch {
    pub(super) fn new(control: ControlPlane, run: OperationId, head: Head) -> Self {
        let now = Instant::now();
        Self { control, run, head, renewed: now, looks: Looks::default(), canary_out: now }
    }

    /// The nodes begin to count.
    pub(super) async fn begin(&mut self) -> ApiResult<()> {
        self.renewed = Instant::now();
        let (run, head) = (self.run, self.head.clone());
        let db = &self.control.db;
        db.read(async move |conn: &mut MainConn| migration_runs::watch(conn, run, &head, LEASE_SECONDS).await).await
    }

    /// They need not count any more; they forget it by themselves, should they not hear of this.
    pub(super) async fn end(&self) {
        let run = self.run;
        let ended =
            self.control.db.read(async move |conn: &mut MainConn| migration_runs::end_watch(conn, run).await).await;
        if let Err(error) = ended {
            tracing::warn!(%error, "the nodes watch a run that is over for some seconds more");
        }
    }

    async fn seen(&self) -> ApiResult<(Sides, Vec<Seen>, i64)> {
        let run = self.run;
        let (rows, nodes) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let rows = migration_runs::seen(conn, run).await?;
                Ok::<_, ApiError>((rows, migration_runs::nodes(conn).await?))
            })
            .await?;
        let mut sides = Sides::default();
        for row in &rows {
            if row.migrated { sides.0.add(row) } else { sides.1.add(row) }
        }
        Ok((sides, rows, nodes))
    }

    /// Why the run has to stop, if it has.
    pub(super) async fn look(&mut self) -> Option<String> {
        let looked = async {
            if self.renewed.elapsed() >= RENEW {
                self.begin().await?;
            }
            self.seen().await
        };
        let looked = looked.await;
        match looked {
            Ok((sides, rows, _)) => self.looks.judge(&sides, said(&rows)),
            Err(error) => {
                tracing::warn!(%error, "what the nodes see could not be read");
                None
            }
        }
    }

    /// From here on the canary is looked at.
    pub(super) fn canary_is_out(&mut self) {
        self.canary_out = Instant::now();
    }

    /// Whether enough was seen of the canary: there is no traffic, or enough of it, or it was waited for long enough.
    pub(super) async fn has_seen_enough(&self, since: Instant, longest: Duration) -> bool {
        let waited = since.elapsed();
        if waited >= longest {
            return true;
        }
        let ((migrated, rest), rows, nodes) = match self.seen().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(%error, "what the nodes see of the canary could not be read");
                return false;
            }
        };
        let out_for = i64::try_from(self.canary_out.elapsed().as_millis()).unwrap_or(i64::MAX);
        // Each node has a row of either kind.
        let heard = rows.iter().filter(|row| row.migrated && row.age_ms < out_for).count();
        if i64::try_from(heard).unwrap_or(i64::MAX) < nodes {
            return waited >= NODES_PATIENCE;
        }
        let is_quiet = migrated.requests + rest.requests == 0 && (nodes == 0 || waited >= QUIET);
        // What was seen has been looked at, too.
        self.looks.judged >= IN_A_ROW || is_quiet
    }
}

/// More errors than chance explains, and more than a few: a test of two proportions.
fn more_errors(migrated: &Side, rest: &Side) -> Option<String> {
    const FEWEST: (i64, i64) = (20, 5);
    const LEAST_RISE: f64 = 0.02;
    /// By chance once in 30,000 looks.
    const SIGNIFICANT: f64 = 4.0;
    /// What is too much where there is nothing to compare with.
    const TOO_MUCH: f64 = 0.2;
    if migrated.requests < FEWEST.0 || migrated.errors < FEWEST.1 {
        return None;
    }
    let (now, else_where) = (migrated.error_rate(), rest.error_rate());
    let alarming = if rest.requests < FEWEST.0 {
        now >= TOO_MUCH
    } else {
        let (n, m) = (migrated.requests as f64, rest.requests as f64);
        let both = (migrated.errors + rest.errors) as f64 / (n + m);
        let spread = (both * (1.0 - both) * (1.0 / n + 1.0 / m)).sqrt();
        now - else_where >= LEAST_RISE && now - else_where >= SIGNIFICANT * spread
    };
    alarming.then(|| {
        format!(
            "of the requests of migrated tenants {:.1} % failed ({} of {}), of the others' {:.1} % ({} of {})",
            now * 100.0,
            migrated.errors,
            migrated.requests,
            else_where * 100.0,
            rest.errors,
            rest.requests
        )
    })
}

/// The slowest twentieth is far slower.
fn slower(migrated: &Side, rest: &Side) -> Option<String> {
    const FEWEST: i64 = 200;
    const LEAST_RISE_MS: f64 = 50.0;
    if migrated.requests < FEWEST || rest.requests < FEWEST {
        return None;
    }
    let (now, else_where) = (migrated.p95(), rest.p95());
    (now > 2.0 * else_where + LEAST_RISE_MS)
        .then(|| format!("p95 of migrated tenants is {now:.0} ms, of the others {else_where:.0} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(requests: i64, errors: i64) -> Side {
        Side { requests, errors, buckets: Vec::new() }
    }

    #[test]
    fn errors_beyond_chance_stop_a_run() {
        assert!(more_errors(&side(100, 50), &side(1000, 1)).is_some_and(|why| why.contains("50.0 %")));
        assert!(more_errors(&side(100, 50), &side(1000, 500)).is_none(), "everybody's");
        assert!(more_errors(&side(10, 10), &side(1000, 0)).is_none(), "too few");
        assert!(more_errors(&side(1000, 4), &side(1000, 0)).is_none(), "too few errors");
        assert!(more_errors(&side(100_000, 300), &side(100_000, 0)).is_none(), "too small a rise");
        assert!(more_errors(&side(40, 20), &side(0, 0)).is_some(), "nothing to compare with");
    }

    #[test]
    fn the_slowest_twentieth_stops_a_run() {
        let at = |bucket: usize, requests: i64| {
            let mut buckets = vec![0; bucket + 1];
            buckets[bucket] = requests;
            Side { requests, errors: 0, buckets }
        };
        assert!(slower(&at(20, 300), &at(4, 300)).is_some());
        assert!(slower(&at(5, 300), &at(4, 300)).is_none() && slower(&at(20, 100), &at(4, 300)).is_none());
        let later = at(20, 300).since(&at(4, 100));
        assert_eq!((later.requests, later.buckets[4], later.buckets[20]), (200, -100, 300));
    }

    #[test]
    fn the_same_word_of_a_node_is_judged_once() {
        let at = |bucket: usize, requests: i64| {
            let mut buckets = vec![0; bucket + 1];
            buckets[bucket] = requests;
            Side { requests, errors: 0, buckets }
        };
        let slow = |requests: i64| (at(20, requests), at(4, 300));
        let mut looks = Looks::default();
        for _ in 0..4 {
            assert!(looks.judge(&slow(300), vec![(300, 1)]).is_none(), "one report");
        }
        assert_eq!((looks.slow, looks.judged), (1, 1));
        assert!(looks.judge(&slow(400), vec![(400, 2)]).is_some_and(|why| why.starts_with("p95")), "and another");
        assert_eq!(looks.judged, 2);
        assert!(looks.judge(&(side(400, 200), side(300, 0)), vec![(400, 2)]).is_some(), "errors wait for nothing");
    }
}
