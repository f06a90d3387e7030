//! How a node serves a cluster of which the ledger has never given it a slice, because the control plane is silent.
//!
//! It shows itself before it looks: only with an anchor open there under its own name does it ask the cluster whom it
//! sees. So of two nodes that begin together at least one sees the other. Whoever sees nobody has the whole budget, the
//! anchor included, while the anchor is held, and looks again and again. Whoever sees another has one connection until
//! the ledger has been asked. While the cluster itself is away nothing is open there, and nothing is given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::anchor::{Anchor, Errand, Held};
use super::entry::Entry;
use super::keeper::Keeper;
use super::{SliceClaim, look};
use crate::kernel::ClusterId;
use crate::router::connect::{ConnectFailure, ConnectOptions, Target};

/// What came of showing ourselves and looking.
enum Shown {
    /// Nobody else is to be seen.
    Alone(Held),
    /// Somebody else is.
    Seen(Held),
    /// It could not be done, or not be looked, for this reason; what is left of the anchor.
    Not(ConnectFailure, Anchor),
}

/// What becomes of the anchor of a cluster that is served without a slice. Who has it alone looks every `gap`; one with
/// connections there that could not for `patience` has it alone no more.
pub(super) fn watch(
    entry: &mut Entry,
    now: Instant,
    (gap, patience): (Duration, Duration),
    room: &mut usize,
) -> Option<Errand> {
    let in_use = entry.pools.strong_count() > 0 || !entry.dedicated;
    if !in_use {
        entry.looked = now;
    }
    if !in_use || !entry.has_it_alone() {
        entry.anchor.leave();
        return None;
    }
    let since = now.saturating_duration_since(entry.looked);
    match &entry.anchor {
        Anchor::Held(held) => {
            let look = (since >= gap).then(|| Errand::Look(held.client.clone()));
            entry.seen = now;
            if look.is_some() {
                entry.looked = now;
            }
            look
        }
        Anchor::None | Anchor::Leaving(_) if since >= patience && entry.counts().open > 0 => {
            come_down(entry, "it cannot show itself there");
            None
        }
        Anchor::None if *room > 0 => {
            *room -= 1;
            entry.anchor = Anchor::Opening;
            Some(Errand::Show(entry.target.clone()))
        }
        _ => None,
    }
}

/// One connection from now on, until the ledger has been asked.
fn come_down(entry: &mut Entry, why: &'static str) {
    if entry.has_it_alone() {
        tracing::warn!(cluster = entry.name, why, "without a slice, and not alone for certain: one connection is used");
        entry.offline = Some(1);
        entry.anchor.leave();
        entry.apply();
    }
}

impl Keeper {
    /// No answer. A slice stays what it was. Whoever never had one serves nevertheless: with all of the budget where no
    /// other node is to be seen on the cluster, else with one connection.
    pub(super) async fn do_without(&self, claim: SliceClaim) {
        let target = {
            let mut state = self.lock();
            let Some(entry) = state.entries.get_mut(&claim.cluster) else { return };
            entry.failed = true;
            if entry.slice.is_some() || entry.offline.is_some() {
                (entry.claiming, entry.frozen) = (false, false);
                entry.apply();
                return;
            }
            // Of a single connection an anchor would leave nothing to serve with.
            (claim.budget > 1).then(|| {
                entry.anchor = Anchor::Opening;
                entry.target.clone()
            })
        };
        let shown = match target {
            Some(target) => Some(self.show(&target).await),
            None => None,
        };
        let (alone, anchor) = match shown {
            Some(Shown::Alone(held)) => (true, Anchor::Held(held)),
            Some(Shown::Seen(held)) => (false, held.close().await),
            Some(Shown::Not(_, anchor)) => (false, anchor),
            None => (false, Anchor::None),
        };
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&claim.cluster) else { return };
        (entry.claiming, entry.frozen) = (false, false);
        entry.anchor = anchor;
        entry.offline = Some(if alone { claim.budget } else { 1 });
        entry.looked = Instant::now();
        tracing::warn!(
            cluster = entry.name,
            connections = entry.allowed(),
            "the control plane is silent and has never given this node a slice; it serves without"
        );
        entry.apply();
    }

    /// Opens an anchor, and looks through it whether nobody else is there.
    async fn show(&self, target: &Target) -> Shown {
        // Somebody waits for a first connection.
        let connect_timeout = self.connect.connect_timeout.min(look::DEADLINE);
        let options = ConnectOptions { connect_timeout, ..self.connect.clone() };
        let held = match Held::open(target, &options).await {
            Ok(held) => held,
            Err((error, left)) => return Shown::Not(error.kind, left),
        };
        match look::others_are_there(&held.client, self.node).await {
            Ok(true) => Shown::Seen(held),
            Ok(false) => Shown::Alone(held),
            Err(error) => Shown::Not(error.kind, held.close().await),
        }
    }

    /// The anchor was lost. Until there is another one, and nobody to be seen from it, nothing more is opened.
    pub(super) async fn show_again(self: Arc<Self>, cluster: ClusterId, target: Arc<Target>) {
        let shown = self.show(&target).await;
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&cluster) else { return };
        let came_down = match shown {
            // The cluster is away, or busy with coming back: the next watch tries again.
            Shown::Not(ConnectFailure::Unreachable | ConnectFailure::Other, anchor) => {
                entry.anchor = anchor;
                None
            }
            Shown::Not(_, anchor) => {
                entry.anchor = anchor;
                Some("it is not let in to show itself")
            }
            Shown::Alone(held) => {
                (entry.anchor, entry.looked) = (Anchor::Held(held), Instant::now());
                None
            }
            Shown::Seen(held) => {
                (entry.anchor, entry.looked) = (Anchor::Held(held), Instant::now());
                Some("another node is there")
            }
        };
        entry.apply();
        if let Some(why) = came_down {
            come_down(entry, why);
        }
    }

    /// Whoever came without having seen us is seen by us.
    pub(super) async fn look_again(self: Arc<Self>, cluster: ClusterId, client: Arc<tokio_postgres::Client>) {
        let others = look::others_are_there(&client, self.node).await;
        drop(client);
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&cluster) else { return };
        match others {
            Ok(true) => come_down(entry, "another node is there"),
            // Another anchor may see more.
            Err(_) if entry.has_it_alone() => {
                entry.anchor.leave();
                entry.apply();
            }
            _ => {}
        }
    }
}
