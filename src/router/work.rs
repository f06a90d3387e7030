//! A closure that works on a connection, with a future that can be named (and so be `Send`).

/// Implemented by every `async |conn| …`. It says the same as [`AsyncFnOnce`], and names the future, which stable Rust
/// cannot do yet otherwise (rust-lang/rust#109417).
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
