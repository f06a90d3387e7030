//! Who is signed in as soon as their tenant is there: its first administrator, by the request that signs up.

use tokio_util::task::AbortOnDropHandle;

use super::admin::AdminToBe;
use crate::error::{ApiError, ApiResult};
use crate::kernel::TenantId;
use crate::kernel::crypto::MasterKeys;
use crate::rest::Client;
use crate::router::{MainConn, Router, TenantConn, TenantDb};
use crate::tenant::auth::session::SignIn;
use crate::tenant::auth::{self, Auth};

/// A tenant's database to which a connection is opened; given up when dropped.
pub(super) struct Expected {
    db: TenantDb,
    opening: AbortOnDropHandle<ApiResult<()>>,
}

impl Expected {
    /// The database, once the connection is there.
    ///
    /// # Errors
    /// If it does not answer, or is not the tenant's.
    pub(super) async fn ready(self) -> ApiResult<TenantDb> {
        self.opening.await.map_err(ApiError::internal)??;
        Ok(self.db)
    }
}

async fn open(db: &TenantDb) -> ApiResult<()> {
    db.read(async |_: &mut TenantConn| Ok::<_, ApiError>(())).await
}

/// What it takes to sign a newcomer in.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// Opens sessions.
    pub auth: Auth,
    /// Leads to the tenant's database; what it opens there serves the newcomer's first requests.
    pub router: Router,
    /// From where they sign up.
    pub client: Client,
}

impl Welcome {
    /// Opens the connection to a tenant that is being made. The router looks at the stamp.
    ///
    /// # Errors
    /// If the tenant's database does not answer, or is not the tenant's.
    pub(super) async fn expect(&self, tenant: TenantId) -> ApiResult<TenantDb> {
        let db = self.router.for_maker(tenant).await?;
        open(&db).await?;
        Ok(db)
    }

    /// Begins that for one that a transaction under way has just made of a ready one, whose database is there already.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub(super) async fn expect_ahead(
        &self,
        conn: &mut MainConn,
        keys: &MasterKeys,
        tenant: TenantId,
    ) -> ApiResult<Expected> {
        let db = self.router.for_maker_in(conn, keys, tenant).await?;
        let opened = db.clone();
        let opening = AbortOnDropHandle::new(tokio::spawn(async move { open(&opened).await }));
        Ok(Expected { db, opening })
    }

    /// Makes the first administrator and their first session, in one transaction.
    ///
    /// # Errors
    /// If the password cannot be hashed, or the tenant's database does not answer.
    pub(super) async fn sign_in(&self, db: &TenantDb, admin: AdminToBe) -> ApiResult<SignIn> {
        let person = admin.person();
        auth::welcome_newcomer(&self.auth, db, &person, admin.hash(), &self.client).await
    }
}
