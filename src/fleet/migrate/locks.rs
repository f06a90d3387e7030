//! The tenants' locks of a run, held by one session that is replaced when it breaks.

use std::collections::HashSet;

use tokio::sync::Mutex as AsyncMutex;

use super::patience::patiently;
use crate::control::ControlPlane;
use crate::error::ApiResult;
use crate::fleet::lock::ManyLocks;
use crate::kernel::TenantId;

/// See the module.
pub(super) struct Locks {
    control: ControlPlane,
    session: AsyncMutex<Session>,
}

struct Session {
    /// None since it broke.
    many: Option<ManyLocks>,
    held: HashSet<TenantId>,
    /// Those of them that another session still holds: that of before, most likely, whose end the server has not noticed.
    missing: HashSet<TenantId>,
}

impl Locks {
    /// None yet.
    ///
    /// # Errors
    /// 503 if the control plane does not answer.
    pub(super) async fn open(control: &ControlPlane) -> ApiResult<Self> {
        let many = Some(ManyLocks::open(control).await?);
        Ok(Self {
            control: control.clone(),
            session: AsyncMutex::new(Session { many, held: HashSet::new(), missing: HashSet::new() }),
        })
    }

    /// Takes those that are free, and gives them.
    ///
    /// # Errors
    /// As [`Self::open`], after a while.
    pub(super) async fn try_take(&self, tenants: &[TenantId]) -> ApiResult<HashSet<TenantId>> {
        patiently(|| self.take_now(tenants)).await
    }

    async fn take_now(&self, tenants: &[TenantId]) -> ApiResult<HashSet<TenantId>> {
        let mut session = self.session.lock().await;
        let taken = session.of(&self.control).await?.try_take(tenants).await;
        if taken.is_err() {
            session.many = None;
        }
        let taken = taken?;
        session.held.extend(&taken);
        session.recover().await;
        Ok(taken)
    }

    /// Gives these back.
    pub(super) async fn release(&self, tenants: &[TenantId]) {
        let mut session = self.session.lock().await;
        session.held.retain(|held| !tenants.contains(held));
        session.missing.retain(|missing| !tenants.contains(missing));
        let Some(many) = &session.many else { return };
        let released = many.release(tenants).await;
        if let Err(error) = released {
            // They went with their session; those that are still worked on are taken again at once, if that can be.
            tracing::info!(%error, "the session that held the tenants' locks broke");
            session.many = None;
            let _ = session.of(&self.control).await;
        }
        session.recover().await;
    }
}

impl Session {
    async fn of(&mut self, control: &ControlPlane) -> ApiResult<&ManyLocks> {
        let many = match self.many.take() {
            Some(many) => many,
            None => self.again(control).await?,
        };
        Ok(self.many.insert(many))
    }

    /// Another session, with the locks of those that are under way.
    async fn again(&mut self, control: &ControlPlane) -> ApiResult<ManyLocks> {
        let many = ManyLocks::open(control).await?;
        let held: Vec<_> = self.held.iter().copied().collect();
        let taken = many.try_take(&held).await?;
        self.missing = held.into_iter().filter(|held| !taken.contains(held)).collect();
        if !self.missing.is_empty() {
            let missing = self.missing.len();
            tracing::warn!(missing, "locks of tenants that are being migrated are still held by another session");
        }
        Ok(many)
    }

    /// Takes what could not be taken again yet. None is taken twice: it would have to be given back twice.
    async fn recover(&mut self) {
        let Some(many) = self.many.as_ref().filter(|_| !self.missing.is_empty()) else { return };
        let missing: Vec<_> = self.missing.iter().copied().collect();
        match many.try_take(&missing).await {
            Ok(taken) => self.missing.retain(|missing| !taken.contains(missing)),
            Err(error) => tracing::info!(%error, "locks could not be taken again"),
        }
    }
}
