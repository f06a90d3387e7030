//! Work on many things, each of which needs a server: one that does not answer holds up nothing that needs another.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use uuid::Uuid;

use super::Fleet;
use crate::kernel::{ClusterId, TenantId};

/// What a database may take to go, with all that goes with it.
pub(super) const DROP: Duration = Duration::from_secs(10 * 60);
/// Servers that are worked on at the same time.
const AT_ONCE: usize = 8;

/// What the server of a tenant is known by: a dedicated one is the tenant's own.
pub(super) fn server_of(cluster: Option<ClusterId>, tenant: TenantId) -> Uuid {
    cluster.map_or(tenant.uuid(), ClusterId::uuid)
}

/// Does `work` on each thing, one after the other on each server, and gives on how many something was done. One that is not
/// done within `each`, and what else needs its server, is left for the next time.
pub(super) async fn by_server<T, F, W>(things: Vec<(Uuid, T)>, each: Duration, work: F) -> usize
where
    T: Send,
    F: Fn(T) -> W + Send + Sync,
    W: Future<Output = bool> + Send,
{
    let mut servers: BTreeMap<Uuid, Vec<T>> = BTreeMap::new();
    for (server, thing) in things {
        servers.entry(server).or_default().push(thing);
    }
    let sweeps: Vec<_> = servers.into_iter().map(|(server, things)| on_one(server, things, each, &work)).collect();
    let done: Vec<usize> = stream::iter(sweeps).buffer_unordered(AT_ONCE).collect().await;
    done.into_iter().sum()
}

async fn on_one<T, F, W>(server: Uuid, things: Vec<T>, each: Duration, work: &F) -> usize
where
    T: Send,
    F: Fn(T) -> W + Send + Sync,
    W: Future<Output = bool> + Send,
{
    let (mut done, all) = (0, things.len());
    for (number, thing) in things.into_iter().enumerate() {
        match timeout(each, work(thing)).await {
            Ok(worked) => done += usize::from(worked),
            Err(_) => {
                let left = all - number;
                tracing::warn!(%server, left, "a server was not done with in time; what is left waits for the next sweep");
                break;
            }
        }
    }
    done
}

impl Fleet {
    /// How long one thing of a sweep may take.
    pub(super) fn sweep_deadline(&self, usual: Duration) -> Duration {
        self.look_deadline.unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;

    #[tokio::test]
    async fn a_server_that_hangs_holds_up_itself_alone() {
        let (frozen, well) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let things = vec![(frozen, 1), (frozen, 2), (well, 3), (frozen, 4), (well, 5), (well, 6)];
        let work = |thing: u32| -> BoxFuture<'static, bool> {
            match thing {
                2 => pending().boxed(),
                4 => panic!("its server does not answer"),
                _ => ready(thing != 5).boxed(),
            }
        };
        assert_eq!(by_server(things, Duration::from_millis(20), work).await, 3, "1, 3 and 6");
    }
}
