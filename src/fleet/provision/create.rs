//! `tenant create`: a database of its own on a cluster.

use std::time::Instant;

use futures_util::future::try_join;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::admin::AdminToBe;
use super::again::Asked;
use super::claimed::Ready;
use super::drive::drive;
use super::later::{needs_wait, stock_is_narrow};
use super::run::{Ahead, Run, own_address};
use super::same::Wish;
use super::trail::Trail;
use super::welcome::Welcome;
use super::{CREATE, FirstAdmin, Provisioned};
use crate::control::clusters::{Cluster, Placement};
use crate::control::migration_runs::Head;
use crate::control::operations::{self, NewOperation, Operation, OperationKind};
use crate::control::tenants::{self, NewTenant, TenantRecord};
use crate::control::{ControlPlane, clusters, ready, signing_keys};
use crate::error::{ApiError, ApiResult};
use crate::fleet::clusters::place;
use crate::fleet::lock::{self, Lock, Session};
use crate::fleet::migrations::Migrations;
use crate::fleet::operation::Journal;
use crate::fleet::{Fleet, OperationOptions, Progress, admin, check_name, refused, scram};
use crate::kernel::crypto::MasterKeys;
use crate::kernel::{OperationId, Slug, TenantId};
use crate::rest::passwords::{Passwords, Rules};
use crate::router::{AdminConn, MainConn, Registration, TenantKind, TenantStatus};

/// A tenant to be, on a cluster.
#[derive(Debug, Clone)]
pub struct CreateTenant {
    /// Public name.
    pub slug: Slug,
    /// Display name; the slug if absent.
    pub name: Option<String>,
    /// The cluster's name; the least loaded one if absent.
    pub cluster: Option<String>,
    /// Where its cluster must stand, if no cluster is named.
    pub region: Option<String>,
    /// The plan's name, if it has one.
    pub plan: Option<String>,
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
        Self {
            slug,
            name: None,
            cluster: None,
            region: None,
            plan: None,
            registration: None,
            max_connections: None,
            admin: None,
        }
    }
}

impl Fleet {
    /// Makes a tenant, or goes on with one whose making was interrupted, and answers when it serves.
    ///
    /// # Errors
    /// `already_exists` for a taken slug; 409 while another process makes it, if no cluster has room, or if it was begun as
    /// another one; 503 if a server does not answer, or too many tenants are being made. What was begun stays, unroutable: the
    /// same call resumes it, [`Fleet::delete`] takes it back.
    pub async fn create(
        &self,
        wanted: &CreateTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        self.create_for(wanted, Asked::default(), None, options, progress).await
    }

    /// As [`Self::create`], for a sign-up or a request. What one sign-up has begun, nobody else goes on with.
    pub(in crate::fleet) async fn create_for(
        &self,
        wanted: &CreateTenant,
        asked: Asked,
        welcome: Option<&Welcome>,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        check_name(wanted.name.as_deref())?;
        if let Some(admin) = &wanted.admin {
            admin.check(&self.passwords).await?;
        }
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        // Before anything of the control plane is used: a crowd waits here, not for its connections.
        let _place = self.creations.take(welcome.is_some()).await?;
        let kind = OperationKind::Create;
        let begun = match asked.anew {
            true => None,
            false => unfinished(&self.control, &wanted.slug, kind, asked.sign_up).await?,
        };
        if let Some(found) = begun {
            let _lock = Lock::tenant(&self.control, found.id).await?;
            // Whoever held the lock until now may have finished it, or taken it back.
            let whose = (options.left, asked.request);
            let (tenant, operation) = reopen(&self.control, found.id, kind, whose, Wish::from(wanted)).await?;
            return self.go_on(tenant, operation, migrations, wanted, options, progress).await;
        }
        if options.left.is_some() {
            // Its tenant was deleted: it is not made anew.
            return Err(operations::has_ended());
        }
        // Before anything is taken: a crowd in front of the hashes holds no slug.
        let admin = self.first_admin(wanted).await?;
        let trail = |since| Trail::new(since, options.halt.as_ref(), progress);
        let begun = Instant::now();
        let Reserved { tenant, operation, _lock, ready, server } =
            self.reserve(wanted, asked, welcome, false, &migrations.head()).await?;
        let Some(ready) = ready else {
            let mut run = Run::new(self, tenant, migrations, wanted.admin.as_ref()).await?.in_one_go(server);
            (run.admin, run.welcome) = (admin, welcome);
            return Box::pin(self.make(run, &operation, trail(begun))).await;
        };
        match Box::pin(self.open_claimed((&tenant, &operation), ready, (admin, welcome), trail(begun))).await {
            Err(error) => {
                tracing::warn!(tenant = %tenant.id, %error, cause = ?error.cause(),
                    "a ready tenant was not what it should be; its making is gone through again");
                // What is there is made whole by the steps that make it from nothing.
                self.go_on(tenant, operation, migrations, wanted, options, progress).await
            }
            done => done,
        }
    }

    /// Drives the making of a tenant from wherever its journal is.
    async fn go_on(
        &self,
        tenant: TenantRecord,
        operation: Operation,
        migrations: Migrations,
        wanted: &CreateTenant,
        options: &OperationOptions,
        progress: &dyn Progress,
    ) -> ApiResult<Provisioned> {
        let run = Run::new(self, tenant, migrations, wanted.admin.as_ref()).await?;
        let journal = Journal::open(&self.control, operation, progress, options.halt.clone()).await?;
        Box::pin(drive(run, CREATE, journal)).await
    }

    async fn first_admin(&self, wanted: &CreateTenant) -> ApiResult<Option<AdminToBe>> {
        match &wanted.admin {
            Some(admin) => AdminToBe::begin(&self.passwords, admin).await.map(Some),
            None => Ok(None),
        }
    }

    /// The registry entry and its journal, in one transaction; of a ready tenant with the migrations that lead here, where
    /// the cluster has one. To that, a connection is opened meanwhile for who is welcomed; else, unless it is made in the
    /// background, one to the cluster.
    pub(super) async fn reserve(
        &self,
        wanted: &CreateTenant,
        asked: Asked,
        welcome: Option<&Welcome>,
        background: bool,
        head: &Head,
    ) -> ApiResult<Reserved> {
        let keys = self.control.keys.clone();
        let strategy = self.settings.placement;
        let session = Session::of(&self.locks, &self.control).await?;
        let (wanted, head, welcome) = (wanted.clone(), head.clone(), welcome.cloned());
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                let cluster = home(conn, &keys, strategy, &wanted).await?;
                // The role of a ready one is made for the usual ceiling.
                let usual = super::role_connections(wanted.max_connections) == super::role_connections(None);
                let ready = if usual { ready::take(conn, &keys, cluster.id, &head.hash).await? } else { None };
                if asked.from_stock && ready.is_none() {
                    return Err(if usual { needs_wait() } else { stock_is_narrow() });
                }
                // What is made over it is not begun before this commits.
                let server = (ready.is_none() && !background).then(|| {
                    let admin = cluster.admin.clone();
                    AbortOnDropHandle::new(tokio::spawn(async move { admin::open_relaxed(&admin).await }))
                });
                let id = ready.as_ref().map_or_else(TenantId::generate, |ready| ready.id);
                let generated = generated_name(id);
                let new = NewTenant {
                    id,
                    slug: wanted.slug.clone(),
                    name: wanted.name.clone().unwrap_or_else(|| wanted.slug.to_string()),
                    kind: TenantKind::Shared,
                    cluster_id: Some(cluster.id),
                    database_name: generated.clone(),
                    role_name: generated,
                    password: Some(ready.as_ref().map_or_else(scram::generate_password, |r| r.password.clone())),
                    url: None,
                    direct_url: None,
                    max_connections: wanted.max_connections,
                    registration: wanted.registration.unwrap_or(Registration::Invite),
                    head: Some(head),
                };
                // Nobody knows of it before this commits, so nobody is waited for.
                let (lock, mut tenant) = try_join(session.tenant(id), tenants::insert(conn, &keys, &new)).await?;
                if let Some(plan) = &wanted.plan {
                    tenants::set_plan(conn, id, plan).await?;
                    tenant.plan = Some(plan.clone());
                }
                signing_keys::make(conn, &keys, id).await?;
                let expected = match welcome.filter(|_| ready.is_some()) {
                    Some(welcome) => Some(welcome.expect_ahead(conn, &keys, id).await?),
                    None => None,
                };
                let mut input = json!({"cluster": cluster.name, "firstAdmin": wanted.admin.is_some(),
                    "ready": ready.is_some(), "signUp": asked.sign_up, "request": asked.request});
                if asked.canary {
                    input["canary"] = json!(true);
                }
                let new = NewOperation::on(id, &wanted.slug, OperationKind::Create, input);
                let operation = operations::begin(conn, &NewOperation { background, ..new }).await?;
                let ready = ready.map(|made| Ready { address: own_address(&cluster, &made), made, expected });
                Ok::<_, ApiError>(Reserved { tenant, operation, _lock: lock, ready, server })
            })
            .await
    }
}

/// The cluster that a tenant is to live on.
async fn home(
    conn: &mut MainConn,
    keys: &MasterKeys,
    strategy: Placement,
    wanted: &CreateTenant,
) -> ApiResult<Cluster> {
    let Some(name) = &wanted.cluster else {
        let placed = place(conn, keys, strategy, wanted.region.as_deref()).await?;
        return placed.ok_or_else(|| match &wanted.region {
            Some(region) => refused(format!(
                "No cluster in region '{region}' has room for another tenant; add one with `tenantry cluster add`."
            )),
            None => refused("No cluster has room for another tenant; add one with `tenantry cluster add`."),
        });
    };
    let unknown = || ApiError::invalid_field("cluster", "unknown", "There is no cluster of this name.");
    let named = clusters::find_by_name(conn, keys, name).await?.ok_or_else(unknown)?;
    if wanted.region.is_some() && named.region != wanted.region {
        return Err(ApiError::invalid_field("region", "mismatch", "The named cluster stands elsewhere."));
    }
    let held = clusters::hold(conn, keys, named).await?;
    if held.has_room() {
        if lock::stays_until_commit(conn, held.id).await? {
            // It may have been removed before that could be said.
            if clusters::is_there(conn, held.id).await? { Ok(held) } else { Err(unknown()) }
        } else {
            Err(refused(format!("Cluster '{name}' is being removed. Name another one.")))
        }
    } else if held.draining {
        Err(refused(format!(
            "Cluster '{name}' is draining. `tenantry cluster drain {name} --undo` lets tenants on again."
        )))
    } else {
        Err(refused(format!(
            "Cluster '{name}' is full. `tenantry cluster set {name} --max-tenants N` raises its bound."
        )))
    }
}

/// The name of a tenant's database and role.
pub(in crate::fleet) fn generated_name(id: TenantId) -> String {
    format!("t_{}", id.uuid().simple())
}

/// A tenant that is not routable yet, and the right to work on it.
pub(super) struct Reserved {
    pub(super) tenant: TenantRecord,
    pub(super) operation: Operation,
    pub(super) _lock: Lock,
    pub(super) ready: Option<Ready>,
    /// The cluster's administrative database, where what is reserved is still to be made.
    pub(super) server: Option<Ahead<ApiResult<AdminConn>>>,
}

impl FirstAdmin {
    /// Refuses what could not log in later.
    pub(in crate::fleet) async fn check(&self, passwords: &Passwords) -> ApiResult<()> {
        let shaped = self.email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && domain.len() >= 3 && !self.email.contains(char::is_whitespace)
        });
        if !shaped || self.email.len() > 320 {
            return Err(ApiError::invalid_field("admin.email", "invalid", "This is no e-mail address."));
        }
        let super::AdminPassword::Given(password) = &self.password else { return Ok(()) };
        let rules = Rules::usual(&self.email).knowing(&self.first_name).knowing(&self.last_name);
        match passwords.of_nobody().judge("admin.password", password, rules).await? {
            Some(fault) => Err(ApiError::invalid(vec![fault])),
            None => Ok(()),
        }
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
    sign_up: Option<Uuid>,
) -> ApiResult<Option<TenantRecord>> {
    let slug = slug.clone();
    control
        .db
        .read(async move |conn: &mut MainConn| {
            let Some(tenant) = tenants::find_by_slug(conn, &slug).await? else { return Ok(None) };
            let open = operations::find_open(conn, tenant.id).await?;
            let sign_up = json!(sign_up);
            let begun_by = |open: &Operation| open.input.get("signUp").unwrap_or(&Value::Null).clone();
            if open.is_some_and(|open| open.kind == kind && begun_by(&open) == sign_up) {
                Ok(Some(tenant))
            } else {
                Err(ApiError::already_exists("slug", format!("The slug '{slug}' is taken. Choose another one.")))
            }
        })
        .await
}

/// The journal of an interrupted run, running again, for a worker that was left it or for a request, which finds it again;
/// under the tenant's lock. It is as it was where something else is wished for now.
pub(super) async fn reopen(
    control: &ControlPlane,
    id: TenantId,
    kind: OperationKind,
    (left, request): (Option<OperationId>, Option<Uuid>),
    wish: Wish,
) -> ApiResult<(TenantRecord, Operation)> {
    let keys = control.keys.clone();
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
            wish.check(conn, &keys, (&tenant, &open)).await?;
            let journal = operations::resume(conn, open.id, left).await?;
            if let Some(request) = request {
                operations::note_request(conn, open.id, request).await?;
            }
            debug_assert!(matches!(tenant.status, TenantStatus::Provisioning | TenantStatus::Active));
            Ok((tenant, journal))
        })
        .await
}
