//! What the steps of one move work with, and which of them does what.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::compare::Compared;
use super::weigh::{self, Side};
use super::{Method, MoveTenant, Relocation, Step, compare, copy, fence, prepare, replicate, target};
use crate::control::clusters::{self, Cluster};
use crate::control::tenants::{self, Switch, TenantRecord};
use crate::control::{installation, operations};
use crate::error::{ApiError, ApiResult};
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::provision::verify;
use crate::fleet::{Fleet, admin, refused, scram, sql};
use crate::kernel::ClusterId;
use crate::router::{AdminConn, ConnectOptions, Installation, MainConn, Target};

/// What a move may need to be taken back within the hold.
const TO_UNDO: Duration = Duration::from_secs(5);

/// What was decided at the beginning.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) from: ClusterId,
    pub(super) to: ClusterId,
    pub(super) method: Method,
}

/// One move.
pub(super) struct Run<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) tenant: TenantRecord,
    pub(super) wanted: MoveTenant,
    pub(super) installation: Installation,
    /// The tenant's role, at whatever server it is now.
    pub(super) own: Target,
    /// What its role at the target has for a password while the copy is loaded. Nobody else has it, and it is kept nowhere: who
    /// goes on with the move sets another one.
    one_time: SecretString,
    pub(super) plan: Option<Plan>,
    pub(super) source: Cluster,
    /// Known once it is chosen.
    pub(super) target: Option<Cluster>,
    weighed: Option<[Side; 2]>,
    compared: Option<Compared>,
    relocation: Option<Relocation>,
    /// When the hold must have ended.
    deadline: Option<Instant>,
    /// The target's role may be able to log in, as far as we know.
    pub(super) may_be_open: AtomicBool,
}

impl Steps for Run<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Prepare => prepare::prepare(self, journal).await,
            Step::Target => target::make(self).await,
            Step::Schema => copy::schema(self).await,
            Step::Replicate => replicate::begin(self, journal).await,
            Step::Weigh => {
                self.weighed = Some(weigh::weigh(self, journal).await?);
                Ok(())
            }
            Step::Hold => self.hold(journal).await,
            Step::Fence => self.held(fence::fence(self)).await,
            Step::Copy => match self.plan()?.method {
                Method::Dump => self.held(copy::everything(self)).await,
                Method::Replicate => self.held(replicate::finish(self)).await,
            },
            Step::Compare => {
                // Its snapshots go with it.
                let mut weighed = self.weighed.take();
                let compared = self.held(compare::compare(self, weighed.as_mut())).await?;
                journal.keep(&compared)?;
                self.compared = Some(compared);
                Ok(())
            }
            Step::Open => self.held(self.open()).await,
            Step::Switch => self.switch(journal).await,
            Step::Analyze => self.analyze().await,
        }
    }

    /// Nothing is switched that was not weighed, held, fenced and compared by whoever switches it.
    fn is_repeated(&self, step: Step) -> bool {
        !self.is_switched() && matches!(step, Step::Weigh | Step::Hold | Step::Fence | Step::Compare | Step::Open)
    }

    /// Once the tenant is at its new place there is nothing to be taken back: what is left is soon done.
    fn can_stop(&self, _: Step) -> bool {
        !self.is_switched()
    }

    fn is_left_out(&self, step: Step) -> bool {
        self.plan.is_some_and(|plan| !plan.method.has(step)) || (self.is_switched() && step < Step::Switch)
    }
}

impl<'a> Run<'a> {
    pub(super) async fn new(
        fleet: &'a Fleet,
        tenant: TenantRecord,
        wanted: &MoveTenant,
        journal: &Journal<'_>,
    ) -> ApiResult<Self> {
        let plan: Option<Plan> = journal.kept(Step::Prepare.as_str())?;
        let relocation = journal.operation.result.clone().map(serde_json::from_value).transpose();
        let relocation: Option<Relocation> = relocation.map_err(ApiError::internal)?;
        let from = plan.map(|plan| plan.from).or(tenant.cluster_id);
        let from = from.ok_or_else(|| ApiError::internal("a shared tenant without a cluster"))?;
        let (keys, id, to) = (fleet.control.keys.clone(), tenant.id, plan.map(|plan| plan.to));
        let (source, target, (_, own), installation) = fleet
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let source = clusters::get(conn, &keys, from).await?;
                let target = match to {
                    Some(to) => Some(clusters::get(conn, &keys, to).await?),
                    None => None,
                };
                let own = tenants::target(conn, &keys, id).await?;
                Ok::<_, ApiError>((source, target, own, installation::find(conn, &keys).await?))
            })
            .await?;
        let installation = installation.ok_or_else(|| ApiError::internal("the installation is not set up"))?;
        let wanted = wanted.clone();
        Ok(Self {
            fleet,
            tenant,
            wanted,
            installation,
            own,
            one_time: scram::generate_password(),
            plan,
            source,
            target,
            weighed: None,
            compared: None,
            relocation,
            deadline: None,
            may_be_open: AtomicBool::new(journal.has_begun(Step::Open.as_str())),
        })
    }

    pub(super) fn plan(&self) -> ApiResult<Plan> {
        self.plan.ok_or_else(|| ApiError::internal("a move without its plan"))
    }

    pub(super) fn target(&self) -> ApiResult<&Cluster> {
        self.target.as_ref().ok_or_else(|| ApiError::internal("a move without its target"))
    }

    /// Whether the registry has the tenant at its new place.
    pub(super) const fn is_switched(&self) -> bool {
        self.relocation.is_some()
    }

    pub(super) fn relocation(&self) -> ApiResult<Relocation> {
        self.relocation.clone().ok_or_else(|| ApiError::internal("a move without its result"))
    }

    /// The administrator of the source, in the tenant's database.
    pub(super) fn at_source(&self) -> Target {
        self.source.admin.with_database(&self.tenant.database_name)
    }

    /// The administrator of the target, in the tenant's database.
    pub(super) fn at_target(&self) -> ApiResult<Target> {
        Ok(self.target()?.admin.with_database(&self.tenant.database_name))
    }

    /// The tenant's own role at the target, as it will be.
    fn own_at_target(&self) -> ApiResult<Target> {
        let admin = &self.target()?.admin;
        Ok(Target { host: admin.host.clone(), port: admin.port, tls: admin.tls.clone(), ..self.own.clone() })
    }

    /// The same while the copy is loaded: whatever the tenant has made runs with no more than its own rights.
    pub(super) fn loader(&self) -> ApiResult<Target> {
        Ok(Target { password: self.one_time.clone(), ..self.own_at_target()? })
    }

    /// Work as [`Run::loader`]: until it ends its role lets in whoever has the one-time password, which is nobody else. What
    /// is loaded may give its role another password: neither that nor a session that came in by it outlives the work, nor
    /// does one that an interrupted run has left outlive the beginning.
    pub(super) async fn loading<T>(&self, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
        let server = &self.target()?.admin;
        let role = &self.tenant.role_name;
        fence::shut_out(&mut admin::open(server).await?, role).await?;
        self.admit(&mut admin::open(server).await?, &self.one_time).await?;
        // Boxed: a move is many steps, one inside of the other.
        let done = Box::pin(work).await;
        let shut_out = async { fence::shut_out(&mut admin::open(server).await?, role).await };
        match (done, shut_out.await) {
            (Ok(done), Ok(())) => Ok(done),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn admit(&self, server: &mut AdminConn, password: &SecretString) -> ApiResult<()> {
        use diesel_async::SimpleAsyncConnection as _;
        let verifier = scram::verifier(password);
        let (role, verifier) = (sql::ident(&self.tenant.role_name), sql::literal(verifier.expose_secret()));
        let alter = format!("ALTER ROLE {role} LOGIN PASSWORD {verifier}");
        server.batch_execute(&alter).await.map_err(ApiError::internal)
    }

    /// The verifier that the role is made with.
    pub(super) fn verifier(&self) -> SecretString {
        scram::verifier(&self.one_time)
    }

    async fn hold(&mut self, journal: &Journal<'_>) -> ApiResult<()> {
        let (id, by, lasting) = (self.tenant.id, journal.operation.id, self.wanted.hold_deadline);
        self.deadline = Some(Instant::now() + lasting);
        let db = &self.fleet.control.db;
        db.transaction(async move |conn: &mut MainConn| tenants::hold(conn, id, by, lasting + TO_UNDO).await).await
    }

    /// Work under the hold has its deadline.
    async fn held<T>(&self, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
        let deadline = self.deadline.ok_or_else(|| ApiError::internal("not held"))?;
        timeout_at(deadline, work).await.unwrap_or_else(|_| {
            Err(refused(format!(
                "The move took longer than the tenant may be held ({} s). Nothing has changed; try again with a longer \
                 --hold-deadline, or at a quieter time.",
                self.wanted.hold_deadline.as_secs_f32()
            )))
        })
    }

    /// How long the hold lasts yet.
    pub(super) fn left(&self) -> Duration {
        self.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The last step before the switch. The source is fenced: the target may be written to.
    async fn open(&self) -> ApiResult<()> {
        let target = self.target()?;
        let mut server = admin::open(&target.admin).await?;
        self.may_be_open.store(true, Ordering::Relaxed);
        self.admit(&mut server, &self.own.password).await?;
        let own = self.own_at_target()?;
        verify::stamp((self.tenant.id, self.installation.id), &mut admin::open_own(&own).await?).await
    }

    async fn switch(&mut self, journal: &Journal<'_>) -> ApiResult<()> {
        if self.is_switched() {
            return Ok(());
        }
        let plan = self.plan()?;
        let compared = self.compared.clone().ok_or_else(|| ApiError::internal("not compared"))?;
        let (by, driver, now) = (journal.operation.id, journal.driver(), self.fleet.control.clock.now());
        let switch =
            Switch { tenant: self.tenant.id, by, from: plan.from, to: plan.to, grace: self.fleet.settings.purge_grace };
        let mut relocation = Relocation {
            from: self.source.name.clone(),
            to: self.target()?.name.clone(),
            method: plan.method,
            pause_ms: 0,
            checksums: compared.tables,
            sequences: compared.sequences.len(),
        };
        let switched = self
            .fleet
            .control
            .db
            .transaction(async move |conn: &mut MainConn| {
                let pause = tenants::switch(conn, &switch, now).await?;
                relocation.pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let result = serde_json::to_value(&relocation).map_err(ApiError::internal)?;
                operations::set_driven_result(conn, driver, &result).await?;
                Ok::<_, ApiError>(relocation)
            })
            .await?;
        self.relocation = Some(switched);
        Ok(())
    }

    async fn analyze(&self) -> ApiResult<()> {
        use diesel_async::SimpleAsyncConnection as _;
        // As the tenant's role: what an index computes is the tenant's code.
        let options = ConnectOptions { statement_timeout: None, ..admin::own_options() };
        let mut own = AdminConn::open(&self.own_at_target()?, &options).await.map_err(admin::unavailable)?;
        own.batch_execute("ANALYZE").await.map_err(ApiError::internal)
    }
}

/// An administrator's connection for what may take long; the caller has a deadline of its own.
pub(super) async fn open_patiently(target: &Target) -> ApiResult<AdminConn> {
    let options = ConnectOptions { statement_timeout: None, idle_in_transaction_timeout: None, ..admin::options() };
    AdminConn::open(target, &options).await.map_err(admin::unavailable)
}
