//! What the router measures, under the names of OpenTelemetry's semantic conventions where they have one. The label is
//! the server's name, never a tenant: there may be a million. Whoever wants the numbers installs a recorder of the
//! `metrics` facade before the router starts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use super::cluster::ClusterPools;
use super::scheduler::ClusterCounts;
use crate::router::connect::ConnectFailure;

const POOL: &str = "db.client.connection.pool.name";
const STATE: &str = "db.client.connection.state";
const STATES: [&str; 5] = ["idle", "used", "opening", "draining", "closing"];
const STALENESS: &str = "tenantry.registry.staleness";

/// Says what is recorded here. Called by `Router::start`.
pub(in crate::router) fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    let seconds = Unit::Seconds;
    describe_gauge!("db.client.connection.count", "Connections by state; all of them count against the budget.");
    describe_gauge!("db.client.connection.max", "Connections that this node may have open.");
    describe_gauge!("db.client.connection.pending_requests", "Requests that wait for a connection.");
    describe_counter!("db.client.connection.timeouts", "Requests that got no connection within their deadline.");
    describe_counter!(
        "tenantry.pool.refused",
        "Requests refused at once, since too many of their tenant waited already."
    );
    describe_histogram!(
        "db.client.connection.create_time",
        seconds,
        "Time to open a connection, until it takes its first statement."
    );
    describe_histogram!("db.client.connection.wait_time", seconds, "Time until a request had its connection.");
    describe_histogram!("db.client.connection.use_time", seconds, "Time that a request had its connection.");
    describe_counter!("tenantry.pool.connections_opened", "Connections opened.");
    describe_counter!("tenantry.pool.open_failures", "Connections that could not be opened, by kind of failure.");
    describe_counter!("tenantry.pool.steals", "Connections taken from a tenant for another one.");
    describe_counter!("tenantry.pool.evictions", "Tenants that lost their last connection to another one.");
    describe_counter!(
        "tenantry.pool.dropped_connections",
        "Abandoned connections that could not be brought back to order."
    );
    describe_counter!("tenantry.pool.cancelled_statements", "Statements cancelled, since nobody waits for them.");
    describe_counter!(
        "tenantry.pool.retries",
        "Requests begun anew, since their connection was broken or out of date."
    );
    describe_histogram!(
        "tenantry.pool.cold_start",
        seconds,
        "Wait of a request that found no connection of its tenant."
    );
    describe_gauge!("tenantry.pool.openings_limit", "Connections that may be on their way at once.");
    describe_gauge!("tenantry.pool.extras_limit", "Connections that tenants may hold beyond one each.");
    describe_gauge!("tenantry.breaker.state", "Tenants that are refused at the moment, by kind of failure.");
    describe_counter!("tenantry.stamp.failures", "Databases that answered for another tenant. Any is an alarm.");
    describe_gauge!("tenantry.budget.limit", "Connections allowed to all nodes together.");
    describe_gauge!("tenantry.budget.slice", "This node's share of the budget.");
    describe_gauge!(STALENESS, seconds, "Time since the registry of tenants was last read.");
}

/// How long ago the registry was last read.
pub(in crate::router) fn registry_staleness(age: Duration) {
    gauge!(STALENESS).set(age.as_secs_f64());
}

/// What happens on one server, one handle each: recording takes no lock.
pub(super) struct Meters {
    pool: String,
    pub(super) wait_time: Histogram,
    pub(super) use_time: Histogram,
    pub(super) create_time: Histogram,
    pub(super) cold_start: Histogram,
    pub(super) timeouts: Counter,
    pub(super) refused: Counter,
    pub(super) opened: Counter,
    pub(super) steals: Counter,
    pub(super) evictions: Counter,
    pub(super) dropped: Counter,
    pub(super) cancelled: Counter,
    pub(super) stamp_failures: Counter,
    pub(super) retries: Counter,
}

impl Meters {
    pub(super) fn new(pool: &str) -> Self {
        let pool = pool.to_owned();
        let count = |name: &'static str| counter!(name, POOL => pool.clone());
        let time = |name: &'static str| histogram!(name, POOL => pool.clone());
        Self {
            wait_time: time("db.client.connection.wait_time"),
            use_time: time("db.client.connection.use_time"),
            create_time: time("db.client.connection.create_time"),
            cold_start: time("tenantry.pool.cold_start"),
            timeouts: count("db.client.connection.timeouts"),
            refused: count("tenantry.pool.refused"),
            opened: count("tenantry.pool.connections_opened"),
            steals: count("tenantry.pool.steals"),
            evictions: count("tenantry.pool.evictions"),
            dropped: count("tenantry.pool.dropped_connections"),
            cancelled: count("tenantry.pool.cancelled_statements"),
            stamp_failures: count("tenantry.stamp.failures"),
            retries: count("tenantry.pool.retries"),
            pool,
        }
    }

    /// A connection could not be opened.
    pub(super) fn open_failed(&self, kind: ConnectFailure) {
        counter!("tenantry.pool.open_failures", POOL => self.pool.clone(), "kind" => kind.as_str()).increment(1);
        if kind == ConnectFailure::StampMismatch {
            self.stamp_failures.increment(1);
        }
    }
}

/// What a server looks like at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) budget: usize,
    pub(super) slice: usize,
    pub(super) counts: ClusterCounts,
    pub(super) openings_limit: usize,
    pub(super) extras_limit: usize,
    /// Tenants that are refused, by kind of failure.
    pub(super) breakers: BTreeMap<&'static str, usize>,
}

/// Servers by name. Customers' own have one name between them and are shown as one.
pub(super) type Looks = BTreeMap<String, Look>;

impl ClusterPools {
    /// What it looks like now.
    pub(super) fn look(&self) -> Look {
        let state = self.lock();
        let counts = state.scheduler.counts();
        let mut look = Look {
            budget: state.demand.budget() as usize,
            slice: counts.capacity,
            counts,
            openings_limit: state.scheduler.openings_limit(),
            extras_limit: state.scheduler.extras_limit(),
            ..Look::default()
        };
        for breaker in state.breakers.values().chain(&state.full) {
            *look.breakers.entry(breaker.kind().as_str()).or_default() += 1;
        }
        look
    }
}

impl Look {
    pub(super) fn add(&mut self, other: &Self) {
        self.budget += other.budget;
        self.slice += other.slice;
        self.openings_limit += other.openings_limit;
        self.extras_limit += other.extras_limit;
        self.counts.add(&other.counts);
        for (kind, tenants) in &other.breakers {
            *self.breakers.entry(kind).or_default() += tenants;
        }
    }
}

/// The gauges of one name.
struct Gauges {
    states: [Gauge; 5],
    max: Gauge,
    pending: Gauge,
    limit: Gauge,
    slice: Gauge,
    openings: Gauge,
    extras: Gauge,
    breakers: BTreeMap<&'static str, Gauge>,
}

impl Gauges {
    fn new(pool: &str) -> Self {
        let one = |name: &'static str| gauge!(name, POOL => pool.to_owned());
        let state = |word: &'static str| gauge!("db.client.connection.count", POOL => pool.to_owned(), STATE => word);
        let breaker = |kind: &'static str| gauge!("tenantry.breaker.state", POOL => pool.to_owned(), "kind" => kind);
        Self {
            states: STATES.map(state),
            max: one("db.client.connection.max"),
            pending: one("db.client.connection.pending_requests"),
            limit: one("tenantry.budget.limit"),
            slice: one("tenantry.budget.slice"),
            openings: one("tenantry.pool.openings_limit"),
            extras: one("tenantry.pool.extras_limit"),
            breakers: ConnectFailure::ALL.iter().map(|kind| (kind.as_str(), breaker(kind.as_str()))).collect(),
        }
    }

    fn set(&self, look: &Look) {
        let counts = &look.counts;
        for (gauge, value) in
            self.states.iter().zip([counts.idle, counts.used(), counts.opening, counts.draining, counts.closing])
        {
            gauge.set(value as f64);
        }
        self.max.set(look.slice as f64);
        self.pending.set(counts.waiting as f64);
        self.limit.set(look.budget as f64);
        self.slice.set(look.slice as f64);
        self.openings.set(look.openings_limit as f64);
        self.extras.set(look.extras_limit as f64);
        for (kind, gauge) in &self.breakers {
            gauge.set(look.breakers.get(kind).copied().unwrap_or(0) as f64);
        }
    }
}

/// The gauges of every name seen so far.
#[derive(Default)]
pub(super) struct Board(HashMap<String, Gauges>);

impl Board {
    /// Shows what the servers look like now; those that are gone show nothing.
    pub(super) fn show(&mut self, looks: &Looks) {
        for name in looks.keys().filter(|name| !self.0.contains_key(*name)).cloned().collect::<Vec<_>>() {
            let gauges = Gauges::new(&name);
            self.0.insert(name, gauges);
        }
        for (name, gauges) in &self.0 {
            gauges.set(looks.get(name).unwrap_or(&Look::default()));
        }
    }
}
