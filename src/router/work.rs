//! Closures that work on a connection, with a future that can be named (and so be `Send`), which stable Rust cannot do
//! yet otherwise (rust-lang/rust#109417).

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
