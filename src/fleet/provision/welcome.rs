//! Who is signed in as soon as their tenant is there: its first administrator, by the request that signs up.

use super::admin::AdminToBe;
use crate::error::{ApiError, ApiResult};
use crate::kernel::TenantId;
use crate::rest::Client;
use crate::router::{Router, TenantConn, TenantDb};
use crate::tenant::auth::session::SignIn;
use crate::tenant::auth::{self, Auth};

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
        db.read(async |_: &mut TenantConn| Ok::<_, ApiError>(())).await?;
        Ok(db)
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
