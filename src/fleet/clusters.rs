//! Servers that tenants are placed on: looked at and prepared before they are taken in.

use super::budget::allow;
use super::lock::{self, Lock};
use super::provision::probe::{OLDEST, explain};
use super::{Fleet, admin, sql};
use crate::control::clusters::{self, Cluster, ClusterChanges, NewCluster, Placement};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::ClusterId;
use crate::kernel::crypto::MasterKeys;
use crate::router::{AdminConn, MainConn, Room, Target};

const MAY_ADMINISTER: &str =
    "SELECT rolsuper OR (rolcreaterole AND rolcreatedb) AS yes FROM pg_roles WHERE rolname = current_user";
/// Which of the databases that everybody is let into by default still do so.
const OPEN: &str = "SELECT datname::text AS word FROM pg_database \
    WHERE datname IN ('postgres', 'template1') AND datallowconn AND has_database_privilege('public', oid, 'CONNECT')";
/// Strangers' databases are theirs to close; the operator should know.
const STRANGERS: &str = "SELECT datname::text AS word FROM pg_database WHERE datallowconn AND NOT datistemplate \
    AND datname <> 'postgres' AND has_database_privilege('public', oid, 'CONNECT')";
/// The same for every connection to one server, different for any other.
const SERVER: &str = "SELECT system_identifier::text || ' ' || pg_postmaster_start_time()::text AS word \
    FROM pg_control_system()";

fn refuse(code: &'static str, said: &'static str) -> ApiError {
    ApiError::invalid_field("adminUrl", code, said).detail(said)
}

/// The cluster for the next tenant, as [`clusters::place`] finds it, but for those that somebody removes: until the
/// transaction ends, nobody begins to.
pub(super) async fn place(
    conn: &mut MainConn,
    keys: &MasterKeys,
    strategy: Placement,
    region: Option<&str>,
) -> ApiResult<Option<Cluster>> {
    let mut going = Vec::new();
    loop {
        let Some(placed) = clusters::place(conn, keys, strategy, region, &going).await? else { return Ok(None) };
        // It may have been removed before that could be said.
        if lock::stays_until_commit(conn, placed.id).await? && clusters::is_there(conn, placed.id).await? {
            return Ok(Some(placed));
        }
        going.push(placed.id);
    }
}

impl Fleet {
    /// Looks at a server, prepares it (`provisioning/cluster.sql`) and takes it in. Without a connection budget it gets
    /// most of what the server has.
    ///
    /// # Errors
    /// `already_exists` for a taken name; 422 on `adminUrl` or `connectionBudget` with what is wrong and its remedy.
    pub async fn add_cluster_with_budget(&self, new: &NewCluster) -> ApiResult<Cluster> {
        self.take_in(ClusterId::generate(), new, true).await
    }

    /// As [`Self::add_cluster_with_budget`]; without a connection budget it has that of the nodes' own settings.
    ///
    /// # Errors
    /// As [`Self::add_cluster_with_budget`].
    pub async fn add_cluster(&self, new: &NewCluster) -> ApiResult<Cluster> {
        self.take_in(ClusterId::generate(), new, false).await
    }

    /// As [`Self::add_cluster_with_budget`], with this id. One that has it already was added by the same request, and is
    /// given as it is now.
    ///
    /// # Errors
    /// As [`Self::add_cluster_with_budget`].
    pub(super) async fn add_cluster_once(&self, id: ClusterId, new: &NewCluster) -> ApiResult<Cluster> {
        let (keys, db) = (self.control.keys.clone(), &self.control.db);
        match db.read(async move |conn: &mut MainConn| clusters::get(conn, &keys, id).await).await {
            Ok(added) => self.seen(added).await,
            Err(error) if error.code() == Code::NotFound => self.take_in(id, new, true).await,
            Err(error) => Err(error),
        }
    }

    async fn take_in(&self, id: ClusterId, new: &NewCluster, probe: bool) -> ApiResult<Cluster> {
        let (name, keys) = (new.name.clone(), self.control.keys.clone());
        let known = self
            .control
            .db
            .read(async move |conn: &mut MainConn| clusters::find_by_name(conn, &keys, &name).await)
            .await?;
        if known.is_some() {
            return Err(ApiError::already_exists("name", "A cluster with this name exists."));
        }
        let room = self.prepare(&new.admin).await?;
        let mut new = new.clone();
        match new.connection_budget {
            Some(budget) => allow(room, budget)?,
            None if probe => new.connection_budget = Some(room.budget()),
            None => {}
        }
        let keys = self.control.keys.clone();
        let added = self
            .control
            .db
            .read(async move |conn: &mut MainConn| clusters::insert(conn, &keys, id, &new).await)
            .await?;
        self.seen(added).await
    }

    /// The cluster with its server looked at just now, if that answers.
    async fn seen(&self, cluster: Cluster) -> ApiResult<Cluster> {
        match self.look_at(&cluster).await {
            Ok(facts) => Ok(Cluster { facts: Some(facts), ..cluster }),
            Err(error) => {
                tracing::warn!(cluster = %cluster.name, %error, cause = ?error.cause(), "a cluster cannot be looked at");
                Ok(cluster)
            }
        }
    }

    /// A cluster by name, its server looked at now if it answers.
    ///
    /// # Errors
    /// 404 if there is none.
    pub async fn cluster_now(&self, name: &str) -> ApiResult<Cluster> {
        let cluster = self.cluster(name).await?;
        self.seen(cluster).await
    }

    /// Changes a cluster; a new address or administrator is looked at and prepared first.
    ///
    /// # Errors
    /// 404 if there is none of this name; else as [`Self::add_cluster`]. The budget that it has after the change, be it
    /// that of the nodes' settings, has to be one that its server can keep.
    pub async fn set_cluster(&self, name: &str, changes: ClusterChanges) -> ApiResult<Cluster> {
        self.set_cluster_at(name, None, changes).await
    }

    /// As [`Self::set_cluster`], if the cluster is still at a version.
    ///
    /// # Errors
    /// As [`Self::set_cluster`]; 412 if it is no longer at `expected_version`.
    pub(super) async fn set_cluster_at(
        &self,
        name: &str,
        expected_version: Option<i64>,
        changes: ClusterChanges,
    ) -> ApiResult<Cluster> {
        self.check_change(&self.cluster(name).await?, &changes).await?;
        let (name, keys) = (name.to_owned(), self.control.keys.clone());
        let moved = changes.admin.is_some();
        let set = self
            .control
            .db
            .transaction(async move |conn: &mut MainConn| {
                clusters::set(conn, &keys, (&name, expected_version), &changes).await
            })
            .await?;
        // What is known is another server's.
        if moved { self.seen(Cluster { facts: None, ..set }).await } else { Ok(set) }
    }

    /// A cluster by name.
    ///
    /// # Errors
    /// 404 if there is none.
    pub async fn cluster(&self, name: &str) -> ApiResult<Cluster> {
        let (name, keys) = (name.to_owned(), self.control.keys.clone());
        let found = self
            .control
            .db
            .read(async move |conn: &mut MainConn| clusters::find_by_name(conn, &keys, &name).await)
            .await?;
        found.ok_or_else(|| ApiError::not_found("cluster"))
    }

    /// All clusters, by name.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn clusters(&self) -> ApiResult<Vec<Cluster>> {
        let keys = self.control.keys.clone();
        self.control.db.read(async move |conn: &mut MainConn| clusters::list(conn, &keys).await).await
    }

    /// Forgets a cluster that no tenant lives on, and drops its ready tenants. Nothing else on the server is touched. One
    /// that cannot go takes tenants as before, and so does one whose removal was interrupted.
    ///
    /// # Errors
    /// 404 if there is none; 409 while tenants live on it, databases are kept there, or another process removes it.
    pub async fn remove_cluster(&self, name: &str) -> ApiResult<()> {
        self.remove_cluster_at(name, None).await
    }

    /// As [`Self::remove_cluster`], if the cluster is still at a version.
    ///
    /// # Errors
    /// As [`Self::remove_cluster`]; 412 if it is no longer at `expected_version`.
    pub(super) async fn remove_cluster_at(&self, name: &str, expected_version: Option<i64>) -> ApiResult<()> {
        let cluster = self.cluster(name).await?;
        if expected_version.is_some_and(|version| version != cluster.version) {
            return Err(ApiError::new(Code::VersionMismatch));
        }
        let id = cluster.id;
        let db = &self.control.db;
        db.read(async move |conn: &mut MainConn| clusters::keeps_nothing(conn, id).await).await?;
        if cluster.tenants > 0 {
            // It says why not.
            return self.forget_cluster(name, expected_version).await;
        }
        // From here on nobody fills its stock. The lock goes with whoever holds it: nothing is to be undone after a crash.
        let lock = Lock::removal(&self.control, id).await?;
        let removed = match self.clear_stock(&cluster).await {
            Ok(()) => self.forget_cluster(name, expected_version).await,
            Err(error) => Err(error),
        };
        lock.release().await;
        removed
    }

    async fn forget_cluster(&self, name: &str, expected_version: Option<i64>) -> ApiResult<()> {
        let (name, db) = (name.to_owned(), &self.control.db);
        db.read(async move |conn: &mut MainConn| clusters::remove(conn, &name, expected_version).await).await
    }

    /// Makes a server ready for tenants; safe to repeat.
    pub(super) async fn prepare(&self, target: &Target) -> ApiResult<Room> {
        let mut server = AdminConn::open(target, &admin::options()).await.map_err(|error| {
            let (code, said) = explain(&error);
            refuse(code, said).caused_by(error)
        })?;
        if !admin::ask(&mut server, OLDEST).await? {
            return Err(refuse("version_too_old", "This server is older than PostgreSQL 14. Upgrade it first."));
        }
        if !admin::ask(&mut server, MAY_ADMINISTER).await? {
            return Err(refuse(
                "privileges_missing",
                "The role may not make roles and databases. Run there: ALTER ROLE <role> CREATEROLE CREATEDB.",
            ));
        }
        let control = self.control.db.target();
        let here = self.shares_server(&mut server).await?;
        let (database, role) = if here { (&*control.database, &*control.user) } else { ("", "") };
        let variables = [("control_database", database), ("control_role", role)];
        admin::run(&mut server, sql::CLUSTER, &variables).await?;
        if !admin::words(&mut server, OPEN).await?.is_empty() {
            return Err(refuse(
                "open_to_everyone",
                "Every role may connect to `postgres` or `template1`, and this one may not change it. As a superuser: \
                 REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC.",
            ));
        }
        for database in admin::words(&mut server, STRANGERS).await? {
            tracing::warn!(database, "a database of this cluster lets every role connect; revoke CONNECT from PUBLIC");
        }
        Ok(Room::read(&mut server).await?)
    }

    /// Whether the control plane's database lives on this server, by whatever name either was reached.
    async fn shares_server(&self, server: &mut AdminConn) -> ApiResult<bool> {
        let mut control = admin::open_own(self.control.db.target()).await?;
        Ok(admin::words(server, SERVER).await? == admin::words(&mut control, SERVER).await?)
    }
}
