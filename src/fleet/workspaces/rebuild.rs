//! The blind index made anew from every tenant's own database, while the installation runs.

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::AT_ONCE;
use super::carry::Source;
use crate::control::addresses;
use crate::control::tenants::{self, TenantFilter};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::parts::FailedPart;
use crate::fleet::{Fleet, Progress, admin};
use crate::kernel::{Slug, TenantId};
use crate::router::{MainConn, TenantStatus};
use crate::tenant::addresses as theirs;

/// How often one tenant is tried that nodes write of at the same time.
const TRIES: usize = 20;

/// What became of the tenants.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Indexed {
    /// Tenants whose people can be found.
    pub indexed: usize,
    /// Those whose schema does not say yet whose addresses are verified.
    pub behind: Vec<Slug>,
    /// Those that could not be read, with the cause.
    pub failed: Vec<FailedPart>,
    /// The key that is searched by.
    pub key_id: i32,
}

impl Fleet {
    /// Reads every tenant's verified addresses anew; under a new key, if it is asked for, which takes the former one's place
    /// once all are there. Can be interrupted and run again.
    ///
    /// # Errors
    /// If the control plane does not answer. Tenants that could not be read are no error: they are listed, and keep a new
    /// key from being searched by.
    pub async fn index_addresses(&self, new_key: bool, progress: &dyn Progress) -> ApiResult<Indexed> {
        let now = self.control.clock.now();
        let begin = async move |conn: &mut MainConn| {
            if new_key {
                addresses::add_key(conn, now).await?;
            }
            let all = tenants::list(conn, &TenantFilter::default()).await?.into_iter();
            Ok::<_, ApiError>(all.filter(|tenant| tenant.status != TenantStatus::Provisioning).collect::<Vec<_>>())
        };
        let all = self.control.db.transaction(begin).await?;
        let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let (mut indexed, mut behind, mut failed) = (0, Vec::new(), Vec::new());
        let (known, older): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|tenant| tenant.schema_version >= theirs::SINCE);
        behind.extend(older.into_iter().map(|tenant| tenant.slug));
        let mut under_way = stream::iter(known)
            .map(|tenant| async move { (tenant.slug, self.index_tenant(tenant.id).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((slug, done)) = under_way.next().await {
            match done {
                Ok(()) => indexed += 1,
                Err(error) => {
                    progress.note(&format!("{slug}: {}", error.client_detail()));
                    failed.push(FailedPart { slug, error: error.client_detail().to_owned() });
                }
            }
            let done = i64::try_from(indexed + failed.len() + behind.len()).unwrap_or(total);
            progress.advanced("tenants", done, total);
        }
        let whole = failed.is_empty();
        let end = async move |conn: &mut MainConn| {
            let newest = addresses::keys(conn).await?.into_iter().next();
            let newest = newest.ok_or_else(|| ApiError::internal("no key of addresses"))?;
            if whole && !newest.complete {
                addresses::complete(conn, newest.id, now).await?;
            }
            let searched = addresses::keys(conn).await?.into_iter().find(|key| key.complete);
            Ok::<_, ApiError>(searched.map_or(newest.id, |key| key.id))
        };
        let key_id = self.control.db.transaction(end).await?;
        Ok(Indexed { indexed, behind, failed, key_id })
    }

    async fn index_tenant(&self, tenant: TenantId) -> ApiResult<()> {
        let keys = self.control.keys.clone();
        let find = async move |conn: &mut MainConn| tenants::target(conn, &keys, tenant).await;
        let (_, direct) = self.control.db.read(find).await?;
        let mut own = admin::open_own(&direct).await?;
        for _ in 0..TRIES {
            let mut source = Source::Own(&mut own);
            if self.carry_everybody(tenant, &mut source).await? {
                return Ok(());
            }
        }
        Err(ApiError::new(Code::Conflict).detail("Its people change too quickly; try again."))
    }
}
