//! What a cluster's connection budget may be. Whether it holds when a node starts: `router/slices/floor.rs`.

use super::{Fleet, admin};
use crate::control::clusters::{Cluster, ClusterChanges};
use crate::error::{ApiError, ApiResult};
use crate::router::{Room, Target};

/// Refuses a budget that the server cannot keep.
pub(super) fn allow(room: Room, budget: i32) -> ApiResult<()> {
    if budget <= room.left() {
        return Ok(());
    }
    let said = format!(
        "A connection budget of {budget} cannot be kept: {}. Choose at most {}, or raise max_connections there.",
        room.arithmetic(),
        room.left()
    );
    Err(ApiError::invalid_field("connectionBudget", "too_large", said.clone()).detail(said))
}

impl Fleet {
    /// The budget that the nodes keep for a cluster: its own, or that of their settings.
    pub(super) fn budget_of(&self, own: Option<i32>) -> i32 {
        own.unwrap_or_else(|| i32::try_from(self.settings.cluster_budget).unwrap_or(i32::MAX))
    }

    /// Makes the server that a cluster is to have ready, and refuses what no node could start with: a budget, the
    /// cluster's own or another one, that its server cannot keep.
    pub(super) async fn check_change(&self, known: &Cluster, changes: &ClusterChanges) -> ApiResult<()> {
        let budget = self.budget_of(changes.connection_budget.unwrap_or(known.connection_budget));
        match &changes.admin {
            Some(admin) => allow(self.prepare(admin).await?, budget),
            None if changes.connection_budget.is_some() => self.check_budget(&known.admin, budget).await,
            None => Ok(()),
        }
    }

    /// Refuses a budget that the cluster's server cannot keep; one that does not answer is believed.
    async fn check_budget(&self, server: &Target, budget: i32) -> ApiResult<()> {
        let room = async { Ok::<_, ApiError>(Room::read(&mut admin::open(server).await?).await?) };
        match room.await {
            Ok(room) => allow(room, budget),
            Err(error) => {
                tracing::warn!(?error, "the server does not answer, so nothing says whether it can keep the budget");
                Ok(())
            }
        }
    }
}
