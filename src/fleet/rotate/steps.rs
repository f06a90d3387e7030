//! The steps of one rotation. Each may be repeated at any time.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::SimpleAsyncConnection as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep};

use super::Step;
use crate::control::clusters::Cluster;
use crate::control::operations::{self, Driver};
use crate::control::tenants::{self, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::{Fleet, admin, refused, scram, sql};
use crate::router::connect::ConnectFailure;
use crate::router::{AdminConn, MainConn, Target};

/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(50);

/// One rotation.
pub(super) struct Run<'a> {
    fleet: &'a Fleet,
    pub(super) tenant: TenantRecord,
    /// None for a dedicated database, whose role changes its own password.
    cluster: Option<Cluster>,
    /// As requests reach it.
    pooled: Target,
    /// As the registry knew it when this began, or went on.
    direct: Target,
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Plan => self.plan().await,
            Step::AlterRole => self.alter_role(journal).await,
            Step::Probe => self.probe().await,
            Step::Swap => self.swap(journal.driver()).await,
            Step::Drain => self.drain(journal).await,
            Step::OldRefused => self.old_refused().await,
        }
    }
}

impl<'a> Run<'a> {
    pub(super) async fn new(fleet: &'a Fleet, tenant: TenantRecord) -> ApiResult<Self> {
        let (cluster, pooled, direct) = fleet.places(&tenant).await?;
        Ok(Self { fleet, tenant, cluster, pooled, direct })
    }

    /// The next and the former password.
    async fn passwords(&self) -> ApiResult<(Option<SecretString>, Option<SecretString>)> {
        let (id, keys) = (self.tenant.id, self.fleet.control.keys.clone());
        let db = &self.fleet.control.db;
        db.read(async move |conn: &mut MainConn| tenants::rotating_passwords(conn, &keys, id).await).await
    }

    async fn next(&self) -> ApiResult<SecretString> {
        self.passwords().await?.0.ok_or_else(|| ApiError::internal("a rotation without its next password"))
    }

    async fn plan(&self) -> ApiResult<()> {
        let behind_a_pooler = (&self.pooled.host, self.pooled.port, &self.pooled.user)
            != (&self.direct.host, self.direct.port, &self.direct.user);
        if self.cluster.is_none() && behind_a_pooler {
            return Err(refused(
                "A pooler stands before this dedicated database, and has the password as well. Change it at both, and \
                 hand in the new URLs (--database-url-file and --direct-url-file, or `databaseUrl` and `directUrl`).",
            ));
        }
        // Nothing is begun at a server that is away.
        drop(self.server().await?);
        let (id, keys, password) = (self.tenant.id, self.fleet.control.keys.clone(), scram::generate_password());
        let db = &self.fleet.control.db;
        db.read(async move |conn: &mut MainConn| tenants::plan_password(conn, &keys, id, &password).await).await
    }

    /// Who may change the role and look at its connections: the cluster's administrator, else the role itself.
    async fn server(&self) -> ApiResult<AdminConn> {
        if let Some(cluster) = &self.cluster {
            return admin::open(&cluster.admin).await;
        }
        match AdminConn::open(&self.direct, &admin::own_options()).await {
            Ok(own) => Ok(own),
            // An earlier run came as far as the server.
            Err(error) if error.kind == ConnectFailure::Authentication => match self.passwords().await?.0 {
                Some(next) => admin::open_own(&Target { password: next, ..self.direct.clone() }).await,
                None => Err(admin::unavailable(error)),
            },
            Err(error) => Err(admin::unavailable(error)),
        }
    }

    async fn alter_role(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let mut server = self.server().await?;
        let verifier = scram::verifier(&self.next().await?);
        let role = match &self.cluster {
            Some(_) => format!("{} LOGIN", sql::ident(&self.direct.user)),
            None => "CURRENT_USER".into(),
        };
        let alter = format!("ALTER ROLE {role} PASSWORD {}", sql::literal(verifier.expose_secret()));
        let altered = server.batch_execute(&alter).await;
        if let Err(error) = altered {
            // Of a connection that broke nobody knows whether the server has done it.
            let broke = matches!(
                error,
                DieselError::DatabaseError(
                    DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
                    _
                )
            );
            if self.cluster.is_some() || broke {
                return Err(ApiError::internal(error));
            }
            return Err(refused(
                "The role of this dedicated database may not change its own password. Have it changed there, and hand in \
                 the new URL (--database-url-file, or `databaseUrl`).",
            )
            .caused_by(error));
        }
        let when = admin::words(&mut server, "SELECT clock_timestamp()::text AS word").await?;
        journal.keep(&when.into_iter().next())
    }

    async fn probe(&self) -> ApiResult<()> {
        let next = Target { password: self.next().await?, ..self.direct.clone() };
        admin::open_own(&next).await.map(drop)
    }

    async fn swap(&mut self, by: Driver) -> ApiResult<()> {
        let (id, keys) = (self.tenant.id, self.fleet.control.keys.clone());
        let db = &self.fleet.control.db;
        db.transaction(async move |conn: &mut MainConn| {
            operations::is_driven(conn, by).await?;
            tenants::swap_password(conn, &keys, id).await
        })
        .await?;
        (_, self.pooled, self.direct) = self.fleet.places(&self.tenant).await?;
        Ok(())
    }

    /// Waits until the nodes have let go of the connections that the old password opened; what is left is ended.
    async fn drain(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let Some(altered) = journal.kept::<Option<String>>(Step::AlterRole.as_str())?.flatten() else { return Ok(()) };
        let mut server = self.server().await?;
        let old = format!(
            "FROM pg_stat_activity WHERE usename = {} AND backend_start < {}::timestamptz AND pid <> pg_backend_pid()",
            sql::literal(&self.direct.user),
            sql::literal(&altered)
        );
        let count = format!("SELECT count(*) > 0 AS yes {old}");
        let deadline = Instant::now() + self.fleet.settings.drain_timeout;
        while admin::ask(&mut server, &count).await? {
            if Instant::now() >= deadline {
                let ended = format!("SELECT pg_terminate_backend(pid)::text AS word {old}");
                let ended = admin::words(&mut server, &ended).await?.len();
                tracing::warn!(tenant = %self.tenant.id, ended, "connections of the old password were ended");
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn old_refused(&self) -> ApiResult<()> {
        if let (_, Some(former)) = self.passwords().await? {
            let old = Target { password: former, ..self.direct.clone() };
            match AdminConn::open(&old, &admin::own_options()).await {
                Err(error) if error.kind == ConnectFailure::Authentication => {}
                Err(error) => return Err(admin::unavailable(error)),
                Ok(_) => {
                    return Err(refused(
                        "The server still lets the old password in, so it does not look at passwords. Have `pg_hba.conf` \
                         there say scram-sha-256 instead of trust.",
                    ));
                }
            }
        }
        let id = self.tenant.id;
        let db = &self.fleet.control.db;
        db.read(async move |conn: &mut MainConn| tenants::forget_passwords(conn, id).await).await
    }
}
