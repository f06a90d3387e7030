//! Openings that were given up, and to which the server has not said anything yet: a backend may be there, and its permit
//! with it. A tenant that has one is not asked for another: each would be one more.

use std::collections::HashMap;

use tokio::sync::watch;

use super::permit::Ticket;
use crate::kernel::TenantId;

/// Those of one server.
#[derive(Default)]
pub(super) struct LateOpenings(HashMap<TenantId, OfTenant>);

struct OfTenant {
    tickets: Vec<Ticket>,
    /// Dropped with the last of them, which is what is waited for.
    under_way: watch::Sender<()>,
}

impl LateOpenings {
    /// An opening was given up. If its permit is back already, nothing of it is left.
    pub(super) fn note(&mut self, ticket: &Ticket) {
        if !ticket.is_released() {
            let new = || OfTenant { tickets: Vec::new(), under_way: watch::channel(()).0 };
            self.0.entry(ticket.tenant).or_insert_with(new).tickets.push(ticket.clone());
        }
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
        late.note(&done);
        assert!(late.of(tenant).is_none(), "its permit is back");
        late.note(&first);
        late.note(&second);
        let mut waits = late.of(tenant).expect("two are under way");
        late.ended(&first);
        assert!(futures_util::poll!(Box::pin(waits.changed())).is_pending());
        late.ended(&second);
        assert!(waits.changed().await.is_err());
        assert!(late.of(tenant).is_none());
        assert!(late.of(TenantId::generate()).is_none());
    }
}
