//! One more.

use crate::control::clusters::Cluster;
use crate::control::ready::{self, ReadyTenant};
use crate::error::ApiResult;
use crate::fleet::lock::{self, Session};
use crate::fleet::migrations::Migrations;
use crate::fleet::provision::generated_name;
use crate::fleet::{Fleet, scram};
use crate::kernel::TenantId;
use crate::router::MainConn;

impl Fleet {
    /// Makes a ready tenant; says no if other nodes have filled the stock meanwhile, or somebody removes the cluster.
    pub(super) async fn stock_one(&self, cluster: &Cluster, migrations: &Migrations) -> ApiResult<bool> {
        let id = TenantId::generate();
        let name = generated_name(id);
        let new = ReadyTenant {
            id,
            cluster_id: cluster.id,
            migrations: migrations.hash(),
            schema_version: migrations.built_in.head(),
            operator_version: migrations.operator.head(),
            database_name: name.clone(),
            role_name: name,
            password: scram::generate_password(),
        };
        // Before it is entered: what is in the making and held by nobody is swept away.
        let _lock = Session::of(&self.locks, &self.control).await?.tenant(id).await?;
        let (keys, entry, size) = (self.control.keys.clone(), new.clone(), i64::from(self.settings.ready_tenants));
        let db = &self.control.db;
        let entered = db
            .transaction(async move |conn: &mut MainConn| -> ApiResult<bool> {
                Ok(lock::stays_until_commit(conn, entry.cluster_id).await?
                    && ready::insert(conn, &keys, &entry, size).await?)
            })
            .await?;
        if !entered {
            return Ok(false);
        }
        self.make_ready(&new, cluster.clone(), migrations.clone()).await?;
        db.read(async move |conn: &mut MainConn| ready::ready(conn, id).await).await
    }
}
