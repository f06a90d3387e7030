//! The way of a run along its journal: wave after wave, and a last look for those that came meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::attend::{Attendant, LOOK_UP};
use super::ledger::Ledger;
use super::locks::Locks;
use super::patience::patiently;
use super::turns::Turns;
use super::watch::Watch;
use super::{MigrateFleet, MigrationReport};
use crate::control::installation;
use crate::control::migration_runs::{self, Canary, Head, RunTenant};
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::migrations::Migrations;
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::{Fleet, refused};
use crate::kernel::{InstallationId, OperationId};
use crate::router::MainConn;
use crate::router::tenant::words;

words! {
    /// A step of a run over the fleet.
    Step {
        /// Who is behind, and when each has its turn.
        Plan = "plan",
        /// Canary, waves, those that were put aside, and those that came meanwhile.
        Migrate = "migrate",
    }
}

/// One run, while it is driven.
pub(super) struct Run<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) id: OperationId,
    migrations: Migrations,
    pub(super) head: Head,
    pub(super) wanted: MigrateFleet,
    installation: InstallationId,
    resumed: bool,
    pub(super) begun: Instant,
    /// Time in which the canary was watched and nobody migrated.
    pub(super) watched: Duration,
    pub(super) report: Option<MigrationReport>,
}

impl<'a> Run<'a> {
    pub(super) async fn new(
        fleet: &'a Fleet,
        migrations: Migrations,
        wanted: MigrateFleet,
        resumed: bool,
        id: OperationId,
    ) -> ApiResult<Self> {
        let keys = fleet.control.keys.clone();
        let db = &fleet.control.db;
        let installation = db.read(async move |conn: &mut MainConn| installation::find(conn, &keys).await).await?;
        let installation =
            installation.ok_or_else(|| refused("The installation is not set up. Run `tenantry migrate`."))?;
        let head = migrations.head();
        let (begun, watched) = (Instant::now(), Duration::ZERO);
        let installation = installation.id;
        Ok(Self { fleet, id, migrations, head, wanted, installation, resumed, begun, watched, report: None })
    }

    /// Drives it to its end. A run that did not bring everybody to the head ends as failed in its journal, and is no
    /// error here.
    pub(super) async fn drive(mut self, mut journal: Journal<'_>) -> ApiResult<MigrationReport> {
        match (journal.drive(&mut self, Step::ALL).await, self.report) {
            (_, Some(report)) => Ok(report),
            (Err(error), None) => Err(error),
            (Ok(_), None) => Err(ApiError::internal("a run without a report")),
        }
    }

    async fn migrate(&mut self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let id = self.id;
        let control = self.fleet.control.clone();
        let so_far = control.db.read(async move |conn: &mut MainConn| migration_runs::totals(conn, id).await).await?;
        let total = so_far.migrated + so_far.skipped + so_far.failed + so_far.pending;
        if so_far.pending == 0 {
            return self.end(None).await;
        }
        let locks = Arc::new(Locks::open(&control).await?);
        let (ledger, written) = Ledger::start(control.clone(), locks.clone(), self.id, self.head.clone());
        let turns = Arc::new(Turns {
            control: control.clone(),
            run: self.id,
            migrations: self.migrations.clone(),
            wanted: self.wanted.clone(),
            installation: self.installation,
            resumed: self.resumed,
            locks,
            ledger,
            digests: Mutex::default(),
            stop: CancellationToken::new(),
            reason: Mutex::default(),
            broken: Mutex::default(),
            over: AtomicI64::new(total - so_far.pending),
            failed: AtomicI64::new(so_far.failed),
            bearable: self.wanted.bearable(total),
            aside: Mutex::default(),
            aside_places: Turns::aside_places(),
        });
        let mut watch = Watch::new(control.clone(), self.id, self.head.clone());
        watch.begin().await?;
        let mut attendant = Attendant::new(journal, &turns, watch, total);
        let done = self.waves(&mut attendant).await;
        let watch = attendant.watch;
        // Whatever happened: what was begun is ended, and written down.
        turns.stop.cancel();
        turns.clone().wait_for_aside().await;
        watch.end().await;
        let (reason, broken) = (lock(&turns.reason).take(), lock(&turns.broken).take());
        drop(turns);
        written.await.map_err(ApiError::internal)??;
        if let Some(error) = broken {
            return Err(error);
        }
        let cancelled = journal.is_cancelled();
        let reason = reason.or_else(|| cancelled.then(|| "it was cancelled".to_owned()));
        match done {
            // Nobody stopped it: another process drives it, or whoever comes next goes on with it.
            Err(error) if reason.is_none() => Err(error),
            done => {
                self.end(reason).await?;
                if cancelled { done } else { Ok(()) }
            }
        }
    }

    async fn waves(&mut self, attendant: &mut Attendant<'_, '_>) -> ApiResult<()> {
        let turns = attendant.turns.clone();
        let mut last = 0;
        loop {
            let mut waves = patiently(|| self.unfinished()).await?;
            if waves.is_empty() {
                // Provisioned, restored or attached meanwhile, by a program that did not know of these migrations.
                let more = patiently(|| self.plan(Some(last + 1))).await?;
                if more == 0 {
                    return Ok(());
                }
                attendant.total += i64::try_from(more).unwrap_or_default();
                continue;
            }
            if last == 0 && !waves.contains_key(&0) {
                // Whoever drove it before may have been killed while he watched the canary.
                self.judge_canary(attendant).await?;
                if turns.stop.is_cancelled() {
                    return Ok(());
                }
            }
            while let Some((wave, tenants)) = waves.pop_first() {
                last = wave;
                let canaries = tenants.len();
                attendant.during(turns.clone().wave(tenants)).await?;
                if wave == 0 && !waves.is_empty() {
                    self.stand_in(attendant, canaries, &mut waves).await?;
                    self.judge_canary(attendant).await?;
                }
                if turns.stop.is_cancelled() {
                    return Ok(());
                }
            }
            attendant.during(turns.clone().wait_for_aside()).await?;
            if turns.stop.is_cancelled() {
                return Ok(());
            }
            // What was written down by now is what the next look finds.
            if !turns.ledger.settled().await {
                return Ok(());
            }
        }
    }

    /// Whoever is put aside is no canary: until one has come through, or as many as there were have failed, others take their
    /// place, so that one tenant's lock holds up nobody, and nobody goes without a canary before him.
    async fn stand_in(
        &mut self,
        attendant: &mut Attendant<'_, '_>,
        canaries: usize,
        waves: &mut BTreeMap<i32, Vec<RunTenant>>,
    ) -> ApiResult<()> {
        let (turns, wanted) = (attendant.turns.clone(), i64::try_from(canaries).unwrap_or(i64::MAX));
        while turns.ledger.settled().await && !turns.stop.is_cancelled() {
            let Canary { done, failed, .. } = patiently(|| self.canary()).await?;
            let Some(mut next) = waves.first_entry().filter(|_| done == 0 && failed < wanted) else { return Ok(()) };
            let left = next.get_mut();
            let others: Vec<_> = left.drain(..canaries.min(left.len())).collect();
            if left.is_empty() {
                next.remove();
            }
            let (db, id) = (&self.fleet.control.db, self.id);
            let ids: Vec<_> = others.iter().map(|one| one.tenant_id).collect();
            let joined = || {
                let ids = ids.clone();
                db.read(async move |conn: &mut MainConn| migration_runs::join_canary(conn, id, &ids).await)
            };
            patiently(joined).await?;
            attendant.during(turns.clone().wave(others)).await?;
        }
        Ok(())
    }

    /// The run stops if the canary came to nothing; else it is watched before anybody else has a turn. One or two that nobody
    /// has asked for speak for themselves alone.
    async fn judge_canary(&mut self, attendant: &mut Attendant<'_, '_>) -> ApiResult<()> {
        let turns = attendant.turns.clone();
        // What was written down by now is what is counted.
        if !turns.ledger.settled().await {
            turns.stop.cancel();
        }
        if turns.stop.is_cancelled() {
            return Ok(());
        }
        let Canary { done, failed, alone } = patiently(|| self.canary()).await?;
        if alone && done > 0 {
            self.soak(attendant).await?;
        } else if alone && (failed > 2 || failed > 0 && self.wanted.canary.is_some()) {
            turns.stop_for(format!(
                "every tenant of the canary that had its turn failed ({failed}), and nobody else had one; if that is a fault of \
                 theirs alone, give another number of them (--canary), and others go first"
            ));
        }
        Ok(())
    }

    async fn canary(&self) -> ApiResult<Canary> {
        let id = self.id;
        let db = &self.fleet.control.db;
        db.read(async move |conn: &mut MainConn| migration_runs::canary(conn, id).await).await
    }

    /// The canary is watched, and nobody migrated.
    async fn soak(&mut self, attendant: &mut Attendant<'_, '_>) -> ApiResult<()> {
        let begun = Instant::now();
        attendant.watch.canary_is_out();
        while !attendant.turns.stop.is_cancelled() && !attendant.watch.has_seen_enough(begun, self.wanted.soak).await {
            attendant.during(tokio::time::sleep(LOOK_UP / 2)).await?;
        }
        self.watched += begun.elapsed();
        Ok(())
    }
}

impl Steps for Run<'_> {
    type Step = Step;

    /// What it came to is said by whoever drove it last.
    fn is_repeated(&self, step: Step) -> bool {
        step == Step::Migrate
    }

    /// Nobody stopped it, and its journal cannot be written.
    fn is_left_open(&self, error: &ApiError) -> bool {
        error.code() == Code::ControlPlaneUnavailable
    }

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        match step {
            Step::Plan => self.plan(None).await.map(drop),
            Step::Migrate => {
                let done = self.migrate(journal).await;
                let Some(report) = &self.report else { return done };
                patiently(|| journal.set_result(report)).await?;
                done?;
                match (&report.reason, report.failed.len()) {
                    (Some(reason), _) => Err(refused(format!("The run stopped: {reason}."))),
                    (None, 0) => Ok(()),
                    (None, failed) => Err(refused(format!("{failed} of {} tenants failed.", report.total))),
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
