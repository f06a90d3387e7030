//! `tenant attach`: a customer's own database, adopted. It is looked at first, so that a refusal leaves nothing behind.

use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;

use super::create::{reopen, unfinished};
use super::drive::drive;
use super::probe::probe;
use super::run::Run;
use super::same::Wish;
use super::{ATTACH, FirstAdmin, Provisioned};
use crate::control::installation;
use crate::control::operations::{self, NewOperation, Operation, OperationKind};
use crate::control::tenants::{self, NewTenant, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::migrations::Migrations;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, OperationOptions, Progress, Silent, check_name, refused};
use crate::kernel::{Slug, TenantId};
use crate::router::{MainConn, Registration, Target, TenantKind};

/// A tenant to be, in a database of the customer's own.
#[derive(Debug, Clone)]
pub struct AttachTenant {
    /// Public name.
    pub slug: Slug,
    /// Display name; the slug if absent.
    pub name: Option<String>,
    /// As requests reach it.
    pub url: Target,
    /// As migrations reach it, where a pooler stands in between; the same TLS policy.
    pub direct_url: Option<Target>,
    /// Who may register; nobody if absent.
    pub registration: Option<Registration>,
    /// Ceiling of connections; the router's default if absent.
    pub max_connections: Option<i32>,
    /// The first administrator, if there shall be one.
    pub admin: Option<FirstAdmin>,
}

impl Fleet {
    /// Adopts a database, or goes on where an interrupted adoption stopped, and answers when it serves.
    ///
    /// # Errors
    /// 422 on `databaseUrl` with what is wrong and its remedy, before anything is written anywhere; else as
    /// [`Fleet::create`].
    pub async fn attach(
        &self,
        wanted: &AttachTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        self.attach_for(wanted, None, options, progress).await
    }

    /// As [`Fleet::attach`], for the request of this id, if it has one. What that has adopted before is given again, without
    /// its administrator's password.
    ///
    /// # Errors
    /// As [`Fleet::attach`].
    pub(in crate::fleet) async fn attach_once(
        &self,
        wanted: &AttachTenant,
        request: Option<Uuid>,
    ) -> ApiResult<Provisioned> {
        if let Some(request) = request
            && let Some(made) = self.made_for(request).await?
        {
            return Ok(made);
        }
        self.attach_for(wanted, request, &OperationOptions::default(), &Silent).await
    }

    async fn attach_for(
        &self,
        wanted: &AttachTenant,
        request: Option<Uuid>,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        check_name(wanted.name.as_deref())?;
        if let Some(admin) = &wanted.admin {
            admin.check(&self.passwords).await?;
        }
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let found = unfinished(&self.control, &wanted.slug, OperationKind::Attach, None).await?;
        let id = found.as_ref().map_or_else(TenantId::generate, |tenant| tenant.id);
        let _lock = Lock::tenant(&self.control, id).await?;
        let keys = self.control.keys.clone();
        let installation = self
            .control
            .db
            .read(async move |conn: &mut MainConn| installation::find(conn, &keys).await)
            .await?
            .ok_or_else(|| refused("The installation is not set up; run `tenantry migrate` first."))?;
        let direct = wanted.direct_url.as_ref().unwrap_or(&wanted.url);
        probe(&wanted.url, direct, id, installation.id).await?;
        let (tenant, journal) = match found {
            Some(tenant) => {
                self.same_address(tenant.id, &wanted.url, direct).await?;
                let whose = (options.left, request);
                reopen(&self.control, tenant.id, OperationKind::Attach, whose, Wish::from(wanted)).await?
            }
            None => self.reserve_dedicated(id, wanted, request).await?,
        };
        let run = Run::new(self, tenant, migrations, wanted.admin.as_ref()).await?;
        let journal = Journal::open(&self.control, journal, progress, options.halt.clone()).await?;
        drive(run, ATTACH, journal).await
    }

    /// An interrupted adoption goes on with the database it began with.
    async fn same_address(&self, id: TenantId, url: &Target, direct: &Target) -> ApiResult<()> {
        let keys = self.control.keys.clone();
        let (pooled, known) =
            self.control.db.read(async move |conn: &mut MainConn| tenants::target(conn, &keys, id).await).await?;
        let same = |a: &Target, b: &Target| a.to_url().expose_secret() == b.to_url().expose_secret();
        if same(&pooled, url) && same(&known, direct) {
            return Ok(());
        }
        Err(refused(
            "This tenant's adoption was begun with another URL. Give that one again, or take it back with `tenantry \
             tenant delete`.",
        ))
    }

    async fn reserve_dedicated(
        &self,
        id: TenantId,
        wanted: &AttachTenant,
        request: Option<Uuid>,
    ) -> ApiResult<(TenantRecord, Operation)> {
        let keys = self.control.keys.clone();
        let new = NewTenant {
            id,
            slug: wanted.slug.clone(),
            name: wanted.name.clone().unwrap_or_else(|| wanted.slug.to_string()),
            kind: TenantKind::Dedicated,
            cluster_id: None,
            database_name: wanted.url.database.clone(),
            role_name: wanted.url.user.clone(),
            password: None,
            url: Some(wanted.url.clone()),
            direct_url: wanted.direct_url.clone(),
            max_connections: wanted.max_connections,
            registration: wanted.registration.unwrap_or(Registration::Invite),
            head: None,
        };
        let input = json!({"firstAdmin": wanted.admin.is_some(), "request": request});
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                let tenant = tenants::insert(conn, &keys, &new).await?;
                let journal =
                    operations::begin(conn, &NewOperation::on(id, &new.slug, OperationKind::Attach, input)).await?;
                Ok::<_, ApiError>((tenant, journal))
            })
            .await
    }
}
