//! The proof of isolation on a running installation: every tenant's stamp, role and keys are looked at, and two canary
//! tenants, made for it and removed after it, attack each other over the server's own door.

mod attack;
pub mod attacks;
mod canary;
pub mod forge;
mod job;
mod keys;
mod noise;
mod report;
mod roles;
mod stamps;

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

pub use report::{Check, Fault, NoisyNeighbour, Report, Sizes, TenantProof, Times};

use tokio_util::sync::CancellationToken;

use self::canary::{Canary, Held};
use super::web::Client;
use super::{Fleet, Progress, StepTime, refused};
use crate::control;
use crate::control::clusters::{self, Cluster};
use crate::control::documents::{self, Signature};
use crate::control::operations;
use crate::control::tenants::{TenantFilter, TenantRecord};
use crate::error::{ApiError, ApiResult};
use crate::router::{Installation, MainConn, TenantStatus};

/// What the tenants are called that the proof makes and removes.
const CANARY: &str = "canary-";
/// What is said where somebody did not want to wait for the end.
const STOPPED: &str = "It was stopped before its end; verify again.";
/// Connections that are tried at the same time, beside the budget.
const AT_ONCE: usize = 8;

/// What is looked at.
struct Ground {
    installation: Installation,
    tenants: Vec<TenantRecord>,
    /// Those of proofs, of this one or another.
    canaries: Vec<TenantRecord>,
    clusters: Vec<Cluster>,
    /// What the control plane calls its databases and roles on clusters, whoever's they are.
    known: HashSet<String>,
}

/// Whether provisioning makes such names; a customer's own database may be called like anything else on our servers.
fn is_generated(name: &str) -> bool {
    let id = name.strip_prefix("t_").and_then(|rest| rest.get(..32));
    id.is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Fleet {
    /// Proves the isolation of the installation whose server is `client`'s. What breaks it, what could not be proven, and
    /// what is left behind, are the report's faults. Once `stop` is cancelled, nothing more is asked, and the canaries go.
    ///
    /// # Errors
    /// If the control plane does not answer, or a cluster's secrets do not open.
    pub async fn prove(&self, client: &Client, progress: &dyn Progress, stop: &CancellationToken) -> ApiResult<Report> {
        let ground = self.ground().await?;
        let mut report = Report {
            installation: ground.installation.id,
            release: env!("CARGO_PKG_VERSION"),
            at: self.control.clock.now(),
            url: client.url().to_string(),
            passed: false,
            faults: Vec::new(),
            faults_left_out: 0,
            checks: Vec::new(),
            noisy_neighbour: None,
            sizes: Sizes { tenants: ground.tenants.len(), clusters: ground.clusters.len(), bytes: 0 },
            stamps: BTreeMap::new(),
            tenants: Vec::new(),
            tenants_left_out: 0,
        };
        let (mut canaries, mut left) = canary::sweep(self, &ground.canaries).await?;
        let looked = until(stop, self.inside(&ground, &mut report, progress)).await;
        if stop.is_cancelled() {
            report.faults.push(Fault::new("not_proven", "proof", STOPPED));
        } else {
            looked?;
            let (made, faults) = self.outside(client, &mut report, progress, stop).await;
            canaries += made;
            left.extend(faults);
        }
        report.check("canaries", canaries, "those of this proof, and of earlier ones, are gone", left);
        report.conclude(self.control.clock.now());
        Ok(report)
    }

    async fn ground(&self) -> ApiResult<Ground> {
        let installation = self.installation().await?;
        let keys = self.control.keys.clone();
        let clusters = self.control.db.read(async move |conn: &mut MainConn| clusters::list(conn, &keys).await).await?;
        let all = self.list(TenantFilter::default()).await?;
        let db = &self.control.db;
        // Read after them: the mark is there with its tenant, and outlives it.
        let marked = db.read(async |conn: &mut MainConn| operations::canaries(conn).await).await?;
        let (canaries, mut tenants): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| marked.contains(&one.id));
        tenants.retain(|tenant| tenant.status != TenantStatus::Provisioning);
        let mut known = db.read(async |conn: &mut MainConn| control::names_on_servers(conn).await).await?;
        known.retain(|name| is_generated(name));
        Ok(Ground { installation: installation.clone(), tenants, canaries, clusters, known })
    }

    /// What the control plane and the servers say.
    async fn inside(&self, ground: &Ground, report: &mut Report, progress: &dyn Progress) -> ApiResult<()> {
        let step = Step::begin("stamps", progress);
        let mut seen = stamps::look(self, ground).await;
        let faults = seen.iter_mut().flat_map(|one| std::mem::take(&mut one.faults)).collect();
        let said = "each tenant's database, opened with its own role, is stamped for it and for this installation";
        report.check("stamps", seen.len(), said, faults);
        step.done();
        let step = Step::begin("grants", progress);
        let (mut looked, mut faults) = (0, Vec::new());
        for cluster in &ground.clusters {
            let (databases, found) = roles::granted(ground, cluster).await;
            looked += databases;
            faults.extend(found);
        }
        let said = "nobody but its owner and administrators is granted CONNECT on a tenant's database, or on one that is \
                    ready or kept; no tenant's role is a member of another or more than an ordinary one, and nobody \
                    else is a member of a tenant's";
        report.check("grants", looked, said, faults);
        step.done();
        let step = Step::begin("roles", progress);
        let (tried, all, faults) = roles::tried(self, ground, &seen).await;
        let which = if all { "every pair" } else { "a sample of pairs" };
        let said = format!(
            "a tenant's role, with its own password, is let into no other tenant's database, nor into `postgres`, \
             `template1` and the control plane's: {which}"
        );
        report.check("roles", tried, said, faults);
        step.done();
        let step = Step::begin("keys", progress);
        let (count, faults) = keys::signing(self, ground).await?;
        report.check("signing keys", count, "no two holders share one, and both halves belong together", faults);
        let faults = keys::credentials(&seen);
        report.check("credentials", seen.len(), "no two tenants share a password or a database", faults);
        step.done();
        report.sizes.bytes = seen.iter().filter_map(|one| one.proof.bytes).sum();
        report.tenants = seen.into_iter().map(|one| one.proof).collect();
        Ok(())
    }

    /// What the server lets through. Gives how many canaries there were for it, and a fault for each that stays.
    async fn outside(
        &self,
        client: &Client,
        report: &mut Report,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> (usize, Vec<Fault>) {
        let mut held = Vec::new();
        if let Err(error) = self.with_canaries(client, &mut held, report, progress, stop).await {
            tracing::warn!(%error, cause = ?error.cause(), "the canaries came to no end");
            let fault = Fault::new("not_proven", "canaries", error.client_detail());
            report.check("attacks", 0, "two canary tenants against each other", vec![fault]);
        }
        let (count, mut faults) = (held.len(), Vec::new());
        for one in held {
            faults.extend(canary::remove(self, one).await);
        }
        (count, faults)
    }

    /// Makes a canary, and is not stopped half-way: whoever removes it knows what is there.
    async fn canary(&self, client: &Client, held: &mut Vec<Held>, stop: &CancellationToken) -> ApiResult<Canary> {
        let one = canary::hold(self).await?;
        let slug = one.slug.clone();
        held.push(one);
        let made = canary::make(self, client, &slug).await?;
        if stop.is_cancelled() { Err(refused(STOPPED)) } else { Ok(made) }
    }

    async fn with_canaries(
        &self,
        client: &Client,
        held: &mut Vec<Held>,
        report: &mut Report,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> ApiResult<()> {
        let step = Step::begin("canaries", progress);
        let a = self.canary(client, held, stop).await?;
        let b = self.canary(client, held, stop).await?;
        step.done();
        let step = Step::begin("attacks", progress);
        let (tried, faults) = until(stop, attack::run(self, client, &a, &b)).await?;
        let said = "forged tokens, another tenant's name beside a good token, another tenant's objects, tokens of \
                    another kind: each is refused, and what is its own is given";
        report.check("attacks", tried, said, faults);
        step.done();
        let step = Step::begin("noisy_neighbour", progress);
        let (figures, faults) = until(stop, async { Ok(noise::run(client, &a, &b).await) }).await?;
        report.check(
            "noisy neighbour",
            figures.requests,
            "one canary is served while the other asks all it can",
            faults,
        );
        report.noisy_neighbour = Some(figures);
        step.done();
        Ok(())
    }

    /// A report as it is kept, and the installation's signature of that.
    ///
    /// # Errors
    /// If the control plane does not answer, or the key does not open.
    pub async fn sign_report(&self, report: &Report) -> ApiResult<(String, Signature)> {
        let mut document = serde_json::to_string_pretty(report).map_err(ApiError::internal)?;
        document.push('\n');
        let (keys, bytes) = (self.control.keys.clone(), document.clone().into_bytes());
        let sign = async move |conn: &mut MainConn| documents::sign(conn, &keys, &bytes).await;
        Ok((document, self.control.db.read(sign).await?))
    }

    /// Whether the installation signed this very document.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn has_signed(&self, document: Vec<u8>, signature: Signature) -> ApiResult<bool> {
        self.control
            .db
            .read(async move |conn: &mut MainConn| documents::verify(conn, &document, &signature).await)
            .await
    }
}

/// The work's outcome, unless it is to be stopped before.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
    stop.run_until_cancelled(work).await.unwrap_or_else(|| Err(refused(STOPPED)))
}

/// A part of the proof, while it runs.
struct Step<'a> {
    name: &'static str,
    begun: Instant,
    progress: &'a dyn Progress,
}

impl<'a> Step<'a> {
    fn begin(name: &'static str, progress: &'a dyn Progress) -> Self {
        progress.started(name);
        Self { name, begun: Instant::now(), progress }
    }

    fn done(self) {
        let ms = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.progress.done(&StepTime { name: self.name.to_owned(), ms });
    }
}
