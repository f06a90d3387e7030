//! Making a ready tenant: the steps of any other, without journal and registry entry. One that is not finished is
//! dropped and made anew.

use super::run::Run;
use super::{steps, verify};
use crate::control::clusters::Cluster;
use crate::control::ready::ReadyTenant;
use crate::error::ApiResult;
use crate::fleet::migrations::Migrations;
use crate::fleet::{Fleet, admin, sql};

impl Fleet {
    /// Makes its role and database; the caller holds its lock, and has entered it.
    pub(in crate::fleet) async fn make_ready(
        &self,
        ready: &ReadyTenant,
        cluster: Cluster,
        migrations: Migrations,
    ) -> ApiResult<()> {
        let mut run = Run::ready(self, ready, cluster, migrations).await?;
        run.in_one_go = true;
        steps::role(&mut run).await?;
        steps::database(&mut run).await?;
        steps::grants(&mut run).await?;
        steps::stamp(&mut run).await?;
        steps::migrations(&mut run).await?;
        steps::operator_migrations(&mut run).await?;
        steps::seed(&mut run).await?;
        verify::verify(&mut run).await
    }

    /// Drops what was made of one, finished or not.
    pub(in crate::fleet) async fn unmake_ready(&self, cluster: &Cluster, database: &str, role: &str) -> ApiResult<()> {
        let mut server = admin::open(&cluster.admin).await?;
        admin::run_each(&mut server, sql::DATABASE_UNDO, &[("database", database)]).await?;
        admin::run_each(&mut server, sql::ROLE_UNDO, &[("role", role)]).await
    }
}
