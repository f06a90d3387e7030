//! The id of the request that work is done for, for whatever runs within it: lines of the audit and jobs have it.

use std::sync::Arc;

tokio::task_local! {
    static CURRENT: Option<Arc<str>>;
}

/// The id of the request that the current task works for; `None` for work that no request causes. A few nanoseconds.
#[must_use]
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Does `work` for a request, or for none.
pub async fn within<F: Future>(id: Option<Arc<str>>, work: F) -> F::Output {
    CURRENT.scope(id, work).await
}

/// The same work, for the request of now wherever it is done: a task that is spawned knows of none by itself.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    within(current(), work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_known_inside_and_in_a_task_that_it_is_carried_to() {
        let here = async || current();
        let spawned = async || {
            let (bare, carried) = (tokio::spawn(async { current() }), tokio::spawn(carried(async { current() })));
            (bare.await.unwrap(), carried.await.unwrap())
        };
        let id: Option<Arc<str>> = Some("abc".into());
        assert_eq!(within(id.clone(), here()).await, id);
        assert_eq!(within(id.clone(), spawned()).await, (None, id.clone()));
        assert_eq!(within(id, within(None, here())).await, None);
        assert_eq!(current(), None);
    }
}
