//! Openings that were given up, and to which the server has not said anything yet: a backend may be there, and its permit
//! with it. A tenant that has one is not asked for another: each would be one more. Where the tenant's database is reached
//! in another way by now, nobody waits for them; and those at another server do not count any more.

use std::collections::HashMap;

use tokio::sync::watch;

use super::permit::Ticket;
use crate::kernel::TenantId;
use crate::router::tenant::Tenant;

/// Those of one server.
#[derive(Default)]
pub(super) struct LateOpenings(HashMap<TenantId, OfTenant>);

struct OfTenant {
    way: Way,
    tickets: Vec<Ticket>,
    /// Dropped with the last of them, which is what is waited for.
    under_way: watch::Sender<()>,
}

/// How a tenant's database is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    host: String,
    port: u16,
    version: u64,
}

impl Way {
    pub(super) fn of(tenant: &Tenant) -> Self {
        let target = &tenant.target;
        Self { host: target.host.clone(), port: target.port, version: tenant.connection_version() }
    }

    fn is_to_server_of(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl LateOpenings {
    /// An opening was given up. If its permit is back already, nothing of it is left.
    pub(super) fn note(&mut self, ticket: &Ticket, way: Way) {
        if !ticket.is_released() {
            let new = || OfTenant { way, tickets: Vec::new(), under_way: watch::channel(()).0 };
            self.0.entry(ticket.tenant).or_insert_with(new).tickets.push(ticket.clone());
        }
    }

    /// From here on the tenant's database is reached this way.
    pub(super) fn learn(&mut self, tenant: TenantId, way: &Way) {
        let Some(late) = self.0.get(&tenant).filter(|late| late.way != *way) else { return };
        if !late.way.is_to_server_of(way) {
            late.tickets.iter().for_each(Ticket::give_up);
        }
        self.0.remove(&tenant);
    }

    /// Its permit is back.
    pub(super) fn ended(&mut self, ticket: &Ticket) {
        if let Some(late) = self.0.get_mut(&ticket.tenant) {
            late.tickets.retain(|other| !other.is(ticket));
            if late.tickets.is_empty() {
                self.0.remove(&ticket.tenant);
            }
        }
    }

    /// What tells, by its end, that the tenant has none any more; `None` if it has none.
    pub(super) fn of(&self, tenant: TenantId) -> Option<watch::Receiver<()>> {
        self.0.get(&tenant).map(|late| late.under_way.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_one_that_ends_lets_the_next_begin() {
        let (tenant, mut late) = (TenantId::generate(), LateOpenings::default());
        let [first, second, done] = [0; 3].map(|_| Ticket::new(tenant));
        done.release();
        late.note(&done, way("here", 1));
        assert!(late.of(tenant).is_none(), "its permit is back");
        late.note(&first, way("here", 1));
        late.note(&second, way("here", 1));
        let mut waits = late.of(tenant).expect("two are under way");
        late.ended(&first);
        assert!(futures_util::poll!(Box::pin(waits.changed())).is_pending());
        late.ended(&second);
        assert!(waits.changed().await.is_err());
        assert!(late.of(tenant).is_none());
        assert!(late.of(TenantId::generate()).is_none());
    }

    fn way(host: &str, version: u64) -> Way {
        Way { host: host.to_owned(), port: 5432, version }
    }

    #[tokio::test]
    async fn nobody_waits_for_those_of_another_way_and_another_server_has_its_own() {
        let (tenant, cluster) = (TenantId::generate(), LateOpenings::default);
        for (next, waits, counts) in [("here", true, true), ("here", false, true), ("there", false, false)] {
            let (mut late, ticket) = (cluster(), Ticket::new(tenant));
            late.note(&ticket, way("here", 1));
            late.learn(tenant, &way(next, if waits { 1 } else { 2 }));
            assert_eq!(late.of(tenant).is_some(), waits, "{next}");
            assert_eq!(futures_util::poll!(Box::pin(ticket.given_up())).is_pending(), counts, "{next}");
        }
    }
}
