//! What the steps of one run work with: the tenant, its addresses, and connections opened when first needed.

use secrecy::SecretString;
use tokio_util::task::AbortOnDropHandle;

use super::FirstAdmin;
use super::admin::AdminToBe;
use super::welcome::Welcome;
use crate::control::clusters::{self, Cluster};
use crate::control::ready::ReadyTenant;
use crate::control::tenants::{TenantRecord, target};
use crate::error::{ApiError, ApiResult};
use crate::fleet::migrations::Migrations;
use crate::fleet::{Fleet, admin};
use crate::kernel::TenantId;
use crate::router::{AdminConn, ConnectError, Installation, MainConn, Target, TenantDb};
use crate::tenant::auth::session::SignIn;

/// Whose database it is.
pub(in crate::fleet) struct Subject {
    pub(in crate::fleet) id: TenantId,
    pub(in crate::fleet) database_name: String,
    pub(in crate::fleet) role_name: String,
    pub(in crate::fleet) max_connections: Option<i32>,
}

/// What is made.
pub(in crate::fleet) struct Run<'a> {
    pub(in crate::fleet) fleet: &'a Fleet,
    pub(in crate::fleet) tenant: Subject,
    /// None for a dedicated database.
    pub(in crate::fleet) cluster: Option<Cluster>,
    /// As requests reach it.
    pub(in crate::fleet) pooled: Target,
    /// As migrations reach it.
    pub(in crate::fleet) direct: Target,
    pub(in crate::fleet) installation: Installation,
    pub(in crate::fleet) migrations: Migrations,
    pub(in crate::fleet) first_admin: Option<&'a FirstAdmin>,
    /// The first administrator, where the password was asked to be hashed before.
    pub(super) admin: Option<AdminToBe>,
    /// Nothing is journaled before the whole is done: only the last commit has to be durable by itself.
    pub(super) in_one_go: bool,
    /// The database was cloned in this run, from a template at the head of the migrations.
    pub(super) cloned: bool,
    /// Who is signed in as soon as the tenant is there.
    pub(super) welcome: Option<&'a Welcome>,
    /// The session of who was.
    pub(super) first_session: Option<SignIn>,
    /// The first administrator's password, once it was made.
    pub(in crate::fleet) generated: Option<SecretString>,
    server: Option<AdminConn>,
    server_ahead: Option<Ahead<ApiResult<AdminConn>>>,
    inside: Option<AdminConn>,
    own: Option<AdminConn>,
    own_ahead: Option<Ahead<ApiResult<AdminConn>>>,
    expected: Option<TenantDb>,
    expected_ahead: Option<Ahead<ApiResult<TenantDb>>>,
    knocking: Option<Ahead<Result<AdminConn, ConnectError>>>,
}

/// Begun before it is needed; given up with the run.
pub(super) type Ahead<T> = AbortOnDropHandle<T>;

impl<'a> Run<'a> {
    /// Reads what the registry knows of a reserved tenant.
    pub(in crate::fleet) async fn new(
        fleet: &'a Fleet,
        tenant: TenantRecord,
        migrations: Migrations,
        first_admin: Option<&'a FirstAdmin>,
    ) -> ApiResult<Self> {
        let keys = fleet.control.keys.clone();
        let (id, cluster_id) = (tenant.id, tenant.cluster_id);
        let (cluster, (pooled, direct)) = fleet
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let cluster = match cluster_id {
                    Some(id) => Some(clusters::get(conn, &keys, id).await?),
                    None => None,
                };
                let targets = target(conn, &keys, id).await?;
                Ok::<_, ApiError>((cluster, targets))
            })
            .await?;
        let subject = Subject {
            id: tenant.id,
            database_name: tenant.database_name,
            role_name: tenant.role_name,
            max_connections: tenant.max_connections,
        };
        let run = Self::of(fleet, subject, cluster, (pooled, direct), migrations).await?;
        Ok(Self { first_admin, ..run })
    }

    /// A ready tenant, which the registry does not know.
    pub(super) async fn ready(
        fleet: &'a Fleet,
        ready: &ReadyTenant,
        cluster: Cluster,
        migrations: Migrations,
    ) -> ApiResult<Self> {
        let subject = Subject {
            id: ready.id,
            database_name: ready.database_name.clone(),
            role_name: ready.role_name.clone(),
            max_connections: None,
        };
        let address = own_address(&cluster, ready);
        Self::of(fleet, subject, Some(cluster), (address.clone(), address), migrations).await
    }

    async fn of(
        fleet: &'a Fleet,
        tenant: Subject,
        cluster: Option<Cluster>,
        (pooled, direct): (Target, Target),
        migrations: Migrations,
    ) -> ApiResult<Self> {
        Ok(Self {
            fleet,
            tenant,
            cluster,
            pooled,
            direct,
            installation: fleet.installation().await?.clone(),
            migrations,
            first_admin: None,
            admin: None,
            in_one_go: false,
            cloned: false,
            welcome: None,
            first_session: None,
            generated: None,
            server: None,
            server_ahead: None,
            inside: None,
            own: None,
            own_ahead: None,
            expected: None,
            expected_ahead: None,
            knocking: None,
        })
    }

    /// The cluster; only steps of a shared tenant ask.
    pub(in crate::fleet) fn cluster(&self) -> ApiResult<&Cluster> {
        self.cluster.as_ref().ok_or_else(|| ApiError::internal("a dedicated database has no cluster"))
    }

    /// The administrator, in the cluster's administrative database.
    pub(in crate::fleet) async fn server(&mut self) -> ApiResult<&mut AdminConn> {
        if self.server.is_none() {
            self.server = Some(match self.server_ahead.take() {
                Some(opening) => opening.await.map_err(ApiError::internal)??,
                None => self.open(&self.cluster()?.admin).await?,
            });
        }
        self.server.as_mut().ok_or_else(|| ApiError::internal("opened above"))
    }

    /// The administrator, in the tenant's database; for a dedicated one, its owner.
    pub(in crate::fleet) async fn inside(&mut self) -> ApiResult<&mut AdminConn> {
        if self.inside.is_none() {
            self.inside = Some(match &self.cluster {
                Some(cluster) => self.open(&cluster.admin.with_database(&self.tenant.database_name)).await?,
                None => admin::open_own(&self.direct).await?,
            });
        }
        self.inside.as_mut().ok_or_else(|| ApiError::internal("opened above"))
    }

    /// The tenant's own role, in its own database.
    pub(in crate::fleet) async fn own(&mut self) -> ApiResult<&mut AdminConn> {
        if self.own.is_none() {
            self.own = Some(match self.own_ahead.take() {
                Some(opening) => opening.await.map_err(ApiError::internal)??,
                None => admin::open_own(&self.direct).await?,
            });
        }
        self.own.as_mut().ok_or_else(|| ApiError::internal("opened above"))
    }

    async fn open(&self, target: &Target) -> ApiResult<AdminConn> {
        if self.in_one_go { admin::open_relaxed(target).await } else { admin::open(target).await }
    }

    /// The tenant's database as its first administrator's requests will see it, where somebody is welcomed: the connection
    /// that is opened for it serves them.
    pub(super) async fn expected(&mut self) -> ApiResult<Option<TenantDb>> {
        let Some(welcome) = self.welcome else { return Ok(None) };
        if self.expected.is_none() {
            self.expected = Some(match self.expected_ahead.take() {
                Some(opening) => opening.await.map_err(ApiError::internal)??,
                None => welcome.expect(self.tenant.id).await?,
            });
        }
        Ok(self.expected.clone())
    }

    /// Begins to open that: from here on the database says whose it is.
    pub(super) fn expect_ahead(&mut self) {
        if let Some(welcome) = self.welcome.cloned() {
            let id = self.tenant.id;
            let opening = tokio::spawn(async move { welcome.expect(id).await });
            self.expected_ahead = Some(AbortOnDropHandle::new(opening));
        }
    }

    /// What is made in one go, over a connection that is being opened.
    pub(super) fn in_one_go(self, server: Option<Ahead<ApiResult<AdminConn>>>) -> Self {
        Self { in_one_go: true, server_ahead: server, ..self }
    }

    /// Begins to open the tenant's own connection: from here on its database lets it in.
    pub(super) fn open_own_ahead(&mut self) {
        if self.own.is_none() && self.welcome.is_none() {
            let target = self.direct.clone();
            self.own_ahead = Some(AbortOnDropHandle::new(tokio::spawn(async move { admin::open_own(&target).await })));
        }
    }

    /// Begins to knock, as the tenant's role, at the database of the cluster's administrator.
    pub(super) fn knock_ahead(&mut self) -> ApiResult<()> {
        let elsewhere = self.direct.with_database(&self.cluster()?.admin.database);
        let knock = async move { AdminConn::open(&elsewhere, &admin::own_options()).await };
        self.knocking = Some(AbortOnDropHandle::new(tokio::spawn(knock)));
        Ok(())
    }

    /// Whether it was let in there, which is the fault.
    pub(super) async fn knocked(&mut self) -> ApiResult<Result<AdminConn, ConnectError>> {
        if self.knocking.is_none() {
            self.knock_ahead()?;
        }
        let knocking = self.knocking.take().ok_or_else(|| ApiError::internal("begun above"))?;
        knocking.await.map_err(ApiError::internal)
    }
}

/// A ready tenant's database, as its own role.
pub(super) fn own_address(cluster: &Cluster, ready: &ReadyTenant) -> Target {
    Target {
        database: ready.database_name.clone(),
        user: ready.role_name.clone(),
        password: ready.password.clone(),
        ..cluster.admin.clone()
    }
}
