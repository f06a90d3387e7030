//! Which cluster takes the next tenant.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::store::{Cluster, get, list};
use crate::config::Placement;
use crate::control::schema::clusters as c;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::ClusterId;
use crate::kernel::crypto::MasterKeys;
use crate::router::MainConn;

impl Cluster {
    /// Whether it takes another tenant.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.draining && self.max_tenants.is_none_or(|max| self.tenants < i64::from(max))
    }

    /// What the strategy looks at; of equals, the one with fewer tenants. One that nobody has looked at comes last.
    fn load(&self, strategy: Placement) -> (i64, i64) {
        let seen = self.facts.as_ref();
        let load = match strategy {
            Placement::Databases => Some(self.tenants),
            Placement::Bytes => seen.map(|facts| facts.bytes),
            Placement::Connections => seen.map(|facts| i64::from(facts.connections)),
        };
        (load.unwrap_or(i64::MAX), self.tenants)
    }
}

/// The least loaded of those with room, in the region that is asked for; the first of equals.
fn choose(clusters: Vec<Cluster>, strategy: Placement, region: Option<&str>) -> Option<Cluster> {
    clusters
        .into_iter()
        .filter(|cluster| cluster.has_room() && region.is_none_or(|region| cluster.region.as_deref() == Some(region)))
        .min_by_key(|cluster| cluster.load(strategy))
}

/// The cluster for the next tenant: the least loaded that has room, is not draining, stands in the region, and is none of
/// `without`.
///
/// # Errors
/// If the control plane does not answer, or the cluster's secrets do not open.
pub async fn place(
    conn: &mut MainConn,
    keys: &MasterKeys,
    strategy: Placement,
    region: Option<&str>,
    without: &[ClusterId],
) -> ApiResult<Option<Cluster>> {
    loop {
        let mut clusters = list(conn, keys).await?;
        clusters.retain(|cluster| !without.contains(&cluster.id));
        let Some(chosen) = choose(clusters, strategy, region) else { return Ok(None) };
        match hold(conn, keys, chosen).await {
            Ok(counted) if counted.has_room() => return Ok(Some(counted)),
            // Full by now, or removed.
            Ok(_) => {}
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// The same cluster, its tenants counted anew where there is a bound to them: until the transaction ends, nobody else
/// places a tenant there.
///
/// # Errors
/// If the control plane does not answer, or the cluster's secrets do not open.
pub async fn hold(conn: &mut MainConn, keys: &MasterKeys, cluster: Cluster) -> ApiResult<Cluster> {
    if cluster.max_tenants.is_none() {
        return Ok(cluster);
    }
    c::table.find(cluster.id).select(c::id).for_no_key_update().execute(conn).await?;
    get(conn, keys, cluster.id).await
}

/// Until the transaction ends, whoever else wants to lock the cluster of this name waits.
///
/// # Errors
/// 404 if there is none.
pub async fn lock(conn: &mut MainConn, name: &str) -> ApiResult<()> {
    let named = c::table.filter(c::name.eq(name)).select(c::id).for_no_key_update();
    let held = named.first::<ClusterId>(conn).await.optional()?;
    held.map(drop).ok_or_else(|| ApiError::not_found("cluster"))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::control::clusters::Facts;
    use crate::kernel::Clock;
    use crate::router::{Target, TlsMode, TlsPolicy};

    fn cluster(name: &str, tenants: i64) -> Cluster {
        let now = Clock::system().now();
        let url = SecretString::from("postgres://a:b@h/d");
        Cluster {
            id: ClusterId::generate(),
            name: name.into(),
            region: None,
            max_tenants: None,
            connection_budget: None,
            draining: false,
            admin: Target::parse(&url, TlsPolicy::mode(TlsMode::Disable)).unwrap(),
            created_at: now,
            updated_at: now,
            version: 1,
            tenants,
            ready: 0,
            facts: None,
        }
    }

    fn seen(cluster: Cluster, bytes: i64, connections: i32) -> Cluster {
        let facts = Facts {
            server_version: "15.8".into(),
            extensions: Vec::new(),
            max_connections: 97,
            connections,
            bytes,
            probed_at: cluster.created_at,
            bytes_at: cluster.created_at,
        };
        Cluster { facts: Some(facts), ..cluster }
    }

    fn chosen(clusters: Vec<Cluster>, strategy: Placement, region: Option<&str>) -> Option<String> {
        choose(clusters, strategy, region).map(|cluster| cluster.name)
    }

    #[test]
    fn takes_the_least_loaded_with_room() {
        let full = Cluster { max_tenants: Some(1), ..cluster("full", 1) };
        let draining = Cluster { draining: true, ..cluster("draining", 0) };
        let nearly = Cluster { max_tenants: Some(6), ..cluster("nearly", 5) };
        let all = vec![full.clone(), draining.clone(), cluster("busy", 7), nearly];
        assert_eq!(chosen(all, Placement::Databases, None).as_deref(), Some("nearly"));
        assert_eq!(chosen(vec![full, draining], Placement::Databases, None), None);
        let equals = vec![cluster("first", 2), cluster("second", 2)];
        assert_eq!(chosen(equals, Placement::Databases, None).as_deref(), Some("first"));
        assert_eq!(chosen(Vec::new(), Placement::Databases, None), None);
    }

    #[test]
    fn each_strategy_looks_at_its_own_load() {
        let all = || {
            vec![
                seen(cluster("few", 1), 900, 50),
                seen(cluster("small", 9), 100, 60),
                seen(cluster("idle", 9), 900, 5),
                cluster("unseen", 9),
            ]
        };
        assert_eq!(chosen(all(), Placement::Databases, None).as_deref(), Some("few"));
        assert_eq!(chosen(all(), Placement::Bytes, None).as_deref(), Some("small"));
        assert_eq!(chosen(all(), Placement::Connections, None).as_deref(), Some("idle"));
    }

    #[test]
    fn a_region_is_a_must() {
        let of = |name, region: &str, tenants| Cluster { region: Some(region.into()), ..cluster(name, tenants) };
        let all = || vec![of("eu", "eu", 9), of("us", "us", 1), cluster("nowhere", 0)];
        assert_eq!(chosen(all(), Placement::Databases, Some("eu")).as_deref(), Some("eu"));
        assert_eq!(chosen(all(), Placement::Databases, Some("mars")), None);
    }
}
