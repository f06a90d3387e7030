//! Who hashes next: a few at a time, and those who wait take turns by tenant, so that a storm of logins at one is not
//! waited out by the others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

/// A bounded number of turns, and those who wait for one.
#[derive(Clone)]
pub(super) struct Turns {
    state: Arc<Mutex<State>>,
    room: usize,
    patience: Duration,
}

#[derive(Default)]
struct State {
    free: usize,
    waiting: usize,
    lines: HashMap<Uuid, VecDeque<oneshot::Sender<Turn>>>,
    /// Whose line is next.
    order: VecDeque<Uuid>,
}

/// The right to hash; given on when it is dropped.
pub(super) struct Turn(Option<Turns>);

impl Turns {
    /// So many at a time, and room for so many who wait, for so long.
    pub(super) fn new(parallel: usize, room: usize, patience: Duration) -> Self {
        Self { state: Arc::new(Mutex::new(State { free: parallel, ..State::default() })), room, patience }
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.lock().free
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`Self::take`] would send somebody away at once.
    pub(super) fn is_full(&self, whose: Uuid) -> bool {
        let state = self.lock();
        state.free == 0 && state.waiting >= self.room && !state.can_make_room(whose)
    }

    /// Waits for a turn; `None` if too many wait, or it does not come in time.
    pub(super) async fn take(&self, whose: Uuid) -> Option<Turn> {
        let coming = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(Some(self.clone())));
            }
            if state.waiting >= self.room && !state.make_room(whose) {
                return None;
            }
            state.line_up(whose)
        };
        timeout(self.patience, coming).await.ok()?.ok()
    }
}

impl State {
    fn line_up(&mut self, whose: Uuid) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let line = self.lines.entry(whose).or_default();
        if line.is_empty() {
            self.order.push_back(whose);
        }
        line.push_back(sender);
        self.waiting += 1;
        receiver
    }

    /// Sends those away who have left, else the last of the longest line if that is longer than the newcomer's.
    fn make_room(&mut self, whose: Uuid) -> bool {
        let before = self.waiting;
        for line in self.lines.values_mut() {
            line.retain(|sender| !sender.is_closed());
        }
        self.lines.retain(|_, line| !line.is_empty());
        let lines = &self.lines;
        self.order.retain(|whose| lines.contains_key(whose));
        self.waiting = self.lines.values().map(VecDeque::len).sum();
        if self.waiting < before {
            return true;
        }
        let own = self.lines.get(&whose).map_or(0, VecDeque::len);
        let Some(longest) = self.lines.values_mut().max_by_key(|line| line.len()) else { return false };
        if longest.len() <= own + 1 {
            return false;
        }
        self.waiting -= 1;
        longest.pop_back().is_some()
    }

    fn can_make_room(&self, whose: Uuid) -> bool {
        let own = self.lines.get(&whose).map_or(0, VecDeque::len);
        self.lines.values().any(|line| line.len() > own + 1 || line.iter().any(oneshot::Sender::is_closed))
    }

    /// The first of the line whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let whose = self.order.pop_front()?;
        let line = self.lines.get_mut(&whose)?;
        let sender = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&whose);
        } else {
            self.order.push_back(whose);
        }
        self.waiting -= usize::from(sender.is_some());
        sender
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = turns.lock();
                let next = state.next();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(sender) = next else { return };
            match sender.send(Self(Some(turns.clone()))) {
                Ok(()) => return,
                // They have left: the turn is still ours to give.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::super::PATIENCE;
    use super::*;

    const NOISY: Uuid = Uuid::from_u128(1);
    const QUIET: Uuid = Uuid::from_u128(2);

    #[tokio::test]
    async fn tenants_take_turns() {
        let turns = Turns::new(1, 100, PATIENCE);
        let first = turns.take(NOISY).await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let waiting = [NOISY, NOISY, NOISY, NOISY, QUIET, QUIET].map(|whose| {
            let (turns, served) = (turns.clone(), Arc::clone(&served));
            async move {
                let turn = turns.take(whose).await.unwrap();
                served.lock().unwrap().push(whose);
                drop(turn);
            }
        });
        let everybody = join_all(waiting);
        let (_, ()) = tokio::join!(everybody, async { drop(first) });
        assert_eq!(*served.lock().unwrap(), [NOISY, QUIET, NOISY, QUIET, NOISY, NOISY]);
        assert_eq!(turns.free(), 1);
    }

    #[tokio::test]
    async fn the_longest_line_makes_room() {
        let turns = Turns::new(1, 3, PATIENCE);
        let _first = turns.take(NOISY).await.unwrap();
        let line_up = |whose| {
            let mut state = turns.lock();
            let room = state.waiting < turns.room || state.make_room(whose);
            room.then(|| state.line_up(whose))
        };
        let mut noisy: Vec<_> = (0..3).map(|_| line_up(NOISY).unwrap()).collect();
        assert!(turns.is_full(NOISY) && !turns.is_full(QUIET));
        assert!(line_up(NOISY).is_none(), "its own line is the longest");
        let _quiet = line_up(QUIET).unwrap();
        assert!(noisy[2].try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert!(line_up(QUIET).is_none(), "it would be as long as the longest");
        assert!(turns.is_full(QUIET));
        // Whoever left is no reason to send somebody away.
        drop(noisy.remove(0));
        assert!(!turns.is_full(QUIET));
        assert!(line_up(QUIET).is_some());
        assert_eq!(turns.lock().waiting, 3);
    }

    #[tokio::test]
    async fn no_turn_is_lost_to_those_who_leave() {
        let turns = Turns::new(1, 100, PATIENCE);
        let first = turns.take(NOISY).await.unwrap();
        // Leaves while it waits.
        assert!(timeout(Duration::ZERO, turns.take(QUIET)).await.is_err());
        // Leaves with the turn on its way.
        let mut leaving = Box::pin(turns.take(NOISY));
        assert!(futures_util::poll!(&mut leaving).is_pending());
        drop(first);
        assert_eq!(turns.free(), 0);
        drop(leaving);
        assert_eq!(turns.free(), 1);
    }
}
