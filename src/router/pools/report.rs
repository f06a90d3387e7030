//! The pools of a node, to look at: every server, and the tenants that stand out.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use super::PoolSnapshot;
use super::cluster::ClusterPools;
use super::scheduler::{ClusterCounts, PoolCounts};
use super::usage::{Usage, UsageCounts};
use crate::kernel::{Slug, TenantId};
use crate::router::tenant::{Tenant, words};

/// The most tenants in one report.
pub const MOST_TENANTS: usize = 1_000;

words! {
    /// By what tenants stand out. The counts of time and requests are those since the node got to know the tenant.
    TopBy {
        /// Requests that wait now.
        Waiting = "waiting",
        /// Time spent waiting for connections.
        Wait = "wait",
        /// Time that connections were in use.
        Database = "database",
        /// Connections now.
        Connections = "connections",
        /// Requests.
        Requests = "requests",
    }
}

/// The pools of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
#[cfg_attr(feature = "server", serde(rename_all = "camelCase"))]
pub struct PoolsReport {
    /// Every server with pools on this node, by name.
    pub clusters: Vec<ClusterReport>,
    /// The tenants that stand out most, the first of them first. Only such as have a pool or an open breaker here.
    pub tenants: Vec<TenantReport>,
}

/// What this node has on one PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
#[cfg_attr(feature = "server", serde(rename_all = "camelCase"))]
pub struct ClusterReport {
    /// The cluster's name; `dedicated` for a customer's own server.
    pub name: String,
    /// Connections allowed to all nodes together.
    pub budget: usize,
    /// This node's share of them.
    pub slice: usize,
    /// Counts.
    #[cfg_attr(feature = "server", serde(flatten))]
    pub counts: ClusterCounts,
    /// How many connections may be on their way at once.
    pub openings_limit: usize,
    /// Tenants that are refused at the moment.
    pub breakers_open: usize,
}

/// One tenant's pool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(serde::Serialize, utoipa::ToSchema))]
#[cfg_attr(feature = "server", serde(rename_all = "camelCase"))]
pub struct TenantReport {
    /// Whose.
    pub tenant_id: TenantId,
    /// Its public name.
    pub slug: Slug,
    /// The cluster's name; `dedicated` for a customer's own server.
    pub cluster: String,
    /// Counts.
    #[cfg_attr(feature = "server", serde(flatten))]
    pub counts: PoolCounts,
    /// Why connections are refused at the moment, as a word.
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub breaker: Option<&'static str>,
    /// What the pool has done.
    pub usage: UsageCounts,
}

/// What a server's pools tell of one tenant, cheap enough to be read under their lock.
pub(super) struct Seen {
    pub(super) tenant: Arc<Tenant>,
    pub(super) counts: PoolCounts,
    pub(super) breaker: Option<&'static str>,
    pub(super) usage: Option<Arc<Usage>>,
}

impl ClusterPools {
    /// The tenant's pool. `None` while it has none.
    pub(super) fn snapshot(&self, tenant: TenantId) -> Option<PoolSnapshot> {
        let state = self.lock();
        let counts = state.scheduler.pool_counts(tenant).unwrap_or_default();
        let full = state.full.as_ref().filter(|_| counts.connections() == 0);
        let breaker = state.breakers.get(&tenant).or(full).map(|b| b.kind().as_str());
        (state.is_known(tenant) || breaker.is_some()).then_some(PoolSnapshot { counts, breaker })
    }

    /// The tenants with a pool or a breaker.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let state = self.lock();
        let known = state.entries.values().filter(|tenant| state.is_known(tenant.id));
        let seen = known.map(|tenant| Seen {
            tenant: tenant.clone(),
            counts: state.scheduler.pool_counts(tenant.id).unwrap_or_default(),
            breaker: state.breakers.get(&tenant.id).map(|b| b.kind().as_str()),
            usage: state.scheduler.usage(tenant.id).cloned(),
        });
        seen.collect()
    }
}

/// The tenants that stand out most, in order; equal ones by slug.
pub(super) fn top(seen: Vec<Seen>, by: TopBy, limit: usize, now: Instant) -> Vec<TenantReport> {
    let measure = |one: &Seen, usage: &UsageCounts| match by {
        TopBy::Waiting => one.counts.waiting as u64,
        TopBy::Wait => usage.wait_micros,
        TopBy::Database => usage.database_micros,
        TopBy::Connections => one.counts.connections() as u64,
        TopBy::Requests => usage.requests,
    };
    let mut all: Vec<(u64, UsageCounts, Seen)> = seen
        .into_iter()
        .map(|one| {
            let usage = one.usage.as_ref().map(|usage| usage.counts(now)).unwrap_or_default();
            (measure(&one, &usage), usage, one)
        })
        .collect();
    let limit = limit.min(MOST_TENANTS);
    fn order(entry: &(u64, UsageCounts, Seen)) -> (Reverse<u64>, &Slug) {
        (Reverse(entry.0), &entry.2.tenant.slug)
    }
    if limit < all.len() {
        all.select_nth_unstable_by(limit, |a, b| order(a).cmp(&order(b)));
        all.truncate(limit);
    }
    all.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
    let report = |(_, usage, one): (u64, UsageCounts, Seen)| TenantReport {
        tenant_id: one.tenant.id,
        slug: one.tenant.slug.clone(),
        cluster: one.tenant.cluster.name.clone(),
        counts: one.counts,
        breaker: one.breaker,
        usage,
    };
    all.into_iter().map(report).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::router::connect::{Target, TlsMode, TlsPolicy};
    use crate::router::tenant::{ClusterRef, Registration, TenantKind, TenantStatus};

    fn tenant(slug: &str) -> Tenant {
        let target = Target {
            host: "localhost".into(),
            port: 5432,
            database: "d".into(),
            user: "u".into(),
            password: String::new().into(),
            tls: TlsPolicy::mode(TlsMode::Disable),
        };
        Tenant {
            id: TenantId::generate(),
            slug: slug.parse().unwrap(),
            name: slug.into(),
            status: TenantStatus::Active,
            kind: TenantKind::Shared,
            registration: Registration::Closed,
            cluster: ClusterRef { id: uuid::Uuid::nil().into(), name: "main".into(), connection_budget: None },
            target: Arc::new(target.clone()),
            direct: Arc::new(target),
            max_connections: None,
            weight: 1,
            plan: None,
            schema_version: 1,
            migrations_hash: None,
            epoch: 1,
            generation: 1,
            created_at: chrono::DateTime::UNIX_EPOCH,
            held_until: None,
            verification_keys: Vec::new(),
            signing_keys: Vec::new(),
        }
    }

    fn seen(slug: &str, waiting: usize, wait: u64, database: u64) -> Seen {
        let usage = Usage::new(Instant::now());
        usage.asked();
        usage.waited(Duration::from_micros(wait), Instant::now());
        usage.worked(Duration::from_micros(database));
        let counts = PoolCounts { waiting, idle: waiting, ..PoolCounts::default() };
        Seen { tenant: Arc::new(tenant(slug)), counts, breaker: None, usage: Some(Arc::new(usage)) }
    }

    #[test]
    fn the_first_are_those_that_stand_out() {
        let order = |by, limit| {
            let all = vec![seen("alpha", 0, 5, 30), seen("beta", 7, 0, 20), seen("gamma", 1, 900, 20)];
            let top = top(all, by, limit, Instant::now());
            top.iter().map(|one| one.slug.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(order(TopBy::Wait, 10), ["gamma", "alpha", "beta"]);
        assert_eq!(order(TopBy::Wait, 1), ["gamma"]);
        assert_eq!(order(TopBy::Database, 2), ["alpha", "beta"], "equal ones by slug");
        assert_eq!(order(TopBy::Waiting, 2), ["beta", "gamma"]);
        assert_eq!(order(TopBy::Connections, 3), ["beta", "gamma", "alpha"]);
        assert_eq!(order(TopBy::Requests, 2), ["alpha", "beta"]);
        assert_eq!(order(TopBy::Requests, 0), Vec::<String>::new());
    }
}
