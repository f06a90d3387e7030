//! The installation as seen from this machine: control plane, keys, clusters' head-room, clocks.

use diesel::sql_types::{Integer, Nullable};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use super::{Finding, secrets, server};
use crate::control::clusters::Cluster;
use crate::control::{clusters, migrations};
use crate::error::{ApiError, ApiResult};
use crate::fleet::provision::probe::explain;
use crate::fleet::{Fleet, admin};
use crate::router::{AdminConn, MainConn, Room};

/// A cluster with less of its tenants' places left, or of its server's connections, is nearly full.
const NEARLY: i64 = 10;
const VERSION: &str = "SELECT max(version) AS number FROM schema_history";
const MAJOR: &str = "SELECT current_setting('server_version_num')::int / 10000 AS number";
const IN_USE: &str = "SELECT count(*)::int AS number FROM pg_stat_activity WHERE backend_type = 'client backend'";

/// Something that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// What was seen.
    pub said: String,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Installed {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What is in order, or was looked at.
    pub checks: Vec<Check>,
    /// The newest PostgreSQL among the servers.
    #[serde(skip)]
    pub newest_server: Option<i32>,
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = Nullable<Integer>)]
    number: Option<i32>,
}

async fn number(conn: &mut AdminConn, query: &str) -> ApiResult<Option<i32>> {
    let rows: Vec<Number> = diesel::sql_query(query).load(conn).await.map_err(ApiError::internal)?;
    Ok(rows.into_iter().next().and_then(|row| row.number))
}

impl Installed {
    /// Notes something that is in order.
    pub fn sound(&mut self, name: impl Into<String>, said: impl Into<String>) {
        self.checks.push(Check { name: name.into(), said: said.into() });
    }

    /// Notes what is wrong, or that nothing is.
    pub fn judge(&mut self, name: impl Into<String>, said: impl Into<String>, wrong: Option<Finding>) {
        match wrong {
            Some(finding) => self.findings.push(finding),
            None => self.sound(name, said),
        }
    }
}

impl Fleet {
    /// Looks at the control plane and, if it answers, at what it knows of.
    pub async fn examine(&self) -> Installed {
        let mut seen = Installed::default();
        if let Err(error) = self.look_around(&mut seen).await {
            let said = format!("does not answer as it should: {}", error.client_detail());
            let finding = Finding::error("control_plane_failed", "control plane", said, "tenantry config check");
            seen.findings.push(finding);
        }
        seen
    }

    async fn look_around(&self, seen: &mut Installed) -> ApiResult<()> {
        let mut control = match AdminConn::open(self.control.db.target(), &admin::own_options()).await {
            Ok(conn) => conn,
            Err(error) => {
                let (_, said) = explain(&error);
                let remedy = "tenantry config show";
                seen.findings.push(Finding::error("control_plane_unreachable", "control plane", said, remedy));
                return Ok(());
            }
        };
        seen.newest_server = number(&mut control, MAJOR).await?;
        let ahead = server::ahead(&mut control, &self.control.clock).await?;
        seen.judge("clock", "that of the control plane's server agrees", server::clocks("control plane", ahead));
        if !self.schema_is_there(&mut control, seen).await? {
            return Ok(());
        }
        let (findings, sound) = secrets::look(self).await?;
        if findings.is_empty() {
            seen.sound("master keys", "open every secret, the newest all of them");
        }
        seen.findings.extend(findings);
        let keys = self.control.keys.clone();
        if !sound {
            return Ok(());
        }
        let all = self.control.db.read(async move |conn: &mut MainConn| clusters::list(conn, &keys).await).await?;
        let none = all.is_empty().then(|| {
            let remedy = "tenantry cluster add main --admin-url-file admin-url.txt";
            Finding::warning("no_cluster", "clusters", "there is none that tenants could be placed on", remedy)
        });
        seen.judge("clusters", format!("{} known", all.len()), none);
        for cluster in &all {
            self.head_room(cluster, seen).await;
        }
        Ok(())
    }

    /// Whether there is an installation in the schema of this release.
    async fn schema_is_there(&self, control: &mut AdminConn, seen: &mut Installed) -> ApiResult<bool> {
        let there = admin::ask(control, "SELECT to_regclass('schema_history') IS NOT NULL AS yes").await?;
        let version = if there { number(control, VERSION).await?.unwrap_or(0) } else { 0 };
        let head = migrations::set().head();
        let wrong = match version.cmp(&head) {
            std::cmp::Ordering::Less => {
                let said = format!("its schema is at version {version}, this release needs {head}");
                Some(Finding::error("control_schema_behind", "control plane", said, "tenantry migrate"))
            }
            std::cmp::Ordering::Greater => {
                let said = format!("its schema is at version {version}, newer than this program's {head}");
                Some(Finding::warning("program_behind", "control plane", said, "tenantry --version"))
            }
            std::cmp::Ordering::Equal => None,
        };
        let usable = version >= head;
        seen.judge("control plane", format!("answers, schema version {version}"), wrong);
        Ok(usable)
    }

    async fn head_room(&self, cluster: &Cluster, seen: &mut Installed) {
        if let Err(error) = self.room_of(cluster, seen).await {
            let remedy = format!("tenantry cluster show {}", cluster.name);
            let said = error.client_detail().to_owned();
            seen.findings.push(Finding::error("cluster_unreachable", &cluster.name, said, remedy));
        }
    }

    async fn room_of(&self, cluster: &Cluster, seen: &mut Installed) -> ApiResult<()> {
        let name = &cluster.name;
        let mut server = admin::open(&cluster.admin).await?;
        seen.newest_server = seen.newest_server.max(number(&mut server, MAJOR).await?);
        let ahead = server::ahead(&mut server, &self.control.clock).await?;
        seen.findings.extend(server::clocks(name, ahead));
        let room = Room::read(&mut server).await?;
        let wrong = server::budget(self, cluster, room);
        seen.judge(format!("cluster {name}"), "has the connections of its budget", wrong);
        let used = i64::from(number(&mut server, IN_USE).await?.unwrap_or(0));
        let all = i64::from(room.left());
        let full = ((all - used) * 100 < all * NEARLY).then(|| {
            let said = format!("{used} of its server's {all} connections are open");
            Finding::warning("server_nearly_full", name, said, "tenantry pool top --by waiting --once")
        });
        seen.judge(format!("cluster {name}"), format!("{used} of {all} connections are open"), full);
        let Some(most) = cluster.max_tenants.map(i64::from) else {
            seen.sound(format!("cluster {name}"), format!("{} tenants, no bound", cluster.tenants));
            return Ok(());
        };
        let full = ((most - cluster.tenants) * 100 < most * NEARLY && !cluster.draining).then(|| {
            let said = format!("{} of at most {most} tenants live on it", cluster.tenants);
            Finding::warning("cluster_nearly_full", name, said, format!("tenantry cluster set {name} --max-tenants N"))
        });
        seen.judge(format!("cluster {name}"), format!("{} of {most} tenants", cluster.tenants), full);
        Ok(())
    }
}
