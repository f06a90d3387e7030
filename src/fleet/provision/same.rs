//! The same command again goes on with what was begun; one that asks for something else is refused, and says for what.

use std::fmt::Display;

use super::{AttachTenant, CreateTenant};
use crate::control::clusters;
use crate::control::operations::Operation;
use crate::control::tenants::TenantRecord;
use crate::error::ApiResult;
use crate::fleet::refused;
use crate::kernel::crypto::MasterKeys;
use crate::router::{MainConn, Registration};

const ADMIN_IS_LOST: &str = "Its making was begun with a first administrator, whose password is kept nowhere. Give the \
    administrator again, or take back what was made with `tenantry tenant delete`.";

/// What is asked for of a tenant by name: what is left out may be as it is.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    name: Option<String>,
    cluster: Option<String>,
    region: Option<String>,
    plan: Option<String>,
    registration: Option<Registration>,
    max_connections: Option<i32>,
    /// Given now, or no matter.
    admin: bool,
}

impl From<&CreateTenant> for Wish {
    fn from(wanted: &CreateTenant) -> Self {
        Self {
            name: wanted.name.clone(),
            cluster: wanted.cluster.clone(),
            region: wanted.region.clone(),
            plan: wanted.plan.clone(),
            registration: wanted.registration,
            max_connections: wanted.max_connections,
            admin: wanted.admin.is_some(),
        }
    }
}

impl From<&AttachTenant> for Wish {
    fn from(wanted: &AttachTenant) -> Self {
        Self {
            name: wanted.name.clone(),
            cluster: None,
            region: None,
            plan: None,
            registration: wanted.registration,
            max_connections: wanted.max_connections,
            admin: wanted.admin.is_some(),
        }
    }
}

impl Wish {
    /// Refuses to go on with a tenant that was begun as another one.
    ///
    /// # Errors
    /// 409 with what was begun and what is asked for; or if it was to have an administrator, who is not given again.
    pub(super) async fn check(
        &self,
        conn: &mut MainConn,
        keys: &MasterKeys,
        (tenant, begun): (&TenantRecord, &Operation),
    ) -> ApiResult<()> {
        self.check_settings(conn, keys, tenant).await?;
        if !self.admin && begun.input["firstAdmin"] == true {
            return Err(refused(ADMIN_IS_LOST));
        }
        Ok(())
    }

    /// The same but for the administrator.
    pub(super) async fn check_settings(
        &self,
        conn: &mut MainConn,
        keys: &MasterKeys,
        tenant: &TenantRecord,
    ) -> ApiResult<()> {
        let region = match (&self.region, tenant.cluster_id) {
            (Some(_), Some(cluster)) => clusters::get(conn, keys, cluster).await?.region,
            _ => None,
        };
        let differences = [
            difference("name", self.name.as_ref(), Some(&tenant.name)),
            difference("cluster", self.cluster.as_ref(), tenant.cluster.as_ref()),
            difference("region", self.region.as_ref(), region.as_ref()),
            difference("plan", self.plan.as_ref(), tenant.plan.as_ref()),
            difference("registration", self.registration.as_ref(), Some(&tenant.registration)),
            difference("ceiling of connections", self.max_connections.as_ref(), tenant.max_connections.as_ref()),
        ];
        let said: Vec<String> = differences.into_iter().flatten().collect();
        if said.is_empty() {
            return Ok(());
        }
        Err(refused(format!(
            "The making of '{}' was begun before, and its {}. Ask for the same again, or take back what was made with \
             `tenantry tenant delete`.",
            tenant.slug,
            said.join(", its ")
        )))
    }
}

/// What is asked for by name and is not so.
fn difference<T: PartialEq + Display>(what: &str, asked: Option<&T>, there: Option<&T>) -> Option<String> {
    let asked = asked.filter(|asked| Some(*asked) != there)?;
    let there = there.map_or_else(|| "none".to_owned(), |there| format!("'{there}'"));
    Some(format!("{what} is {there}, not '{asked}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_differs_from_nothing() {
        let (eu, us) = ("eu".to_owned(), "us".to_owned());
        assert_eq!(difference("region", None, Some(&eu)), None);
        assert_eq!(difference("region", Some(&eu), Some(&eu)), None);
        assert_eq!(difference("region", Some(&us), Some(&eu)).as_deref(), Some("region is 'eu', not 'us'"));
        assert_eq!(difference("region", Some(&us), None).as_deref(), Some("region is none, not 'us'"));
    }
}
