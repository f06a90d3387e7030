//! The searches: who has the address, and confirms it now, is told by mail.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::StreamExt as _;
use tokio::time::timeout;
use uuid::Uuid;

use super::{AT_ONCE, BATCH, BATCHES, LEASE, Workspaces};
use crate::control::addresses::{self, AddressKey, Place};
use crate::control::searches::{self, Search};
use crate::error::{ApiError, ApiResult};
use crate::router::{MainConn, TenantDb};
use crate::tenant::addresses::{self as theirs, Reached, Workspace};

/// How long one tenant is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a search is tried whose tenants do not answer.
const TRIED_FOR: TimeDelta = TimeDelta::minutes(10);

/// Somebody who confirmed the address.
struct Confirmed {
    db: TenantDb,
    user: Uuid,
    person: Reached,
}

impl Workspaces {
    /// Does the searches that were asked for, a bounded number.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn search(&self) -> ApiResult<()> {
        for _ in 0..BATCHES {
            let now = self.fleet.control.clock.now();
            let take = async move |conn: &mut MainConn| -> ApiResult<Vec<Search>> {
                Ok(searches::take(conn, BATCH, LEASE, now).await?)
            };
            let taken = self.fleet.control.db.read(take).await?;
            if taken.is_empty() {
                break;
            }
            let done = futures_util::stream::iter(taken).map(|search| self.search_one(search));
            let done = done.buffer_unordered(AT_ONCE);
            done.fold(Ok(()), async |all: ApiResult<()>, one| all.and(one)).await?;
        }
        Ok(())
    }

    async fn search_one(&self, search: Search) -> ApiResult<()> {
        let (key, digest) = (search.key_id, search.digest.clone());
        let find =
            async move |conn: &mut MainConn| -> ApiResult<_> { Ok(addresses::places(conn, key, &digest).await?) };
        let places = self.fleet.control.db.read(find).await?;
        let asked = futures_util::stream::iter(places).map(|place| self.confirm(&search, place));
        let answers: Vec<ApiResult<Option<Confirmed>>> = asked.buffered(AT_ONCE).collect().await;
        let away = answers.iter().any(Result::is_err);
        let confirmed: Vec<Confirmed> = answers.into_iter().filter_map(|answer| answer.ok().flatten()).collect();
        let too_late = self.fleet.control.clock.now() - search.asked_at > TRIED_FOR;
        match tell(&confirmed, &search).await {
            // It is theirs who took it until then; after that, it is tried again.
            Ok(false) if away && !too_late => return Ok(()),
            Err(error) if !too_late => {
                tracing::warn!(%error, cause = ?error.cause(), "a mail about workspaces waits");
                return Ok(());
            }
            _ => {}
        }
        let finish = async move |conn: &mut MainConn| -> ApiResult<()> { Ok(searches::finish(conn, &search).await?) };
        self.fleet.control.db.read(finish).await
    }

    /// Asks a tenant whether the person is there, with this address, and may come in.
    async fn confirm(&self, search: &Search, place: Place) -> ApiResult<Option<Confirmed>> {
        let tenant = place.tenant_id;
        let ask = async {
            let db = self.router.of_tenant(tenant).await?;
            let person = theirs::reach(&db, place.user_id).await?;
            Ok::<_, ApiError>((db, person))
        };
        let asked = timeout(PATIENCE, ask).await.map_err(ApiError::internal).and_then(|asked| asked);
        let (db, person) =
            asked.inspect_err(|error| tracing::warn!(%tenant, %error, "a tenant was not asked for a workspace"))?;
        let key = AddressKey { id: search.key_id, complete: true };
        let mac = &self.fleet.installation().await?.mac;
        // The owner of a database of their own writes its columns: what is found by and what is written to are one address.
        let is_asked_for = |address: &str| key.digest(mac, address)[..] == search.digest[..];
        let same = |person: &Reached| is_asked_for(&person.address) && is_asked_for(&person.written_to());
        let person = person.filter(same);
        Ok(person.map(|person| Confirmed { db, user: place.user_id, person }))
    }
}

/// Queues the mail at the first of the tenants that takes it. False if nobody confirmed anything.
async fn tell(confirmed: &[Confirmed], search: &Search) -> ApiResult<bool> {
    let workspace = |one: &Confirmed| {
        let tenant = one.db.tenant();
        Workspace { name: tenant.name.clone(), slug: tenant.slug.to_string() }
    };
    let all: Vec<Workspace> = confirmed.iter().map(workspace).collect();
    let mut failed = None;
    for one in confirmed {
        match theirs::tell(&one.db, (one.user, &one.person), all.clone(), search.asked_at).await {
            Ok(()) => return Ok(true),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(false), Err)
}
