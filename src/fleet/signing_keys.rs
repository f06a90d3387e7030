//! Another signing key for a tenant: published before it signs, the former one accepted until its tokens have ended.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::Fleet;
use super::impersonate::LIFETIME;
use crate::control::signing_keys::{self, Made, Succession};
use crate::error::ApiResult;
use crate::kernel::{SigningKeyId, TenantId};
use crate::router::{KeyAlgorithm, MainConn};

/// How long a key is published before it signs: whoever keeps the JWKS for the minute that we allow has seen it by then,
/// twice over.
const PUBLISHED: TimeDelta = TimeDelta::minutes(2);
/// The same where it is urgent: for the nodes of the installation alone, which learn of it within two seconds.
const AT_ONCE: TimeDelta = TimeDelta::seconds(5);
/// How much longer than its tokens a former key is accepted.
const SLACK: TimeDelta = TimeDelta::minutes(1);

/// How a tenant's key is to be rotated.
#[derive(Debug, Clone, Copy, Default)]
pub struct RotateKeys {
    /// What the next key signs with; as the one before, if nothing is said.
    pub algorithm: Option<KeyAlgorithm>,
    /// It signs within seconds, not minutes.
    pub now: bool,
    /// The former keys are in wrong hands: the next one signs within seconds, and they are refused from then on.
    pub compromised: bool,
    /// How long an access token lives.
    pub token_ttl: TimeDelta,
}

/// A rotation that has begun.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotatedKeys {
    /// The next key.
    pub key_id: SigningKeyId,
    /// What it signs with.
    pub algorithm: KeyAlgorithm,
    /// When it begins to sign. It is published at once.
    pub signs_from: DateTime<Utc>,
    /// Until when tokens of the keys before it are accepted.
    pub former_until: DateTime<Utc>,
}

impl Fleet {
    /// Makes a tenant's next signing key. Nodes know it within two seconds, and sign with it from its time on.
    ///
    /// # Errors
    /// 404 if there is no such tenant; 409 while an earlier key has not begun to sign.
    pub async fn rotate_keys(&self, id: TenantId, wanted: RotateKeys) -> ApiResult<RotatedKeys> {
        self.rotate_keys_once(id, SigningKeyId::generate(), wanted).await
    }

    /// As [`Self::rotate_keys`], with this id for the next key. One that has it already was made by the same request, and
    /// is given again.
    ///
    /// # Errors
    /// As [`Self::rotate_keys`].
    pub(super) async fn rotate_keys_once(
        &self,
        id: TenantId,
        key_id: SigningKeyId,
        wanted: RotateKeys,
    ) -> ApiResult<RotatedKeys> {
        let now = self.control.clock.now();
        let urgent = wanted.now || wanted.compromised;
        let signs_from = now + if urgent { AT_ONCE } else { PUBLISHED };
        // Whoever acts as somebody has a token of its own length.
        let kept = if wanted.compromised { TimeDelta::zero() } else { wanted.token_ttl.max(LIFETIME) + SLACK };
        let (algorithm, compromised) = (wanted.algorithm, wanted.compromised);
        let succession = Succession { algorithm, signs_from, kept_until: signs_from + kept, compromised };
        let keys = self.control.keys.clone();
        let made = self.control.db.transaction(async move |conn: &mut MainConn| {
            signing_keys::rotate(conn, &keys, (key_id, id), succession, now).await
        });
        let Made { algorithm, signs_from, before } = made.await?;
        if !before {
            tracing::warn!(tenant = %id, key = %key_id, %algorithm, %signs_from, compromised, "a signing key is rotated");
        }
        Ok(RotatedKeys { key_id, algorithm, signs_from, former_until: signs_from + kept })
    }
}
