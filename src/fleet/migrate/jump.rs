//! A tenant that a request waits for jumps the queue.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;

use crate::control::tenants;
use crate::control::{installation, migration_runs};
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::Lock;
use crate::fleet::migrations::Migrations;
use crate::fleet::{Fleet, migrate_error, refused};
use crate::kernel::TenantId;
use crate::router::migrate::{MigrateOptions, migrate_all};
use crate::router::stamp::Stamp;
use crate::router::{MainConn, SchemaKeeper};

/// The traffic that waits behind a lock is this tenant's own.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Few can be brought up at the same time: nobody else's run is waited for until its end.
const WAIT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

#[async_trait]
impl SchemaKeeper for Fleet {
    async fn bring_up(&self, tenant: TenantId) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.migrate_one(tenant).await.map_err(Into::into)
    }
}

impl Fleet {
    /// Brings one tenant to the head of the migrations.
    ///
    /// # Errors
    /// 409 while another process works on it; else what keeps it from that. What was applied stays.
    pub async fn migrate_one(&self, tenant: TenantId) -> ApiResult<()> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let head = migrations.head();
        let _lock = Lock::tenant(&self.control, tenant).await?;
        let keys = self.control.keys.clone();
        let (installation, (_, direct)) = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let installation = installation::find(conn, &keys).await?;
                Ok::<_, ApiError>((installation, tenants::target(conn, &keys, tenant).await?))
            })
            .await?;
        let installation =
            installation.ok_or_else(|| refused("The installation is not set up. Run `tenantry migrate`."))?;
        let options = MigrateOptions {
            lock_timeout: LOCK_TIMEOUT,
            wait: WAIT,
            attempts: ATTEMPTS,
            statement_timeout: Some(STATEMENT_TIMEOUT),
            stamp: Some(Stamp { tenant_id: tenant, installation_id: installation.id }),
            ..self.settings.migrate.clone()
        };
        let sets = [&migrations.built_in, &migrations.operator];
        let (applied, done) = migrate_all(&direct, &sets, &options).await;
        let (at_head, schema) = (done.is_ok(), applied[0].to);
        if schema > 0 {
            self.control
                .db
                .transaction(async move |conn: &mut MainConn| {
                    tenants::schema_migrated(conn, tenant, schema).await?;
                    if at_head {
                        migration_runs::at_head(conn, tenant, &head).await?;
                    }
                    Ok::<_, ApiError>(())
                })
                .await?;
        }
        done.map_err(migrate_error)
    }
}
