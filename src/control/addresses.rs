//! The blind index of verified addresses: see `V15__address_index.sql`. Keyed digests and opaque ids alone.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::TenantId;
use crate::kernel::crypto::MacKey;
use crate::router::MainConn;

/// The most workspaces of one address that are looked at.
const MOST: i64 = 50;
/// How long what is under a retired key is kept, for searches that were asked for with it.
const RETIRED_KEPT: TimeDelta = TimeDelta::minutes(10);

/// A key that is written under.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub struct AddressKey {
    /// Its number.
    #[diesel(sql_type = Integer)]
    pub id: i32,
    /// Whether every tenant's addresses are under it.
    #[diesel(sql_type = Bool)]
    pub complete: bool,
}

impl AddressKey {
    /// The digest of a normalised address. The key is made of the installation's own, for this number alone.
    #[must_use]
    pub fn digest(&self, mac: &MacKey, address_key: &str) -> [u8; 32] {
        let key = mac.digest("address-index-key", &[&self.id.to_be_bytes()]);
        MacKey::new(&key).digest("address", &[address_key.as_bytes()])
    }
}

/// Keys that are written under, the newest first.
///
/// # Errors
/// If the control plane does not answer.
pub async fn keys(conn: &mut MainConn) -> QueryResult<Vec<AddressKey>> {
    diesel::sql_query(
        "SELECT id, complete_at IS NOT NULL AS complete FROM address_keys WHERE retired_at IS NULL ORDER BY id DESC",
    )
    .load(conn)
    .await
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// How often a tenant's part was written. To be asked before the tenant is.
///
/// # Errors
/// If the control plane does not answer.
pub async fn generation(conn: &mut MainConn, tenant: TenantId) -> QueryResult<i64> {
    let asked = diesel::sql_query("SELECT generation AS number FROM address_states WHERE tenant_id = $1");
    let found: Option<Number> = asked.bind::<SqlUuid, _>(tenant.uuid()).get_result(conn).await.optional()?;
    Ok(found.map_or(0, |found| found.number))
}

/// Whose addresses are said anew.
#[derive(Debug, Clone)]
pub enum Part {
    /// Of these people.
    People(Vec<Uuid>),
    /// Of everybody after the first id, up to the second.
    Range(Uuid, Uuid),
}

/// A verified address of a tenant's person.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who.
    pub user: Uuid,
    /// Under which key.
    pub key: i32,
    /// The digest.
    pub digest: [u8; 32],
}

/// Says the addresses of some people anew: those that are not among `entries` are gone. To be called in a transaction.
/// False, and nothing is done, if somebody else has written since `generation`, or the tenant is gone.
///
/// # Errors
/// If the control plane does not answer.
pub async fn write(
    conn: &mut MainConn,
    tenant: TenantId,
    generation: i64,
    part: &Part,
    entries: &[Entry],
) -> QueryResult<bool> {
    let counted = diesel::sql_query(
        "INSERT INTO address_states AS s (tenant_id, generation) SELECT id, $2 + 1 FROM tenants WHERE id = $1 \
         ON CONFLICT (tenant_id) DO UPDATE SET generation = $2 + 1 WHERE s.generation = $2",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<BigInt, _>(generation)
    .execute(conn)
    .await?;
    if counted == 0 {
        return Ok(false);
    }
    match part {
        Part::People(people) => {
            diesel::sql_query("DELETE FROM address_index WHERE tenant_id = $1 AND user_id = ANY ($2)")
                .bind::<SqlUuid, _>(tenant.uuid())
                .bind::<Array<SqlUuid>, _>(people)
                .execute(conn)
                .await?
        }
        Part::Range(from, to) => {
            diesel::sql_query("DELETE FROM address_index WHERE tenant_id = $1 AND user_id > $2 AND user_id <= $3")
                .bind::<SqlUuid, _>(tenant.uuid())
                .bind::<SqlUuid, _>(from)
                .bind::<SqlUuid, _>(to)
                .execute(conn)
                .await?
        }
    };
    diesel::sql_query(
        "INSERT INTO address_index (tenant_id, user_id, key_id, digest) \
         SELECT $1, * FROM unnest($2::uuid[], $3::integer[], $4::bytea[])",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(entries.iter().map(|entry| entry.user).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(entries.iter().map(|entry| entry.key).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(entries.iter().map(|entry| &entry.digest[..]).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(true)
}

/// Somebody at a tenant who had the address when the tenant last said so.
#[derive(Debug, Clone, QueryableByName)]
pub struct Place {
    /// The tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: TenantId,
    /// The person there.
    #[diesel(sql_type = SqlUuid)]
    pub user_id: Uuid,
}

/// Where a digest is known, of tenants that serve, by slug.
///
/// # Errors
/// If the control plane does not answer.
pub async fn places(conn: &mut MainConn, key: i32, digest: &[u8]) -> QueryResult<Vec<Place>> {
    diesel::sql_query(
        "SELECT i.tenant_id, i.user_id FROM address_index i JOIN tenants t ON t.id = i.tenant_id \
         WHERE i.key_id = $1 AND i.digest = $2 AND t.status = 'active' ORDER BY t.slug LIMIT $3",
    )
    .bind::<Integer, _>(key)
    .bind::<Binary, _>(digest)
    .bind::<BigInt, _>(MOST)
    .load(conn)
    .await
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Integer)]
    id: i32,
}

/// A further key, under which everything is written from here on; or the one that is not complete yet.
///
/// # Errors
/// If the control plane does not answer.
pub async fn add_key(conn: &mut MainConn, now: DateTime<Utc>) -> QueryResult<i32> {
    let unfinished = "SELECT id FROM address_keys WHERE complete_at IS NULL AND retired_at IS NULL";
    if let Some(found) = diesel::sql_query(unfinished).get_result::<Id>(conn).await.optional()? {
        return Ok(found.id);
    }
    let added = "INSERT INTO address_keys (id, created_at) SELECT max(id) + 1, $1 FROM address_keys RETURNING id";
    Ok(diesel::sql_query(added).bind::<Timestamptz, _>(now).get_result::<Id>(conn).await?.id)
}

/// Every tenant's addresses are under a key: it is searched by from here on, and those before it are retired. To be called in
/// a transaction.
///
/// # Errors
/// If the control plane does not answer.
pub async fn complete(conn: &mut MainConn, key: i32, now: DateTime<Utc>) -> QueryResult<()> {
    for statement in [
        "UPDATE address_keys SET complete_at = $2 WHERE id = $1 AND complete_at IS NULL",
        "UPDATE address_keys SET retired_at = $2 WHERE id < $1 AND retired_at IS NULL",
    ] {
        let done = diesel::sql_query(statement).bind::<Integer, _>(key).bind::<Timestamptz, _>(now);
        done.execute(conn).await?;
    }
    Ok(())
}

/// Forgets what is under keys that were retired a while ago, some at a time.
///
/// # Errors
/// If the control plane does not answer.
pub async fn trim(conn: &mut MainConn, now: DateTime<Utc>) -> QueryResult<()> {
    diesel::sql_query(
        "DELETE FROM address_index WHERE (tenant_id, user_id, key_id) IN (SELECT i.tenant_id, i.user_id, i.key_id \
         FROM address_index i JOIN address_keys k ON k.id = i.key_id WHERE k.retired_at < $1 LIMIT 10000)",
    )
    .bind::<Timestamptz, _>(now - RETIRED_KEPT)
    .execute(conn)
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::crypto::random;

    #[test]
    fn an_address_has_another_digest_under_another_key() {
        let (mac, other) = (MacKey::new(&random::<32>()), MacKey::new(&random::<32>()));
        let of = |mac: &MacKey, id, address: &str| AddressKey { id, complete: true }.digest(mac, address);
        let one = of(&mac, 1, "ada@acme.test");
        assert_eq!(one, of(&mac, 1, "ada@acme.test"));
        assert_ne!(one, of(&mac, 2, "ada@acme.test"));
        assert_ne!(one, of(&other, 1, "ada@acme.test"));
        assert_ne!(one, of(&mac, 1, "eve@acme.test"));
    }
}
