//! Connections that were abandoned in the middle of something, and the right to bring each back to order.

use std::sync::Arc;

#[cfg(test)]
use crate::router::pools::model::mutant::{self, Mutant};
use crate::router::pools::pooled::{Line, Pooled};

/// The right to bring an abandoned connection back to order. There is one each time it is abandoned: however many find
/// it drained, one ROLLBACK is sent, and none that might meet the next request's transaction.
#[derive(Debug)]
pub(crate) struct Recovery<L>(Arc<Pooled<L>>);

impl<L> Recovery<L> {
    pub(in crate::router::pools) const fn conn(&self) -> &Arc<Pooled<L>> {
        &self.0
    }

    /// It is over.
    pub(super) fn end(self) -> Arc<Pooled<L>> {
        self.0
    }
}

/// Sealed. Serves again when its recovery has ended well.
pub(super) struct Abandoned<L> {
    conn: Arc<Pooled<L>>,
    /// Until it begins.
    recovery: Option<Recovery<L>>,
}

impl<L: Line> Abandoned<L> {
    pub(super) fn new(conn: Arc<Pooled<L>>) -> Self {
        Self { recovery: Some(Recovery(conn.clone())), conn }
    }

    pub(super) fn is(&self, conn: &Arc<Pooled<L>>) -> bool {
        Arc::ptr_eq(&self.conn, conn)
    }

    /// Begins its recovery, if everybody has left it and nobody has begun that before.
    pub(super) fn begin(&mut self) -> Option<Recovery<L>> {
        if !self.conn.leases.is_drained() {
            return None;
        }
        #[cfg(test)]
        if mutant::is(Mutant::RecoversTwice) {
            return Some(Recovery(self.conn.clone()));
        }
        self.recovery.take()
    }
}
