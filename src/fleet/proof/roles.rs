//! Roles against databases that are not theirs: what the server's catalog grants, of all of them; and what really
//! happens when one tries, of every pair if they are few, of a sample if they are many.

use std::collections::{HashMap, HashSet};

use futures_util::{Stream, StreamExt as _, stream};

use super::report::Fault;
use super::stamps::Seen;
use super::{AT_ONCE, Ground};
use crate::control::clusters::Cluster;
use crate::control::tenants;
use crate::error::{ApiError, ApiResult};
use crate::fleet::{Fleet, admin, sql};
use crate::kernel::crypto::random;
use crate::kernel::{ClusterId, TenantId};
use crate::router::{AdminConn, ConnectError, MainConn, Target};

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

/// What is the installation's on one cluster's server.
struct Ours<'a> {
    /// Tenants' databases, and whose.
    databases: HashMap<&'a str, &'a str>,
    /// Tenants' roles, and whose.
    roles: HashMap<&'a str, &'a str>,
    /// Both, and those that are ready or kept besides.
    known: &'a HashSet<String>,
}

impl Ours<'_> {
    fn of(&self, role: &str) -> String {
        match (role, self.roles.get(role)) {
            ("", _) => "everybody".to_owned(),
            (_, Some(slug)) => format!("the role of tenant '{slug}'"),
            (role, None) => format!("the role {role}"),
        }
    }

    /// What a role must not be let into, and whom that is about; nothing if it is nobody's business.
    fn shut(&self, database: &str, role: &str, cluster: &str) -> Option<(String, String)> {
        if let Some(slug) = self.databases.get(database) {
            return Some((format!("tenant '{slug}'"), (*slug).to_owned()));
        }
        let tenant = self.roles.get(role);
        if ["postgres", "template1"].contains(&database) && (role.is_empty() || tenant.is_some()) {
            return Some((format!("'{database}'"), cluster.to_owned()));
        }
        if self.known.contains(database) {
            return Some((format!("'{database}', which is ready, kept, or in the making"), database.to_owned()));
        }
        tenant.map(|slug| (format!("'{database}'"), (*slug).to_owned()))
    }
}

async fn grants(ground: &Ground, cluster: &Cluster) -> ApiResult<(usize, Vec<Fault>)> {
    let mut server = admin::open(&cluster.admin).await?;
    let here = || ground.tenants.iter().filter(|tenant| tenant.cluster_id == Some(cluster.id));
    let ours = Ours {
        databases: here().map(|tenant| (tenant.database_name.as_str(), tenant.slug.as_str())).collect(),
        roles: here().map(|tenant| (tenant.role_name.as_str(), tenant.slug.as_str())).collect(),
        known: &ground.known,
    };
    let mut faults = Vec::new();
    // Who may connect besides the owner, by whichever role; a superuser may anyway, and whoever asks here is the administrator.
    let connect = "SELECT d.datname || ' ' || coalesce(r.rolname, '') AS word \
        FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
        LEFT JOIN pg_roles r ON r.oid = a.grantee \
        WHERE d.datallowconn AND a.privilege_type = 'CONNECT' AND a.grantee <> d.datdba \
        AND NOT coalesce(r.rolsuper OR r.rolname IN (current_user, 'pg_database_owner'), false)";
    for line in admin::words(&mut server, connect).await? {
        let Some((database, role)) = line.split_once(' ') else { continue };
        if let Some((whose, subject)) = ours.shut(database, role, &cluster.name) {
            let said = format!("{} is granted CONNECT on the database of {whose}", ours.of(role));
            faults.push(Fault::new("role_granted", subject, said));
        }
    }
    faults.extend(members(&ours, &mut server).await?);
    let mighty = "SELECT rolname::text AS word FROM pg_roles \
        WHERE rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls";
    for role in admin::words(&mut server, mighty).await? {
        if let Some(slug) = ours.roles.get(role.as_str()) {
            let said = "its role is a superuser, or may make roles or databases, replicate, or pass row-level security";
            faults.push(Fault::new("role_too_mighty", slug, said));
        }
    }
    Ok((ours.databases.len(), faults))
}

/// Whoever is a member of a role may what that one may: no tenant's role is one of anything, and nobody is one of a
/// tenant's but administrators: who makes tenants on a server may make roles and databases there, and has to be a member
/// of a role to make one for it, as did whoever was the administrator before.
async fn members(ours: &Ours<'_>, server: &mut AdminConn) -> ApiResult<Vec<Fault>> {
    let member = "SELECT m.rolname || ' ' || g.rolname AS word FROM pg_auth_members a \
        JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid \
        WHERE NOT m.rolsuper AND m.rolname <> current_user AND NOT (m.rolcreaterole AND m.rolcreatedb)";
    let mut faults = Vec::new();
    for line in admin::words(server, member).await? {
        let Some((role, group)) = line.split_once(' ') else { continue };
        if let Some(slug) = ours.roles.get(role) {
            let said = format!("its role is a member of {}, and may what that one may", ours.of(group));
            faults.push(Fault::new("role_granted", slug, said));
        } else if ours.known.contains(group) || ours.roles.contains_key(group) {
            let subject = ours.roles.get(group).copied().unwrap_or(group);
            let said = format!("{} is a member of {}, and may what that one may", ours.of(role), ours.of(group));
            faults.push(Fault::new("role_granted", subject, said));
        }
    }
    Ok(faults)
}

/// One try: whose role, and where to.
struct Try<'a> {
    id: TenantId,
    slug: &'a str,
    target: Target,
    where_to: String,
}

/// Tries roles against databases that are not theirs. Gives how many were tried, whether those are all, and the faults.
pub(super) async fn tried(fleet: &Fleet, ground: &Ground, seen: &[Seen<'_>]) -> (usize, bool, Vec<Fault>) {
    let mut by_cluster: HashMap<ClusterId, Vec<(TenantId, &str, &Target)>> = HashMap::new();
    for one in seen.iter().filter(|one| one.reached) {
        if let (Some(cluster), Some(target)) = (one.tenant.cluster_id, &one.target) {
            by_cluster.entry(cluster).or_default().push((one.tenant.id, one.tenant.slug.as_str(), target));
        }
    }
    let (mut tries, mut all, mut faults) = (Vec::new(), true, Vec::new());
    for (cluster, those) in &by_cluster {
        let n = those.len();
        let pairs = n * n.saturating_sub(1);
        for at in some(pairs, MOST) {
            let (a, step) = (at / (n - 1), at % (n - 1));
            let b = if step < a { step } else { step + 1 };
            let ((id, slug, target), (_, other, goal)) = (those[a], those[b]);
            let where_to = format!("the database of tenant '{other}'");
            tries.push(Try { id, slug, target: target.with_database(&goal.database), where_to });
        }
        let mut shut = vec!["postgres".to_owned(), "template1".to_owned()];
        match ground.control_database_on(fleet, *cluster).await {
            Ok(database) => shut.extend(database),
            Err(fault) => faults.push(fault),
        }
        for at in some(n * shut.len(), MOST) {
            let ((id, slug, target), database) = (those[at / shut.len()], &shut[at % shut.len()]);
            tries.push(Try { id, slug, target: target.with_database(database), where_to: format!("'{database}'") });
        }
        all &= pairs <= MOST && n * shut.len() <= MOST;
    }
    let count = tries.len();
    let found: Vec<Fault> = attempted(fleet, tries).filter_map(std::future::ready).collect().await;
    faults.extend(found);
    (count, all, faults)
}

/// What came of each, as it comes.
fn attempted<'a>(fleet: &'a Fleet, tries: Vec<Try<'a>>) -> impl Stream<Item = Option<Fault>> + Send {
    stream::iter(tries.into_iter().map(move |one| attempt(fleet, one))).buffer_unordered(AT_ONCE)
}

async fn attempt(fleet: &Fleet, one: Try<'_>) -> Option<Fault> {
    let mut opened = AdminConn::open(&one.target, &admin::own_options()).await;
    if opened.as_ref().is_err_and(ConnectError::is_wrong_password)
        && let Some(target) = anew(fleet, &one).await
    {
        opened = AdminConn::open(&target, &admin::own_options()).await;
    }
    match opened.map(drop) {
        Err(error) if error.is_forbidden() => None,
        Ok(()) => {
            let said = format!("its role was let into {}", one.where_to);
            Some(Fault::new("role_let_in", one.slug, said))
        }
        Err(error) => {
            let said = format!("whether its role is let into {} was not found out: {}", one.where_to, why(&error));
            Some(Fault::new("not_proven", one.slug, said))
        }
    }
}

/// The same with the password of now: it may have been rotated since the stamps were read.
async fn anew(fleet: &Fleet, one: &Try<'_>) -> Option<Target> {
    let (id, keys) = (one.id, fleet.control.keys.clone());
    let read = fleet.control.db.read(async move |conn: &mut MainConn| tenants::target(conn, &keys, id).await).await;
    read.ok().map(|(_, target)| target.with_database(&one.target.database))
}

fn why(error: &ConnectError) -> String {
    // Of a role that cannot prove who it is, the server does not say what it may.
    if error.is_wrong_password() { "its password is refused".to_owned() } else { error.to_string() }
}

/// All of `0..n` if they are at most `most`, else so many of them at random.
fn some(n: usize, most: usize) -> Vec<usize> {
    if n <= most {
        return (0..n).collect();
    }
    (0..most).map(|_| usize::from_le_bytes(random()) % n).collect()
}

impl Ground {
    /// The control plane's database, if it is on this cluster's server too; a fault if that was not found out.
    async fn control_database_on(&self, fleet: &Fleet, id: ClusterId) -> Result<Option<String>, Fault> {
        let database = fleet.control.db.target().database.clone();
        let Some(cluster) = self.clusters.iter().find(|known| known.id == id) else {
            return Err(Fault::new("not_proven", id, "a cluster that was added meanwhile; verify again"));
        };
        let query = format!("SELECT true AS yes FROM pg_database WHERE datname = {}", sql::literal(&database));
        let asked = async { admin::ask(&mut admin::open(&cluster.admin).await?, &query).await };
        asked.await.map(|there| there.then_some(database)).map_err(|error: ApiError| {
            let said =
                format!("whether the control plane's database is there was not found out: {}", error.client_detail());
            Fault::new("not_proven", &cluster.name, said)
        })
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
