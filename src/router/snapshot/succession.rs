//! Which node had the file before. Whoever has it now knows that one to have ended, because no two have it at once: what
//! it held elsewhere need not be waited for until its lease runs out.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use super::LastKnown;
use super::file::SnapshotFile;
use crate::router::slices::NodeId;

/// How long a start waits for a slow disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// `registry.redb.node` beside `registry.redb`: a file of its own, because a neighbour's snapshot may be taken over.
fn mark(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".node");
    name.into()
}

/// The node that had a file last, read before this one could be named. A mark that cannot be read says nothing.
pub(super) fn last_had_by(path: &Path) -> Option<NodeId> {
    fs::read_to_string(mark(path)).ok()?.trim().parse::<Uuid>().ok().map(NodeId::from)
}

/// What is known of the node before this one.
pub(in crate::router) struct Succession(Arc<SnapshotFile>);

impl Succession {
    /// The node that had the file before; `None` once that was told.
    pub(in crate::router) fn before(&self) -> Option<NodeId> {
        self.0.before.filter(|_| !self.0.told.load(Ordering::Acquire))
    }

    /// The registry knows that it ended. From here on the file is known to be this node's.
    pub(in crate::router) async fn succeed(self, node: NodeId) {
        if self.0.told.swap(true, Ordering::AcqRel) {
            return;
        }
        let mark = mark(self.0.path());
        let written = tokio::task::spawn_blocking(move || fs::write(mark, node.uuid().to_string())).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(%error, "the next node here will not know of this one");
        }
    }
}

impl LastKnown {
    /// Waits until the file is open. One that takes longer is opened all the same.
    pub(in crate::router) async fn opened(&self) {
        let inner = self.inner.clone();
        // In a task of its own: an opening that is given up would keep the file from the next one.
        let opening = tokio::spawn(async move { inner.file().await.is_some() });
        if timeout(PATIENCE, opening).await.is_err() {
            tracing::debug!("the registry snapshot is not open yet");
        }
    }

    /// What is known of the node before; `None` while the file is not open.
    pub(in crate::router) fn succession(&self) -> Option<Succession> {
        self.inner.file.get()?.clone().map(Succession)
    }
}
