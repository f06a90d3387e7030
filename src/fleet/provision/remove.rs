//! `tenant delete`: archived first, dropped after the grace period; or the steps of its making taken back at once.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::verify::find_stamp;
use super::{ATTACH, CREATE, Step};
use crate::control::operations::{self, NewOperation, Operation, OperationKind, OperationState};
use crate::control::tenants::{self, TenantRecord};
use crate::control::{clusters, installation};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::lock::Lock;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::{Fleet, Progress, Silent, StepTime, admin, refused, sql, sweep};
use crate::kernel::TenantId;
use crate::router::{AdminConn, MainConn, Target, TenantKind, TenantStatus};

/// How to delete.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeleteTenant {
    /// Drop now instead of after the grace period.
    pub now: bool,
    /// Also drop what is in a dedicated database, which otherwise stays with its owner.
    pub drop_dedicated_data: bool,
    /// Only while the tenant is at this version.
    pub expected_version: Option<i64>,
}

/// What became of it.
#[derive(Debug)]
pub struct Deleted {
    /// The tenant; as it was, where it is gone.
    pub tenant: TenantRecord,
    /// Nothing is left of it.
    pub gone: bool,
    /// Else when its database goes.
    pub purge_after: Option<DateTime<Utc>>,
    /// What was taken back.
    pub steps: Vec<StepTime>,
}

/// Whether anything of a dedicated database is touched, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) enum Data {
    Stays,
    Goes,
}

/// Takes back what was made for a tenant.
pub(in crate::fleet) struct Undo<'a> {
    fleet: &'a Fleet,
    tenant: &'a TenantRecord,
    /// The administrator of a shared tenant's cluster.
    server: Option<AdminConn>,
    /// The owner, in a dedicated database that answers and is stamped for this tenant.
    dedicated: Option<AdminConn>,
    data: Data,
}

impl<'a> Undo<'a> {
    /// Opens what is needed for it. The stamp of a dedicated database may be gone where it was `begun` before, with all that
    /// its role had in it.
    ///
    /// # Errors
    /// 409 if the data of a dedicated database shall go that is not stamped for this tenant; 503 if a server does not
    /// answer.
    pub(in crate::fleet) async fn prepare(
        fleet: &'a Fleet,
        tenant: &'a TenantRecord,
        (data, begun): (Data, bool),
        progress: &dyn Progress,
    ) -> ApiResult<Self> {
        let mut undo = Undo { fleet, tenant, server: None, dedicated: None, data };
        match tenant.kind {
            TenantKind::Shared => undo.server = Some(admin::open(&fleet.administrator(tenant).await?).await?),
            TenantKind::Dedicated => undo.dedicated = fleet.owned(tenant, (data, begun), progress).await?,
        }
        Ok(undo)
    }

    /// Everything but the registry entry.
    pub(in crate::fleet) async fn take_back_databases(&mut self) -> ApiResult<()> {
        let list = if self.tenant.kind == TenantKind::Shared { CREATE } else { ATTACH };
        for step in list.iter().rev().filter(|step| **step != Step::Reserve) {
            self.take_back(*step).await?;
        }
        Ok(())
    }

    /// Takes back what the step did. Most steps did nothing outside the database that goes as a whole.
    async fn take_back(&mut self, step: Step) -> ApiResult<()> {
        match (step, &mut self.server, &mut self.dedicated) {
            (Step::Database, Some(server), _) => {
                admin::run_each(server, sql::DATABASE_UNDO, &[("database", &self.tenant.database_name)]).await
            }
            (Step::Role, Some(server), _) => {
                admin::run_each(server, sql::ROLE_UNDO, &[("role", &self.tenant.role_name)]).await
            }
            (Step::Migrations, _, Some(owner)) if self.data == Data::Goes => {
                admin::run(owner, sql::MIGRATIONS_UNDO, &[]).await
            }
            (Step::Stamp, _, Some(owner)) => admin::run(owner, sql::STAMP_UNDO, &[]).await,
            (Step::Reserve, _, _) => {
                let id = self.tenant.id;
                self.fleet.control.db.read(async move |conn: &mut MainConn| tenants::remove(conn, id).await).await
            }
            _ => Ok(()),
        }
    }
}

impl Steps for Undo<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, _: &mut Journal<'_>) -> ApiResult<()> {
        self.take_back(step).await
    }

    /// Each costs one look when there is nothing left.
    fn is_repeated(&self, _: Step) -> bool {
        true
    }

    /// Whether there is nothing to take back.
    fn is_left_out(&self, step: Step) -> bool {
        match self.tenant.kind {
            TenantKind::Shared => !matches!(step, Step::Reserve | Step::Role | Step::Database),
            TenantKind::Dedicated => !matches!(step, Step::Reserve | Step::Stamp | Step::Migrations),
        }
    }
}

impl Fleet {
    /// Archives a tenant, to be dropped when the grace period ends; with `now`, and for one that was never finished,
    /// drops it at once. Running it again goes on where it stopped.
    ///
    /// # Errors
    /// 404 if there is none; 409 while another process works on it, or once its erasure has begun; 412 if it is no longer
    /// at the expected version; 503 if its cluster does not answer.
    pub async fn delete(&self, id: TenantId, how: DeleteTenant, progress: &dyn Progress) -> ApiResult<Deleted> {
        let _lock = Lock::tenant(&self.control, id).await?;
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        if how.expected_version.is_some_and(|version| version != tenant.version) {
            return Err(ApiError::new(Code::VersionMismatch));
        }
        let unfinished = tenant.status == TenantStatus::Provisioning;
        self.erasure_gives_way(id, how.now).await?;
        if how.now || unfinished {
            let data = if how.drop_dedicated_data || unfinished { Data::Goes } else { Data::Stays };
            return self.purge(tenant, data, progress).await;
        }
        let tenant = match tenant.status {
            TenantStatus::Archived => tenant,
            _ => self.archive_at(id, how.expected_version).await?,
        };
        Ok(Deleted { purge_after: tenant.purge_after, tenant, gone: false, steps: Vec::new() })
    }

    /// Takes back the making of a tenant that never served; nothing is done to any other.
    ///
    /// # Errors
    /// 404 if there is none; 409 if it serves or has served, or while another process works on it.
    pub(in crate::fleet) async fn delete_unfinished(&self, id: TenantId) -> ApiResult<()> {
        let _lock = Lock::tenant(&self.control, id).await?;
        let tenant = self.control.db.read(async move |conn: &mut MainConn| tenants::get(conn, id).await).await?;
        if tenant.status != TenantStatus::Provisioning {
            return Err(refused("The tenant is made."));
        }
        self.erasure_gives_way(id, false).await?;
        self.purge(tenant, Data::Goes, &Silent).await.map(drop)
    }

    /// Takes a tenant from its users; its database is kept until the grace period ends.
    ///
    /// # Errors
    /// 404 if there is none; 409 if it is neither active nor suspended.
    pub async fn archive(&self, id: TenantId) -> ApiResult<TenantRecord> {
        self.archive_at(id, None).await
    }

    async fn archive_at(&self, id: TenantId, expected_version: Option<i64>) -> ApiResult<TenantRecord> {
        let grace = TimeDelta::from_std(self.settings.purge_grace).map_err(ApiError::internal)?;
        let until = self.control.clock.now() + grace;
        let db = &self.control.db;
        db.read(async move |conn: &mut MainConn| tenants::archive(conn, id, expected_version, until).await).await
    }

    /// An erasure that has begun is to be finished: a deletion would leave what it was to destroy, and nothing to
    /// certify. One that has done nothing yet gives way to whoever wants the tenant gone `now`: a customer whose server
    /// is gone must not keep his tenant here for ever.
    async fn erasure_gives_way(&self, id: TenantId, now: bool) -> ApiResult<()> {
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                for open in operations::unended(conn, id, OperationKind::Erase).await? {
                    if !now || !operations::steps(conn, open.id).await?.is_empty() {
                        return Err(refused(format!(
                            "The erasure of this tenant has begun; it cannot be deleted instead. Finish it: `tenantry \
                             tenant erase {id}`."
                        )));
                    }
                    operations::finish(conn, open.id, OperationState::Undone, open.error.as_deref()).await?;
                }
                Ok::<_, ApiError>(())
            })
            .await
    }

    /// Drops the archived tenants whose grace period has ended, and gives how many. One that cannot be dropped now is
    /// left for the next sweep, one whose erasure is unfinished to that.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn purge_due(&self) -> ApiResult<usize> {
        if !self.tells_time().await? {
            return Ok(0);
        }
        let now = self.control.clock.now();
        let due =
            self.control.db.read(async move |conn: &mut MainConn| tenants::due_for_purge(conn, now).await).await?;
        let due = due.into_iter().map(|tenant| (sweep::server_of(tenant.cluster_id, tenant.id), tenant.id)).collect();
        Ok(sweep::by_server(due, self.sweep_deadline(sweep::DROP), |id| self.is_purged(id, now)).await)
    }

    async fn is_purged(&self, id: TenantId, now: DateTime<Utc>) -> bool {
        self.purge_one(id, now).await.unwrap_or_else(|error| {
            tracing::warn!(tenant = %id, %error, cause = ?error.cause(), "could not purge a tenant");
            false
        })
    }

    async fn purge_one(&self, id: TenantId, now: DateTime<Utc>) -> ApiResult<bool> {
        let _lock = Lock::tenant(&self.control, id).await?;
        // It may have been restored, or dropped by another node, since the list was read.
        let read = async move |conn: &mut MainConn| {
            let erasures = operations::unended(conn, id, OperationKind::Erase).await?;
            let deletions = operations::unended(conn, id, OperationKind::Delete).await?;
            Ok::<_, ApiError>((tenants::find(conn, id).await?, erasures.is_empty(), deletions))
        };
        let (found, may_go, deletions) = self.control.db.read(read).await?;
        let due = found.filter(|tenant| may_go && tenant.purge_after.is_some_and(|after| after <= now));
        let Some(tenant) = due else { return Ok(false) };
        // Goes on with what was asked for, if anything was.
        let goes = deletions.first().is_some_and(|asked| asked.input["dropDedicatedData"] == true);
        let data = if goes { Data::Goes } else { Data::Stays };
        self.purge(tenant, data, &Silent).await.map(|deleted| deleted.gone)
    }

    async fn purge(&self, tenant: TenantRecord, data: Data, progress: &dyn Progress) -> ApiResult<Deleted> {
        self.clear_move(tenant.id).await?;
        let operation = self.begin_purge(&tenant, data).await?;
        // The role owns those on its server too.
        self.drop_kept(tenant.id, None).await?;
        let mut journal = Journal::open(&self.control, operation, progress, None).await?;
        let begun = [Step::Migrations, Step::Stamp].iter().any(|step| journal.has_begun(step.as_str()));
        let mut undo = Undo::prepare(self, &tenant, (data, begun), progress).await?;
        let list = if tenant.kind == TenantKind::Shared { CREATE } else { ATTACH };
        let list: Vec<Step> = list.iter().rev().copied().collect();
        let steps = journal.drive(&mut undo, &list).await?;
        tracing::info!(tenant = %tenant.id, slug = %tenant.slug, "deleted");
        Ok(Deleted { tenant, gone: true, purge_after: None, steps })
    }

    /// Unroutable from here on; an unfinished run gives way to this one, unless the same was asked for.
    async fn begin_purge(&self, tenant: &TenantRecord, data: Data) -> ApiResult<Operation> {
        let (id, slug, status, now) = (tenant.id, tenant.slug.clone(), tenant.status, self.control.clock.now());
        // Whoever goes on with it must know; of what never served all goes anyway.
        let goes = data == Data::Goes && tenant.kind == TenantKind::Dedicated && status != TenantStatus::Provisioning;
        let input = if goes { json!({"dropDedicatedData": true}) } else { json!({}) };
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                if matches!(status, TenantStatus::Active | TenantStatus::Suspended) {
                    tenants::archive(conn, id, None, now).await?;
                }
                let mut open = operations::unended(conn, id, OperationKind::Delete).await?;
                open.extend(operations::find_open(conn, id).await?);
                let same = |one: &&Operation| one.kind == OperationKind::Delete && one.input == input;
                let again = open.iter().find(same).map(|one| one.id);
                for other in open {
                    if Some(other.id) != again {
                        operations::finish(conn, other.id, OperationState::Undone, other.error.as_deref()).await?;
                    }
                }
                match again {
                    Some(again) => operations::reopen(conn, again).await,
                    None => operations::begin(conn, &NewOperation::on(id, &slug, OperationKind::Delete, input)).await,
                }
            })
            .await
    }

    async fn administrator(&self, tenant: &TenantRecord) -> ApiResult<Target> {
        let id = tenant.cluster_id.ok_or_else(|| ApiError::internal("a shared tenant without a cluster"))?;
        let keys = self.control.keys.clone();
        let cluster =
            self.control.db.read(async move |conn: &mut MainConn| clusters::get(conn, &keys, id).await).await?;
        Ok(cluster.admin)
    }

    /// The owner's connection to a dedicated database, if it answers and is stamped for this tenant: nothing else is
    /// ever touched. A customer whose server is gone must not keep his tenant here for ever.
    async fn owned(
        &self,
        tenant: &TenantRecord,
        (data, begun): (Data, bool),
        progress: &dyn Progress,
    ) -> ApiResult<Option<AdminConn>> {
        // Of what has served nobody says that it is gone unless it was seen to go.
        let must_go = data == Data::Goes && tenant.status != TenantStatus::Provisioning;
        let (id, keys) = (tenant.id, self.control.keys.clone());
        let (direct, installation) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let (_, direct) = tenants::target(conn, &keys, id).await?;
                Ok::<_, ApiError>((direct, installation::find(conn, &keys).await?))
            })
            .await?;
        let mut conn = match admin::open_own(&direct).await {
            Ok(conn) => conn,
            Err(error) if must_go => return Err(error),
            Err(error) => {
                progress.note("the dedicated database does not answer; what is in it stays");
                tracing::warn!(tenant = %tenant.id, %error, cause = ?error.cause(), "a dedicated database was left as it is");
                return Ok(None);
            }
        };
        let stamp = match find_stamp(&mut conn).await {
            Err(error) if must_go => return Err(error),
            found => found.ok().flatten(),
        };
        let ours = stamp.zip(installation).is_some_and(|(stamp, installation)| stamp.names(id, installation.id));
        // What was begun may have failed before anything went; what went took the stamp along, in one transaction.
        if !ours && must_go && (!begun || owns_tables(&mut conn).await?) {
            return Err(refused(
                "The dedicated database is not stamped for this tenant, so nothing in it is touched, and nothing can be \
                 said to be gone. Hand in the URL of its database with `tenantry tenant rotate-credentials \
                 --database-url-file`, or have its stamp put back.",
            ));
        }
        if !ours {
            progress.note("the dedicated database is not stamped for this tenant; nothing in it is touched");
        }
        Ok(ours.then_some(conn))
    }
}

/// Whether the role of a connection has tables in the database, but for those that an extension brought.
async fn owns_tables(conn: &mut AdminConn) -> ApiResult<bool> {
    let owned = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE pg_catalog.pg_get_userbyid(c.relowner) = current_user \
         AND c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't' AND c.oid::bigint >= {} \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
         AND d.objid = c.oid AND d.deptype = 'e')) AS yes",
        admin::FIRST_MADE
    );
    admin::ask(conn, &owned).await
}
