//! `tenant create`: a database of its own on a cluster.

use serde_json::json;

use super::drive::drive;
use super::run::Run;
use super::{CREATE, FirstAdmin, Provisioned};
use crate::control::operations::{self, NewOperation, Operation, OperationKind};
use crate::control::tenants::{self, NewTenant, TenantRecord};
use crate::control::{ControlPlane, clusters};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::migrations::Migrations;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, OperationOptions, Progress, check_name, refused, scram};
use crate::kernel::{Slug, TenantId};
use crate::router::{MainConn, Registration, TenantKind, TenantStatus};

/// A tenant to be, on a cluster.
#[derive(Debug, Clone)]
pub struct CreateTenant {
    /// Public name.
    pub slug: Slug,
    /// Display name; the slug if absent.
    pub name: Option<String>,
    /// The cluster's name; the least loaded one if absent.
    pub cluster: Option<String>,
    /// Who may register; nobody if absent.
    pub registration: Option<Registration>,
    /// Ceiling of connections; the router's default if absent.
    pub max_connections: Option<i32>,
    /// The first administrator, if there shall be one.
    pub admin: Option<FirstAdmin>,
}

impl CreateTenant {
    /// Nothing but a name; everything else as usual.
    #[must_use]
    pub fn named(slug: Slug) -> Self {
        Self { slug, name: None, cluster: None, registration: None, max_connections: None, admin: None }
    }
}

impl Fleet {
    /// Makes a tenant, or goes on with one whose making was interrupted, and answers when it serves.
    ///
    /// # Errors
    /// `already_exists` for a taken slug; 409 while another process makes it, or if no cluster has room; 503 if a server
    /// does not answer. What was begun stays, unroutable: the same call resumes it, [`Fleet::delete`] takes it back.
    pub async fn create(
        &self,
        wanted: &CreateTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        check_name(wanted.name.as_deref())?;
        if let Some(admin) = &wanted.admin {
            admin.check()?;
        }
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let found = unfinished(&self.control, &wanted.slug, OperationKind::Create).await?;
        let id = found.as_ref().map_or_else(TenantId::generate, |tenant| tenant.id);
        let _lock = Lock::tenant(&self.control, id).await?;
        let (tenant, journal) = match found {
            // Whoever held the lock until now may have finished it, or taken it back.
            Some(tenant) => reopen(&self.control, tenant.id, OperationKind::Create).await?,
            None => self.reserve(id, wanted, false).await?,
        };
        let run = Run::new(self, tenant, migrations, wanted.admin.as_ref()).await?;
        let journal = Journal::open(&self.control, journal, progress, options.halt.clone()).await?;
        drive(run, CREATE, journal).await
    }

    /// Takes a tenant in and leaves its making to a worker ([`Fleet::work`]). It cannot have a first administrator,
    /// whose password is kept nowhere.
    ///
    /// # Errors
    /// As [`Fleet::create`]; 422 for a first administrator.
    pub async fn create_later(&self, wanted: &CreateTenant) -> ApiResult<TenantRecord> {
        check_name(wanted.name.as_deref())?;
        if wanted.admin.is_some() {
            let said =
                "The first administrator's password is kept nowhere, so it cannot be set later: wait, or leave it out.";
            return Err(ApiError::invalid_field("admin", "needs_wait", said));
        }
        if let Some(begun) = unfinished(&self.control, &wanted.slug, OperationKind::Create).await? {
            return Ok(begun);
        }
        self.reserve(TenantId::generate(), wanted, true).await.map(|(tenant, _)| tenant)
    }

    /// The registry entry and its journal, in one transaction.
    async fn reserve(
        &self,
        id: TenantId,
        wanted: &CreateTenant,
        background: bool,
    ) -> ApiResult<(TenantRecord, Operation)> {
        let keys = self.control.keys.clone();
        let wanted = wanted.clone();
        let control = &self.control;
        control
            .db
            .transaction(async move |conn: &mut MainConn| {
                let cluster = match &wanted.cluster {
                    Some(name) => clusters::find_by_name(conn, &keys, name).await?.ok_or_else(|| {
                        ApiError::invalid_field("cluster", "unknown", "There is no cluster of this name.")
                    })?,
                    None => clusters::place(conn, &keys).await?.ok_or_else(|| {
                        refused("No cluster has room for another tenant; add one with `tenantry cluster add`.")
                    })?,
                };
                let generated = format!("t_{}", id.uuid().simple());
                let new = NewTenant {
                    id,
                    slug: wanted.slug.clone(),
                    name: wanted.name.clone().unwrap_or_else(|| wanted.slug.to_string()),
                    kind: TenantKind::Shared,
                    cluster_id: Some(cluster.id),
                    database_name: generated.clone(),
                    role_name: generated,
                    password: Some(scram::generate_password()),
                    url: None,
                    direct_url: None,
                    max_connections: wanted.max_connections,
                    registration: wanted.registration.unwrap_or(Registration::Closed),
                };
                let tenant = tenants::insert(conn, &keys, &new).await?;
                let input = json!({"cluster": cluster.name, "firstAdmin": wanted.admin.is_some()});
                let new = NewOperation::on(id, &wanted.slug, OperationKind::Create, input);
                let journal = operations::begin(conn, &NewOperation { background, ..new }).await?;
                Ok::<_, ApiError>((tenant, journal))
            })
            .await
    }
}

impl FirstAdmin {
    /// Refuses what could not log in later.
    pub(in crate::fleet) fn check(&self) -> ApiResult<()> {
        let shaped = self.email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && domain.len() >= 3 && !self.email.contains(char::is_whitespace)
        });
        if !shaped || self.email.len() > 320 {
            return Err(ApiError::invalid_field("admin.email", "invalid", "This is no e-mail address."));
        }
        if let super::AdminPassword::Given(password) = &self.password
            && let Some(fault) = crate::rest::passwords::fault("admin.password", password, &self.email)
        {
            return Err(ApiError::invalid(vec![fault]));
        }
        Ok(())
    }
}

/// The tenant of this slug whose making was interrupted, or `None` if the slug is free.
///
/// # Errors
/// `already_exists` if it is taken by any other.
pub(super) async fn unfinished(
    control: &ControlPlane,
    slug: &Slug,
    kind: OperationKind,
) -> ApiResult<Option<TenantRecord>> {
    let slug = slug.clone();
    control
        .db
        .read(async move |conn: &mut MainConn| {
            let Some(tenant) = tenants::find_by_slug(conn, &slug).await? else { return Ok(None) };
            let open = operations::find_open(conn, tenant.id).await?;
            if open.is_some_and(|open| open.kind == kind) {
                Ok(Some(tenant))
            } else {
                Err(ApiError::already_exists("slug", format!("The slug '{slug}' is taken. Choose another one.")))
            }
        })
        .await
}

/// The journal of an interrupted run, running again; under the tenant's lock.
pub(super) async fn reopen(
    control: &ControlPlane,
    id: TenantId,
    kind: OperationKind,
) -> ApiResult<(TenantRecord, Operation)> {
    control
        .db
        .transaction(async move |conn: &mut MainConn| {
            let tenant = tenants::get(conn, id).await?;
            let open = operations::find_open(conn, id).await?.filter(|open| open.kind == kind);
            let Some(open) = open else {
                return Err(ApiError::already_exists(
                    "slug",
                    format!("The slug '{}' is taken. Choose another one.", tenant.slug),
                ));
            };
            let journal = operations::reopen(conn, open.id).await?;
            debug_assert!(matches!(tenant.status, TenantStatus::Provisioning | TenantStatus::Active));
            Ok((tenant, journal))
        })
        .await
}
