//! What a cluster's connection budget may be. Whether it holds when a node starts: `router/slices/floor.rs`.

use super::{Fleet, admin};
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
    /// Refuses a budget that the cluster's server cannot keep; one that does not answer is believed.
    pub(super) async fn check_budget(&self, server: &Target, budget: i32) -> ApiResult<()> {
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
