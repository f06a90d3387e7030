//! The steps of a clone. Each may be repeated at any time.

use super::{CloneTenant, taking};
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::dump::patient;
use crate::fleet::backup::vault::{away, folder_of};
use crate::fleet::operation::{Journal, Steps};
use crate::fleet::provision::{steps, verify};
use crate::fleet::restore::beside::Newcomer;
use crate::kernel::BackupId;
use crate::router::tenant::words;
use crate::router::{AdminConn, Target};

words! {
    /// A step of a clone, as it is journaled and shown.
    Step {
        /// The registry entry, not yet routable, and the journal.
        Reserve = "reserve",
        /// The key that signs the new tenant's tokens.
        SigningKey = "signing_key",
        /// Its own role.
        Role = "role",
        /// What the original holds at this moment, sealed in the storage.
        Dump = "dump",
        /// Its own database, with that.
        Load = "load",
        /// Counted, and the same.
        Compare = "compare",
        /// The built-in schema, to the head.
        Migrations = "migrations",
        /// The operator's own.
        OperatorMigrations = "operator_migrations",
        /// Personal data taken out.
        Mask = "mask",
        /// Nobody is signed in, and nobody's password came along.
        Credentials = "credentials",
        /// An administrator of its own, where one was asked for.
        FirstAdmin = "first_admin",
        /// The dump taken away.
        Clean = "clean",
        /// As its own role: the right stamp, and no other database lets it in.
        Verify = "verify",
        /// Routable.
        Activate = "activate",
    }
}

pub(super) struct Cloning<'a> {
    pub(super) newcomer: Newcomer<'a>,
    pub(super) source: TenantRecord,
    /// The original's own role, in its database.
    pub(super) direct: Target,
    pub(super) id: BackupId,
    pub(super) wanted: &'a CloneTenant,
}

impl Cloning<'_> {
    async fn dump(&self, journal: &mut Journal<'_>) -> ApiResult<()> {
        let Newcomer { run, vault, .. } = &self.newcomer;
        let taking = taking(run.fleet, &self.source, &self.direct, vault, self.id);
        let dumped = taking.dump(journal).await?;
        taking.manifest(dumped).await
    }

    async fn mask(&self) -> ApiResult<()> {
        match &self.wanted.mask {
            Some(mask) => mask.apply(&mut patient(&self.newcomer.run.direct).await?).await,
            None => Ok(()),
        }
    }

    async fn credentials(&mut self) -> ApiResult<()> {
        use diesel_async::AsyncConnection as _;
        self.newcomer.sign_everybody_out().await?;
        self.newcomer.claim().await?;
        if self.wanted.keep_credentials {
            return Ok(());
        }
        let own = self.newcomer.run.own().await?;
        own.transaction(async |conn: &mut AdminConn| crate::tenant::forget_credentials(conn).await)
            .await
            .map_err(ApiError::internal)
    }

    async fn clean(&self) -> ApiResult<()> {
        let storage = self.newcomer.run.fleet.storage()?;
        storage.remove_all(&folder_of(self.source.id, self.id)).await.map(drop).map_err(away)
    }
}

impl Steps for Cloning<'_> {
    type Step = Step;

    async fn perform(&mut self, step: Step, journal: &mut Journal<'_>) -> ApiResult<()> {
        let newcomer = &mut self.newcomer;
        match step {
            // The transaction that made the journal made the entry.
            Step::Reserve => Ok(()),
            Step::SigningKey => steps::signing_key(&mut newcomer.run).await,
            Step::Role => steps::role(&mut newcomer.run).await,
            Step::Dump => self.dump(journal).await,
            Step::Load => newcomer.load(false, journal).await,
            Step::Compare => newcomer.load(true, journal).await,
            Step::Migrations => steps::migrations(&mut newcomer.run).await,
            Step::OperatorMigrations => steps::operator_migrations(&mut newcomer.run).await,
            Step::Mask => self.mask().await,
            Step::Credentials => self.credentials().await,
            Step::FirstAdmin => steps::first_admin(&mut newcomer.run).await,
            Step::Clean => self.clean().await,
            Step::Verify => verify::verify(&mut newcomer.run).await,
            Step::Activate => steps::activate(&mut newcomer.run).await,
        }
    }

    /// The caller of an interrupted run lost the password that was made, and nothing is activated that was not looked
    /// at by the one who activates it.
    fn is_repeated(&self, step: Step) -> bool {
        matches!(step, Step::FirstAdmin | Step::Verify)
    }

    fn is_left_out(&self, step: Step) -> bool {
        match step {
            Step::FirstAdmin => self.wanted.admin.is_none(),
            Step::Mask => self.wanted.mask.is_none(),
            _ => false,
        }
    }
}
