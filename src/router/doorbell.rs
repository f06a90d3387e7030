//! Word that something waits in a tenant's database, for whoever does such work: nobody looks where nothing was said.

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::kernel::TenantId;

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// Mail to be sent.
    Mail,
    /// Changes of addresses that the installation's blind index has not heard of.
    Addresses,
}

/// Where the word goes. The server's implementation keeps it in the control plane.
#[async_trait]
pub trait Doorbell: Send + Sync + 'static {
    /// Takes the word: such work of this tenant may become visible until `settles`. Answers within a second or so, and
    /// keeps in memory what it cannot pass on.
    async fn ring(&self, tenant: TenantId, waiting: Waiting, settles: DateTime<Utc>);
}

/// The one that this router rings; without one, nobody hears.
#[derive(Default)]
pub(super) struct Bell(OnceLock<Arc<dyn Doorbell>>);

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bell({})", self.0.get().is_some())
    }
}

impl Bell {
    pub(super) fn set(&self, doorbell: Arc<dyn Doorbell>) {
        // The first one stays.
        let _ = self.0.set(doorbell);
    }

    pub(super) async fn ring(&self, tenant: TenantId, waiting: Waiting, settles: DateTime<Utc>) {
        if let Some(doorbell) = self.0.get() {
            doorbell.ring(tenant, waiting, settles).await;
        }
    }
}
