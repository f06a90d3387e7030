//! One operation of many parts: so many at a time, each with its own journal; what could not be done is listed, and left
//! to the next run.

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::Journal;
use crate::error::ApiResult;
use crate::kernel::{Slug, TenantId};

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
}

/// Does the same for each of these tenants, `at_once` of them together.
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
    let mut parts = Parts::default();
    let mut under_way = stream::iter(tenants.into_iter().map(|(id, slug)| {
        let work = work(id);
        async move { (slug, work.await) }
    }))
    .buffer_unordered(at_once);
    for done in 1.. {
        let Some((slug, result)) = under_way.next().await else { break };
        match result {
            Ok(()) => parts.done.push(slug),
            Err(error) => {
                journal.progress().note(&format!("{slug}: {}", error.client_detail()));
                parts.failed.push(FailedPart { slug, error: error.client_detail().to_owned() });
            }
        }
        journal.advance(done, total).await?;
    }
    parts.failed.sort_by(|a, b| a.slug.as_str().cmp(b.slug.as_str()));
    Ok(parts)
}
