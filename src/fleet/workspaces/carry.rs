//! From what a tenant's database notes to the blind index: as often as it takes, with the same outcome.
//!
//! The tenant's part of the index has a generation. It is read first, then the tenant; what was read is written only if
//! nobody has written since. So of two who carry the same tenant at the same time, the one who knows less is refused.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{LEASE, Workspaces};
use crate::control::addresses::{self, AddressKey, Entry, Part};
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::looks::{Looked, Looks, served};
use crate::kernel::TenantId;
use crate::router::{AdminConn, MainConn, TenantConn, TenantDb, TenantTx, Waiting};
use crate::tenant::addresses::{self as theirs, News, Verified};

/// People who are read, and written, at a time.
const PAGE: i64 = 1_000;
/// And how often of one tenant, before others have their turn.
const PAGES: usize = 1_000;
/// A tenant that does not serve, or whose schema notes nothing yet, will not have news soon.
const LOOKS: Looks = Looks { waiting: Waiting::Addresses, lease: LEASE, not_now: TimeDelta::minutes(10) };

/// A tenant's database, from a pool or on a connection of one's own.
pub(super) enum Source<'a> {
    /// Of a node that serves it.
    Pool(&'a TenantDb),
    /// Of a command.
    Own(&'a mut AdminConn),
}

impl Source<'_> {
    async fn news(&mut self) -> ApiResult<Vec<News>> {
        match self {
            Self::Pool(db) => {
                db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(theirs::news(conn, PAGE).await?) }).await
            }
            Self::Own(conn) => Ok(theirs::news(&mut **conn, PAGE).await?),
        }
    }

    async fn verified(&mut self, after: Uuid) -> ApiResult<Vec<Verified>> {
        match self {
            Self::Pool(db) => {
                let read =
                    async |conn: &mut TenantConn| -> ApiResult<_> { Ok(theirs::verified(conn, after, PAGE).await?) };
                db.read(read).await
            }
            Self::Own(conn) => Ok(theirs::verified(&mut **conn, after, PAGE).await?),
        }
    }

    async fn carried(&mut self, news: &[News]) -> ApiResult<()> {
        match self {
            Self::Pool(db) => {
                let done = async |conn: &mut TenantTx| -> ApiResult<()> {
                    Ok(theirs::carried::<TenantConn>(conn, news).await?)
                };
                db.transaction(done).await
            }
            Self::Own(conn) => Ok(theirs::carried(&mut **conn, news).await?),
        }
    }
}

impl Workspaces {
    /// Looks into tenants that have news, a bounded number.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn carry(&self) -> ApiResult<()> {
        self.fleet.look_into_waiting(LOOKS, |tenant| self.look_into(tenant)).await
    }

    async fn look_into(&self, tenant: TenantId) -> ApiResult<Looked> {
        let serves = served(&self.router, tenant).await?;
        let Some(db) = serves.filter(|db| db.tenant().schema_version >= theirs::SINCE) else {
            return Ok(Looked::NotNow);
        };
        let done = self.fleet.carry_news(tenant, &mut Source::Pool(&db)).await?;
        // Else somebody carried at the same time, or more is left.
        Ok(if done { Looked::Until(None) } else { Looked::Again })
    }
}

impl Fleet {
    /// Carries what a tenant's database notes. False if somebody else has done so at the same time, or more is left.
    pub(super) async fn carry_news(&self, tenant: TenantId, source: &mut Source<'_>) -> ApiResult<bool> {
        for _ in 0..PAGES {
            let (keys, generation) = self.address_state(tenant).await?;
            let news = source.news().await?;
            if news.is_empty() {
                return Ok(true);
            }
            let carried: Vec<News> = match news.iter().find(|one| one.user_id.is_nil()) {
                Some(everybody) => {
                    if !self.carry_everybody(tenant, source).await? {
                        return Ok(false);
                    }
                    vec![everybody.clone()]
                }
                None => {
                    let part = Part::People(news.iter().map(|one| one.user_id).collect());
                    let known = news.iter().filter_map(|one| Some((one.user_id, one.address.as_deref()?)));
                    let entries = self.entries(&keys, known).await?;
                    if !self.write_addresses(tenant, generation, part, entries).await? {
                        return Ok(false);
                    }
                    news
                }
            };
            source.carried(&carried).await?;
        }
        Ok(false)
    }

    /// Says everybody's address anew, some at a time: who is not there any more is gone from the index.
    pub(super) async fn carry_everybody(&self, tenant: TenantId, source: &mut Source<'_>) -> ApiResult<bool> {
        let mut from = Uuid::nil();
        loop {
            let (keys, generation) = self.address_state(tenant).await?;
            let page = source.verified(from).await?;
            let last = page.last().filter(|_| page.len() == PAGE as usize).map(|one| one.id);
            let to = last.unwrap_or(Uuid::max());
            let entries = self.entries(&keys, page.iter().map(|one| (one.id, one.address.as_str()))).await?;
            if !self.write_addresses(tenant, generation, Part::Range(from, to), entries).await? {
                return Ok(false);
            }
            match last {
                Some(last) => from = last,
                None => return Ok(true),
            }
        }
    }

    async fn address_state(&self, tenant: TenantId) -> ApiResult<(Vec<AddressKey>, i64)> {
        let read = async move |conn: &mut MainConn| -> ApiResult<_> {
            Ok((addresses::keys(conn).await?, addresses::generation(conn, tenant).await?))
        };
        self.control.db.read(read).await
    }

    async fn entries<'a>(
        &self,
        keys: &[AddressKey],
        known: impl Iterator<Item = (Uuid, &'a str)> + Send,
    ) -> ApiResult<Vec<Entry>> {
        let mac = &self.installation().await?.mac;
        let of = |(user, address): (Uuid, &str)| {
            keys.iter().map(|key| Entry { user, key: key.id, digest: key.digest(mac, address) }).collect::<Vec<_>>()
        };
        Ok(known.flat_map(of).collect())
    }

    async fn write_addresses(
        &self,
        tenant: TenantId,
        generation: i64,
        part: Part,
        entries: Vec<Entry>,
    ) -> ApiResult<bool> {
        let write = async move |conn: &mut MainConn| -> ApiResult<bool> {
            Ok(addresses::write(conn, tenant, generation, &part, &entries).await?)
        };
        self.control.db.transaction(write).await
    }
}
