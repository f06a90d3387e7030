//! How a connection of a tenant comes to be, and what is done when it does not: breakers, and the router's own probes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use super::breaker::Breaker;
use super::cluster::ClusterPools;
use super::doubt::{Doubt, PATIENCE};
use super::lease::Waiting;
use super::permit::{Permit, Ticket};
use super::pooled::Pooled;
use super::state::{State, unavailable};
use crate::kernel::TenantId;
use crate::router::connect::{ConnectError, ConnectFailure, open};
use crate::router::failure::Late;
use crate::router::stamp::Stamp;
use crate::router::tenant::Tenant;

/// A probe that nobody asks for is not repeated more often than this many times.
const IDLE_PROBES: u32 = 1;

impl ClusterPools {
    /// Opens a connection in the background.
    pub(super) fn open(self: &Arc<Self>, ticket: Ticket) {
        self.shared.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Before anything else can fail: the permit comes back when it is dropped.
        let permit = Permit::new(self.clone(), ticket.clone());
        let cluster = self.clone();
        self.shared.runtime.spawn(async move {
            let (entry, patience, late) = {
                let state = cluster.lock();
                let entry = state.entries.get(&ticket.tenant).cloned();
                (entry, state.scheduler.opening_patience(), state.late.of(ticket.tenant))
            };
            match entry {
                Some(entry) => cluster.open_with_patience(entry, patience, late, (ticket, permit)).await,
                None => {
                    drop(permit);
                    let gone = ConnectError::new(ConnectFailure::Other, "the tenant is gone");
                    cluster.fail(ticket.tenant, gone, Instant::now());
                }
            }
        });
    }

    /// Opens one, and if that takes much longer than it does here, lets others begin: the server does not work on it.
    async fn open_with_patience(
        self: &Arc<Self>,
        tenant: Arc<Tenant>,
        patience: Duration,
        late: Option<watch::Receiver<()>>,
        permitted: (Ticket, Permit),
    ) {
        let opening = self.open_for(tenant, late, permitted);
        tokio::pin!(opening);
        if timeout(patience, &mut opening).await.is_err() {
            self.ask(|state, now| ((), state.scheduler.opening_lags(now)));
            opening.await;
            self.ask(|state, _| (state.scheduler.lagged(), Vec::new()));
        }
    }

    /// Opens one, once `late` has ended: an opening that was given up and not answered.
    async fn open_for(
        self: &Arc<Self>,
        mut tenant: Arc<Tenant>,
        late: Option<watch::Receiver<()>>,
        (ticket, permit): (Ticket, Permit),
    ) {
        let settings = &self.shared.settings;
        if let Some(mut late) = late {
            let began = Instant::now();
            if timeout(settings.connect.connect_timeout, late.changed()).await.is_err() {
                let error = ConnectError::new(ConnectFailure::Unreachable, Late("to an earlier attempt"));
                return self.open_failed(&tenant, error, began);
            }
            // By now it may be reached another way.
            let now = self.lock().entries.get(&tenant.id).cloned();
            tenant = now.unwrap_or(tenant);
        }
        let tenant = &tenant;
        let began = Instant::now();
        let expected = Stamp { tenant_id: tenant.id, installation_id: self.shared.installation };
        let expected = settings.check_stamp.then_some(expected);
        let link = match open(&tenant.target, &settings.connect, Some(permit), expected).await {
            Ok(link) => link,
            Err(error) if error.is_late() => {
                self.lock().hangs(tenant, &ticket);
                return self.open_failed(tenant, error, began);
            }
            Err(error) if error.kind == ConnectFailure::Authentication => {
                return self.refused(tenant, error, began).await;
            }
            Err(error) => return self.open_failed(tenant, error, began),
        };
        let took = began.elapsed();
        self.meters.opened.increment(1);
        self.meters.create_time.record(took);
        let conn = Arc::new(Pooled::new(link, ticket, tenant.connection_version(), Instant::now()));
        self.ask(|state, now| {
            state.tried_again.remove(&tenant.id);
            state.doubts.remove(&tenant.id);
            if state.breakers.remove(&tenant.id).is_some() {
                tracing::info!(tenant = %tenant.id, "the tenant's database answers again");
            }
            if let Some(usage) = state.scheduler.usage(tenant.id) {
                usage.opened();
            }
            let actions = state.scheduler.opened(tenant.id, conn, took, now);
            state.tidy(tenant.id);
            ((), actions)
        });
    }

    /// The server refused the role or its password. Perhaps they are being changed, in the registry and at the server, one
    /// after the other: so the registry is read at once, and in whichever order, nobody is told for a while.
    async fn refused(self: &Arc<Self>, tenant: &Arc<Tenant>, error: ConnectError, began: Instant) {
        let patience = PATIENCE.min(self.shared.settings.acquire_timeout / 2);
        let waits = self.ask(|state, now| {
            // With the breaker open it was a probe, for which nobody waits.
            if state.is_outdated(tenant) || state.breakers.contains_key(&tenant.id) {
                return (false, Vec::new());
            }
            let doubt = state.doubts.entry(tenant.id).or_insert_with(|| Doubt::new(now));
            if !doubt.lasts(patience, now) {
                return (false, Vec::new());
            }
            if let Some((number, pause)) = doubt.look() {
                let (cluster, tenant) = (self.clone(), tenant.clone());
                let look = async move { cluster.look_again(tenant, number == 1, pause, patience).await };
                self.shared.runtime.spawn(look);
            }
            (true, state.scheduler.open_later(tenant.id, now))
        });
        if waits {
            self.meters.open_failed(error.kind);
            return;
        }
        self.learn_newer(tenant, patience).await;
        self.open_failed(tenant, error, began);
    }

    /// Looks for news of a tenant of which nothing is opened meanwhile, then lets those try who wait: the server may have
    /// been the second to know.
    async fn look_again(self: Arc<Self>, tenant: Arc<Tenant>, first: bool, pause: Duration, patience: Duration) {
        if !first || !self.learn_newer(&tenant, patience).await {
            tokio::time::sleep(pause).await;
            self.learn_newer(&tenant, patience).await;
        }
        self.ask(|state, now| {
            let Some(doubt) = state.doubts.get_mut(&tenant.id) else { return ((), Vec::new()) };
            doubt.looked();
            let actions = state.scheduler.unblock(tenant.id, now);
            let left = state.scheduler.pool_counts(tenant.id).unwrap_or_default();
            if left.opening + left.waiting == 0 {
                // Nobody tries: whoever comes next begins anew.
                state.doubts.remove(&tenant.id);
            }
            state.tidy(tenant.id);
            ((), actions)
        });
    }

    /// Takes in what the registry has of the tenant now. False if that leads nowhere else.
    async fn learn_newer(self: &Arc<Self>, tenant: &Arc<Tenant>, patience: Duration) -> bool {
        let Some(reload) = &self.shared.reload else { return false };
        let fresh = timeout(patience, reload(tenant.clone())).await.ok().flatten();
        if let Some(fresh) =
            fresh.as_ref().filter(|new| new.held_until.is_some() || new.cluster.id != tenant.cluster.id)
        {
            // Held, or moved to another server: whoever waits here looks again where it is.
            self.retire(tenant.id, fresh.generation);
            return true;
        }
        let fresh = fresh.filter(|fresh| fresh.connection_version() != tenant.connection_version());
        if let Some(fresh) = &fresh {
            self.update(fresh);
        }
        fresh.is_some()
    }

    fn open_failed(self: &Arc<Self>, tenant: &Arc<Tenant>, error: ConnectError, began: Instant) {
        if error.kind == ConnectFailure::ServerFull {
            return self.server_full(tenant.id, error);
        }
        // What was tried is not what the registry says by now: that says nothing about the tenant. One that is not to be
        // served has no breaker either, whose probe would open what nobody may.
        let outdated = self.ask(|state, now| {
            let outdated = state.is_outdated(tenant) || state.scheduler.is_retired(tenant.id);
            let actions = if outdated { state.scheduler.open_again(tenant.id, now) } else { Vec::new() };
            state.tidy(tenant.id);
            (outdated, actions)
        });
        if outdated {
            self.meters.open_failed(error.kind);
        } else {
            self.fail(tenant.id, error, began);
        }
    }

    /// A backend may be ended while it starts, which says nothing about the next one: the first failure of a tenant that
    /// was well is not told to anybody, and another connection is opened at once; with it those that had begun by then,
    /// which the same may have hit. False if that was done before.
    fn try_again(self: &Arc<Self>, tenant: TenantId, error: &ConnectError, began: Instant) -> bool {
        self.ask(|state, now| {
            let first = error.kind == ConnectFailure::Unreachable
                && !error.is_late()
                && !state.breakers.contains_key(&tenant)
                && began <= *state.tried_again.entry(tenant).or_insert(now);
            let actions = if first { state.scheduler.open_again(tenant, now) } else { Vec::new() };
            (first, actions)
        })
    }

    /// Opens the tenant's breaker, for an opening that began at `began`.
    fn fail(self: &Arc<Self>, tenant: TenantId, error: ConnectError, began: Instant) {
        self.meters.open_failed(error.kind);
        if self.try_again(tenant, &error, began) {
            return;
        }
        if error.kind == ConnectFailure::StampMismatch {
            // The alarm: a database answers for somebody else. Nothing was read from it but the stamp.
            tracing::error!(
                target: "tenantry::security",
                event = "stamp.mismatch",
                tenant = %tenant,
                cause = %error.source,
                "STAMP MISMATCH: connection refused"
            );
        } else {
            tracing::warn!(tenant = %tenant, kind = error.kind.as_str(), cause = %error.source, "cannot connect");
        }
        let error = Arc::new(error);
        let (waiters, retry_after) = self.ask(|state, now| {
            let breaker = Breaker::trip(state.breakers.get(&tenant), error.clone(), now);
            let retry_after = breaker.retry_after(now);
            state.breakers.insert(tenant, breaker);
            state.tried_again.remove(&tenant);
            state.doubts.remove(&tenant);
            let (waiters, actions) = state.scheduler.open_failed(tenant, now);
            state.tidy(tenant);
            self.probe(state, tenant);
            ((waiters, retry_after), actions)
        });
        tell(waiters, retry_after, &error);
    }

    /// The server takes no more connections of anybody. What is open goes on serving; who has none is told, and one more
    /// is tried now and then.
    fn server_full(self: &Arc<Self>, tenant: TenantId, error: ConnectError) {
        self.meters.open_failed(error.kind);
        tracing::warn!(cluster = self.name, cause = %error.source, "the server is full");
        let error = Arc::new(error);
        let (waiters, retry_after) = self.ask(|state, now| {
            let breaker = Breaker::trip(state.full.as_ref(), error.clone(), now);
            let retry_after = breaker.retry_after(now);
            let first = state.full.replace(breaker).is_none();
            state.scheduler.server_full();
            if let Some(own) = state.breakers.get_mut(&tenant) {
                // It was the tenant's own probe, which goes on.
                own.rest(now);
            }
            let actions = state.scheduler.open_again(tenant, now);
            let waiters = state.scheduler.refuse_starving();
            state.tidy(tenant);
            if first {
                let cluster = self.clone();
                self.shared.runtime.spawn(async move { cluster.find_room().await });
            }
            ((waiters, retry_after), actions)
        });
        tell(waiters, retry_after, &error);
    }

    async fn find_room(self: Arc<Self>) {
        loop {
            let Some(until) = self.lock().full.as_ref().map(Breaker::until) else { return };
            tokio::time::sleep_until(until.into()).await;
            let found = self.ask(|state, now| {
                let (all, actions) = state.scheduler.try_more_room(now);
                if all {
                    state.full = None;
                } else if let Some(full) = &mut state.full {
                    full.rest(now);
                }
                (all, actions)
            });
            if found {
                return;
            }
        }
    }

    /// The router's own half-open probe: no request waits for it. One at a time.
    pub(super) fn probe(self: &Arc<Self>, state: &mut State, tenant: TenantId) {
        if let Some(breaker) = state.breakers.get_mut(&tenant).filter(|b| !b.probing) {
            breaker.probing = true;
            let cluster = self.clone();
            self.shared.runtime.spawn(async move { cluster.probe_until_well(tenant).await });
        }
    }

    async fn probe_until_well(self: Arc<Self>, tenant: TenantId) {
        let mut unasked = 0;
        loop {
            let found = self.lock().breakers.get(&tenant).map(|b| (b.until(), b.moved().clone()));
            let Some((until, moved)) = found else { return };
            tokio::time::sleep_until(until.into()).await;
            let actions = {
                let mut state = self.lock();
                let now = Instant::now();
                let Some(breaker) = state.breakers.get_mut(&tenant) else { return };
                // Nothing periodic touches a database that nobody asks for.
                unasked = if breaker.wanted { 0 } else { unasked + 1 };
                breaker.wanted = false;
                if unasked > IDLE_PROBES {
                    // Whoever comes next finds out anew.
                    state.breakers.remove(&tenant);
                    let actions = state.scheduler.unblock(tenant, now);
                    state.tidy(tenant);
                    drop(state);
                    self.perform(actions);
                    return;
                }
                let Some(entry) = state.entries.get(&tenant).cloned() else {
                    state.breakers.remove(&tenant);
                    return;
                };
                // The pool may have been forgotten; whoever opens needs to know for which version.
                let mut actions = state.learn(&entry, &self.shared.settings, now);
                actions.extend(state.scheduler.open_unasked(tenant, now));
                actions
            };
            self.perform(actions);
            // Either the breaker is gone, or its time has moved on.
            let settings = &self.shared.settings;
            let deadline = Instant::now() + settings.connect.connect_timeout * 3 + settings.acquire_timeout;
            loop {
                // Before looking: what happens from now on is heard of.
                let moves = moved.notified();
                let same = self.lock().breakers.get(&tenant).is_some_and(|b| b.until() == until);
                if !same || timeout_at(deadline.into(), moves).await.is_err() {
                    break;
                }
            }
        }
    }
}

fn tell(waiters: Vec<Waiting>, retry_after: Duration, cause: &Arc<ConnectError>) {
    for waiting in waiters {
        let _ = waiting.answer.send(Err(unavailable(retry_after, cause.clone())));
    }
}
