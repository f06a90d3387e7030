//! Which node had the file before. Whoever has it now knows that one to have ended, because no two have it at once: what
//! it held elsewhere need not be waited for until its lease runs out.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::LastKnown;
use super::file::SnapshotFile;
use crate::router::slices::NodeId;

impl SnapshotFile {
    /// `registry.node` beside `registry.redb`: a file of its own, because a neighbour's snapshot may be taken over.
    fn mark(&self) -> PathBuf {
        self.path().with_extension("node")
    }

    /// The node that had the file last. A mark that cannot be read says nothing.
    fn last_had_by(&self) -> Option<NodeId> {
        fs::read_to_string(self.mark()).ok()?.trim().parse::<Uuid>().ok().map(NodeId::from)
    }
}

impl LastKnown {
    /// The node that had this one's file before, until [`Self::succeed`]; also `None` as long as the file is not open.
    pub(in crate::router) async fn predecessor(&self) -> Option<NodeId> {
        if self.inner.succeeded.load(Ordering::Acquire) {
            return None;
        }
        let file = self.inner.file.get()?.clone()?;
        tokio::task::spawn_blocking(move || file.last_had_by()).await.ok().flatten()
    }

    /// Nothing is left to be said of the node before: from here on the file is known to be this one's.
    pub(in crate::router) async fn succeed(&self, node: NodeId) {
        let Some(file) = self.inner.file.get() else { return };
        if self.inner.succeeded.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(mark) = file.as_ref().map(|file| file.mark()) else { return };
        let written = tokio::task::spawn_blocking(move || fs::write(mark, node.uuid().to_string())).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(%error, "the next node here will not know of this one");
        }
    }
}
