//! Roles against databases that are not theirs: what the server's catalog grants, of all of them; and what really
//! happens when one tries, of every pair if they are few, of a sample if they are many.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};

use super::report::Fault;
use super::stamps::Seen;
use super::{AT_ONCE, Ground};
use crate::control::clusters::Cluster;
use crate::error::ApiResult;
use crate::fleet::{Fleet, admin, sql};
use crate::kernel::ClusterId;
use crate::kernel::crypto::random;
use crate::router::{AdminConn, ConnectFailure, Target};

/// Connections that are tried at most, of each kind on each cluster.
const MOST: usize = 400;

/// What one cluster's catalog grants that it should not.
pub(super) async fn granted(ground: &Ground, cluster: &Cluster) -> (usize, Vec<Fault>) {
    match grants(ground, cluster).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(cluster = %cluster.name, %error, cause = ?error.cause(), "a cluster was not asked");
            (0, vec![Fault::new("not_proven", &cluster.name, format!("not asked: {}", error.client_detail()))])
        }
    }
}

async fn grants(ground: &Ground, cluster: &Cluster) -> ApiResult<(usize, Vec<Fault>)> {
    let mut server = admin::open(&cluster.admin).await?;
    let here = || ground.tenants.iter().filter(|tenant| tenant.cluster_id == Some(cluster.id));
    let databases: HashMap<&str, &str> =
        here().map(|tenant| (tenant.database_name.as_str(), tenant.slug.as_str())).collect();
    let roles: HashMap<&str, &str> = here().map(|tenant| (tenant.role_name.as_str(), tenant.slug.as_str())).collect();
    let of = |role: &str| match (role, roles.get(role)) {
        ("", _) => "everybody".to_owned(),
        (_, Some(slug)) => format!("the role of tenant '{slug}'"),
        (role, None) => format!("the role {role}"),
    };
    let mut faults = Vec::new();
    // Who may connect besides the owner; a superuser may anyway, and whoever asks here is the administrator.
    let connect = "SELECT d.datname || ' ' || coalesce(r.rolname, '') AS word \
        FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
        LEFT JOIN pg_roles r ON r.oid = a.grantee \
        WHERE d.datallowconn AND a.privilege_type = 'CONNECT' AND a.grantee <> d.datdba \
        AND NOT coalesce(r.rolsuper OR r.rolname = current_user, false)";
    for line in admin::words(&mut server, connect).await? {
        let Some((database, role)) = line.split_once(' ') else { continue };
        let whose = databases.get(database).map(|slug| (format!("tenant '{slug}'"), (*slug).to_owned()));
        let shut = ["postgres", "template1"].contains(&database) && (role.is_empty() || roles.contains_key(role));
        let whose = whose.or_else(|| shut.then(|| (format!("'{database}'"), cluster.name.clone())));
        let Some((whose, subject)) =
            whose.or_else(|| roles.get(role).map(|slug| (format!("'{database}'"), (*slug).to_owned())))
        else {
            continue;
        };
        let said = format!("{} is granted CONNECT on the database of {whose}", of(role));
        faults.push(Fault::new("role_granted", subject, said));
    }
    let member = "SELECT m.rolname || ' ' || g.rolname AS word FROM pg_auth_members a \
        JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid WHERE NOT m.rolsuper";
    for line in admin::words(&mut server, member).await? {
        let Some((role, group)) = line.split_once(' ') else { continue };
        if let Some(slug) = roles.get(role) {
            let said = format!("its role is a member of {}, and may what that one may", of(group));
            faults.push(Fault::new("role_granted", slug, said));
        }
    }
    let mighty = "SELECT rolname::text AS word FROM pg_roles \
        WHERE rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls";
    for role in admin::words(&mut server, mighty).await? {
        if let Some(slug) = roles.get(role.as_str()) {
            let said = "its role is a superuser, or may make roles or databases, replicate, or pass row-level security";
            faults.push(Fault::new("role_too_mighty", slug, said));
        }
    }
    Ok((databases.len(), faults))
}

/// One try: whose role, and where to.
struct Try<'a> {
    slug: &'a str,
    target: Target,
    where_to: String,
}

/// Tries roles against databases that are not theirs. Gives how many were tried, whether those are all, and the faults.
pub(super) async fn tried(fleet: &Fleet, ground: &Ground, seen: &[Seen<'_>]) -> (usize, bool, Vec<Fault>) {
    let mut by_cluster: HashMap<ClusterId, Vec<(&str, &Target)>> = HashMap::new();
    for one in seen.iter().filter(|one| one.reached) {
        if let (Some(cluster), Some(target)) = (one.tenant.cluster_id, &one.target) {
            by_cluster.entry(cluster).or_default().push((one.tenant.slug.as_str(), target));
        }
    }
    let (mut tries, mut all) = (Vec::new(), true);
    for (cluster, those) in &by_cluster {
        let n = those.len();
        let pairs = n * n.saturating_sub(1);
        for at in some(pairs, MOST) {
            let (a, step) = (at / (n - 1), at % (n - 1));
            let b = if step < a { step } else { step + 1 };
            let ((slug, target), (other, goal)) = (those[a], those[b]);
            let where_to = format!("the database of tenant '{other}'");
            tries.push(Try { slug, target: target.with_database(&goal.database), where_to });
        }
        let mut shut = vec!["postgres".to_owned(), "template1".to_owned()];
        shut.extend(ground.control_database_on(fleet, *cluster).await);
        for at in some(n * shut.len(), MOST) {
            let ((slug, target), database) = (those[at / shut.len()], &shut[at % shut.len()]);
            tries.push(Try { slug, target: target.with_database(database), where_to: format!("'{database}'") });
        }
        all &= pairs <= MOST && n * shut.len() <= MOST;
    }
    let count = tries.len();
    let faults = stream::iter(tries.into_iter().map(attempt)).buffer_unordered(AT_ONCE).filter_map(std::future::ready);
    (count, all, faults.collect().await)
}

async fn attempt(one: Try<'_>) -> Option<Fault> {
    match AdminConn::open(&one.target, &admin::options()).await {
        Err(error) if error.kind == ConnectFailure::Authentication => None,
        Ok(_) => {
            let said = format!("its role was let into {}", one.where_to);
            Some(Fault::new("role_let_in", one.slug, said))
        }
        Err(error) => {
            let said = format!("whether its role is let into {} was not found out: {error}", one.where_to);
            Some(Fault::new("not_proven", one.slug, said))
        }
    }
}

/// All of `0..n` if they are at most `most`, else so many of them at random.
fn some(n: usize, most: usize) -> Vec<usize> {
    if n <= most {
        return (0..n).collect();
    }
    (0..most).map(|_| usize::from_le_bytes(random()) % n).collect()
}

impl Ground {
    /// The control plane's database, if it is on this cluster's server too.
    async fn control_database_on(&self, fleet: &Fleet, cluster: ClusterId) -> Option<String> {
        let database = fleet.control.db.target().database.clone();
        let cluster = self.clusters.iter().find(|known| known.id == cluster)?;
        let mut server = admin::open(&cluster.admin).await.ok()?;
        let query = format!("SELECT true AS yes FROM pg_database WHERE datname = {}", sql::literal(&database));
        admin::ask(&mut server, &query).await.ok()?.then_some(database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_all_and_many_are_some() {
        assert_eq!(some(4, 10), [0, 1, 2, 3]);
        let sample = some(1000, 10);
        assert!(sample.len() == 10 && sample.iter().all(|at| *at < 1000));
    }
}
