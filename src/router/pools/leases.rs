//! Who is on a connection now: readers together, or one request alone. One atomic word, so that a warm request takes no
//! lock.
//!
//! Sealing is how the scheduler gets a connection back: nobody joins a sealed one, and whoever is last to leave it is
//! told so and tells the scheduler. The tests try every interleaving of it (loom).

use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(test)]
use super::model::mutant::{self, Mutant};

const SEALED: u32 = 1 << 31;
const ALONE: u32 = 1 << 30;

/// The word, so that loom's may take its place in tests.
pub(crate) trait Word {
    /// A word that holds nothing.
    fn zero() -> Self;
    /// What it holds.
    fn get(&self) -> u32;
    /// Changes it, unless `change` gives `None`. What it held before, or what it holds.
    fn change(&self, change: impl FnMut(u32) -> Option<u32>) -> Result<u32, u32>;
}

impl Word for AtomicU32 {
    fn zero() -> Self {
        Self::new(0)
    }
    fn get(&self) -> u32 {
        self.load(Ordering::SeqCst)
    }
    fn change(&self, change: impl FnMut(u32) -> Option<u32>) -> Result<u32, u32> {
        self.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change)
    }
}

/// What a leaving request leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The connection takes requests, or others are still on it.
    InUse,
    /// It is sealed and nobody is on it any more: the scheduler must hear of it.
    Drained,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Leases<A = AtomicU32>(A);

impl<A: Word> Leases<A> {
    pub(crate) fn new() -> Self {
        Self(A::zero())
    }

    /// Joins the readers, unless there are `limit` of them, somebody is alone on it, or it is sealed.
    pub(crate) fn join(&self, limit: u32) -> bool {
        self.0.change(|now| (now < limit).then(|| now + 1)).is_ok()
    }

    /// Takes the whole connection, if nobody is on it and it is not sealed.
    pub(crate) fn join_alone(&self) -> bool {
        self.0.change(|now| (now == 0).then_some(ALONE)).is_ok()
    }

    /// For whoever sealed it: takes the whole connection for a request once it is drained.
    pub(crate) fn unseal_alone(&self) -> bool {
        self.0.change(|now| (now == SEALED).then_some(ALONE)).is_ok()
    }

    /// Leaves; `alone` as it was joined.
    pub(crate) fn leave(&self, alone: bool) -> Left {
        let left = |now: u32| if alone { now & !ALONE } else { now - 1 };
        let before = self.0.change(|now| Some(left(now)));
        #[cfg(test)]
        if mutant::is(Mutant::ForgetsTheLast) {
            return Left::InUse;
        }
        match before {
            Ok(before) if left(before) == SEALED => Left::Drained,
            _ => Left::InUse,
        }
    }

    /// Keeps newcomers away. True if nobody was on it: then it is the caller's.
    pub(crate) fn seal(&self) -> bool {
        self.0.change(|now| Some(now | SEALED)).is_ok_and(|before| before & !SEALED == 0)
    }

    /// Seals it if nobody is on it.
    pub(crate) fn seal_idle(&self) -> bool {
        self.0.change(|now| (now == 0).then_some(SEALED)).is_ok()
    }

    /// Lets newcomers in again.
    pub(crate) fn unseal(&self) {
        let _ = self.0.change(|now| Some(now & !SEALED));
    }

    /// Whether it is sealed and nobody is on it.
    pub(crate) fn is_drained(&self) -> bool {
        self.0.get() == SEALED
    }

    /// Whether nobody is on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.get() & !SEALED == 0
    }

    /// How many readers are on it, or `None` if it takes none now.
    pub(crate) fn readers(&self) -> Option<u32> {
        Some(self.0.get()).filter(|now| now & (SEALED | ALONE) == 0)
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    impl Word for loom::sync::atomic::AtomicU32 {
        fn zero() -> Self {
            Self::new(0)
        }
        fn get(&self) -> u32 {
            self.load(Ordering::SeqCst)
        }
        fn change(&self, change: impl FnMut(u32) -> Option<u32>) -> Result<u32, u32> {
            self.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change)
        }
    }

    type Modelled = Leases<loom::sync::atomic::AtomicU32>;

    /// A reader, a writer and the sealing scheduler, in every interleaving with at most three switches away from one that
    /// could go on. Without a bound it takes many times as long.
    fn seal_under_a_reader_and_a_writer() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let leases = Arc::new(Modelled::new());
            let on_it = Arc::new(loom::sync::atomic::AtomicU32::new(0));
            let users: Vec<_> = [false, true]
                .into_iter()
                .map(|alone| {
                    let (leases, on_it) = (leases.clone(), on_it.clone());
                    thread::spawn(move || {
                        let joined = if alone { leases.join_alone() } else { leases.join(2) };
                        if !joined {
                            return false;
                        }
                        on_it.fetch_add(1, Ordering::SeqCst);
                        on_it.fetch_sub(1, Ordering::SeqCst);
                        leases.leave(alone) == Left::Drained
                    })
                })
                .collect();
            let mut heard = usize::from(leases.seal());
            if heard == 1 {
                assert_eq!(on_it.load(Ordering::SeqCst), 0, "sealed while idle, and yet somebody is on it");
            }
            for user in users {
                heard += usize::from(user.join().expect("a user"));
            }
            assert_eq!(heard, 1, "drained is heard of once");
            assert!(leases.is_drained());
        });
    }

    /// However they interleave, exactly one of them learns that the connection is drained, and at that moment nobody is
    /// on it.
    #[test]
    fn somebody_hears_of_the_last_to_leave() {
        seal_under_a_reader_and_a_writer();
    }

    #[test]
    #[should_panic(expected = "drained is heard of once")]
    fn not_hearing_of_the_last_is_found_out() {
        let _broken = mutant::with(Mutant::ForgetsTheLast);
        seal_under_a_reader_and_a_writer();
    }

    /// A request that is alone really is.
    #[test]
    fn alone_is_alone() {
        loom::model(|| {
            let leases = Arc::new(Modelled::new());
            let on_it = Arc::new(loom::sync::atomic::AtomicU32::new(0));
            let reader = {
                let (leases, on_it) = (leases.clone(), on_it.clone());
                thread::spawn(move || {
                    if leases.join(2) {
                        on_it.fetch_add(1, Ordering::SeqCst);
                        on_it.fetch_sub(1, Ordering::SeqCst);
                        leases.leave(false);
                    }
                })
            };
            // As the scheduler reserves it for a request that must be alone.
            let mine = leases.join_alone() || (leases.seal() && leases.unseal_alone());
            if mine {
                assert_eq!(on_it.load(Ordering::SeqCst), 0, "a reader is on it");
                leases.leave(true);
            }
            reader.join().expect("a reader");
        });
    }
}
