//! One operation of many parts: so many at a time, each with its own journal; what could not be done is listed, and left
//! to the next run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use utoipa::ToSchema;

use super::lock;
use super::operation::Journal;
use crate::error::ApiResult;
use crate::kernel::{Slug, TenantId};

/// How often is looked whether somebody asked that it stop, while parts take long.
const LOOK: Duration = Duration::from_secs(1);

/// A part that could not be done.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FailedPart {
    /// The tenant.
    pub slug: Slug,
    /// Why, for the operator.
    pub error: String,
}

/// What became of the parts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Parts {
    pub(super) done: Vec<Slug>,
    pub(super) failed: Vec<FailedPart>,
    /// Those of the failed that somebody else was working on.
    pub(super) busy: Vec<(TenantId, Slug)>,
}

/// Does the same for each of these tenants, `at_once` of them together. Once it has to stop none is begun any more, and
/// those under way are told to stop, and waited for: nothing is dropped in the middle.
///
/// # Errors
/// If the journal cannot be written, or somebody asked the operation to stop.
pub(super) async fn each<F, Fut>(
    journal: &mut Journal<'_>,
    tenants: Vec<(TenantId, Slug)>,
    at_once: usize,
    work: F,
) -> ApiResult<Parts>
where
    F: Fn(TenantId) -> Fut,
    Fut: Future<Output = ApiResult<()>>,
{
    let total = i64::try_from(tenants.len()).unwrap_or(i64::MAX);
    let (mut parts, mut done, mut ended) = (Parts::default(), 0, Ok(()));
    let stopped = Arc::new(AtomicBool::new(false));
    let has_stopped = stopped.clone();
    let mut tenants = tenants.into_iter();
    let left = std::iter::from_fn(move || if has_stopped.load(Ordering::Relaxed) { None } else { tenants.next() });
    let mut under_way = stream::iter(left.map(|(id, slug)| {
        let work = work(id);
        async move { ((id, slug), work.await) }
    }))
    .buffer_unordered(at_once);
    loop {
        tokio::select! {
            part = under_way.next() => {
                let Some(((id, slug), result)) = part else { break };
                done += 1;
                match result {
                    Ok(()) => parts.done.push(slug),
                    Err(error) => {
                        journal.progress().note(&format!("{slug}: {}", error.client_detail()));
                        if lock::is_busy(&error) {
                            parts.busy.push((id, slug.clone()));
                        }
                        parts.failed.push(FailedPart { slug, error: error.client_detail().to_owned() });
                    }
                }
            }
            () = sleep(LOOK) => {}
        }
        if ended.is_ok() {
            ended = journal.advance(done, total).await;
        }
        if ended.is_err() {
            stopped.store(true, Ordering::Relaxed);
            journal.cancel_parts().await;
        }
    }
    ended?;
    parts.failed.sort_by(|a, b| a.slug.as_str().cmp(b.slug.as_str()));
    Ok(parts)
}
