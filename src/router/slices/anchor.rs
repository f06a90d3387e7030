//! What a node does while the control plane is silent: it stays visible.
//!
//! Others take back the slice of a node whose lease has run out only if they see no connection of it. So a node that is
//! cut off keeps one open to each cluster it has a slice of, whatever its pools do. If it cannot, and there were
//! others, it opens nothing until the ledger has been asked again.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::entry::{Entry, number};
use super::keeper::Keeper;
use super::offline;
use crate::kernel::ClusterId;
use crate::router::connect::{ConnectError, ConnectOptions, Target, open_counted};

/// Anchors being opened at once.
const OPENINGS: usize = 8;
/// How often it is looked, and after what pauses, whether one that is closed is gone.
const CLOSE_LOOKS: u32 = 50;
const CLOSE_PAUSE: Duration = Duration::from_millis(5);

/// A connection that is there to be seen. It counts as one of the slice.
pub(super) enum Anchor {
    /// Not needed.
    None,
    /// A permit is kept for it.
    Reserved,
    /// Being opened.
    Opening,
    /// Open.
    Held(Held),
    /// Being closed, or given up before the server had answered: this is set when the server has let go.
    Leaving(Arc<AtomicBool>),
}

/// Closed when dropped.
pub(super) struct Held {
    gone: Arc<AtomicBool>,
    pub(super) client: Arc<tokio_postgres::Client>,
    // Dropped after the client: the driver then has seen that nobody is left.
    _hang_up: oneshot::Sender<()>,
}

impl Held {
    /// With the error comes what is left: a handshake that is late may still become a connection.
    pub(super) async fn open(target: &Target, options: &ConnectOptions) -> Result<Self, (ConnectError, Anchor)> {
        let gone = Arc::<AtomicBool>::default();
        match open_counted(target, options, gone.clone()).await {
            Ok((client, hang_up)) => Ok(Self { gone, client: client.into(), _hang_up: hang_up }),
            Err(error) if gone.load(Ordering::Acquire) => Err((error, Anchor::None)),
            Err(error) => Err((error, Anchor::Leaving(gone))),
        }
    }

    /// Closes it where somebody waits for its permit: most servers let go within moments.
    pub(super) async fn close(self) -> Anchor {
        let gone = self.gone.clone();
        drop(self);
        for _ in 0..CLOSE_LOOKS {
            if gone.load(Ordering::Acquire) {
                return Anchor::None;
            }
            tokio::time::sleep(CLOSE_PAUSE).await;
        }
        Anchor::Leaving(gone)
    }
}

/// What a look at the entries leaves to be done.
pub(super) enum Errand {
    /// Open an anchor for a slice.
    Anchor(Arc<Target>),
    /// Open one without a slice, and look who else is there.
    Show(Arc<Target>),
    /// Look again, through the anchor.
    Look(Arc<tokio_postgres::Client>),
}

impl Anchor {
    /// How many permits it takes.
    pub(super) fn count(&self) -> u32 {
        u32::from(!matches!(self, Self::None))
    }

    fn settle(&mut self) {
        let gone = match self {
            Self::Held(held) => held.gone.load(Ordering::Acquire),
            Self::Leaving(gone) => gone.load(Ordering::Acquire),
            Self::None | Self::Reserved | Self::Opening => false,
        };
        if gone {
            *self = Self::None;
        }
    }

    pub(super) fn leave(&mut self) {
        *self = match mem::replace(self, Self::None) {
            Self::Held(held) => Self::Leaving(held.gone.clone()),
            Self::Reserved | Self::None => Self::None,
            other => other,
        };
    }
}

/// Keeps a permit for an anchor where there is none, and remembers whether we are to be seen.
pub(super) fn stay_visible(entry: &mut Entry, now: Instant, gap: Duration) {
    // To be seen again takes nothing back of what others did meanwhile.
    entry.lost_sight |= now.saturating_duration_since(entry.seen) > gap;
    let counts = entry.counts();
    let established = counts.open > counts.opening + counts.closing;
    // With a single permit the anchor would leave nothing to serve with.
    let spare = entry.allowed() >= 2;
    if established || !spare || matches!(entry.anchor, Anchor::Held(_)) {
        entry.seen = now;
    }
    let in_use = entry.pools.strong_count() > 0;
    if spare && matches!(entry.anchor, Anchor::None) && (in_use || !entry.dedicated) {
        entry.anchor = Anchor::Reserved;
    }
}

impl Keeper {
    pub(super) async fn watch_forever(self: Arc<Self>) {
        let every = (self.ttl / 15).max(Duration::from_millis(20));
        loop {
            tokio::time::sleep(every).await;
            for (cluster, errand) in self.watch(Instant::now()) {
                match errand {
                    Errand::Anchor(target) => tokio::spawn(self.clone().open_anchor(cluster, target)),
                    Errand::Show(target) => tokio::spawn(self.clone().show_again(cluster, target)),
                    Errand::Look(client) => tokio::spawn(self.clone().look_again(cluster, client)),
                };
            }
        }
    }

    /// Looks at every cluster, and gives what is to be done there.
    fn watch(&self, now: Instant) -> Vec<(ClusterId, Errand)> {
        let mut state = self.lock();
        let silent = state.contact.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let others = state.others;
        let mut room = OPENINGS
            .saturating_sub(state.entries.values().filter(|entry| matches!(entry.anchor, Anchor::Opening)).count());
        let mut errands = Vec::new();
        for (id, entry) in &mut state.entries {
            let before = entry.anchor.count();
            entry.anchor.settle();
            if entry.slice.is_none() && entry.offline.is_some() {
                let errand = offline::watch(entry, now, (self.gap(), self.ttl), &mut room);
                errands.extend(errand.map(|errand| (*id, errand)));
            } else if silent < self.ttl / 3 && !entry.confirm {
                (entry.seen, entry.lost_sight) = (now, false);
                entry.anchor.leave();
            } else if entry.slice.is_some() && !entry.fenced {
                // Since an earlier look: by now nothing more than the rest of the slice can be opened.
                let was_reserved = matches!(entry.anchor, Anchor::Reserved);
                stay_visible(entry, now, self.gap());
                if silent >= self.ttl && others > 0 && now.saturating_duration_since(entry.seen) > self.gap() {
                    tracing::warn!(cluster = entry.name, "cut off and not to be seen; nothing is opened until asked");
                    entry.fenced = true;
                    entry.anchor.leave();
                }
                let has_permit = number(entry.counts().open) < entry.allowed();
                if was_reserved && matches!(entry.anchor, Anchor::Reserved) && has_permit && room > 0 {
                    room -= 1;
                    entry.anchor = Anchor::Opening;
                    errands.push((*id, Errand::Anchor(entry.target.clone())));
                }
            }
            if entry.anchor.count() != before || entry.fenced || entry.is_hidden() {
                entry.apply();
            }
        }
        errands
    }

    async fn open_anchor(self: Arc<Self>, cluster: ClusterId, target: Arc<Target>) {
        let opened = Held::open(&target, &self.connect).await;
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&cluster) else { return };
        entry.anchor = match opened {
            Ok(held) => Anchor::Held(held),
            Err((error, left)) => {
                tracing::debug!(cluster = entry.name, %error, "no anchor");
                left
            }
        };
        if entry.fenced {
            // Meanwhile: whoever has the slice by now may have counted on all of it.
            entry.anchor.leave();
        }
        entry.apply();
    }
}

#[cfg(test)]
#[path = "anchor_tests.rs"]
mod tests;
