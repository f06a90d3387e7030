//! What people may do, as it was last read. Not the truth: that is asked, and answers with the marks under which the
//! rights now stand.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::store::{Marks, Rights, Standing};
use crate::kernel::{TenantId, UserId};
use crate::router::{Access, Tenant};

/// Some kilobytes each at worst.
const MOST: u64 = 20_000;
/// Whoever has not come for so long is forgotten.
const IDLE: Duration = Duration::from_hours(1);

/// Somebody's rights, and the marks they were read with.
#[derive(Debug, Clone)]
pub(super) struct Known {
    marks: Marks,
    access: Arc<Access>,
}

impl Known {
    /// Whether these are the rights of this person now.
    pub(super) fn holds(&self, standing: &Standing) -> bool {
        standing.marks() == Some(self.marks)
    }

    /// What the person may do now, if [`Self::holds`].
    pub(super) fn access(&self, password_change_required: bool) -> Arc<Access> {
        if self.access.password_change_required == password_change_required {
            return self.access.clone();
        }
        Arc::new(Access { password_change_required, ..(*self.access).clone() })
    }
}

/// The rights that are known, of the people of all tenants.
#[derive(Debug)]
pub(super) struct KnownRights(Cache<(TenantId, u64, UserId), Known>);

impl KnownRights {
    /// With nothing known.
    pub(super) fn new() -> Self {
        let cache = Cache::builder().max_capacity(MOST).eviction_policy(EvictionPolicy::lru()).time_to_idle(IDLE);
        Self(cache.build())
    }

    /// What is known of a person. A tenant whose database is another one now, or of another schema, begins anew.
    pub(super) async fn get(&self, tenant: &Tenant, user: UserId) -> Option<Known> {
        self.0.get(&(tenant.id, tenant.connection_version(), user)).await
    }

    /// Takes note of what was read in one statement, as far as it can be remembered.
    pub(super) async fn learn(&self, tenant: &Tenant, standing: &Standing, rights: Rights) -> Arc<Access> {
        let Rights { mut roles, permissions } = rights;
        roles.sort_unstable();
        let access = Arc::new(Access {
            roles,
            permissions: permissions.into_iter().collect(),
            password_change_required: standing.password_change_required(),
        });
        if let Some(marks) = standing.marks() {
            let known = Known { marks, access: access.clone() };
            self.0.insert((tenant.id, tenant.connection_version(), standing.user_id), known).await;
        }
        access
    }
}
