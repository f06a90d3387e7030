//! Closures that work on a connection, with a future that can be named (and so be `Send`), which stable Rust cannot do
//! yet otherwise (rust-lang/rust#109417); and how often their work is done again.

/// Another connection is likely to be fit.
const UNFIT: u32 = 1;
/// Those beside a reader may go away one after the other.
const STRUCK: u32 = 4;

/// Implemented by every `async |conn| …`. Says the same as [`AsyncFnOnce`], and names the future.
pub trait Work<A, R>: AsyncFnOnce(A) -> R + FnOnce(A) -> <Self as Work<A, R>>::Fut {
    /// The future that the closure returns.
    type Fut: Future<Output = R>;
}

impl<F, A, Fut, R> Work<A, R> for F
where
    F: AsyncFnOnce(A) -> R + FnOnce(A) -> Fut,
    Fut: Future<Output = R>,
{
    type Fut = Fut;
}

/// Implemented by every `async |conn| …` that can be called again: it borrows what it needs and uses nothing up.
pub trait Rework<A, R>: AsyncFn(A) -> R + Fn(A) -> <Self as Rework<A, R>>::Fut {
    /// The future that the closure returns.
    type Fut: Future<Output = R>;
}

impl<F, A, Fut, R> Rework<A, R> for F
where
    F: AsyncFn(A) -> R + Fn(A) -> Fut,
    Fut: Future<Output = R>,
{
    type Fut = Fut;
}

/// Why work failed with which nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is closed, or what it had prepared is dead.
    Unfit,
    /// The statement was cancelled in place of another that was abandoned.
    Struck,
}

/// How often work was done again.
#[derive(Debug, Default)]
pub(super) struct Retries {
    unfit: u32,
    struck: u32,
}

impl Retries {
    /// Whether to do it once more, which is then counted.
    pub(super) const fn once_more(&mut self, fault: Fault) -> bool {
        let (done, most) = match fault {
            Fault::Unfit => (&mut self.unfit, UNFIT),
            Fault::Struck => (&mut self.struck, STRUCK),
        };
        let more = *done < most;
        if more {
            *done += 1;
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_again_within_bounds_for_each_fault() {
        let mut retries = Retries::default();
        assert!(retries.once_more(Fault::Unfit));
        for _ in 0..STRUCK {
            assert!(retries.once_more(Fault::Struck), "it broke, and then others went away");
        }
        assert!(!retries.once_more(Fault::Struck) && !retries.once_more(Fault::Unfit));
    }
}
