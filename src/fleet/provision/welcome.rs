//! Who is signed in as soon as their tenant is there: its first administrator, by the request that signs up.

use super::admin::AdminToBe;
use crate::error::ApiResult;
use crate::kernel::TenantId;
use crate::rest::Client;
use crate::router::Router;
use crate::tenant::auth::session::SignIn;
use crate::tenant::auth::{self, Auth};

/// What it takes to sign a newcomer in.
#[derive(Debug)]
pub struct Welcome {
    /// Opens sessions.
    pub auth: Auth,
    /// Leads to the tenant's database; what it opens there serves the newcomer's first requests.
    pub router: Router,
    /// From where they sign up.
    pub client: Client,
}

impl Welcome {
    /// Makes the first administrator of a tenant that is being made, and their first session, in one transaction. The
    /// connection is opened, and asked what it will be asked, while the password is hashed.
    ///
    /// # Errors
    /// If the tenant's database does not answer, or is not the tenant's.
    pub(super) async fn first_session(&self, tenant: TenantId, admin: AdminToBe) -> ApiResult<SignIn> {
        let db = self.router.for_maker(tenant).await?;
        auth::expect_newcomer(&self.auth, &db).await?;
        let (row, _) = admin.finish().await?;
        auth::welcome_newcomer(&self.auth, &db, &row, &self.client).await
    }
}
